"""A detach that comes while something else is under way for the endpoint, held at the very await where it matters."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from vxlanu.agent import attach
from vxlanu.agent.agent import Agent
from vxlanu.agent.endpoint_life import take_down
from vxlanu.api.schema import Attach
from vxlanu.control.core.records import EndpointId
from vxlanu.errors import NotFound

KEY = "aa" * 16


class Intents(set[str]):
    """Those that there are; asked after when an endpoint is down."""

    def look(self, key: str) -> None:
        """Nothing to do here."""


@pytest.mark.parametrize("detached", [False, True])
def test_addresses_kept_for_a_container_are_released_when_it_is_detached_while_it_ends(detached: bool) -> None:
    released: list[bytes] = []
    intents = Intents({KEY})

    async def delete(_: bytes, *, keep_addresses: bool) -> None:
        assert keep_addresses
        if detached:
            intents.discard(KEY)

    async def release(_: bytes, endpoint: bytes) -> None:
        released.append(endpoint)

    async def nothing(*_: object) -> None:
        return

    row = SimpleNamespace(endpoint=bytes.fromhex(KEY), network=bytes(16))
    agent = SimpleNamespace(
        journal=SimpleNamespace(rows={KEY: row}, erase=nothing),
        leaving=set(),
        intents=intents,
        control=SimpleNamespace(delete_endpoint=delete, release=release),
        dataplane=SimpleNamespace(remove_port=lambda _: None),
        opened={},
        kept=SimpleNamespace(drop_queues=lambda _: None),
        endpoints=SimpleNamespace(close=nothing),
        egress=SimpleNamespace(leave=nothing),
        release_network=lambda _: None,
        names=SimpleNamespace(settle=nothing),
    )
    asyncio.run(take_down(cast(Agent, agent), KEY))
    assert released == ([bytes.fromhex(KEY)] if detached else [])


def test_what_was_detached_while_its_target_was_looked_for_is_not_attached_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    intents = Intents({KEY})
    rows: dict[str, object] = {}

    async def plan(*_: object) -> SimpleNamespace:
        intents.discard(KEY)
        return SimpleNamespace(endpoint=bytes.fromhex(KEY))

    monkeypatch.setattr(attach, "_plan", plan)
    agent = SimpleNamespace(intents=intents, journal=SimpleNamespace(rows=rows))
    again = attach.attach(cast(Agent, agent), Attach("blue", "docker:c0"), EndpointId(bytes.fromhex(KEY)))
    with pytest.raises(NotFound, match="detached meanwhile"):
        asyncio.run(again)
    assert not rows
