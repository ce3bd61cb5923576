"""The gates of conftest.py: a missing need is a skip that says why, and a failure where it was promised."""

from __future__ import annotations

import pytest
from needs import missing, require

ABSENT, PRESENT = "no-program-has-this-name", "sh"


def outcome(monkeypatch: pytest.MonkeyPatch, promised: str | None, *needs: str) -> str:
    if promised is None:
        monkeypatch.delenv("VXLANU_REQUIRE", raising=False)
    else:
        monkeypatch.setenv("VXLANU_REQUIRE", promised)
    try:
        require(*needs)
    except pytest.skip.Exception as why:
        return f"skipped: {why}"
    except pytest.fail.Exception as why:
        return f"failed: {why}"
    return "runs"


@pytest.mark.parametrize("promised", [None, "", "all", ABSENT])
def test_a_need_that_is_met_never_stops_a_test(monkeypatch: pytest.MonkeyPatch, promised: str | None) -> None:
    assert missing(PRESENT) is None
    assert outcome(monkeypatch, promised, PRESENT) == "runs"


@pytest.mark.parametrize(
    ("promised", "expected"),
    [(None, "skipped"), ("", "skipped"), ("tshark", "skipped"), ("all", "failed"), (f"tshark,{ABSENT}", "failed")],
)
def test_a_missing_need_skips_by_name_or_fails_where_it_was_promised(
    monkeypatch: pytest.MonkeyPatch, promised: str | None, expected: str
) -> None:
    said = outcome(monkeypatch, promised, PRESENT, ABSENT)
    assert said.startswith(f"{expected}: needs the program {ABSENT}")
