"""Claims: how a node comes to hold a block, in two phases.

    claimer                                   every live member
    journal Block(claimed), Claim ---------->  journal the promise
                          <------------------  ClaimAnswer(granted), or no: the holder is ...
    all have granted, and in `strict` networks more than half of all unforgotten members (the claimer counts):
    journal Block(held), push

Why it is safe in `strict`: two holders of one block would each have the promises of a majority, so one member would
have promised it twice; a promise is in its journal before its answer leaves, and it ends only by the claimer's own
word: the claim's record deleted, or a complete later epoch without it. Answers are matched by the claim's
(epoch, version), so a promise for an abandoned claim is never counted for the next one.

Two that claim at once: the lower node id goes on, the other withdraws and takes another block. Neither waits for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from .config import Profile
from .effects import Address
from .errors import RemoteError
from .index import Index
from .leases import Leases
from .members import LIVE, MemberTable
from .messages import Claim, ClaimAnswer
from .out import Outbox
from .owned import Owned
from .pack import convert, pack, unpack
from .pool import overlap, parse_prefix
from .records import Block, Kind, NodeId, Record, body_of
from .writer import Writer

__all__ = ["ClaimEnd", "Claims"]

_NOBODY = NodeId(b"")
_REPEAT = 0.1  # seconds between two sendings of one claim to those that have not answered


class _Promise(msgspec.Struct, frozen=True, array_like=True):
    """Whom we promised a block to, and in which attempt."""

    claimant: NodeId
    epoch: int
    version: int


@dataclass(frozen=True, slots=True)
class ClaimEnd:
    """How a claim of ours ended. `holder`: who stands in the way; `missing`: who did not answer."""

    network: bytes
    prefix: str
    held: bool
    holder: NodeId = _NOBODY
    missing: tuple[NodeId, ...] = ()


@dataclass(slots=True)
class _Outgoing:
    record: Record
    prefix: str
    strict: bool
    deadline: float
    next_send: float
    granted: set[NodeId] = field(default_factory=set)


class Claims:
    """Promises given, and claims made."""

    def __init__(
        self,
        table: MemberTable,
        owned: Owned,
        writer: Writer,
        index: Index,
        leases: Leases,
        profile: Profile,
        out: Outbox,
        ended: Callable[[ClaimEnd, float], None],
    ) -> None:
        self._table = table
        self._owned = owned
        self._writer = writer
        self._index = index
        self._leases = leases
        self._profile = profile
        self._out = out
        self._ended = ended
        self._promises: dict[bytes, dict[str, _Promise]] = {}  # network -> prefix -> promise
        self._outgoing: dict[bytes, _Outgoing] = {}  # key of the record -> our claim

    def running(self, network: bytes) -> list[str]:
        """The blocks that we are claiming."""
        return [outgoing.prefix for key, outgoing in self._outgoing.items() if key[:16] == network]

    def obstacle(self, network: bytes, prefix: str, claimant: NodeId) -> NodeId | None:
        """Who holds, claims or was promised (by us) something that overlaps, other than `claimant`."""
        for owner, held in self._index.blocks.get(network, {}):
            if owner != claimant and overlap(held, prefix):
                return owner
        for promised, promise in list(self._promises.get(network, {}).items()):
            if promise.claimant == claimant or not overlap(promised, prefix):
                continue
            if not self._is_void(network, promised, promise):
                return promise.claimant
            self._drop(network, promised)
        return None

    def begin(self, network: bytes, prefix: str, strict: bool, now: float) -> None:
        """Ask everybody. The caller has seen that there is no obstacle and that we are not claiming it already."""
        block = Block(network=network, prefix=prefix, state="claimed")
        record = self._writer.put(Kind.BLOCK, network + prefix.encode(), block, now, push=False)
        self._outgoing[record.key] = _Outgoing(record, prefix, strict, now + self._profile.claim_deadline, now)
        self._proceed(record.key, now)

    def network_gone(self, network: bytes) -> None:
        """Removed for ever, and nobody uses it; the record of a claim is deleted with those of our blocks."""
        for key in [key for key in self._outgoing if key[:16] == network]:
            del self._outgoing[key]
        for prefix in list(self._promises.get(network, ())):
            self._drop(network, prefix)

    def sweep(self) -> None:
        """Strike out the promises that nothing asks about any more."""
        for network, promises in list(self._promises.items()):
            gone = network in self._index.removed and not self._index.populated(network)
            for prefix, promise in list(promises.items()):
                if gone or self._is_void(network, prefix, promise):
                    self._drop(network, prefix)

    def withdraw_all(self, now: float) -> None:
        """Our epoch ends, and with it what we asked under it."""
        for key in list(self._outgoing):
            self._fail(key, now)

    # messages

    def asked(self, message: Claim, addr: Address, now: float) -> None:
        """Somebody claims a block."""
        record = message.record
        stranger = record.writer == self._table.me or record.writer not in self._table.by_id
        if record.kind != Kind.BLOCK or stranger:
            raise RemoteError("claim_invalid", "not a block of a member")
        block = body_of(record, Block)
        if block.state != "claimed":
            raise RemoteError("claim_invalid", block.state)
        self._owned.push(record, message.base, now)
        if self._is_over(record):
            return
        mine = [it for it in self.running(block.network) if overlap(it, block.prefix)]
        if mine and record.writer > self._table.me:
            self._out.send(addr, self._answer(record, self._table.me))
            return
        for prefix in mine:
            self._fail(block.network + prefix.encode(), now, record.writer)
        holder = self.obstacle(block.network, block.prefix, record.writer)
        if holder is None and self._uses(block.network, block.prefix):
            holder = self._table.me
        if holder is None:
            promise = _Promise(record.writer, record.epoch, record.version)
            self._promises.setdefault(block.network, {})[block.prefix] = promise
            self._out.persist("promise", record.key, pack(promise), durable=True)
        self._out.send(addr, self._answer(record, holder))

    def answered(self, message: ClaimAnswer, now: float) -> None:
        """Somebody answers our claim."""
        outgoing = self._outgoing.get(message.key)
        if outgoing is None:
            return
        if (message.epoch, message.version) != (outgoing.record.epoch, outgoing.record.version):
            return
        if message.granted:
            outgoing.granted.add(message.node)
            self._proceed(message.key, now)
        else:
            self._fail(message.key, now, message.holder)

    # timers

    def next_timer(self) -> float | None:
        """When something is due."""
        return min((min(o.next_send, o.deadline) for o in self._outgoing.values()), default=None)

    def handle_timer(self, now: float) -> None:
        """Repeat, give up."""
        for key in list(self._outgoing):
            self._proceed(key, now)

    def load(self, key: bytes, row: bytes) -> None:
        """A "promise" row."""
        self._promises.setdefault(key[:16], {})[key[16:].decode()] = convert(unpack(row, 256), _Promise)

    # inside

    def _proceed(self, key: bytes, now: float) -> None:
        outgoing = self._outgoing[key]
        network = key[:16]
        live = {member.id: member.address for member in self._table.others(*LIVE)}
        missing = [node for node in live if node not in outgoing.granted]
        votes = len(outgoing.granted & self._table.by_id.keys()) + 1
        if not missing and (not outgoing.strict or 2 * votes > self._table.electorate()):
            del self._outgoing[key]
            block = Block(network=network, prefix=outgoing.prefix, state="held")
            self._writer.put(Kind.BLOCK, key, block, now)
            self._ended(ClaimEnd(network, outgoing.prefix, True), now)
        elif now >= outgoing.deadline:
            self._fail(key, now, missing=tuple(missing))
        elif now >= outgoing.next_send:
            outgoing.next_send = now + _REPEAT
            for node in missing:
                self._out.send(live[node], Claim(self._writer.base, outgoing.record))

    def _fail(self, key: bytes, now: float, holder: NodeId = _NOBODY, missing: tuple[NodeId, ...] = ()) -> None:
        outgoing = self._outgoing.pop(key)
        self._writer.delete(Kind.BLOCK, key, now)
        self._ended(ClaimEnd(key[:16], outgoing.prefix, False, holder, missing), now)

    def _answer(self, record: Record, holder: NodeId | None) -> ClaimAnswer:
        me = self._table.me
        if holder is None:
            return ClaimAnswer(me, record.key, record.epoch, record.version, True)
        return ClaimAnswer(me, record.key, record.epoch, record.version, False, holder)

    def _is_over(self, record: Record) -> bool:
        """An old datagram: the claimer has said something newer about this block, or has been forgotten."""
        log = self._owned.logs.get(record.writer)
        if log is None:
            return False
        known = log.records.get((record.kind, record.key))
        if log.epoch != record.epoch:
            return log.epoch > record.epoch
        return log.has(record.version) and (known is None or known.version > record.version)

    def _is_void(self, network: bytes, prefix: str, promise: _Promise) -> bool:
        """Whether the claimant itself has let go of what we promised."""
        if self._index.forgotten.get(promise.claimant, -1) >= promise.epoch:
            return True
        log = self._owned.logs.get(promise.claimant)
        if log is None or log.epoch < promise.epoch:
            return False
        known = log.records.get((Kind.BLOCK, network + prefix.encode()))
        if known is not None and not known.deleted:
            return False
        return log.epoch > promise.epoch or log.has(promise.version)

    def _uses(self, network: bytes, prefix: str) -> bool:
        """Whether the one address of a claim is in use here without a block: chosen by hash in a sparse subnet, or kept
        from before we were forgotten. In a larger block such an address stands in nobody's way: its record is seen."""
        block = parse_prefix(prefix)
        return block.num_addresses == 1 and block.network_address in self._leases.given.get(network, {})

    def _drop(self, network: bytes, prefix: str) -> None:
        del self._promises[network][prefix]
        if not self._promises[network]:
            del self._promises[network]
        self._out.erase("promise", network + prefix.encode())
