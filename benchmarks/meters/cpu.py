"""What carrying costs: CPU seconds of the whole machine, both ends and all that runs between them included.

The load is the same for every path and paced; one that does not carry it has no figure. Nothing is subtracted: neither
what the machine does when idle nor what the sender and the receiver would cost without an overlay, which is the row of
the underlay alone. Measured in the midst of the load, so that no start of a program counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.meters import SPARE_S, MeterFailed, Reading
from benchmarks.meters.processes import cpu_of, machine_cpu, with_children
from benchmarks.meters.program import listening, program
from benchmarks.meters.tcp import steady
from benchmarks.meters.udp import PORT, trial_of
from benchmarks.scene import Path

__all__ = ["CpuPerGbit", "CpuPerPackets"]

REACHED = 0.97
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class _Spent:
    """Seconds of CPU in a stretch of time, by the machine and by the peer's own programs."""

    machine: float
    own: float
    stolen: float
    seconds: float

    def detail(self, units: float) -> dict[str, object]:
        return {"own": self.own / units, "stolen": self.stolen, "seconds": self.seconds}


def _spend(path: Path, seconds: float) -> _Spent:
    """Look on for a while."""
    processes = with_children(path.processes)
    before, own_before = machine_cpu(), cpu_of(processes)
    time.sleep(seconds)
    after, own_after = machine_cpu(), cpu_of(own_before)
    own = sum(spent - own_before[pid] for pid, spent in own_after.items())
    return _Spent(after.busy_since(before), own, after.stolen_since(before), after.at - before.at)


@dataclass(frozen=True, slots=True)
class CpuPerGbit:
    """One TCP stream of `gigabits` a second. `own` in the detail is what the peer's own programs spent."""

    gigabits: float = 2.0
    seconds: float = 3.0

    unit = "CPU s/Gbit"
    higher_is_better = False

    @property
    def name(self) -> str:
        return f"cpu-{self.gigabits:g}g"

    @property
    def title(self) -> str:
        return f"CPU per Gbit, TCP at {self.gigabits:g} Gbit/s"

    def read(self, path: Path) -> Reading:
        with steady(path, self.gigabits, self.seconds) as reached:
            spent = _spend(path, self.seconds)
        if reached[0] < REACHED * self.gigabits * 1e9:
            raise MeterFailed(f"carries {reached[0] / 1e9:.2f} of {self.gigabits:g} Gbit/s")
        carried = reached[0] * spent.seconds / 1e9
        detail = spent.detail(carried) | {"gbits": reached[0] / 1e9}
        return Reading(spent.machine / carried, int(carried * 1e9 / 8), detail)


@dataclass(frozen=True, slots=True)
class CpuPerPackets:
    """UDP datagrams of `size` bytes, `kpps` thousands of them a second, a call each."""

    kpps: float = 20.0
    size: int = 64
    seconds: float = 3.0

    unit = "CPU s/Mpkt"
    higher_is_better = False

    @property
    def name(self) -> str:
        return f"cpu-{self.kpps:g}kpps-{self.size}"

    @property
    def title(self) -> str:
        return f"CPU per million packets, UDP {self.size} B at {self.kpps:g} kpps"

    def read(self, path: Path) -> Reading:
        with self._datagrams(path) as said:
            spent = _spend(path, self.seconds)
        trial = trial_of(self.kpps * 1e3, said)
        if trial.goodput < REACHED * trial.asked or not trial.clean:
            raise MeterFailed(f"carries {trial.goodput / 1e3:.1f} of {self.kpps:g} kpps, {trial.loss:.2%} lost")
        carried = trial.goodput * spent.seconds / 1e6
        return Reading(spent.machine / carried, trial.octets, spent.detail(carried) | {"loss": trial.loss})

    @contextmanager
    def _datagrams(self, path: Path) -> Iterator[dict[str, float]]:
        """Send them while the block lasts; what was sent and what came is known behind it."""
        load = program("udp_load")
        lasts_ms = (self.seconds + 2 * SETTLE_S) * 1000
        rate = f"{self.kpps * 1e3:g}"
        command = [load, "send", path.address, PORT, "1", rate, f"{lasts_ms:.0f}", str(self.size)]
        said: dict[str, float] = {}
        with listening(path, [load, "receive", PORT]), path.lab.running(path.sender, command) as sender:
            time.sleep(SETTLE_S)
            yield said
            stdout, stderr = sender.communicate(timeout=self.seconds + SPARE_S)
        if sender.returncode != 0:
            raise MeterFailed(f"{' '.join(command)}: {stderr}")
        said.update(json.loads(stdout))
