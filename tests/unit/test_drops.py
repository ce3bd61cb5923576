"""What is told of drops: each once, of the network that it concerns, and no more often than promised."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from vxlanu.agent.drops import Loss, Tally
from vxlanu.dataplane import Dataplane

BLUE, RED = b"blue", b"red"
EVERY_S = 10.0


class Plane:
    """Counters that a test sets: of the host as a whole, and of each network that is programmed."""

    def __init__(self) -> None:
        self.host: dict[str, int] = {}
        self.of: dict[bytes, dict[str, int]] = {}
        self.read = 0

    def totals(self) -> SimpleNamespace:
        return SimpleNamespace(drops=dict(self.host))

    def networks(self) -> list[bytes]:
        self.read += 1
        return list(self.of)

    def network_totals(self, network: bytes) -> SimpleNamespace:
        return SimpleNamespace(drops=self.of[network])


def tally(plane: Plane) -> Tally:
    return Tally(cast(Dataplane, plane), EVERY_S)


def test_the_first_burst_is_told_at_once_and_what_follows_is_summed_up() -> None:
    plane = Plane()
    it = tally(plane)
    told = []
    for second in range(25):
        plane.host = {"csum": 2 * second + 2}
        plane.of = {BLUE: {"csum": 2 * second + 2}}
        told += [(second, loss) for loss in it.look(100.0 + second)]
    assert told == [
        (0, Loss(BLUE, "csum", 2, 0.0)),
        (10, Loss(BLUE, "csum", 20, 10.0)),
        (20, Loss(BLUE, "csum", 20, 10.0)),
    ]
    assert it.look(200.0) == [Loss(BLUE, "csum", 8, 80.0)], "the rest is told although nothing more is dropped"
    assert it.look(300.0) == []


def test_a_second_reason_and_a_second_network_wait_for_nobody() -> None:
    plane = Plane()
    it = tally(plane)
    plane.host, plane.of = {"csum": 1}, {BLUE: {"csum": 1}, RED: {}}
    assert it.look(1.0) == [Loss(BLUE, "csum", 1, 0.0)]
    plane.host, plane.of = {"csum": 3, "vlan": 1}, {BLUE: {"csum": 1, "vlan": 1}, RED: {"csum": 2}}
    assert sorted(it.look(2.0)) == [Loss(BLUE, "vlan", 1, 0.0), Loss(RED, "csum", 2, 0.0)]


def test_what_no_network_counts_is_the_hosts() -> None:
    plane = Plane()
    it = tally(plane)
    plane.host, plane.of = {"hdr_trunc": 5}, {BLUE: {"hdr_trunc": 2}}
    assert sorted(it.look(1.0)) == [Loss(b"", "hdr_trunc", 3, 0.0), Loss(BLUE, "hdr_trunc", 2, 0.0)]


def test_a_network_that_goes_leaves_nothing_to_be_told_again() -> None:
    plane = Plane()
    it = tally(plane)
    plane.host, plane.of = {"csum": 7}, {BLUE: {"csum": 7}}
    assert it.look(1.0)
    plane.host, plane.of = {"csum": 8}, {RED: {"csum": 1}}
    assert it.look(2.0) == [Loss(RED, "csum", 1, 0.0)]


def test_frames_dropped_between_the_two_readings_are_told_once() -> None:
    plane = Plane()
    it = tally(plane)
    plane.host, plane.of = {"csum": 1}, {BLUE: {"csum": 3}}
    assert it.look(1.0) == [Loss(BLUE, "csum", 3, 0.0)]
    plane.host = {"csum": 3}
    assert it.look(20.0) == []
    plane.host = {"csum": 4}
    assert it.look(40.0) == [Loss(b"", "csum", 1, 0.0)]


def test_what_was_before_the_beginning_is_not_told_and_nothing_new_costs_nothing() -> None:
    plane = Plane()
    plane.host, plane.of = {"csum": 9, "vlan": 1}, {BLUE: {"csum": 9}}
    it = tally(plane)
    it.begin()
    read = plane.read
    assert [it.look(float(second)) for second in range(5)] == [[]] * 5
    assert plane.read == read
    plane.host = {"csum": 9, "vlan": 2}
    assert it.look(6.0) == [Loss(b"", "vlan", 1, 0.0)]
