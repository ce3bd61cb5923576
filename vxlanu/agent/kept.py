"""What of the data plane outlives the agent: its receive sockets and its TAPs' queues, under names in the FD store.

    data-0, data-1, ...      receive socket of each worker
    tap-TAG-0, tap-TAG-1     queue of each worker, of the endpoint whose id begins with TAG
    tap-TAG-w                the detached queue by which all write

While nobody runs, the kernel goes on putting datagrams and frames into them; the next run reads on where this one
stopped. What comes back is judged by whoever takes it (native/sock.c: vx_sock_take; vxlanu.endpoints), and what is
odd is dropped here: opening anew is always right, and costs what was queued.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vxlanu.endpoints import TAG_DIGITS, Queues

if TYPE_CHECKING:
    from vxlanu.agent.supervisor import Supervisor

log = logging.getLogger("vxlanu.kept")

SOCKET, TAP, WRITER = "data-", "tap-", "w"


class Kept:
    """The names, and what the manager is told under each of them."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._taps: dict[str, list[str]] = {}  # names by tag
        self._sockets: list[str] = []

    def take_sockets(self) -> list[int]:
        """The receive sockets of an earlier run, in the order of their workers; the caller closes them."""
        found = self._take(SOCKET)
        self._sockets = list(found)
        return list(found.values())

    def keep_sockets(self, fds: Sequence[int]) -> None:
        """Hand over the receive sockets. They are never dead: an error that polls is one of a datagram."""
        for number, fd in enumerate(fds):
            self.supervisor.keep(f"{SOCKET}{number}", fd, poll=False)

    async def drop_sockets(self, fds: Sequence[int], why: str) -> None:
        """Those do not fit; return once nobody holds the port by them."""
        log.warning("receive sockets of the earlier run are not used: %s", why, extra={"event": "kept_odd"})
        for fd in fds:
            os.close(fd)
        self.supervisor.drop(self._sockets)
        await self.supervisor.barrier()

    def take_queues(self, endpoint: str) -> Queues | None:
        """The queues of an endpoint's TAP, if an earlier run left them; they belong to the caller."""
        tag = endpoint[:TAG_DIGITS]
        found = self._take(f"{TAP}{tag}-")
        if not found:
            return None
        self._taps[tag] = list(found)
        writer = found.pop(f"{TAP}{tag}-{WRITER}", None)
        fds = (*found.values(), *(() if writer is None else (writer,)))
        return Queues(fds, write_queue=writer is not None)

    def keep_queues(self, endpoint: str, queues: Queues) -> None:
        """Hand over the queues of a TAP that was opened."""
        tag = endpoint[:TAG_DIGITS]
        ends = [str(number) for number in range(len(queues.fds))]
        if queues.write_queue:
            ends[-1] = WRITER
        self._taps[tag] = [f"{TAP}{tag}-{end}" for end in ends]
        for name, fd in zip(self._taps[tag], queues.fds, strict=True):
            self.supervisor.keep(name, fd)

    def drop_queues(self, endpoint: str) -> None:
        """The endpoint ends. Idempotent."""
        self.supervisor.drop(self._taps.pop(endpoint[:TAG_DIGITS], ()))

    async def refuse_queues(self, endpoint: str, why: str) -> None:
        """Those that were taken do not fit; return once nobody holds the device by them."""
        tag = endpoint[:TAG_DIGITS]
        log.warning("the kept TAP of endpoint %s is not used: %s", tag, why, extra={"event": "kept_odd"})
        self.drop_queues(endpoint)
        await self.supervisor.barrier()

    async def close_rest(self) -> None:
        """Everything has been offered; what nobody took is closed. Off the loop: closing a TAP can take 10 ms."""
        rest = self._take("")
        if rest:
            log.warning("kept for nobody, closed: %s", ", ".join(rest), extra={"event": "kept_odd"})
            self.supervisor.drop(rest)
            await asyncio.to_thread(_close_all, list(rest.values()))

    def _take(self, prefix: str) -> dict[str, int]:
        """By name, ordered by the number behind it."""
        taken = self.supervisor.taken
        names = sorted((name for name in taken if name.startswith(prefix)), key=lambda name: (len(name), name))
        return {name: taken.pop(name) for name in names}


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
