"""Messages: everything two nodes can say to each other, as typed values.

Rules of this file
  1. A message is a msgpack map whose field "t" names it. Unknown fields are ignored, an unknown "t" is skipped and
     counted, so a newer peer can say more than we understand.
  2. `decode_message` returns a checked message or raises RemoteError, nothing else, whatever the bytes are.

SWIM speaks datagrams (Das, Gupta, Motivala 2002; field meanings as in memberlist's net.go), records travel by push
(datagrams, confirmed) and by exchange (streams), addresses by claim and loan (datagrams, confirmed).
"""

from __future__ import annotations

import ipaddress
import math
from typing import TypeVar

import msgspec

from .errors import RemoteError
from .limits import COUNT_MAX, MESSAGES_PER_DATAGRAM_MAX, SURVEY_SIZES_MAX
from .pack import convert, pack, unpack
from .records import NodeId, Record, check_record

__all__ = [
    "Ack",
    "Alive",
    "Claim",
    "ClaimAnswer",
    "Dead",
    "Delta",
    "Digest",
    "Done",
    "Facts",
    "Hello",
    "Loan",
    "LoanAnswer",
    "LoanReturn",
    "MemberState",
    "Members",
    "Message",
    "Nack",
    "Ping",
    "PingReq",
    "Poke",
    "Push",
    "PushAck",
    "Refused",
    "Survey",
    "Surveyed",
    "Suspect",
    "Vectors",
    "Welcome",
    "decode_datagram",
    "decode_message",
    "encode_message",
]


class Message(msgspec.Struct, frozen=True, tag_field="t", omit_defaults=True):
    """Base of all messages."""


class Ping(Message, tag="ping", frozen=True, omit_defaults=True):
    """Are you there? Answered only by `target`."""

    seq: int
    target: NodeId


class PingReq(Message, tag="pingreq", frozen=True, omit_defaults=True):
    """Ping `target` for me; say Nack if it does not answer you in time."""

    seq: int
    target: NodeId
    host: str
    port: int


class Ack(Message, tag="ack", frozen=True, omit_defaults=True):
    """I am here. `instance` tells two processes with one identity apart."""

    seq: int
    node: NodeId
    instance: int = 0


class Nack(Message, tag="nack", frozen=True, omit_defaults=True):
    """I am well, but the target did not answer me."""

    seq: int


class Alive(Message, tag="alive", frozen=True, omit_defaults=True):
    """`node` is alive at this address; only the node itself raises (epoch, incarnation)."""

    node: NodeId
    name: str
    host: str
    port: int
    epoch: int
    incarnation: int
    instance: int


class Suspect(Message, tag="suspect", frozen=True, omit_defaults=True):
    """`by` could not reach `node`."""

    node: NodeId
    epoch: int
    incarnation: int
    by: NodeId


class Dead(Message, tag="dead", frozen=True, omit_defaults=True):
    """`node` did not defend itself; with by == node: it leaves."""

    node: NodeId
    epoch: int
    incarnation: int
    by: NodeId


class Push(Message, tag="push", frozen=True, omit_defaults=True):
    """Fresh records of one writer; `base`: how many versions make the writer's epoch complete (0 for shared facts)."""

    push: int
    base: int
    records: list[Record]


class PushAck(Message, tag="pushack", frozen=True, omit_defaults=True):
    """Every record of that push is in my view."""

    push: int
    node: NodeId


class Poke(Message, tag="poke", frozen=True, omit_defaults=True):
    """A record too large for a datagram: fetch it by an exchange with me, and confirm when you have it."""

    push: int
    sender: NodeId
    kind: int
    key: bytes
    epoch: int
    version: int


class Claim(Message, tag="claim", frozen=True, omit_defaults=True):
    """May I have this block? `record` is my Block record in state `claimed`; its version numbers the attempt."""

    base: int
    record: Record


class ClaimAnswer(Message, tag="claimed", frozen=True, omit_defaults=True):
    """Yes (promised in my journal), or no: `holder` has it or was promised it."""

    node: NodeId
    key: bytes
    epoch: int
    version: int
    granted: bool
    holder: NodeId = NodeId(b"")


