"""Rounds: every meter on every path, alternating, so that what else the machine does meets all of them alike.

How it works
  A round takes the meters one after the other, and for each all paths, seconds apart: what is compared is measured
  together. Their order is turned about in every other round and rotated from pair to pair, so that nobody is always
  the first, or always behind the same neighbour. vxlanu is measured a second time (AGAIN) half a turn away.

Rules of this file
  1. A figure counts only if the path's witnesses carried its bytes; else it is a failure that names the interface.
  2. A meter that failed twice on a path is not tried there again; each failure is kept. A tool that hangs is one.
  3. Ctrl-C ends the rounds and keeps what was measured.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as File

from benchmarks.meters import Inapplicable, Meter, MeterFailed, Reading
from benchmarks.results import AGAIN, Failure, Sample, Series
from benchmarks.scene import Path
from vxlanu.errors import VxlanuError

__all__ = ["Progress", "Rounds", "order", "with_again"]

TRIES = 2
Progress = Callable[[str], None]


def order(names: Sequence[str], number: int) -> list[str]:
    """Of the paths in a round, the first of which is 1."""
    turned = list(names) if number % 2 else list(names)[::-1]
    at = (number - 1) // 2 % len(turned)
    return [*turned[at:], *turned[:at]]


def with_again(paths: Mapping[str, Path]) -> dict[str, Path]:
    """The paths and, half a turn from it, vxlanu's once more."""
    if "vxlanu" not in paths:
        return dict(paths)
    names = sorted(paths, key=lambda name: name != "vxlanu")
    names.insert((len(names) + 1) // 2, AGAIN)
    return {name: paths["vxlanu" if name == AGAIN else name] for name in names}


@dataclass
class Rounds:
    """What is measured, and what came of it so far."""

    paths: Mapping[str, Path]
    meters: Sequence[Meter]
    rounds: int
    progress: Progress
    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    _took: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of the readings so far, by meter."""

    def run(self) -> bool:
        """Return: whether it went to its end. Raises nothing but what is a defect."""
        for meter in self.meters:
            for name in self.paths:
                self.series[meter.name, name] = Series(meter.name, name)
        try:
            for number in range(1, self.rounds + 1):
                for meter in self.meters:
                    for name in order(list(self.paths), number):
                        self._tell(number, meter, name)
                        self._measure(number, meter, name)
        except KeyboardInterrupt:
            return False
        return True

    def _measure(self, number: int, meter: Meter, name: str) -> None:
        series = self.series[meter.name, name]
        if series.hopeless or len(series.failures) >= TRIES:
            return
        before, began = _processors(), time.monotonic()
        try:
            reading = _witnessed(meter, self.paths[name])
        except (MeterFailed, VxlanuError, subprocess.TimeoutExpired) as error:
            series.failures.append(Failure(number, str(error)))
            series.hopeless = isinstance(error, Inapplicable)
            self.progress(f"{meter.title}, {name}: {error}\n")
            return
        finally:
            took = round(time.monotonic() - began, 2)
            self._took.setdefault(meter.name, []).append(took)
        steal = _stolen(before, _processors())
        series.samples.append(Sample(number, reading.value, reading.also, steal, took, reading.detail))

    def _tell(self, number: int, meter: Meter, name: str) -> None:
        """What, which round, and how long it will last: by what readings took, once each meter has had a round."""
        whole = self.rounds * len(self.paths)
        took = self._took.values()
        left = sum(statistics.mean(it) * (whole - len(it)) for it in took)
        known = len(took) == len(self.meters) and all(len(it) >= len(self.paths) for it in took)
        ends = f", {_duration(left)} left" if known else ""
        self.progress(f"round {number} of {self.rounds}{ends}: {meter.title}: {name}")


def _witnessed(meter: Meter, path: Path) -> Reading:
    """A reading that the path's witnesses confirm. Raises MeterFailed."""
    before = path.passed()
    reading = meter.read(path)
    after = path.passed()
    for witness, octets in after.items():
        carried = octets - before[witness]
        if carried < reading.octets:
            raise MeterFailed(
                f"{witness.device} in {witness.place} carried {carried} bytes of {reading.octets}: not the path claimed"
            )
    return reading


def _processors() -> list[int]:
    """Ticks of all CPUs by kind (proc(5)); the eighth is what the hypervisor took."""
    return [int(word) for word in File("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def _stolen(before: Sequence[int], after: Sequence[int]) -> float:
    passed = [late - early for early, late in zip(before, after, strict=True)]
    return round(passed[7] / sum(passed), 4) if sum(passed) else 0.0


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
