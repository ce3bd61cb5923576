"""Effects: what the core wants done. It returns them as values; the shell (control/net.py) or the simulator does them.

Contract with whoever carries them out
  1. In order. Effects of one `Core.effects()` list, and of successive lists, are done one after another.
  2. A `Persist` or `Erase` with `durable=True`, and every row before it, is on stable storage BEFORE a later effect is
     done: an acknowledgement, a promise or an address must not leave the house before its journal entry.
     Rows with `durable=False` may be lost by a crash, but only as a suffix: never an older one without a newer one.
  3. `SendDatagram` may be lost; `OpenStream` is answered by `Core.stream_opened` or `Core.stream_closed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .messages import Surveyed
from .records import EndpointId, NodeId

__all__ = [
    "Address",
    "Allocated",
    "AllocationRefused",
    "ChangeKey",
    "Changed",
    "CloseStream",
    "Effect",
    "Erase",
    "Exchanged",
    "IdentityTaken",
    "JoinFailed",
    "Joined",
    "MemberChanged",
    "NameTaken",
    "OpenStream",
    "Persist",
    "Published",
    "ResolveSeeds",
    "SendDatagram",
    "SendStream",
    "State",
    "StreamId",
    "SurveyAnswered",
    "SurveyAsked",
    "WrongKey",
]

Address = tuple[str, int]  # numeric host, port
StreamId = int  # odd: opened by us, even: accepted by the shell
ChangeKey = tuple[str, bytes, bytes]
# ("network", id, b"") · ("endpoint", network id, endpoint id) · ("vtep", network id, key) · ("block", network id, key)
# ("node", node id, b"") · ("member", node id, b"")


class State(StrEnum):
    """What we think of a member. GONE is a DEAD one after 72 h: shown nowhere, only its blocks still count."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """One UDP datagram, complete (version byte, sealed if there is a key)."""

    to: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Connect; then call `Core.stream_opened(stream, ...)`, or `stream_closed` when it fails or takes too long."""

    stream: StreamId
    to: Address


@dataclass(frozen=True, slots=True)
class SendStream:
    """One frame (the shell adds the length)."""

    stream: StreamId
    data: bytes


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close after what was sent has left. Closing one that is closed already is nothing."""

    stream: StreamId


@dataclass(frozen=True, slots=True)
class Persist:
    """Write one row of the state directory: (table, key) -> value."""

    table: str
    key: bytes
    value: bytes
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Erase:
    """Remove one row; nothing if it is not there."""

    table: str
    key: bytes
    durable: bool = False


@dataclass(frozen=True, slots=True)
class ResolveSeeds:
    """Resolve these `HOST[:PORT]` strings again and answer with `Core.seeds_resolved`."""

    seeds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """These questions on the view may have new answers. Emitted once per input, after all of its changes."""

    keys: frozenset[ChangeKey]


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member went from one state to another; `before` is None for a new one, `after` is None for a forgotten one."""

    node: NodeId
    name: str
    before: State | None
    after: State | None


@dataclass(frozen=True, slots=True)
class Joined:
    """The first exchange of this process is complete: we are in the cluster, and hold what the peer held."""

    node: NodeId
    address: Address


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Any exchange is complete: both hold what the other held. Joined is the first one of a process."""

    node: NodeId
    address: Address


@dataclass(frozen=True, slots=True)
class JoinFailed:
    """One attempt failed. It is tried again for ever; this is for the log and `status`."""

    address: Address
    why: str


@dataclass(frozen=True, slots=True)
class Published:
    """`publish` ended: `acked` of `wanted` members confirmed before the deadline."""

    request: int
    acked: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Allocated:
    """`address` (with the prefix length) belongs to `endpoint`, and the journal says so."""

    request: int
    endpoint: EndpointId
    address: str


@dataclass(frozen=True, slots=True)
class AllocationRefused:
    """No address. `name` is an error name of errors.Refusal; `holder` is the node or endpoint in the way, if one is."""

    request: int
    name: str
    what: str
    why: str = ""
    holder: str = ""


@dataclass(frozen=True, slots=True)
class NameTaken:
    """A live member answers to our name. We have not entered the cluster and must not."""

    name: str
    holder: NodeId
    address: Address


@dataclass(frozen=True, slots=True)
class IdentityTaken:
    """Our node id is alive elsewhere: a cloned state directory. We have not entered the cluster and must not."""

    address: Address


@dataclass(frozen=True, slots=True)
class WrongKey:
    """A peer's message could not be opened, or was clear while we are keyed, or sealed while we are not.

    Emitted at the first event and then at most every 10 s; `count` is the total so far.
    """

    address: Address
    why: str
    count: int


@dataclass(frozen=True, slots=True)
class SurveyAsked:
    """A member wants to know which ways lead back to it, for packets of `length`; ends with `Core.answer_survey`."""

    node: NodeId
    number: int
    length: int


@dataclass(frozen=True, slots=True)
class SurveyAnswered:
    """What a member found, as it came by a datagram."""

    node: NodeId
    number: int
    found: Surveyed


Effect = (
    SendDatagram
    | OpenStream
    | SendStream
    | CloseStream
    | Persist
    | Erase
    | ResolveSeeds
    | Changed
    | MemberChanged
    | Joined
    | Exchanged
    | JoinFailed
    | Published
    | Allocated
    | AllocationRefused
    | NameTaken
    | IdentityTaken
    | WrongKey
    | SurveyAsked
    | SurveyAnswered
)
