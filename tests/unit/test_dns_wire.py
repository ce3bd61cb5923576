"""The bytes of questions and answers, held against dnspython's own reading of them."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxlanu.dns import wire
from vxlanu.dns.limits import REQUEST_BYTES_MAX, UDP_PAYLOAD
from vxlanu.dns.zone import AAAA, PTR, A

NAMES = st.lists(st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20), max_size=5).map(".".join)
TYPES = st.sampled_from([A, AAAA, PTR, 15, 255, 65])


def asked(name: str = "c0.vxlanu.internal", rtype: int = A, payload: int | None = None) -> wire.Query:
    edns = {} if payload is None else {"use_edns": 0, "payload": payload}
    made = dns.message.make_query(name or ".", rtype, **edns)  # type: ignore[arg-type]  # by keywords
    return wire.read(made.to_wire())


@given(NAMES, TYPES, st.booleans(), st.sampled_from([None, 512, 1232, 4096]), st.booleans())
def test_a_question_is_read_as_dnspython_wrote_it(
    name: str, rtype: int, desired: bool, payload: int | None, dnssec: bool
) -> None:
    edns = {} if payload is None else {"use_edns": 0, "payload": payload, "want_dnssec": dnssec}
    made = dns.message.make_query(name.upper() or ".", rtype, **edns)  # type: ignore[arg-type]  # by keywords
    if not desired:
        made.flags &= ~dns.flags.RD
    query = wire.read(made.to_wire())
    assert (query.id, query.name, query.rtype, query.rclass) == (made.id, name, rtype, 1)
    assert query.payload == (payload or 0)
    assert query.dnssec_ok is (dnssec and payload is not None)
    assert query.limit(stream=False) == min(max(payload or 512, 512), UDP_PAYLOAD)


@given(NAMES, st.lists(st.ip_addresses().map(str), max_size=8), st.sampled_from([None, 1232]), st.booleans())
def test_an_answer_is_read_by_dnspython_as_meant(
    name: str, addresses: list[str], payload: int | None, stream: bool
) -> None:
    query = asked(name.upper(), A, payload)
    answer = dns.message.from_wire(wire.reply(query, wire.NOERROR, addresses, stream=stream, authoritative=True))
    told = [rdata.to_text() for rrset in answer.answer for rdata in rrset]
    assert set(told) == {dns.rdata.from_text("IN", "AAAA" if ":" in it else "A", it).to_text() for it in addresses}
    assert all(rrset.name == answer.question[0].name for rrset in answer.answer)
    assert answer.question[0].name.to_text(omit_final_dot=True) == (name.upper() or "@").replace("@", ".")
    assert answer.flags & dns.flags.AA and answer.flags & dns.flags.RD and not answer.flags & dns.flags.TC
    assert (answer.edns >= 0) is (payload is not None)


def test_an_answer_that_is_too_long_ends_early_and_says_so() -> None:
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(300)]
    for payload, limit in ((None, 512), (512, 512), (4096, UDP_PAYLOAD)):
        answer = wire.reply(asked(payload=payload), wire.NOERROR, addresses, stream=False)
        assert limit - 16 < len(answer) <= limit
        assert dns.message.from_wire(answer).flags & dns.flags.TC
    whole = dns.message.from_wire(wire.reply(asked(), wire.NOERROR, addresses, stream=True))
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 300


def test_a_missing_name_says_how_long_it_may_be_remembered() -> None:
    for name in ("x.vxlanu.internal", "VXLANU.Internal", "a.b.vxlanu.INTERNAL"):
        answer = dns.message.from_wire(wire.reply(asked(name), wire.NXDOMAIN, stream=False, missing=True))
        [soa] = answer.authority
        assert (answer.rcode(), soa.rdtype, soa.ttl, soa[0].minimum) == (dns.rcode.NXDOMAIN, dns.rdatatype.SOA, 1, 1)
        assert soa.name.to_text().lower() == "vxlanu.internal."


def test_a_dot_within_a_label_divides_nothing() -> None:
    inside = wire.read(dns.message.make_query("a.vxlanu.internal", A).to_wire())
    texts = {r"a\.vxlanu.internal": r"a\046vxlanu.internal", r"a\\.vxlanu.internal": r"a\\.vxlanu.internal"}
    for name, text in texts.items():
        assert wire.read(dns.message.make_query(name, A).to_wire()).name == text
    assert inside.name == "a.vxlanu.internal", "the control"


def test_a_name_that_the_wire_cannot_carry_is_left_out() -> None:
    answer = dns.message.from_wire(wire.reply(asked(rtype=PTR), wire.NOERROR, ["x" * 64 + ".a", "c0.a"], stream=False))
    assert [rdata.to_text() for rdata in answer.answer[0]] == ["c0.a."]


def rcode(data: bytes) -> int | None:
    """What is answered to something that is no question: nothing, or an rcode."""
    with pytest.raises(wire.Unreadable) as caught:
        wire.read(data)
    answer = caught.value.answer
    return dns.message.from_wire(answer, question_only=True).rcode() if answer else None


def test_what_is_no_question_is_answered_at_most_with_a_header() -> None:
    good = dns.message.make_query("c0.vxlanu.internal", A).to_wire()
    assert wire.read(good).name == "c0.vxlanu.internal", "the control"
    answer = good[:2] + b"\x80" + good[3:]
    assert rcode(answer) is None, "an answer is never answered"
    assert rcode(good[:11]) is None
    assert rcode(b"") is None
    assert rcode(good + b"\0" * REQUEST_BYTES_MAX) is None
    assert rcode(good[:2] + b"\x29" + good[3:]) == wire.NOTIMP, "an update"
    for broken in (
        good[:-1],
        good + b"\0",
        good[:4] + b"\0\2" + good[6:],
        good[:6] + b"\0\1" + good[8:],
        good[:10] + b"\0\1" + good[12:],
        good[:12] + b"\xc0\x0c" + good[-4:],  # a name that points at itself
        good[:12] + b"\xc0\x00" + good[-4:],  # ... and into the header
        good[:12] + b"\x40" + good[13:],  # a label of a kind that there is not
        good[:12] + b"\x3f" + good[13:],
    ):
        assert rcode(broken) == wire.FORMERR, broken


def test_edns_of_a_later_version_is_answered_with_ours() -> None:
    made = bytearray(dns.message.make_query("c0", A, use_edns=0).to_wire())
    made[-5] = 1  # the version
    with pytest.raises(wire.Unreadable) as caught:
        wire.read(bytes(made))
    answer = dns.message.from_wire(caught.value.answer)
    assert (answer.rcode(), answer.edns) == (dns.rcode.BADVERS, 0)


def test_options_of_a_client_are_read_over_and_go_no_further() -> None:
    made = dns.message.make_query("www.example.org", A, use_edns=0, payload=4096, options=[
        dns.edns.GenericOption(10, b"12345678"), dns.edns.ECSOption("192.168.0.0", 24)])  # fmt: skip
    query = wire.read(made.to_wire())
    sent = dns.message.from_wire(wire.for_resolver(query, 7))
    assert (sent.id, sent.payload, sent.options) == (7, UDP_PAYLOAD, ())
    assert sent.question == made.question


@given(st.binary(max_size=300))
def test_any_bytes_are_a_question_or_are_not(data: bytes) -> None:
    try:
        query = wire.read(data)
    except wire.Unreadable as unreadable:
        assert len(unreadable.answer) <= max(len(data), 12)
        return
    dns.message.from_wire(data, ignore_trailing=False)
    assert len(wire.reply(query, wire.NXDOMAIN, stream=False)) <= 512


@given(st.data())
def test_a_question_with_bytes_changed_never_upsets(data: st.DataObject) -> None:
    """Closer to the mark than random bytes: one or two of a good question are others."""
    good = bytearray(dns.message.make_query("c0.demonet.vxlanu.internal", A, use_edns=0).to_wire())
    for _ in range(data.draw(st.integers(1, 2))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        query = wire.read(bytes(good[: data.draw(st.integers(0, len(good)))]))
    except wire.Unreadable:
        return
    assert dns.message.from_wire(wire.reply(query, wire.NOERROR, ["10.0.0.1"], stream=False)).id == query.id


def test_only_the_answer_to_our_own_question_counts() -> None:
    query = asked("www.Example.org", payload=1232)
    sent = wire.for_resolver(query, 4711)
    answer = dns.message.make_response(dns.message.from_wire(sent)).to_wire()
    assert wire.is_answer_to(sent, answer)
    assert wire.is_answer_to(sent, answer.replace(b"Example", b"eXAMPLE"))
    other = dns.message.make_response(dns.message.make_query("www.example.com", A, id=4711)).to_wire()
    for wrong in (sent, b"\0\0" + answer[2:], other, answer[:12], b"", answer[:4] + b"\0\0" + answer[6:]):
        assert not wire.is_answer_to(sent, wrong), wrong


def test_a_relayed_answer_has_the_clients_id_and_fits_it() -> None:
    query = asked("www.example.org")
    response = dns.message.make_response(dns.message.from_wire(wire.for_resolver(query, 9)))
    response.answer.append(dns.rrset.from_text("www.example.org.", 60, "IN", "TXT", *[f'"{n:0200}"' for n in range(3)]))
    relayed = dns.message.from_wire(wire.relayed(query, response.to_wire(), stream=True))
    assert (relayed.id, relayed.answer) == (query.id, response.answer)
    cut = dns.message.from_wire(wire.relayed(query, response.to_wire(), stream=False))
    assert cut.id == query.id and cut.flags & dns.flags.TC and not cut.answer


def test_questions_of_our_own() -> None:
    query = wire.question("C0.demonet.", A)
    assert dns.message.from_wire(wire.for_resolver(query, 1)).question[0].name.to_text() == "C0.demonet."
    assert query.name == "c0.demonet"
    for wrong in ("a..b", "x" * 64, ".".join(["x" * 60] * 5)):
        with pytest.raises(ValueError):
            wire.question(wrong, A)
