"""Each meter of `benchmarks`, once and briefly, over the underlay alone: that it has a figure, and a likely one.

    h1 ── underlay ── h2

The machine is busy with other tests, so what a meter asks of a figure worth reporting is asked for less here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from benchmarks.meters import Meter, MeterFailed, Reading, cpu, rtt, udp
from benchmarks.meters.connect import Connect
from benchmarks.meters.cpu import CpuPerGbit, CpuPerPackets
from benchmarks.meters.memory import Memory
from benchmarks.meters.rtt import PingPong
from benchmarks.meters.tcp import Bulk
from benchmarks.meters.udp import Udp
from benchmarks.peers import veth, vxlanu
from benchmarks.scene import Path, Scene

pytestmark = [pytest.mark.netns, pytest.mark.interop("iperf3", "ethtool")]

TRIES = 4
REACHED = 0.2
CPUS = os.cpu_count() or 1
# What the other tests make all CPUs do counts as well: at most CPUS seconds a second, for 0.05 Gbit or a thousand
# datagrams, of which a path need not carry more than REACHED. An idle machine has figures below a hundredth of that.
PLAUSIBLE: list[tuple[Meter, float, float]] = [
    (Bulk(seconds=1), 0.05, 1000),
    (Connect(seconds=0.2), 10, 1e6),
    (CpuPerGbit(gigabits=0.05, seconds=2), 0.01, 1.1 * CPUS / (0.05 * REACHED)),
    (CpuPerPackets(kpps=1, seconds=2), 1, 1.1 * CPUS * 1e3 / REACHED),
]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene.up() as made:
        yield made


@pytest.fixture(scope="module")
def path(scene: Scene) -> Path:
    found = veth.bring_up(scene, ExitStack())
    found.ready()
    return found


@pytest.fixture(autouse=True)
def modest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "REACHED", REACHED)
    monkeypatch.setattr(rtt, "FEWEST", 20)
    monkeypatch.setattr(udp, "SECONDS", 0.1)


def read(meter: Meter, path: Path) -> Reading:
    """A figure; again where there was none, for a frame or a moment was lost to other tests."""
    for _ in range(TRIES - 1):
        with suppress(MeterFailed):
            return meter.read(path)
    return meter.read(path)


@pytest.mark.parametrize(("meter", "least", "most"), PLAUSIBLE, ids=lambda value: getattr(value, "name", ""))
def test_a_meter_has_a_likely_figure_and_the_path_carried_what_it_claims(
    path: Path, meter: Meter, least: float, most: float
) -> None:
    before = path.passed()
    reading = read(meter, path)
    passed = {witness: count - before[witness] for witness, count in path.passed().items()}
    assert least < reading.value < most, reading
    assert min(passed.values()) > 0.95 * reading.octets > 0


def test_udp_is_counted_and_what_is_remembered_shortens_the_next_reading(path: Path) -> None:
    meter = Udp(1400, segment=True)
    first, second = read(meter, path), read(meter, path)
    assert first.value > 1 and first.also["at-twice"] > 0
    assert meter.memory[path.peer] == pytest.approx(second.value * 1e3)
    trials = second.detail["trials"]
    assert isinstance(trials, list) and all(trial["duplicates"] == 0 for trial in trials)
    assert trials[0]["asked"] == pytest.approx(first.value * 1e3)


@pytest.mark.interop("sockperf")
@pytest.mark.parametrize("meter", [PingPong(seconds=1), PingPong("udp", load=0.05, seconds=1)], ids=lambda m: m.name)
def test_a_round_trip_has_percentiles_in_order(path: Path, meter: PingPong) -> None:
    reading = read(meter, path)
    assert 1 < reading.value <= reading.also["p90"] <= reading.also["p99"] <= reading.also["max"] < 1e6


def test_a_figure_that_was_not_reached_is_none(path: Path) -> None:
    with pytest.raises(MeterFailed, match=r"carries [0-9.]+ of 900 Gbit/s"):
        CpuPerGbit(gigabits=900, seconds=0.2).read(path)
    with pytest.raises(MeterFailed, match="no programs of its own"):
        Memory().read(path)


def test_memory_is_that_of_the_agents_and_their_children(scene: Scene) -> None:
    path = vxlanu.bring_up(scene, ExitStack())
    whole = Memory().read(path)
    one = Memory().read(replace(path, processes=path.processes[:1]))
    assert 10 < one.value < whole.value < 2000
    each = whole.detail["processes"]
    assert isinstance(each, dict) and set(path.processes) < set(each)
