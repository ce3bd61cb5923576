"""Told to stop, the agent ends: whatever its tasks, its requests and its threads do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast
from unittest.mock import AsyncMock, Mock

from vxlanu.agent.agent import Agent
from vxlanu.agent.netcheck import Netcheck
from vxlanu.api.routes import Service
from vxlanu.api.server import ApiServer

PATIENCE_S = 30


def test_a_request_that_the_stop_cuts_short_is_undone_before_anything_is_closed(tmp_path: Path) -> None:
    told: list[str] = []
    begun = asyncio.Event()

    async def status() -> None:
        """As an attach: steps that are undone one by one, each of which takes its time."""
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            for step in ("TAP", "row"):
                await asyncio.sleep(0.05)
                told.append(f"{step} undone")

    async def scene() -> None:
        server = ApiServer(tmp_path / "sock")
        server.open()
        await server.start(cast(Service, Mock(status=status)))
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "sock"))
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        await asyncio.wait_for(server.close(), PATIENCE_S)
        told.append("closed")
        writer.close()

    asyncio.run(scene())
    assert told == ["TAP undone", "row undone", "closed"]


def test_what_ends_with_the_agent_begins_nothing_that_would_find_it_closed() -> None:
    ran: list[str] = []
    agent = object.__new__(Agent)  # nothing but tasks
    agent._tasks, agent._unwired = set(), False
    agent.dataplane, agent.services = Mock(event_fd=lambda: 0), Mock(close=AsyncMock())

    async def late(name: str) -> None:
        await asyncio.sleep(0)
        ran.append(name)

    async def watches() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            agent.spawn(late("as it ends"))

    async def scene() -> None:
        agent.spawn(watches())
        agent.spawn(late("before"))  # the control
        await asyncio.sleep(0.01)
        await asyncio.wait_for(agent.unwire(), PATIENCE_S)
        agent.spawn(late("afterwards"))
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(scene())
    assert ran == ["before"]
    assert not agent._tasks


def test_whoever_answers_a_netcheck_sends_no_probes_once_that_is_cut_short() -> None:
    begun: list[str] = []

    async def endless(name: str) -> None:
        begun.append(name)
        await asyncio.Event().wait()

    agent = Mock()
    agent.control.stream_timeout = 1.0
    agent.control.try_stream = lambda *_: endless("stream")
    agent.helper.path_mtus = lambda _: endless("probes")

    async def scene() -> set[asyncio.Task[None]]:
        answering = asyncio.create_task(Netcheck(agent)._serve(Mock()))
        while len(begun) < 2:
            await asyncio.sleep(0)
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(scene()) == set()
    assert sorted(begun) == ["probes", "stream"]


def test_the_chores_end_before_the_gateways_which_they_would_make_anew() -> None:
    """A gateway that is begun behind their end opens its TAP on a data plane that is freed."""
    begun_late: list[str] = []
    ending = asyncio.Event()

    async def close() -> None:
        """Takes its time: a namespace goes, and what stood in it."""
        ending.set()
        for _ in range(10):
            await asyncio.sleep(0)

    agent = object.__new__(Agent)  # nothing but tasks
    agent._tasks, agent._unwired = set(), False
    agent.dataplane, agent.services = Mock(event_fd=lambda: 0), Mock(close=close)

    async def chores() -> None:
        """As the housekeeping: whatever gateway lacks is begun."""
        await ending.wait()
        begun_late.append("gateway")

    async def scene() -> None:
        agent.spawn(chores())
        await asyncio.sleep(0)
        await asyncio.wait_for(agent.unwire(), PATIENCE_S)

    asyncio.run(scene())
    assert not begun_late
    assert ending.is_set(), "positive control: the gateways were ended"
