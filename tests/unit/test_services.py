"""Service ports without a kernel: what stands behind a gateway is tried again until it can be had."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace
from typing import cast

import pytest

from vxlanu.agent.agent import Agent
from vxlanu.gateway.service import RETRY_S, Service, Services
from vxlanu.nsopen import AddressFailed

NETWORK = bytes(16)
WHY = "listen on 10.0.0.1 port 53: Address already in use"


class Port:
    """A port that somebody else may have; `asked` is how often it was tried to open."""

    def __init__(self, why: Exception) -> None:
        self.asked = 0
        self.taken = True
        self.why = why

    async def open(self, _: bytes) -> None:
        self.asked += 1
        if self.taken:
            raise self.why


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    agent = SimpleNamespace(reconciler=SimpleNamespace(local={NETWORK}))
    made = Services(cast(Agent, agent))

    async def stands(network: bytes) -> None:
        assert network not in made._standing, "made once"
        made._standing[network] = Service(network, -1, ("10.0.0.1/24",), 2, "0a:00:00:00:00:01")

    monkeypatch.setattr(made, "_open", stands)
    return made


@pytest.mark.parametrize(
    ("error", "shown", "traced"),
    [(AddressFailed(*WHY.split(": ")), WHY, False), (KeyError("no such"), "KeyError: 'no such'", True)],
    ids=["taken", "a defect of ours"],
)
def test_a_port_that_cannot_be_had_is_said_once_and_opened_when_it_can(
    services: Services, caplog: pytest.LogCaptureFixture, error: Exception, shown: str, traced: bool
) -> None:
    port = Port(error)
    services.on_open.append(port.open)

    async def at(seconds: float) -> int:
        services.check(time.monotonic() + seconds)
        await services.ready()
        return port.asked

    async def scene() -> None:
        assert await at(0) == 1
        assert services.get(NETWORK) and services.refused() == {NETWORK: shown}, "it stands, but for the port"
        assert await at(RETRY_S / 2) == 1, "not yet"
        assert await at(RETRY_S + 1) == 2
        port.taken = False
        assert await at(RETRY_S + 1) == 3
        assert services.refused() == {}
        assert await at(RETRY_S + 1) == 3, "it is open"

    caplog.set_level(logging.WARNING)
    asyncio.run(scene())
    [said] = caplog.records
    assert shown in said.getMessage() and ("Traceback" in caplog.text) == traced
