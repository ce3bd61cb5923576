"""The push: our own fresh records go straight to every live member, and are confirmed.

How it works
  Each write makes one push: a datagram to every alive member, repeated to those that have not confirmed, with doubling
  pauses, until all did or its life is over. What a push misses, the next exchange brings; a push only makes it fast.
  `watch` ties requests (publish) to pushes: when every awaited member has confirmed, or at the deadline, Published.

Rules of this file
  1. A newer record of a key takes the place of the older push; requests that wait for the older wait for the newer.
  2. A record too large for a datagram is announced by Poke, and fetched by the receiver over a stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .config import Profile
from .effects import Published, State
from .log import Key
from .messages import Message, Poke, Push, encode_message
from .out import Outbox
from .records import NodeId, Record
from .swim import Swim

__all__ = ["Pusher"]

_LIFE = 3.0  # seconds of retransmission when nobody waits; beyond, the periodic exchange is the better tool


@dataclass(slots=True)
class _Push:
    number: int
    encoded: bytes
    waiting: set[NodeId]
    next_send: float
    pause: float
    end: float


@dataclass(slots=True)
class _Request:
    number: int
    keys: set[Key]
    wanted: set[NodeId]
    deadline: float
    missing: dict[Key, set[NodeId]] = field(default_factory=dict)


class Pusher:
    """Eager replication of one node's writes."""

    def __init__(self, swim: Swim, profile: Profile, out: Outbox) -> None:
        self._swim = swim
        self._table = swim.table
        self._profile = profile
        self._out = out
        self._pushes: dict[Key, _Push] = {}
        self._requests: dict[int, _Request] = {}
        self._number = 0

    def push(self, record: Record, base: int, now: float) -> None:
        """Send a record that we just wrote to every alive member. Before we take part, the first exchange does it."""
        if not self._swim.started:
            return
        alive = {member.id for member in self._table.others(State.ALIVE)}
        self._pushes.pop((record.kind, record.key), None)
        if not alive:
            return
        self._number += 1
        encoded = self._encode(record, base)
        pause = self._profile.push_retry
        push = _Push(self._number, encoded, alive, now + pause, pause, now + _LIFE)
        self._pushes[record.kind, record.key] = push
        self._transmit(push)

    def watch(
        self, number: int, records: list[Record], audience: set[NodeId] | None, deadline: float, now: float
    ) -> None:
        """Answer Published(number) when the audience (None: all that were alive) has these records."""
        keys = {(record.kind, record.key) for record in records}
        wanted: set[NodeId] = set()
        missing: dict[Key, set[NodeId]] = {}
        for key in keys:
            push = self._pushes.get(key)
            waiting = set(push.waiting) if push is not None else set()
            missing[key] = waiting & audience if audience is not None else waiting
            wanted |= missing[key]
            if push is not None:
                push.end = max(push.end, deadline)
        self._requests[number] = _Request(number, keys, wanted, deadline, missing)
        self._answer(now)

    def confirmed(self, number: int, node: NodeId, now: float) -> None:
        """A member has what that push carried."""
        for key, push in list(self._pushes.items()):
            if push.number == number:
                push.waiting.discard(node)
                for request in self._requests.values():
                    if key in request.missing:
                        request.missing[key].discard(node)
                if not push.waiting:
                    del self._pushes[key]
        self._answer(now)

    def gone(self, node: NodeId, now: float) -> None:
        """A member is no longer alive: nobody waits for it."""
        for push in self._pushes.values():
            push.waiting.discard(node)
        for request in self._requests.values():
            request.wanted.discard(node)
            for nodes in request.missing.values():
                nodes.discard(node)
        self._answer(now)

    def busy(self) -> bool:
        """Whether somebody has not confirmed yet."""
        return any(push.waiting for push in self._pushes.values())

    def next_timer(self) -> float | None:
        """When something is due."""
        times = [push.next_send for push in self._pushes.values()]
        times += [request.deadline for request in self._requests.values()]
        return min(times, default=None)

    def handle_timer(self, now: float) -> None:
        """Repeat, give up, answer."""
        for key, push in list(self._pushes.items()):
            if now >= push.end or not push.waiting:
                del self._pushes[key]
            elif now >= push.next_send:
                push.pause = min(2 * push.pause, self._profile.push_retry_max)
                push.next_send = now + push.pause
                self._transmit(push)
        self._answer(now)

    def _answer(self, now: float) -> None:
        for number, request in list(self._requests.items()):
            open_ = set().union(*request.missing.values()) if request.missing else set()
            if not open_ or now >= request.deadline:
                del self._requests[number]
                self._out.add(Published(number, len(request.wanted - open_), len(request.wanted)))

    def _transmit(self, push: _Push) -> None:
        for node in push.waiting:
            member = self._table.by_id.get(node)
            if member is not None:
                self._out.send_encoded(member.address, [push.encoded])

    def _encode(self, record: Record, base: int) -> bytes:
        message: Message = Push(self._number, base, [record])
        encoded = encode_message(message)
        if len(encoded) <= self._out.wire.room:
            return encoded
        me = self._table.me
        return encode_message(Poke(self._number, me, record.kind, record.key, record.epoch, record.version))
