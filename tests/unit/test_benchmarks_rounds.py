"""Rounds of the benchmarks over paths that are not there: what is measured, in which order, and what does not count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from subprocess import TimeoutExpired
from typing import cast

from benchmarks.meters import Inapplicable, MeterFailed, Reading
from benchmarks.results import AGAIN
from benchmarks.rounds import Rounds, with_again
from benchmarks.scene import Path, Witness

WIRE = Witness("h1", "vx-k")


@dataclass
class Somewhere:
    """A path whose one witness counts what it is told to."""

    peer: str
    carried: int = 0

    def passed(self) -> Mapping[Witness, int]:
        return {WIRE: self.carried}


@dataclass
class Counting:
    """Each reading takes the next number and lets the witness see so many bytes of 100."""

    seen: int = 100
    name: str = "count"
    title: str = "count"
    unit: str = "1"
    higher_is_better: bool = True
    order: list[str] = field(default_factory=list)
    fail: Callable[[int], bool] = lambda number: False
    failure: type[MeterFailed] = MeterFailed

    def read(self, path: Path) -> Reading:
        self.order.append(path.peer)
        if self.fail(len(self.order)):
            raise self.failure(f"reading {len(self.order)}")
        cast(Somewhere, path).carried += self.seen
        return Reading(len(self.order), 100, {"of": path.peer}, {"twice": len(self.order) * 2.0})


def paths(*peers: str) -> dict[str, Path]:
    return {peer: cast(Path, Somewhere(peer)) for peer in peers}


def measured(meter: Counting, found: Mapping[str, Path], rounds: int) -> tuple[Rounds, bool, list[str]]:
    told: list[str] = []
    all_of_them = Rounds(found, [meter], rounds, told.append)
    return all_of_them, all_of_them.run(), told


def test_each_round_measures_all_and_vxlanu_twice_on_one_path() -> None:
    meter, found = Counting(), with_again(paths("veth", "vxlanu", "kernel"))
    assert found[AGAIN] is found["vxlanu"] and list(found) == ["vxlanu", "veth", AGAIN, "kernel"]
    rounds, complete, told = measured(meter, found, 2)
    assert complete and meter.order == ["vxlanu", "veth", "vxlanu", "kernel", "kernel", "vxlanu", "veth", "vxlanu"]
    first, second = rounds.series["count", "kernel"].samples
    assert (first.round, first.value, second.round, second.value) == (1, 4.0, 2, 5.0)
    assert first.also == {"twice": 8.0} and first.detail == {"of": "kernel"}
    assert "round 2 of 2, 0 s left: count: kernel" in told and "round 1 of 2: count: vxlanu" in told
    assert with_again(paths("kernel", "veth")).keys() == {"kernel", "veth"}


def test_a_figure_whose_bytes_went_elsewhere_does_not_count() -> None:
    rounds, complete, told = measured(Counting(seen=99), paths("kernel"), 1)
    series = rounds.series["count", "kernel"]
    assert complete and not series.samples
    assert [it.why for it in series.failures] == ["vx-k in h1 carried 99 bytes of 100: not the path claimed"]
    assert any("vx-k in h1" in line for line in told)


def test_a_meter_that_failed_twice_is_not_tried_there_again() -> None:
    meter = Counting(fail=lambda number: number != 2)
    rounds, complete, _ = measured(meter, paths("kernel"), 5)
    series = rounds.series["count", "kernel"]
    assert complete and len(meter.order) == 3
    assert [it.round for it in series.failures] == [1, 3] and [it.round for it in series.samples] == [2]


def test_a_tool_that_hangs_is_a_failed_reading_and_the_round_goes_on() -> None:
    def hangs(number: int) -> bool:
        if number == 1:
            raise TimeoutExpired(["iperf3"], 32)
        return False

    rounds, complete, _ = measured(Counting(fail=hangs), paths("kernel", "tinc"), 1)
    (failure,) = rounds.series["count", "kernel"].failures
    assert complete and "'iperf3'" in failure.why and "32 seconds" in failure.why
    assert len(rounds.series["count", "tinc"].samples) == 1


def test_a_meter_that_cannot_apply_is_asked_once_and_lacks_nothing() -> None:
    meter = Counting(fail=lambda number: True, failure=Inapplicable)
    rounds, complete, _ = measured(meter, paths("kernel"), 5)
    series = rounds.series["count", "kernel"]
    assert complete and len(meter.order) == 1 and series.hopeless and len(series.failures) == 1


def test_an_interrupt_keeps_what_was_measured() -> None:
    def interrupted(number: int) -> bool:
        if number == 3:
            raise KeyboardInterrupt
        return False

    rounds, complete, _ = measured(Counting(fail=interrupted), paths("kernel"), 5)
    assert not complete and [it.value for it in rounds.series["count", "kernel"].samples] == [1, 2]