class Loan(Message, tag="loan", frozen=True, omit_defaults=True):
    """Lend me one address of your block: `wanted`, or any when that is empty (of `subnet`, when that is not)."""

    number: int
    borrower: NodeId
    network: bytes
    key: bytes
    wanted: str = ""
    subnet: str = ""


class LoanAnswer(Message, tag="lent", frozen=True, omit_defaults=True):
    """`address` is yours, or `error` says why not (an error name)."""

    number: int
    network: bytes
    address: str = ""
    error: str = ""
    holder: str = ""


class LoanReturn(Message, tag="returned", frozen=True, omit_defaults=True):
    """I no longer use this address; `tag` is the loan's value in your block record."""

    network: bytes
    key: bytes
    address: str
    tag: bytes


class Hello(Message, tag="hello", frozen=True, omit_defaults=True):
    """First message of a stream: who I am. Refused, or answered by Welcome."""

    node: NodeId
    name: str
    host: str
    port: int
    epoch: int
    incarnation: int
    instance: int


class Welcome(Message, tag="welcome", frozen=True, omit_defaults=True):
    """Come in; this is who I am."""

    hello: Hello


class Refused(Message, tag="refused", frozen=True, omit_defaults=True):
    """You may not come in: `why` is name_taken, identity_taken or busy; the holder is there."""

    why: str
    holder: NodeId = NodeId(b"")
    host: str = ""
    port: int = 0


class MemberState(msgspec.Struct, frozen=True, array_like=True):
    """One row of a member list. `age`: seconds in this state."""

    node: NodeId
    name: str
    host: str
    port: int
    epoch: int
    incarnation: int
    instance: int
    state: str
    age: float


class Members(Message, tag="members", frozen=True, omit_defaults=True):
    """A part of my member list."""

    members: list[MemberState]


class Digest(Message, tag="digest", frozen=True, omit_defaults=True):
    """Hashes of my records by bucket: `owned` over version vectors, `shared` over facts."""

    owned: list[int]
    shared: list[int]


class Vectors(Message, tag="vectors", frozen=True, omit_defaults=True):
    """What I have of the differing buckets: writer, epoch, version up to which I have everything."""

    owned: list[int]
    shared: list[int]
    vectors: list[tuple[NodeId, int, int]]


class Delta(Message, tag="delta", frozen=True, omit_defaults=True):
    """Records of one writer with `after` < version <= `upto`, nothing missing between. `reset`: forget what you had.

    `base`: the version at which the receiver's set is complete and may replace an older one.
    """

    writer: NodeId
    epoch: int
    base: int
    floor: int
    after: int
    upto: int
    reset: bool
    records: list[Record]


class Facts(Message, tag="facts", frozen=True, omit_defaults=True):
    """Shared facts, each to be merged."""

    records: list[Record]


class Done(Message, tag="done", frozen=True, omit_defaults=True):
    """You have all that I have."""


class Survey(Message, tag="survey", frozen=True, omit_defaults=True):
    """Try the ways to me, and tell what of mine arrived (survey.py). `survey`: 32 random bits; `length`: of the longest
    outer packet that matters."""

    survey: int
    node: NodeId
    length: int = 1500


class Surveyed(Message, tag="surveyed", frozen=True, omit_defaults=True):
    """Your question came by these ways; a stream to you `stream_back` (open, refused, silent, or an error's text).

    `sizes`: the lengths of your probes, outer IP packets, that came to my data port.
    """

    survey: int
    node: NodeId
    by_datagram: bool = False
    by_stream: bool = False
    stream_back: str = ""
    sizes: list[int] = []


_TYPES: dict[str, type[Message]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        *(Ping, PingReq, Ack, Nack, Alive, Suspect, Dead, Push, PushAck, Poke),
        *(Claim, ClaimAnswer, Loan, LoanAnswer, LoanReturn),
        *(Hello, Welcome, Refused, Members, Digest, Vectors, Delta, Facts, Done),
        *(Survey, Surveyed),
    )
}
_MessageT = TypeVar("_MessageT", bound=Message)


