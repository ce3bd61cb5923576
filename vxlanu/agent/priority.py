"""The agent's share of the CPUs.

A frame of any container waits for a worker, and a worker waits for a CPU like every other process. Kernel vxlan has no
such wait: it runs in the sender's own system call. So where 32 containers sent UDP as fast as they could on two CPUs,
the workers got a fifth of them, and 32 TCP streams beside them a twelfth of what kernel vxlan gives; at nice -3 half
(benchmarks/NOTES.md, Scheduling).

A nice value counts among the tasks of one group alone. Where CONFIG_SCHED_AUTOGROUP is on every session is a group,
with a nice value of its own, so that is set as well, if the session is ours: not that of somebody's shell. Control
groups are for whoever makes them: the unit has CPUWeight=.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

__all__ = ["take_priority"]

log = logging.getLogger("vxlanu.priority")

AUTOGROUP = Path("/proc/self/autogroup")


def take_priority(nice: int) -> None:
    """Run at that nice value (-20 first to 19 last; 0: as started), and all threads and children from now on.

    Without the right to (CAP_SYS_NICE, or RLIMIT_NICE) everything stays as it was, which the log says.
    """
    if not nice:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        if os.getsid(0) == os.getpid():
            with contextlib.suppress(FileNotFoundError):
                AUTOGROUP.write_text(str(nice))
    except OSError as error:
        why = f"{error.strerror}; busy containers may keep frames waiting. CAP_SYS_NICE, LimitNICE=, or --nice 0"
        now = os.getpriority(os.PRIO_PROCESS, 0)
        log.info("runs at nice %d, not %d: %s", now, nice, why, extra={"event": "priority"})
