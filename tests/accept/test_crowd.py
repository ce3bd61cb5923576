"""Many at once, and the bars for it: `make accept` prints the table. See benchmarks/crowd.py for what is compared."""

from __future__ import annotations

import pytest

from benchmarks.crowd import SCENARIOS, findings_table

pytestmark = [pytest.mark.accept, pytest.mark.netns, pytest.mark.interop("ethtool"), pytest.mark.timeout(900)]

ROUNDS = {"fairness": 5, "flood": 9, "endpoints": 15}
"""As many as bring the spread of the median below what the bar leaves."""
SECONDS = {"fairness": 4.0, "flood": 2.0, "endpoints": 2.0}
NEAR = {
    "Jain's index, 32 TCP senders beside 32 of UDP": "0.86 and 0.88 in two runs",
    "TCP of a pair among 1000 endpoints, to one alone": "0.92 in one run, 0.71 to 1.28 in its rounds",
}
"""Wanted, and missed where benchmarks/REPORT.md was made. Such a miss is an expected failure: it stands in pytest's
summary with its figure, and hides no bar that was held until now."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_wanted_of_a_crowd_is_held(scenario: str) -> None:
    found = SCENARIOS[scenario](ROUNDS[scenario], SECONDS[scenario], "offload", lambda text: None)
    print("", *findings_table(found), sep="\n")
    missed = {it.title: f"{it.median:.2f}" for it in found if not it.held}
    assert [title for title in missed if title not in NEAR] == []
    if missed:
        pytest.xfail("; ".join(f"{title}: {figure} ({NEAR[title]})" for title, figure in missed.items()))
