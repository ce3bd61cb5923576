"""Any bytes at all, at every door of the core: a value or a counted RemoteError, never another exception.

Two ways in: random bytes, and real messages that were cut, changed or spliced. Deterministic: derandomized examples.
"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vxlanu.control.core.config import LOCAL, Config
from vxlanu.control.core.core import Core
from vxlanu.control.core.effects import SendDatagram
from vxlanu.control.core.errors import RemoteError
from vxlanu.control.core.limits import FRAME_BYTES_MAX
from vxlanu.control.core.messages import (
    Ack,
    Alive,
    Claim,
    ClaimAnswer,
    Dead,
    Delta,
    Digest,
    Done,
    Facts,
    Hello,
    Loan,
    LoanAnswer,
    LoanReturn,
    Members,
    MemberState,
    Message,
    Nack,
    Ping,
    PingReq,
    Poke,
    Push,
    PushAck,
    Refused,
    Survey,
    Surveyed,
    Suspect,
    Vectors,
    Welcome,
    decode_datagram,
    decode_message,
    encode_message,
)
from vxlanu.control.core.pack import pack
from vxlanu.control.core.records import BODY_TYPES, Block, Endpoint, Kind, Network, NodeId, Record, body_of, encode_body

A, B = NodeId(b"a" * 16), NodeId(b"b" * 16)
NET = b"n" * 16
BLOCK = Block(network=NET, prefix="10.0.0.0/26", state="claimed")
RECORD = Record(A, 1, 1, Kind.BLOCK, NET + b"10.0.0.0/26", encode_body(BLOCK))
ENDPOINT = Endpoint(id=b"e" * 16, network=NET, name="c0", mac="02:42:0a:00:00:02", addresses=("10.0.0.2/24",))
NETWORK = Network(id=NET, name="demo", vni=256, subnets=("10.0.0.0/24",), gateways=("10.0.0.1",))
HELLO = Hello(A, "h1", "10.0.0.1", 7946, 1, 0, 7)
MESSAGES: list[Message] = [
    *(Ping(1, B), PingReq(1, B, "10.0.0.2", 7946), Ack(1, B, 5), Nack(1)),
    *(Alive(A, "h1", "10.0.0.1", 7946, 1, 0, 7), Suspect(A, 1, 0, B), Dead(A, 1, 0, A)),
    *(Push(1, 1, [RECORD]), PushAck(1, A), Poke(1, A, Kind.ENDPOINT, b"e" * 16, 1, 1)),
    *(Claim(1, RECORD), ClaimAnswer(A, RECORD.key, 1, 1, True), Loan(1, A, NET, RECORD.key, "10.0.0.5")),
    *(LoanAnswer(1, NET, "10.0.0.5"), LoanReturn(NET, RECORD.key, "10.0.0.5", bytes(24))),
    *(HELLO, Welcome(HELLO), Refused("name_taken", A, "10.0.0.1", 7946)),
    *(Members([MemberState(A, "h1", "10.0.0.1", 7946, 1, 0, 7, "alive", 1.0)]), Digest([0] * 64, [0] * 64)),
    *(Vectors([1], [2], [(A, 1, 1)]), Delta(A, 1, 1, 0, 0, 1, False, [RECORD]), Facts([]), Done()),
    *(Survey(7, A, 1450), Surveyed(7, A, True, False, "silent", [1500, 1400])),
]
BODIES = [encode_body(body) for body in (BLOCK, ENDPOINT, NETWORK)]


def core() -> Core:
    """A core that has met a member called A."""
    made = Core(Config(node=B, name="h2", control_host="10.0.0.2", profile=LOCAL), [], random.Random(1), 0.0)
    made.handle_timer(0.0)
    alive = b"\1\0\x91" + encode_message(Alive(A, "h1", "10.0.0.1", 7946, 1, 0, 7))
    made.receive_datagram(alive, ("10.0.0.1", 7946), 0.0)
    assert len(made.view.members()) == 2
    return made


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One of: cut, flip, insert, splice with another message."""
    place = rng.randrange(len(data) + 1)
    match rng.randrange(4):
        case 0:
            return data[:place]
        case 1:
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)
        case 2:
            return data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place:]
        case _:
            return data[:place] + encode_message(rng.choice(MESSAGES))[rng.randrange(4) :]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode_message(encode_message(message), FRAME_BYTES_MAX) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_truncation_is_a_remote_error(message: Message) -> None:
    data = encode_message(message)
    for length in range(len(data)):
        with pytest.raises(RemoteError):
            decode_message(data[:length], FRAME_BYTES_MAX)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
@example(b"\xdd\xff\xff\xff\xff")  # an array of 4 Gi entries
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xc6\xff\xff\xff\xff")
@example(b"\x91" * 2000)
@example(b"\xd6\xff\xff\xff\xff\xff")  # a timestamp
@example(b"\x91\x81\xa1t\xa4ping")
def test_any_bytes_decode_to_a_value_or_a_remote_error(data: bytes) -> None:
    for decode in (decode_message, decode_datagram):
        try:
            decode(data, FRAME_BYTES_MAX)
        except RemoteError:
            continue
    for kind, body in BODY_TYPES.items():
        try:
            body_of(Record(A, 1, 1, kind, b"k", data), body)
        except RemoteError:
            continue


