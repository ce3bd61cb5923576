"""The watchdog of the service manager: fed only while the loop and every worker of the fast path go on.

The task runs on the loop, so a loop that is stuck feeds nothing. A worker counts as alive while its heartbeat has
moved within half of the manager's time; an idle one beats once a second, so times below that are not taken literally.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from vxlanu.agent.supervisor import Supervisor

log = logging.getLogger("vxlanu.watchdog")

IDLE_BEAT_S = 1.0  # native/worker.c: the longest wait of a worker
FEEDS = 4  # per time of the manager: one may be late, and one lost


class Pulse:
    """When each worker's heartbeat moved last."""

    def __init__(self, heartbeats: Sequence[int], now: float) -> None:
        self._moved = [(beat, now) for beat in heartbeats]

    def stuck(self, heartbeats: Sequence[int], now: float, longest: float) -> list[int]:
        """The workers that have not moved for `longest` seconds."""
        pairs = zip(heartbeats, self._moved, strict=True)
        self._moved = [(beat, now if beat != before else since) for beat, (before, since) in pairs]
        return [worker for worker, (_, since) in enumerate(self._moved) if now - since > longest]


async def feed(supervisor: Supervisor, heartbeats: Callable[[], Sequence[int]]) -> None:
    """Until cancelled; returns at once where nobody watches."""
    if not supervisor.watchdog_s or not supervisor.listens:
        return
    longest = max(supervisor.watchdog_s / 2, 2 * IDLE_BEAT_S)
    pulse = Pulse(heartbeats(), time.monotonic())
    said: list[int] = []
    while True:
        stuck = pulse.stuck(heartbeats(), time.monotonic(), longest)
        if not stuck:
            supervisor.alive()
        elif stuck != said:
            shown = ", ".join(map(str, stuck))
            log.error("the watchdog goes unfed: worker %s is stuck", shown, extra={"event": "watchdog"})
        said = stuck
        await asyncio.sleep(supervisor.watchdog_s / FEEDS)
