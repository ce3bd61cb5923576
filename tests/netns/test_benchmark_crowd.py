"""`python -m benchmarks crowd` in small: that each scenario has figures, and that a flow which cannot be is an error.

    c1-1 … c1-4 ─ h1 ── underlay ── h2 ─ c2-1 … c2-4

Nothing is asked of the figures but that all have a share: the machine is busy with other tests.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from benchmarks import crowd
from benchmarks.crowd import Crowd, Finding, Flow, carried, fairness, flood, idle_endpoints
from benchmarks.meters import MeterFailed

pytestmark = [pytest.mark.netns, pytest.mark.interop("ethtool")]

LONGER = (0.3, 0.6, 1.2, 2.4)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "CALM_S", 0)
    monkeypatch.setattr(crowd, "WARMUP_S", 0.2)


def tried(scenario: Callable[[float], list[Finding]]) -> list[Finding]:
    """What it found; in ever more time, where somebody had nothing at all, for the CPUs were with other tests."""
    for seconds in LONGER:
        with suppress(MeterFailed):
            found = scenario(seconds)
            if all(it.median > 0 for it in found):
                return found
    return scenario(LONGER[-1])


def test_senders_of_each_kind_have_an_index_of_their_own() -> None:
    found = tried(lambda seconds: fairness(1, seconds, "offload", print, senders=4))
    assert [it.title.split(", ")[1] for it in found] == [
        "4 TCP senders", "4 UDP senders", "2 TCP senders beside 2 of UDP", "2 UDP senders beside 2 of TCP",
    ]  # fmt: skip
    for finding in found:
        assert 1 / 4 <= finding.median <= 1, finding


def test_a_flood_and_idle_endpoints_leave_something_of_a_stream() -> None:
    beside = tried(lambda seconds: flood(1, seconds, "offload", print))
    among = tried(lambda seconds: idle_endpoints(1, seconds, "plain", print, endpoints=4))
    for finding in (*beside, *among):
        assert finding.median > 0, finding


def test_every_flow_is_counted_and_one_to_nowhere_is_an_error() -> None:
    with Crowd.up(2, "offload") as two:
        flows = [two.flow("tcp", 1), two.flow("udp", 2, rate=1000), Flow("broadcast", "c1-2", "-", crowd.EVERYONE, 500)]
        assert any(all(rate > 0 for rate in carried(two.lab, flows, seconds)) for seconds in LONGER)
        with pytest.raises(MeterFailed, match="namespace c2-9"):
            carried(two.lab, [Flow("tcp", "c1-1", "c2-9", two.addresses["c2-1"])], LONGER[0])
