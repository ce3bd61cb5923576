"""Who listens to the agent's events, and what waits for each of them.

Rules of this file
  1. Telling never waits and never fails: a reader that is slow or dead costs one bounded queue, and is told with a
     `lost` event how much it missed.
  2. Nobody listening costs nothing: `listened` says whether an event is worth making.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from time import time

from vxlanu.api.schema import Event
from vxlanu.errors import TryAgain

WAITING_MAX = 1000  # events of one reader, some 200 bytes each
READERS_MAX = 32


class Reader:
    """One stream of events: `take` until it says None, then `close`."""

    def __init__(self, feed: Feed, wanted: Callable[[Event], bool]) -> None:
        self._feed = feed
        self._wanted = wanted
        self._waiting: deque[Event] = deque()
        self._lost = 0
        self._stir = asyncio.Event()
        self.ended = False

    def offer(self, event: Event) -> None:
        """Queue it if this reader wants it and has room."""
        if not self._wanted(event):
            return
        if len(self._waiting) >= WAITING_MAX:
            self._lost += 1
        else:
            self._waiting.append(event)
        self._stir.set()

    def greet(self, node: str) -> None:
        """The first word of every stream: whoever has read it misses nothing from here on."""
        self._waiting.appendleft(Event("listening", round(time(), 3), node=node))

    def end(self) -> None:
        """The agent stops: nothing comes any more."""
        self.ended = True
        self._stir.set()

    async def take(self, patience_s: float) -> list[Event]:
        """What waits, oldest first; nothing when nothing came for `patience_s`. What was lost is said last, since the
        queue holds the oldest."""
        if not self._waiting and not self.ended:
            try:
                async with asyncio.timeout(patience_s):
                    await self._stir.wait()
            except TimeoutError:
                return []
        self._stir.clear()
        taken, self._waiting = list(self._waiting), deque()
        if self._lost:
            taken.append(Event("lost", round(time(), 3), lost=self._lost))
            self._lost = 0
        return taken

    def close(self) -> None:
        """Stop listening; idempotent."""
        self._feed.forget(self)


class Feed:
    """All readers of one agent."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()
        self.on_first: Callable[[], None] = lambda: None
        """Called when the first reader comes, before it hears anything: what is now is no event."""

    @property
    def listened(self) -> bool:
        return bool(self._readers)

    def listen(self, names: Collection[str], network: str, endpoint: str) -> Reader:
        """A new reader of the events of these names (none: of all) that concern a network and an endpoint, if given.

        Raises:
            TryAgain: there are too many.
        """
        if len(self._readers) >= READERS_MAX:
            why = f"{READERS_MAX} readers listen already"
            raise TryAgain("events", why, hint="end one of them", name="too_many_readers")

        def wanted(event: Event) -> bool:
            return event.event == "lost" or (
                (not names or event.event in names)
                and (not network or event.network == network)
                and (not endpoint or event.endpoint == endpoint)
            )

        if not self._readers:
            self.on_first()
        reader = Reader(self, wanted)
        self._readers.add(reader)
        return reader

    def forget(self, reader: Reader) -> None:
        self._readers.discard(reader)

    def tell(self, event: Event) -> None:
        """To everyone who wants it, stamped with the time."""
        event.unix_s = round(time(), 3)
        for reader in self._readers:
            reader.offer(event)

    def end(self) -> None:
        """End all streams."""
        for reader in self._readers:
            reader.end()
