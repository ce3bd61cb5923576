"""For tests of the command line: an agent that answers from the golden files, and none of the caller's settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_agent import SampleAgent


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's own VXLANU_* must not decide what is tested."""
    for name in [name for name in os.environ if name.startswith("VXLANU_") and name != "VXLANU_REQUIRE"]:
        monkeypatch.delenv(name)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[SampleAgent]:
    with SampleAgent(tmp_path / "agent.sock") as serving:
        yield serving
