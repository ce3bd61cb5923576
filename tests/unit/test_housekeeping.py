"""What an agent does once a second: one part that stumbles holds up none of the others, and is said once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest

from vxlanu.agent import agent as module
from vxlanu.agent.agent import Agent

PATIENCE_S = 60
ROUNDS = 5


def test_housekeeping_goes_on_when_a_part_of_it_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "HOUSEKEEPING_S", 0)
    reclaimed: list[float] = []
    watched: list[float] = []
    over = asyncio.Event()

    def broken(now: float) -> None:
        raise ValueError("a counter went backwards")

    def watch(now: float) -> None:
        watched.append(now)
        if len(watched) == ROUNDS:
            over.set()

    agent = Mock(  # all other chores succeed
        dataplane=SimpleNamespace(housekeep=lambda: reclaimed.append(0.0)),
        observer=SimpleNamespace(look=broken),
        _watch_workers=watch,
    )

    async def scene() -> None:
        running = asyncio.create_task(Agent._housekeep(cast(Agent, agent)))
        await asyncio.wait_for(over.wait(), PATIENCE_S)
        running.cancel()

    asyncio.run(scene())
    assert len(reclaimed) >= ROUNDS
    assert [record.message for record in caplog.records] == ["housekeeping of events failed"]
