"""From raw samples to figures: medians, ratios, what noise explains.

Rules of this file
  1. Pure: a run comes in, numbers go out, the same every time (the bootstrap's seed is fixed).
  2. THE ratio is the median of the ratios inside each round. What two paths of a round are measured within seconds
     drifts alike, and divides out; medians of each side may come from rounds that have nothing in common. The ratio of
     medians stands beside it: where the two part, the run was not steady.
  3. A round during which the hypervisor took more than STEAL_MAX of the CPUs is left out as long as QUIET_MIN remain;
     both those that are left out and those that count all the same are told.

A row is a meter's value, or what its readings give `also` ("rtt-tcp-p99").
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results import AGAIN, MeterInfo, Run, Series

__all__ = [
    "NONE_SHOWN", "STEAL_MAX", "Level", "Ratio", "Row", "apart", "level", "noise", "ratio", "rows", "verdict", "width",
]  # fmt: skip

STEAL_MAX = 0.04
QUIET_MIN = 3
BOOTSTRAPS = 2000
NONE_SHOWN = "no difference shown"


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of a table."""

    meter: MeterInfo
    also: str = ""

    @property
    def name(self) -> str:
        return f"{self.meter.name}-{self.also}" if self.also else self.meter.name

    @property
    def title(self) -> str:
        return f"{self.meter.title}, {self.also}" if self.also else self.meter.title


@dataclass(frozen=True, slots=True)
class Level:
    """Where the samples of one series lie."""

    median: float
    least: float
    most: float
    deviation: float
    """The median distance from the median (MAD)."""
    n: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of one series to another, round by round."""

    median: float
    """THE figure."""
    of_medians: float
    low: float
    high: float
    """A 95 % bootstrap interval of the median; least and most of fewer than five rounds."""
    least: float
    most: float
    n: int
    left_out: int
    """Rounds with too much steal."""
    disturbed: int = 0
    """Such rounds that count all the same: without them too few would be left."""

    def spans(self, value: float) -> bool:
        return self.low <= value <= self.high


def rows(run: Run) -> list[Row]:
    """All rows of a run: each meter, then what its readings give besides, in their order."""
    found: list[Row] = []
    for meter in run.meters:
        found.append(Row(meter))
        names = (key for it in run.series if it.meter == meter.name for sample in it.samples for key in sample.also)
        found += [Row(meter, key) for key in dict.fromkeys(names)]
    return found


def level(run: Run, row: Row, peer: str) -> Level | None:
    """Of all quiet rounds; None without a sample."""
    left_out, _ = _noisy(run, row.meter.name, (peer,))
    values = list(_values(run, row, peer, left_out).values())
    if not values:
        return None
    median = statistics.median(values)
    deviation = statistics.median(abs(value - median) for value in values)
    return Level(median, min(values), max(values), deviation, len(values))


def ratio(run: Run, row: Row, peer: str, base: str, base_row: Row | None = None) -> Ratio | None:
    """Of `peer` to `base`, over the rounds that have both; None if there is none."""
    noisy, disturbed = _noisy(run, row.meter.name, (peer, base))
    ours, theirs = _values(run, row, peer, noisy), _values(run, base_row or row, base, noisy)
    shared = [number for number in ours if theirs.get(number, 0) > 0]
    if not shared:
        return None
    ratios = [ours[number] / theirs[number] for number in shared]
    low, high = _interval(ratios)
    return Ratio(
        statistics.median(ratios),
        statistics.median(ours[number] for number in shared) / statistics.median(theirs[number] for number in shared),
        low, high, min(ratios), max(ratios), len(ratios), len(noisy), len(disturbed),
    )  # fmt: skip


def noise(run: Run, row: Row, peer: str = "vxlanu") -> Ratio | None:
    """A/A: of the peer to itself."""
    return ratio(run, row, AGAIN, peer)


def verdict(found: Ratio, floor: Ratio | None) -> str:
    """Empty if the ratio differs from 1 by more than noise explains: its own, and that of A/A either way."""
    return NONE_SHOWN if found.spans(1.0) or apart(found.median) <= width(floor) else ""


def apart(factor: float) -> float:
    """How far from 1, to either side alike: 0.8 is as far as 1.25."""
    return max(factor, 1 / factor) if factor else math.inf


def width(floor: Ratio | None) -> float:
    """How far from 1 noise goes."""
    return max(apart(edge) for edge in (floor.low, floor.high, floor.median)) if floor else 1.0


def _values(run: Run, row: Row, peer: str, without: frozenset[int]) -> dict[int, float]:
    series = run.of(row.meter.name, peer) or Series(row.meter.name, peer)
    samples = {it.round: it.also.get(row.also) if row.also else it.value for it in series.samples}
    return {number: value for number, value in samples.items() if value is not None and number not in without}


def _noisy(run: Run, meter: str, peers: Sequence[str]) -> tuple[frozenset[int], frozenset[int]]:
    """Rounds with too much steal: those to leave out, and those to keep, since too few would remain."""
    worst: dict[int, float] = {}
    for series in run.series:
        if series.meter == meter and series.peer in peers:
            for it in series.samples:
                worst[it.round] = max(it.steal, worst.get(it.round, 0.0))
    noisy = frozenset(number for number, steal in worst.items() if steal > STEAL_MAX)
    none: frozenset[int] = frozenset()
    return (noisy, none) if len(worst) - len(noisy) >= QUIET_MIN else (none, noisy)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 5:
        return min(values), max(values)
    chance = random.Random(len(values))
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(BOOTSTRAPS))
    return medians[BOOTSTRAPS // 40], medians[-BOOTSTRAPS // 40 - 1]