def encode_message(message: Message) -> bytes:
    """The bytes of one message."""
    return pack(message)


def decode_message(data: bytes, bytes_max: int) -> Message:
    """One message, or RemoteError."""
    return _typed(unpack(data, bytes_max))


def decode_datagram(data: bytes, bytes_max: int) -> tuple[list[Message], list[RemoteError]]:
    """The messages of a datagram (a msgpack array), and one error for each that is unknown or wrong."""
    plain = unpack(data, bytes_max)
    if not isinstance(plain, list) or len(plain) > MESSAGES_PER_DATAGRAM_MAX:
        raise RemoteError("wrong_shape", "datagram is not a short array")
    messages: list[Message] = []
    errors: list[RemoteError] = []
    for item in plain:
        try:
            messages.append(_typed(item))
        except RemoteError as error:
            errors.append(error)
    return messages, errors


def _typed(plain: object) -> Message:
    tag = plain.get("t") if isinstance(plain, dict) else None
    kind = _TYPES.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise RemoteError("unknown_message", repr(tag)[:40])
    message = convert(plain, kind)
    _check(message)
    return message


def _check(message: Message) -> None:
    """Lengths and ranges that the types do not say."""
    match message:
        case Push() | Facts() | Delta():
            for record in message.records:
                check_record(record)
        case Claim():
            check_record(message.record)
    for name in ("node", "target", "by", "borrower", "writer", "sender"):
        identifier = getattr(message, name, None)
        if isinstance(identifier, bytes) and len(identifier) != 16:
            raise RemoteError("wrong_shape", f"{name} has {len(identifier)} bytes")
    for name in ("epoch", "incarnation", "version", "base", "upto", "after", "floor"):
        _check_count(getattr(message, name, 0))
    if isinstance(message, Vectors):
        for _, epoch, upto in message.vectors:
            _check_count(epoch)
            _check_count(upto)
    if isinstance(message, Alive | Hello):
        _check_place(message.name, message.host, message.port)
    elif isinstance(message, PingReq):
        _check_place("", message.host, message.port)
    elif isinstance(message, Welcome):
        _check(message.hello)
    elif isinstance(message, Refused) and message.host:
        _check_place("", message.host, message.port)
    elif isinstance(message, Survey | Surveyed):
        _check_survey(message)
    elif isinstance(message, Members):
        for row in message.members:
            _check_place(row.name, row.host, row.port)
            _check_count(row.epoch)
            _check_count(row.incarnation)
            if len(row.node) != 16 or not 0 <= row.age < math.inf:  # JSON, in which lists tell it, has no infinity
                raise RemoteError("wrong_shape", "member row")


def _check_count(value: object) -> None:
    """Counts go up from 0: one beyond COUNT_MAX is nonsense, and would leave no room above it for a refutation."""
    if not isinstance(value, int) or not 0 <= value <= COUNT_MAX:
        raise RemoteError("wrong_shape", f"count {value!r}")


def _check_survey(message: Survey | Surveyed) -> None:
    sizes, said = (message.sizes, message.stream_back) if isinstance(message, Surveyed) else ([], "")
    if not 0 <= message.survey < 1 << 32 or len(sizes) > SURVEY_SIZES_MAX or len(said) > 64:
        raise RemoteError("wrong_shape", "survey")
    if not all(0 < size < 1 << 16 for size in [*sizes, message.length if isinstance(message, Survey) else 1]):
        raise RemoteError("wrong_shape", "size of a probe")


def _check_place(name: str, host: str, port: int) -> None:
    """Where a node is. A host must be numeric: nothing that a peer says may make us ask a name server."""
    if len(name) > 128 or not 0 < port < 65536:
        raise RemoteError("wrong_shape", f"port {port} or a name of {len(name)} characters")
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise RemoteError("wrong_shape", str(error)[:80]) from error
