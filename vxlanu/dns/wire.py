"""The bytes of a question and of its answer (RFC 1035, 4; RFC 6891).

Rules of this file
  1. Pure, and total on `read`: any bytes give a `Query`, or an `Unreadable` that says what may be sent back.
  2. Size first, then the counts of the header, then the name; nothing is built for a message that fails a step.
  3. The question goes back, and goes on to a resolver, in the very bytes in which it came.

The name is read by dnspython, the rest is written out here: the whole message in dnspython's objects costs 700 µs where
this takes 40, on the loop that also serves the control plane. dnspython reads every kind of answer in the tests.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import dns.exception
import dns.name

from vxlanu.dns.limits import (
    ADDRESSES_KEPT,
    ANSWER_TTL_S,
    MISSING_TTL_S,
    REQUEST_BYTES_MAX,
    STREAM_BYTES_MAX,
    UDP_PAYLOAD,
    UDP_PAYLOAD_PLAIN,
)
from vxlanu.dns.zone import AAAA, PTR, ZONE, A

__all__ = [
    "BADVERS",
    "FORMERR",
    "IN",
    "NOERROR",
    "NOTIMP",
    "NXDOMAIN",
    "REFUSED",
    "SERVFAIL",
    "Query",
    "Unreadable",
    "for_resolver",
    "is_answer_to",
    "is_truncated",
    "question",
    "rcode_of",
    "read",
    "relayed",
    "reply",
    "truncated",
]

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
IN, OPT, SOA = 1, 41, 6
QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE = 0x7800
DO = 0x8000
HEADER = struct.Struct("!6H")
OPTION = struct.Struct("!BHHBBHH")  # root, type, payload, high bits of the rcode, version, flags, length
RECORD = struct.Struct("!HHHIH")  # owner as a pointer, type, class, TTL, length
QUESTION_AT = HEADER.size
TO_QUESTION = 0xC000 | QUESTION_AT  # a pointer to the name that was asked


@dataclass(frozen=True, slots=True)
class Query:
    """A question. `name` in lower case without the final dot, as zones have it."""

    id: int
    flags: int
    name: str
    rtype: int
    rclass: int
    question: bytes
    payload: int = 0
    """What the client takes by UDP (EDNS); 0: it did not say."""
    dnssec_ok: bool = False

    def limit(self, stream: bool) -> int:
        """The longest answer that may be sent."""
        return STREAM_BYTES_MAX if stream else min(max(self.payload, UDP_PAYLOAD_PLAIN), UDP_PAYLOAD)


class Unreadable(Exception):
    """Not a question that could be answered; `answer` is what to send, empty: nothing."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__()
        self.answer = answer


def read(data: bytes) -> Query:
    """Raises `Unreadable`. What is no question at all is never answered, so that two servers never talk for ever."""
    if not QUESTION_AT <= len(data) <= REQUEST_BYTES_MAX:
        raise Unreadable
    identity, flags, questions, answers, authorities, additional = HEADER.unpack_from(data)
    if flags & QR:
        raise Unreadable
    if flags & OPCODE:
        raise Unreadable(_bare(identity, flags, NOTIMP))
    if questions != 1 or answers or authorities or additional > 1:
        raise Unreadable(_bare(identity, flags, FORMERR))
    try:
        name, used = dns.name.from_wire(data, QUESTION_AT)
    except (dns.exception.DNSException, ValueError) as error:
        raise Unreadable(_bare(identity, flags, FORMERR)) from error
    end = QUESTION_AT + used + 4
    if sum(len(label) + 1 for label in name.labels) != used or end > len(data):  # compressed, or cut off
        raise Unreadable(_bare(identity, flags, FORMERR))
    rtype, rclass = struct.unpack_from("!HH", data, end - 4)
    query = Query(identity, flags, _text(name), rtype, rclass, data[QUESTION_AT:end])
    return _with_option(query, data, end) if additional else _whole(query, data, end)


def _text(name: dns.name.Name) -> str:
    """A dot within a label as \\046, not as \\. : else a label `a.vxlanu` would pass for one below `vxlanu`."""
    if not any(b"." in label for label in name.labels):
        return name.to_text(omit_final_dot=True).lower() if len(name.labels) > 1 else ""
    labels = (dns.name.Name([label]).to_text().replace("\\.", "\\046") for label in name.labels if label)
    return ".".join(labels).lower()


def _with_option(query: Query, data: bytes, at: int) -> Query:
    """The one additional record that is understood."""
    if at + OPTION.size > len(data):
        raise Unreadable(_bare(query.id, query.flags, FORMERR))
    root, rtype, payload, _, version, flags, length = OPTION.unpack_from(data, at)
    if root or rtype != OPT:
        raise Unreadable(_bare(query.id, query.flags, FORMERR))
    found = Query(*_head(query), payload=max(payload, 1), dnssec_ok=bool(flags & DO))
    if version:
        raise Unreadable(reply(found, BADVERS, stream=False))
    return _whole(found, data, at + OPTION.size + length)


def _head(query: Query) -> tuple[int, int, str, int, int, bytes]:
    return query.id, query.flags, query.name, query.rtype, query.rclass, query.question


def _whole(query: Query, data: bytes, end: int) -> Query:
    if end != len(data):
        raise Unreadable(_bare(query.id, query.flags, FORMERR))
    return query


