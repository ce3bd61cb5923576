"""The shell: gives the core its inputs and carries out its effects, in order. Everything here does, nothing decides.

How it works
  Every input (datagram, frame, timer, request) ends in `pump`: take the core's effects, carry them out, set the one
  timer. A durable row stops the queue until the journal has it; effects that come meanwhile wait behind it. Rows that
  need not be durable travel with the next durable one, or after half a second.

What kill -9 takes within that half second is a cache: records of other nodes, each on its writer's disk before anybody
heard of it, and fetched again by the first exchange after the restart, since header rows follow their records. A peer
that confirms an attach says that it forwards by the record, not that it keeps it.

When the journal fails (disk full), the queue stands still and the commit is tried again every second: nothing that
depends on the rows is said to anyone, and peers see a node that does not answer. A stop tries no more: rows and queue
are given up together, as a crash would have it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from .core.core import Core
from .core.effects import (
    Address,
    CloseStream,
    Effect,
    Erase,
    OpenStream,
    Persist,
    ResolveSeeds,
    SendDatagram,
    SendStream,
)
from .seeds import resolve
from .streams import Streams

__all__ = ["Journal", "Shell"]

_LAZY_SECONDS = 0.5
_JOURNAL_RETRY_SECONDS = 1.0
_AFTER_BUG_SECONDS = 1.0
_TIMER_SLACK = 0.001  # loops round their timers to milliseconds; too early only means one more round

log = logging.getLogger(__name__)


class Journal(Protocol):
    """Stable storage, e.g. one SQLite table (table, key) -> value."""

    async def commit(self, changes: Sequence[Persist | Erase], durable: bool) -> None:
        """Apply all changes in one transaction, in order. `durable`: on stable storage (fsync) when this returns."""


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP socket."""

    def __init__(self, got: Callable[[bytes, Address], None]) -> None:
        self._got = got

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """One datagram."""
        self._got(data, (str(addr[0]), int(addr[1])))

    def error_received(self, exc: Exception) -> None:
        """An ICMP answer to something we sent; SWIM finds out by itself."""


def _bound_udp(address: Address) -> socket.socket:
    """Bound here rather than by the loop: uvloop's own bind loses the errno, and EADDRINUSE must be told apart."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        udp.bind(address)
    except OSError:
        udp.close()
        raise
    return udp


class Shell:
    """Sockets, timer, journal. `other` gets every effect that is news for people or an answer to a request."""

    def __init__(
        self,
        core: Core,
        journal: Journal,
        host: str,
        port: int,
        connect_seconds: float,
        other: Callable[[Effect], None],
    ) -> None:
        self.core = core
        self._journal = journal
        self._bind = (host, port)
        self._other = other
        self._streams = Streams(self._stream_opened, self._stream_got, self._stream_closed, connect_seconds)
        self._udp: asyncio.DatagramTransport | None = None
        self._queue: deque[Effect] = deque()
        self._rows: list[Persist | Erase] = []
        self._commit: asyncio.Task[None] | None = None
        self._lazy: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._resolving: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def start(self) -> None:
        """Bind both sockets, then let the core begin. OSError when the port is held."""
        loop = asyncio.get_running_loop()
        udp = _bound_udp(self._bind)
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._datagram), sock=udp)
        try:
            await self._streams.listen(*self._bind)
        except OSError:
            self._udp.close()
            raise
        self.pump()

    async def stop(self) -> None:
        """Close the sockets, write down the rest."""
        self._stopped = True
        for handle in (self._timer, self._lazy):
            if handle is not None:
                handle.cancel()
        while self._commit is not None:
            await asyncio.wait([self._commit])
        await self._streams.stop()
        for task in list(self._resolving):
            task.cancel()
        if self._udp is not None:
            self._udp.close()
        if self._rows:
            await self._write(self._take_rows(), True)

    def pump(self) -> None:
        """After every input: carry out what the core wants, set the timer."""
        self._queue.extend(self.core.effects())
        self._carry_out()
        if self._timer is not None:
            self._timer.cancel()
        if not self._stopped:
            delay = max(0.0, self.core.next_timer() - time.monotonic()) + _TIMER_SLACK
            self._timer = asyncio.get_running_loop().call_later(delay, self._timer_due)

    # inputs

    def _datagram(self, data: bytes, addr: Address) -> None:
        self.core.receive_datagram(data, addr, time.monotonic())
        self.pump()

    def _stream_opened(self, stream: int, addr: Address) -> None:
        self.core.stream_opened(stream, addr, time.monotonic())
        self.pump()

    def _stream_got(self, stream: int, data: bytes) -> None:
        self.core.stream_message(stream, data, time.monotonic())
        self.pump()

    def _stream_closed(self, stream: int) -> None:
        self.core.stream_closed(stream, time.monotonic())
        if not self._stopped:
            self.pump()

    def _timer_due(self) -> None:
        self._timer = None
        try:
            self.core.handle_timer(time.monotonic())
            self.pump()
        except Exception:  # a bug; without its timer the whole control plane would be silently dead
            log.exception("the control core failed in a timer; it goes on in a second", extra={"event": "internal"})
            self._timer = asyncio.get_running_loop().call_later(_AFTER_BUG_SECONDS, self._timer_due)

    # effects

    def _carry_out(self) -> None:
        while self._queue and self._commit is None:
            effect = self._queue.popleft()
            match effect:
                case Persist() | Erase():
                    self._rows.append(effect)
                    if effect.durable:
                        self._begin_commit(True)
                case SendDatagram():
                    if self._udp is not None and not self._udp.is_closing():
                        self._udp.sendto(effect.data, effect.to)
                case OpenStream():
                    self._streams.open(effect.stream, effect.to, self._bind[0])
                case SendStream():
                    self._streams.send(effect.stream, effect.data)
                case CloseStream():
                    self._streams.close(effect.stream)
                case ResolveSeeds():
                    self._resolve(effect.seeds)
                case _:
                    self._other(effect)
        if self._rows and self._commit is None and self._lazy is None and not self._stopped:
            self._lazy = asyncio.get_running_loop().call_later(_LAZY_SECONDS, self._begin_commit, False)

    def _begin_commit(self, durable: bool) -> None:
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        if self._commit is None and self._rows:
            self._commit = asyncio.get_running_loop().create_task(self._write(self._take_rows(), durable))

    def _take_rows(self) -> list[Persist | Erase]:
        """What goes into the next commit: all rows so far, and the rows right behind them in the queue as well."""
        while self._queue and isinstance(self._queue[0], Persist | Erase):
            effect = self._queue.popleft()
            if isinstance(effect, Persist | Erase):
                self._rows.append(effect)
        rows, self._rows = self._rows, []
        return rows

    async def _write(self, rows: list[Persist | Erase], durable: bool) -> None:
        durable = durable or any(row.durable for row in rows)
        while True:
            try:
                await self._journal.commit(rows, durable)
                break
            except Exception:
                log.exception("the journal cannot be written; what depends on it waits", extra={"event": "journal"})
                if self._stopped:
                    self._queue.clear()
                    break
                await asyncio.sleep(_JOURNAL_RETRY_SECONDS)
        self._commit = None
        self._carry_out()

    def _resolve(self, seeds: tuple[str, ...]) -> None:
        task = asyncio.get_running_loop().create_task(self._resolve_and_tell(seeds))
        self._resolving.add(task)
        task.add_done_callback(self._resolving.discard)

    async def _resolve_and_tell(self, seeds: tuple[str, ...]) -> None:
        addresses = await resolve(seeds, self._bind[0])
        self.core.seeds_resolved(addresses, time.monotonic())
        self.pump()
