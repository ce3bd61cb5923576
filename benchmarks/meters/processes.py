"""What the kernel says about the machine's CPUs and about the processes of a peer: /proc, read at one moment."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ENDED", "Cpu", "cpu_of", "machine_cpu", "pss_of", "with_children"]

ENDED = (FileNotFoundError, ProcessLookupError)
"""What reading of a process that has ended raises; a child of a peer's may have, at any moment."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of all CPUs together, until `at` on the monotonic clock: idle or waiting for disks, and stolen.

    What is neither is work. It is not added up from user, system and interrupts: those the kernel samples at its ticks,
    which a load that is paced by timers meets in step, while idle time is measured (get_cpu_idle_time_us()).
    """

    at: float
    cpus: int
    idle: float
    stolen: float

    @classmethod
    def parsed(cls, stat: str, at: float) -> Cpu:
        """From the text of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
        lines = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
        idle, iowait, steal = (int(lines[0][column]) * _TICK_S for column in (4, 5, 8))
        return cls(at, len(lines) - 1, idle + iowait, steal)

    def busy_since(self, before: Cpu) -> float:
        return self.cpus * (self.at - before.at) - (self.idle - before.idle) - (self.stolen - before.stolen)

    def stolen_since(self, before: Cpu) -> float:
        """The part of all that the hypervisor took."""
        return (self.stolen - before.stolen) / (self.cpus * (self.at - before.at))


def machine_cpu() -> Cpu:
    """All CPUs, until now."""
    return Cpu.parsed(Path("/proc/stat").read_text(), time.monotonic())


def with_children(processes: Iterable[int]) -> list[int]:
    """Those processes, and all that they have started which still run."""
    found: list[int] = []
    left = list(processes)
    while left:
        pid = left.pop()
        found.append(pid)
        for task in _tasks(pid):
            with contextlib.suppress(*ENDED):
                left += [int(child) for child in (task / "children").read_text().split()]
    return found


def _tasks(pid: int) -> list[Path]:
    """Its threads; none if it has ended."""
    with contextlib.suppress(*ENDED):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def cpu_of(processes: Iterable[int]) -> dict[int, float]:
    """Seconds of CPU that each has used, in user mode and in the kernel on its behalf, without those that ended."""
    spent = {}
    for pid in processes:
        with contextlib.suppress(*ENDED):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            spent[pid] = (int(fields[11]) + int(fields[12])) * _TICK_S
    return spent


def pss_of(processes: Iterable[int]) -> dict[int, int]:
    """Bytes of memory of each: its own, and of what it shares with others its part, without those that ended."""
    held = {}
    for pid in processes:
        with contextlib.suppress(*ENDED):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            held[pid] = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return held