def _bare(identity: int, flags: int, rcode: int) -> bytes:
    """A header alone: what could not be read is not repeated."""
    return HEADER.pack(identity, QR | flags & (OPCODE | RD) | rcode, 0, 0, 0, 0)


def reply(
    query: Query,
    rcode: int,
    values: Sequence[str] = (),
    *,
    stream: bool,
    authoritative: bool = False,
    recursion: bool = False,
    missing: bool = False,
    more: bool = False,
) -> bytes:
    """An answer of our own: records of the name that was asked. Whatever is too long for the client ends with TC set,
    and so does what is not all that there is (`more`).

    `missing`: say how long the absence may be remembered, which only a name of the zone can.
    """
    edns = _option(query, rcode)
    records = [record for value in values if (record := _record(value))]
    room = query.limit(stream) - QUESTION_AT - len(query.question) - len(edns)
    kept = _fitting(records, room)
    authority = _soa(query) if missing else b""
    flags = QR | query.flags & (RD | CD) | rcode & 15
    flags |= AA * authoritative | RA * recursion | TC * (more or len(kept) < len(records))
    head = HEADER.pack(query.id, flags, 1, len(kept), bool(authority), bool(edns))
    return b"".join((head, query.question, *kept, authority, edns))


def _fitting(records: list[bytes], room: int) -> list[bytes]:
    kept = []
    for record in records:
        room -= len(record)
        if room < 0:
            break
        kept.append(record)
    return kept


def _option(query: Query, rcode: int = NOERROR) -> bytes:
    """Our side of EDNS, for who spoke it."""
    if not query.payload:
        return b""
    return OPTION.pack(0, OPT, UDP_PAYLOAD, rcode >> 4, 0, DO * query.dnssec_ok, 0)


@lru_cache(ADDRESSES_KEPT)
def _record(value: str) -> bytes:
    """Empty for a name that the wire cannot carry: a label of more than 63 bytes."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        try:
            target = _name(value)
        except dns.exception.DNSException:
            return b""
        return RECORD.pack(TO_QUESTION, PTR, IN, ANSWER_TTL_S, len(target)) + target
    packed = address.packed
    return RECORD.pack(TO_QUESTION, A if address.version == 4 else AAAA, IN, ANSWER_TTL_S, len(packed)) + packed


def _soa(query: Query) -> bytes:
    """The start of the zone, by a pointer into the question, whose last labels are the zone's."""
    at = QUESTION_AT + len(query.question) - 4 - len(_ZONE_WIRE)
    numbers = struct.pack("!5I", 1, 3600, 600, 86400, MISSING_TTL_S)
    body = struct.pack("!H", 0xC000 | at) + _NOBODY + numbers
    return RECORD.pack(0xC000 | at, SOA, IN, MISSING_TTL_S, len(body)) + body


def _name(text: str) -> bytes:
    wire = dns.name.from_text(text).to_wire()
    assert wire is not None  # None is for a name that goes into a buffer
    return wire


_ZONE_WIRE = _name(ZONE)
_NOBODY = _name("nobody.invalid")  # RFC 2606: a mailbox that is nobody's


def truncated(query: Query, rcode: int = NOERROR) -> bytes:
    """`Come again by TCP.`"""
    edns = _option(query)
    flags = QR | TC | RA | query.flags & (RD | CD) | rcode & 15
    return HEADER.pack(query.id, flags, 1, 0, 0, bool(edns)) + query.question + edns


def question(name: str, rtype: int) -> Query:
    """A question of our own. Raises ValueError for a name that the wire cannot carry."""
    try:
        wire = _name(name)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ValueError(str(error)) from error
    text = name.removesuffix(".").lower()
    return Query(0, RD, text, rtype, IN, wire + struct.pack("!HH", rtype, IN), payload=UDP_PAYLOAD)


# the host's resolvers


def for_resolver(query: Query, identity: int) -> bytes:
    """The question on its way on: options of the client (cookies, its subnet) are between it and us."""
    edns = _option(query)
    flags = query.flags & (RD | AD | CD)
    return HEADER.pack(identity, flags, 1, 0, 0, bool(edns)) + query.question + edns


def is_answer_to(sent: bytes, got: bytes) -> bool:
    """Whether these bytes are an answer to that question: id, direction, and the question itself."""
    if not QUESTION_AT <= len(got) <= STREAM_BYTES_MAX:
        return False
    identity, flags, questions, *_ = HEADER.unpack_from(got)
    if identity != HEADER.unpack_from(sent)[0] or not flags & QR or flags & OPCODE or questions != 1:
        return False
    edns = OPTION.size * HEADER.unpack_from(sent)[5]
    asked = sent[QUESTION_AT : len(sent) - edns]
    heard = got[QUESTION_AT : QUESTION_AT + len(asked)]
    return heard[:-4].lower() == asked[:-4].lower() and heard[-4:] == asked[-4:]


def is_truncated(answer: bytes) -> bool:
    """Whether there is more than was sent."""
    return bool(HEADER.unpack_from(answer)[1] & TC)


def rcode_of(answer: bytes) -> int:
    """The lower four bits, all that a message without EDNS has."""
    return int(HEADER.unpack_from(answer)[1] & 15)


def relayed(query: Query, answer: bytes, *, stream: bool) -> bytes:
    """A resolver's answer under the client's id, or word that it needs TCP."""
    if len(answer) > query.limit(stream):
        return truncated(query, rcode_of(answer))
    return struct.pack("!H", query.id) + answer[2:]
