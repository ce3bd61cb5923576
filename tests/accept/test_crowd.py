"""Many at once, and the bars for it: `make accept` prints the table. See benchmarks/crowd.py for what is compared."""

from __future__ import annotations

import pytest

from benchmarks.crowd import SCENARIOS, findings_table

pytestmark = [pytest.mark.accept, pytest.mark.netns, pytest.mark.interop("ethtool"), pytest.mark.timeout(900)]

ROUNDS = {"fairness": 5, "flood": 9, "endpoints": 15}
"""As many as bring the spread of the median below what the bar leaves."""
SECONDS = {"fairness": 4.0, "flood": 2.0, "endpoints": 2.0}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_wanted_of_a_crowd_is_held(scenario: str) -> None:
    found = SCENARIOS[scenario](ROUNDS[scenario], SECONDS[scenario], "offload", lambda text: None)
    print("", *findings_table(found), sep="\n")
    assert [it.title for it in found if not it.held] == []