@pytest.mark.parametrize("seed", range(20))
def test_a_core_survives_mutated_datagrams_and_goes_on(seed: int) -> None:
    rng, target = random.Random(seed), core()
    for number in range(300):
        inner = mutated(encode_message(rng.choice(MESSAGES)), rng)
        data = b"\1\0\x91" + inner if rng.random() < 0.8 else mutated(b"\1\0\x91" + inner, rng)
        target.receive_datagram(data, ("10.0.0.1", 7946), 0.01 * number)
        target.handle_timer(0.01 * number)
        target.effects()
    assert sum(count for name, count in target.counters().items() if not name.startswith("datagrams")) > 50
    target.receive_datagram(b"\1\0\x91" + encode_message(Ping(77, B)), ("10.0.0.9", 7946), 4.0)
    assert any(isinstance(effect, SendDatagram) and effect.to[0] == "10.0.0.9" for effect in target.effects())


@pytest.mark.parametrize("seed", range(20))
def test_a_core_survives_mutated_streams_and_closes_them(seed: int) -> None:
    rng, target = random.Random(seed), core()
    for stream in range(2, 120, 2):
        target.stream_opened(stream, ("10.0.0.1", 7946), 1.0)
        target.stream_message(stream, b"\1\0" + encode_message(HELLO), 1.0)
        for _ in range(rng.randrange(1, 6)):
            data = encode_message(rng.choice(MESSAGES))
            target.stream_message(stream, b"\1\0" + (mutated(data, rng) if rng.random() < 0.7 else data), 1.0)
        target.stream_closed(stream, 1.0)
        target.effects()
    assert target.counters()["exchanges_failed"] > 10


@pytest.mark.parametrize("seed", range(10))
def test_mutated_bodies_are_kept_out_of_the_view_or_are_valid(seed: int) -> None:
    rng, target = random.Random(seed), core()
    for version in range(1, 300):
        body = mutated(rng.choice(BODIES), rng)
        kind = rng.choice([Kind.ENDPOINT, Kind.BLOCK, Kind.NETWORK, Kind.VTEP, Kind.NODE, Kind.FORGOTTEN])
        key = rng.choice([b"e" * 16, NET, RECORD.key])
        push = Push(version, 1, [Record(A, 1, version, kind, key, body)])
        target.receive_datagram(b"\1\0\x91" + encode_message(push), ("10.0.0.1", 7946), 1.0)
        target.view.networks(), target.view.endpoints(), target.view.blocks(), target.view.vteps()
        target.handle_timer(1.0 + version)
        target.effects()
    assert sum(target.counters().get(name, 0) for name in ("body_invalid", "wrong_shape", "not_msgpack")) > 50


@pytest.mark.parametrize("host", ["example.com", "", "10.0.0.1%x", "10.0.0.256"])
def test_a_host_that_is_no_number_is_refused(host: str) -> None:
    with pytest.raises(RemoteError):
        decode_message(encode_message(Alive(A, "h1", host, 7946, 1, 0, 7)), FRAME_BYTES_MAX)


AGES = [(0.0, True), (1e9, True), (-1.0, False), (math.inf, False), (math.nan, False)]


@pytest.mark.parametrize(("age", "right"), AGES)
def test_an_age_is_a_number_of_seconds_that_a_list_can_show(age: float, right: bool) -> None:
    message = Members([MemberState(B, "h2", "10.0.0.2", 7946, 1, 0, 9, "alive", age)])
    if right:
        assert decode_message(encode_message(message), FRAME_BYTES_MAX) == message
    else:
        with pytest.raises(RemoteError):
            decode_message(encode_message(message), FRAME_BYTES_MAX)


@pytest.mark.parametrize("value", [-1, (1 << 56) + 1, (1 << 63) - 1, (1 << 64) - 1])
def test_counts_that_leave_no_room_above_them_are_refused(value: int) -> None:
    rows = [MemberState(B, "h2", "10.0.0.2", 7946, value, 0, 9, "alive", 1.0)]
    hostile: list[Message] = [
        *(Alive(B, "h2", "10.0.0.2", 7946, value, 0, 9), Alive(B, "h2", "10.0.0.2", 7946, 1, value, 9)),
        *(Suspect(B, value, 0, A), Suspect(B, 1, value, A), Dead(B, value, 0, A), Members(rows)),
        *(Vectors([0], [0], [(B, value, 1)]), Vectors([0], [0], [(B, 1, value)])),
        *(Push(1, value, [RECORD]), Push(1, 1, [Record(A, value, 1, 4, b"k", b"")])),
        *(Delta(A, 1, 1, 0, 0, value, False, []), Facts([Record(A, 1, value, 3, NET, b"")])),
    ]
    for message in hostile:
        with pytest.raises(RemoteError):
            decode_message(encode_message(message), FRAME_BYTES_MAX)
    target = core()
    most = Suspect(B, 1 << 56, 1 << 56, A)  # the largest that passes is survived, and answered from above
    target.receive_datagram(b"\1\0\x91" + encode_message(most), ("10.0.0.1", 7946), 1.0)
    assert target.epoch == (1 << 56) + 1


def test_rows_of_a_damaged_state_directory_are_left_out_and_counted() -> None:
    rng = random.Random(1)
    rows = [("rec", b"x", rng.randbytes(20)), ("fact", b"x", b""), ("own", b"y", b"\xc1"), ("promise", NET, b"1")]
    rows += [
        ("member", b"m", pack([1, 2])),
        ("alloc", NET + b"abc", b"zz"),
        ("log", b"w", b"\x93\1"),
        ("new", b"", b""),
    ]
    target = Core(Config(node=B, name="h2", control_host="10.0.0.2"), rows, rng, 0.0)
    assert target.counters()["bad_row"] == 6
    assert target.epoch == 1
