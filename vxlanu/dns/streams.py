"""The connections of one server's clients: how many there may be, and which one ends where there is no room.

Rules of this file
  1. A client has so many at most, all together so many (limits.py).
  2. Where all are taken, one that waits for its client makes room: of whoever has the most of them, the one that waits
     longest. Its client connects again when it has a question (RFC 7766, 6.2.4). Else a few clients that say nothing
     would keep all others out, for as long as they like to connect again.
  3. One whose question is being answered stays.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from vxlanu.dns.limits import STREAMS_MAX, STREAMS_OF_CLIENT_MAX

__all__ = ["Stream", "Streams"]


@dataclass(eq=False, slots=True)
class Stream:
    """One connection, from when it was accepted."""

    client: str
    task: asyncio.Task[None] | None = None
    waits: bool = field(default=True, init=False)  # for the client, not the client for us


class Streams:
    """Those that are open, the one that was heard last at the end."""

    def __init__(self) -> None:
        self._open: dict[Stream, None] = {}

    def admit(self, client: str) -> Stream | None:
        """Place for one more, or None."""
        if sum(it.client == client for it in self._open) >= STREAMS_OF_CLIENT_MAX:
            return None
        if len(self._open) >= STREAMS_MAX and not self._made_room():
            return None
        stream = Stream(client)
        self._open[stream] = None
        return stream

    def heard(self, stream: Stream) -> None:
        """A question has come in whole."""
        stream.waits = False

    def answered(self, stream: Stream) -> None:
        """It waits for the next one, from now on."""
        stream.waits = True
        if stream in self._open:
            self._open[stream] = self._open.pop(stream)

    def ended(self, stream: Stream) -> None:
        """It has gone."""
        self._open.pop(stream, None)

    def _made_room(self) -> bool:
        having = Counter(it.client for it in self._open)
        waiting = [it for it in self._open if it.waits and it.task is not None]
        if not waiting:
            return False
        last = max(waiting, key=lambda it: having[it.client])  # the first of equals: it has waited longest
        self.ended(last)
        if last.task is not None:
            last.task.cancel()
        return True
