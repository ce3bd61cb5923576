"""The exchange: two nodes bring each other up to date over one stream.

    opener                                   accepter
    Hello ------------------------------->   may it come in? (door.py)
       <----- Welcome, Members, Digest       or Refused
    Members, Vectors, Facts ------------->   of the buckets whose hashes differ
       <------ Vectors, Facts, Deltas, Done
    Deltas, Done ------------------------>   both close

An exchange between equals is nine small frames: 2 x 64 bucket hashes stand for the whole state (a digest by writer
would be 80 KB in a cluster of 5000). What differs travels in frames of 64 KB.

Rules of this file
  1. Numbered by stream, one opened per peer at a time; an exchange that makes no progress for stream_timeout is closed.
  2. What is learned here is not gossiped on (moby 55e4cc7262: a joiner's rebroadcast of 10k entries).
  3. Any message out of its turn, or more frames than any real state has, ends the exchange and is counted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .config import Profile
from .effects import Address, OpenStream, StreamId
from .errors import RemoteError
from .limits import FRAMES_PER_STREAM_MAX, STREAM_SECONDS_MAX, STREAMS_IN_MAX
from .messages import Delta, Digest, Done, Facts, Hello, Members, Message, Refused, Vectors, Welcome
from .out import Outbox
from .owned import Owned
from .records import Kind, NodeId, Record
from .shared import Shared, bucket_of
from .swim import Swim

__all__ = ["BUCKETS", "Exchange", "Exchanges"]

BUCKETS = 64
_MEMBERS_PER_FRAME = 1000
_RECORDS_PER_FRAME = 100


@dataclass(slots=True)
class Exchange:
    """One running exchange."""

    stream: StreamId
    address: Address
    opened_by_us: bool
    deadline: float
    end: float
    peer: Hello | None = None
    frames: int = 0
    said_done: bool = False


class Exchanges:
    """All exchanges of one node. The door (door.py) decides who may come in; this file only moves records."""

    def __init__(self, profile: Profile, out: Outbox, swim: Swim, owned: Owned, shared: Shared) -> None:
        self.running: dict[StreamId, Exchange] = {}
        self.news: list[Record] = []  # shared facts that were news: the core acts on fences and removals
        self._profile = profile
        self._out = out
        self._swim = swim
        self._owned = owned
        self._shared = shared
        self._again: set[Address] = set()
        self._next_stream = 1

    # opening and closing

    def begin(self, to: Address, now: float, *, again: bool = False) -> None:
        """Open an exchange with a peer; while one runs, `again` means another one right after it."""
        if any(exchange.opened_by_us and exchange.address == to for exchange in self.running.values()):
            if again:
                self._again.add(to)
            return
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        limit = now + self._profile.stream_timeout
        self.running[stream] = Exchange(stream, to, True, limit, now + STREAM_SECONDS_MAX)
        self._out.add(OpenStream(stream, to))

    def opened(self, stream: StreamId, address: Address, hello: Hello, now: float) -> None:
        """A stream is there: ours says Hello; an accepted one waits for it."""
        exchange = self.running.get(stream)
        if exchange is not None:
            self._out.frame(stream, hello)
        elif stream % 2 or sum(not e.opened_by_us for e in self.running.values()) >= STREAMS_IN_MAX:
            self._out.counters["streams_over_limit"] += 1
            self._out.close(stream)
        else:
            limit = now + self._profile.stream_timeout
            self.running[stream] = Exchange(stream, address, False, limit, now + STREAM_SECONDS_MAX)

    def end(self, stream: StreamId, now: float) -> Exchange | None:
        """Close one and forget it."""
        exchange = self.running.pop(stream, None)
        if exchange is None:
            return None
        self._out.close(stream)
        if exchange.opened_by_us and exchange.address in self._again:
            self._again.discard(exchange.address)
            self.begin(exchange.address, now)
        return exchange

    def next_timer(self) -> float | None:
        """When one has taken too long."""
        return min((min(e.deadline, e.end) for e in self.running.values()), default=None)

    def overdue(self, now: float) -> list[Exchange]:
        """Those that have taken too long."""
        return [exchange for exchange in self.running.values() if min(exchange.deadline, exchange.end) <= now]

    # the steps

    def heard(self, exchange: Exchange, now: float) -> None:
        """Progress; too much of it ends the exchange."""
        exchange.frames += 1
        exchange.deadline = now + self._profile.stream_timeout
        if exchange.frames > FRAMES_PER_STREAM_MAX:
            raise RemoteError("too_many_frames", str(FRAMES_PER_STREAM_MAX))

    def welcome(self, exchange: Exchange, hello: Hello, mine: Hello, now: float) -> None:
        """The opener may come in."""
        exchange.peer = hello
        self._out.frame(exchange.stream, Welcome(mine))
        self._send_members(exchange.stream, now)
        owned, shared = self._owned_digest(), self._shared.digest(BUCKETS)
        self._out.frame(exchange.stream, Digest(owned, shared))

    def refuse(self, exchange: Exchange, refusal: Refused, now: float) -> None:
        """The opener may not come in."""
        self._out.frame(exchange.stream, refusal)
        self.end(exchange.stream, now)

    def step(self, exchange: Exchange, message: Message, now: float) -> bool:
        """Everything after the door. True when the exchange is complete."""
        if exchange.peer is None:
            raise RemoteError("out_of_turn", type(message).__name__)
        match message:
            case Members():
                self._swim.hear_list(message.members, exchange.peer.node, now)
            case Digest() if exchange.opened_by_us:
                self._answer_digest(exchange.stream, message, now)
            case Vectors():
                self._answer_vectors(exchange, message, now)
            case Delta():
                self._owned.delta(message, now)
            case Facts():
                self.learn(message.records)
            case Done():
                return self._finish(exchange)
            case _:
                raise RemoteError("out_of_turn", type(message).__name__)
        return False

    def learn(self, records: list[Record]) -> None:
        """Merge facts. Removals and fences first: they decide what the others are worth."""
        order = {int(Kind.FORGOTTEN): 0, int(Kind.NETWORK_REMOVED): 1}
        for record in sorted(records, key=lambda record: order.get(record.kind, 2)):
            if self._shared.merge(record):
                self.news.append(record)

    def _finish(self, exchange: Exchange) -> bool:
        if not exchange.said_done:
            raise RemoteError("out_of_turn", "Done before its Vectors were answered")
        return True

    def _send_members(self, stream: StreamId, now: float) -> None:
        rows = self._swim.table.rows(now)
        for start in range(0, len(rows), _MEMBERS_PER_FRAME):
            self._out.frame(stream, Members(rows[start : start + _MEMBERS_PER_FRAME]))

    def _answer_digest(self, stream: StreamId, digest: Digest, now: float) -> None:
        if len(digest.owned) != BUCKETS or len(digest.shared) != BUCKETS:
            raise RemoteError("wrong_shape", "digest")
        owned = _differing(digest.owned, self._owned_digest())
        shared = _differing(digest.shared, self._shared.digest(BUCKETS))
        self._send_members(stream, now)
        self._out.frame(stream, Vectors(owned, shared, self._vectors(owned)))
        self._send_facts(stream, shared)

    def _answer_vectors(self, exchange: Exchange, theirs: Vectors, now: float) -> None:
        """The accepter answers with its own vectors first; then both send what the other lacks, and Done."""
        stream = exchange.stream
        if exchange.said_done:
            raise RemoteError("out_of_turn", "Vectors twice")
        if not exchange.opened_by_us:
            self._out.frame(stream, Vectors(theirs.owned, theirs.shared, self._vectors(theirs.owned)))
            self._send_facts(stream, theirs.shared)
        have = {writer: (epoch, upto) for writer, epoch, upto in theirs.vectors}
        self._notice_self(have)
        for writer, _, _ in self._vectors(theirs.owned):
            for delta in self._owned.deltas_for(writer, *have.get(writer, (-1, 0)), now):
                self._out.frame(stream, delta)
        self._out.frame(stream, Done())
        exchange.said_done = True

    def _notice_self(self, have: dict[NodeId, tuple[int, int]]) -> None:
        """Others know more of us than we do: our disk went back in time, and we need an epoch beyond theirs."""
        mine = self._owned.logs[self._owned.me]
        epoch, upto = have.get(self._owned.me, (-1, 0))
        if (epoch, upto) > (mine.epoch, mine.upto):
            self._swim.stale_epoch = max(self._swim.stale_epoch, epoch)

    def _send_facts(self, stream: StreamId, buckets: list[int]) -> None:
        batch: list[Record] = []
        for record in self._shared.in_buckets(buckets, BUCKETS):
            batch.append(record)
            if len(batch) >= _RECORDS_PER_FRAME or len(record.body) > 4096:
                self._out.frame(stream, Facts(batch))
                batch = []
        if batch:
            self._out.frame(stream, Facts(batch))

    def _vectors(self, buckets: list[int]) -> list[tuple[NodeId, int, int]]:
        chosen = frozenset(buckets)
        return [row for row in self._owned.vector() if bucket_of(row[0], BUCKETS) in chosen]

    def _owned_digest(self) -> list[int]:
        sums = [0] * BUCKETS
        for writer, epoch, upto in self._owned.vector():
            text = writer + epoch.to_bytes(8, "big") + upto.to_bytes(8, "big")
            bits = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
            sums[bucket_of(writer, BUCKETS)] ^= bits
        return sums


def _differing(one: list[int], other: list[int]) -> list[int]:
    return [bucket for bucket, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
