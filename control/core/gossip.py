"""The gossip queue: membership news that ride on pings and on gossip ticks until each was sent often enough.

Rules of this file (memberlist queue.go, TransmitLimitedQueue)
  1. At most one message per member: newer news about a member replaces older.
  2. Least-sent first, so fresh news overtake; ties by age, older first, so that nothing starves.
  3. Bounded: one entry per member, and members are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from .messages import Message, encode_message
from .records import NodeId

__all__ = ["GossipQueue"]


@dataclass(slots=True)
class _News:
    encoded: bytes
    order: int
    sent: int = 0


class GossipQueue:
    """What is still to be told."""

    def __init__(self) -> None:
        self._news: dict[NodeId, _News] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._news)

    def tell(self, about: NodeId, message: Message) -> None:
        """Queue news about a member, in place of what was queued about it."""
        self._order += 1
        self._news[about] = _News(encode_message(message), self._order)

    def drop(self, about: NodeId) -> None:
        """Say nothing more about a member."""
        self._news.pop(about, None)

    def take(self, room: int, limit: int) -> list[bytes]:
        """Messages for one datagram with `room` bytes left; each counts as sent once, and leaves after `limit`."""
        taken: list[bytes] = []
        for about, news in sorted(self._news.items(), key=lambda item: (item[1].sent, item[1].order)):
            if len(news.encoded) > room:
                continue
            room -= len(news.encoded)
            taken.append(news.encoded)
            news.sent += 1
            if news.sent >= limit:
                del self._news[about]
        return taken
