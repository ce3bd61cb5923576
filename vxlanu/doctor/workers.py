"""A reader: how long the agent's workers run, and how long they wait for a CPU meanwhile.

    /proc/PID/task/TID/schedstat: nanoseconds on a CPU, nanoseconds runnable without one, turns (kernel/sched/stats.h)

Workers are known by their threads' names (native/worker.c). A wait counts when it ends, so that one that lasts longer
than the look is missed.

Rules of this file
  1. It reads, and judges nothing. A kernel without the counters (CONFIG_SCHED_INFO), or a process that cannot be seen
     from here, has no workers.
"""

from __future__ import annotations

import time
from pathlib import Path

from vxlanu.doctor.facts import Workers

__all__ = ["workers"]

LOOK_S = 0.5
NAME = "vx-worker"


def workers(pid: int | None) -> Workers | None:
    """Of the agent with that pid, in the next LOOK_S; None: there is nothing to be seen."""
    began, before = time.monotonic(), _times(pid)
    if not before:
        return None
    time.sleep(LOOK_S)
    seconds, after = time.monotonic() - began, _times(pid)
    pairs = [(before[task], after[task]) for task in before.keys() & after.keys()]
    ran, waited = (sum(now[column] - then[column] for then, now in pairs) / 1e9 for column in (0, 1))
    return Workers(seconds, ran, waited) if pairs else None


def _times(pid: int | None) -> dict[str, tuple[int, int]]:
    """Nanoseconds of running and of waiting, of each worker's thread."""
    found: dict[str, tuple[int, int]] = {}
    for task in Path(f"/proc/{pid}/task").glob("*") if pid else ():
        try:
            if (task / "comm").read_text().startswith(NAME):
                ran, waited, _turns = (task / "schedstat").read_text().split()
                found[task.name] = int(ran), int(waited)
        except (OSError, ValueError):  # it has ended meanwhile, or there are no such counters
            continue
    return found
