"""The agent's share of the CPUs.

A frame of any container waits for a worker, and a worker waits for a CPU like every other process. Kernel vxlan has no
such wait: it runs in the sender's own system call. So where containers send UDP as fast as they can and keep all CPUs
busy, an agent carries by what it weighs: 64 such senders on two CPUs get 0.10 Gbit/s through at nice 0, 0.19 at -3, and
0.75 at -10. But an agent that weighs more keeps round trips waiting that have the machine for themselves, so the
default is small (benchmarks/NOTES.md, Scheduling).

A nice value counts among the tasks of one group alone. Where CONFIG_SCHED_AUTOGROUP is on every session is a group,
with a nice value of its own, so that is set as well, if the session is ours: not that of somebody's shell. Control
groups are for whoever makes them: the unit has CPUWeight=.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

__all__ = ["take_priority"]

log = logging.getLogger("vxlanu.priority")

AUTOGROUP = Path("/proc/self/autogroup")


def take_priority(nice: int) -> None:
    """Run at that nice value (-20 first to 19 last; 0: as started), and all threads and children from now on.

    Without the right to (CAP_SYS_NICE, or RLIMIT_NICE) what is refused stays as it was, which the log says.
    """
    if not nice:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        now = os.getpriority(os.PRIO_PROCESS, 0)
        _refused(f"runs at nice {now}, not {nice}: {error.strerror}")
        return
    try:
        if os.getsid(0) == os.getpid() and _in_a_group():
            AUTOGROUP.write_text(str(nice))
    except OSError as error:
        _refused(f"runs at nice {nice} within its session, which has no more of the CPUs: {error.strerror}")


def _in_a_group() -> bool:
    """Whether the session is a group of its own: the kernel writes nothing of the root group, which takes no value."""
    return AUTOGROUP.exists() and AUTOGROUP.read_text() != ""


def _refused(what: str) -> None:
    hint = "busy containers may keep frames waiting. CAP_SYS_NICE, LimitNICE=, or --nice 0"
    log.info("%s; %s", what, hint, extra={"event": "priority"})
