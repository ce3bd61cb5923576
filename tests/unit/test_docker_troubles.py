"""A runtime that fails for a while: what the agent asks it again, and what it says.

The runtime is a server on a socket that speaks Docker's API from a script, or a program in PATH.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from aiohttp import web

from vxlanu.agent.agent import Agent
from vxlanu.control.core.records import Endpoint, EndpointId
from vxlanu.runtimes.docker import client, events
from vxlanu.runtimes.docker.client import RuntimeEvent
from vxlanu.runtimes.docker.events import Follower
from vxlanu.runtimes.docker.names import Names
from vxlanu.runtimes.docker.sync import Sync

HANG = 0  # in place of a status
PATIENCE_S = 5.0  # short for a hang, long for an answer on a busy machine
NO_ANSWER = f"no answer within {PATIENCE_S:g} s"
Answer = tuple[int, object]
INSPECTED = {"Id": "c0ffee", "Name": "/C0", "NetworkSettings": {"Networks": {"demonet": {"EndpointID": "e"}}}}


class Daemon:
    """Answers each path with the next of its list, the last one for ever."""

    def __init__(self, answers: dict[str, list[Answer]]) -> None:
        self.asked: list[str] = []
        self._answers = answers

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        left = self._answers[request.path]
        status, body = left.pop(0) if len(left) > 1 else left[0]
        if status == HANG:
            await asyncio.Event().wait()
        return web.json_response(body, status=status)


@asynccontextmanager
async def serving(daemon: Daemon, path: Path) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", daemon.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        yield
    finally:
        await runner.cleanup()


class Spawned:
    """An agent's tasks: waited for, so that what they raise is seen."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def __call__(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def done(self) -> None:
        while self._tasks:
            await self._tasks.pop(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)  # a poll's pace


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a daemon is expected, with little patience for it."""
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    for module in (client, events):
        monkeypatch.setattr(module, "ANSWER_S_MAX", PATIENCE_S)
    return path


def test_a_comparison_that_docker_refuses_or_hangs_on_is_made_again_and_said_once(
    socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spawn = Spawned()
    agent = SimpleNamespace(
        spawn=spawn,
        runtimes=SimpleNamespace(following=lambda _: True),
        view=SimpleNamespace(networks=list, is_removed=lambda _: False),
    )

    async def scene() -> Daemon:
        daemon = Daemon({"/networks": [(500, {"message": "locked"})] * 2 + [(HANG, None), (200, [])]})
        sync = Sync(cast(Agent, agent), "vxlanu", lambda _: None)
        async with serving(daemon, socket):
            sync.connected()
            await spawn.done()
            for second in range(0, 60, 6):
                sync.check(float(second))
                await spawn.done()
        return daemon

    with caplog.at_level(logging.WARNING, logger="vxlanu.docker"):
        daemon = asyncio.run(asyncio.wait_for(scene(), 60))
    assert len(daemon.asked) == 4, "until it is answered, and not once more"
    assert [it.getMessage().rpartition(": ")[2] for it in caplog.records] == ["locked", NO_ANSWER]


ENDPOINT = EndpointId(bytes(16))


def named(spawn: Spawned, put: list[tuple[str, str]], holder: str = "") -> Agent:
    """An agent with one endpoint of Docker's, that has no name yet; `holder`: a name that another host's has."""
    body = Endpoint(id=ENDPOINT, network=bytes(16), name="e", mac="", addresses=(), target="docker:e")
    other = SimpleNamespace(body=msgspec.structs.replace(body, name=holder), id=b"o" * 16, owner_name="h2")

    async def put_endpoint(wanted: Endpoint) -> None:
        put.append((wanted.name, wanted.target))

    endpoint = SimpleNamespace(body=body, id=ENDPOINT, owner_name="h1")
    agent = SimpleNamespace(
        spawn=spawn,
        view=SimpleNamespace(
            endpoint=lambda _: endpoint, named=lambda *_: [other] if holder else [], network=lambda _: None
        ),
        feed=SimpleNamespace(tell=lambda _: None),
        journal=SimpleNamespace(rows={ENDPOINT.hex(): None}),
        leaving=set(),
        names_in_use=set(),
        control=SimpleNamespace(put_endpoint=put_endpoint),
    )
    return cast(Agent, agent)


@pytest.mark.parametrize("failure", [(500, {"message": "locked"}), (HANG, None)])
def test_a_container_that_could_not_be_inspected_gets_its_name_later(socket: Path, failure: Answer) -> None:
    put: list[tuple[str, str]] = []
    answers = {
        "/containers/json": [failure, (200, [{"Id": "c0ffee"}])],
        "/containers/c0ffee/json": [failure, (200, INSPECTED)],
        "/containers/gone/json": [(404, {"message": "No such container"})],
    }

    async def scene() -> Daemon:
        daemon, spawn = Daemon(answers), Spawned()
        names = Names(named(spawn, put), lambda _: ENDPOINT)
        async with serving(daemon, socket):
            names.connected()
            names.heard(RuntimeEvent("network", "connect", "gone"))
            await spawn.done()
            for second in range(0, 60, 6):
                names.check(float(second))
                await spawn.done()
        return daemon

    daemon = asyncio.run(asyncio.wait_for(scene(), 60))
    assert set(put) == {("C0", "docker:C0")}
    times = {path: daemon.asked.count(path) for path in answers}
    assert times == {"/containers/json": 2, "/containers/c0ffee/json": 2, "/containers/gone/json": 1}


def test_a_container_whose_name_another_endpoint_has_is_still_told_by_its_own_as_target(socket: Path) -> None:
    put: list[tuple[str, str]] = []

    async def scene() -> None:
        spawn = Spawned()
        names = Names(named(spawn, put, holder="C0"), lambda _: ENDPOINT)
        async with serving(Daemon({"/containers/c0ffee/json": [(200, INSPECTED)]}), socket):
            names.heard(RuntimeEvent("network", "connect", "c0ffee"))
            await spawn.done()

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert put == [("e", "docker:C0")]


def test_a_follower_leaves_a_daemon_that_accepts_and_says_nothing(
    socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        daemon = Daemon({"/events": [(HANG, None)]})
        follower = Follower("docker")
        running = asyncio.create_task(follower.run())
        async with serving(daemon, socket):
            await until(lambda: len(daemon.asked) >= 2)
        assert not follower.following
        async with serving(Daemon({"/events": [(200, {})]}), socket):
            await until(lambda: "following the events of docker" in caplog.text)
        running.cancel()

    with caplog.at_level(logging.INFO, logger="vxlanu.runtimes"):
        asyncio.run(asyncio.wait_for(scene(), 60))
    assert caplog.text.count(f"docker sends no events: {NO_ANSWER}") == 1


COMMAND = """#!/bin/sh
echo $$ >>{folder}/pids
[ ! -e {folder}/hang ] || exec sleep 1000
[ "$1" = ps ] || exec sleep 1000
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a `docker` that hangs while there is a file `hang`, and says who it was."""
    program = tmp_path / "docker"
    program.write_text(COMMAND.format(folder=tmp_path))
    program.chmod(0o755)
    (tmp_path / "hang").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    return tmp_path


def processes(folder: Path) -> list[Path]:
    said = folder / "pids"
    return [Path(f"/proc/{pid}") for pid in said.read_text().split()] if said.exists() else []


def test_a_command_that_does_not_answer_is_ended_and_run_again(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ANSWER_S_MAX", PATIENCE_S)

    async def scene() -> None:
        follower = Follower("docker")
        running = asyncio.create_task(follower.run())
        await until(lambda: len(processes(command)) >= 2)
        (command / "hang").unlink()
        await until(lambda: follower.following)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await until(lambda: not any(process.exists() for process in processes(command)))

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_command_ends_with_the_agent_that_waits_for_it(command: Path) -> None:
    async def scene() -> None:
        running = asyncio.create_task(Follower("docker").run())
        await until(lambda: len(processes(command)) == 1)
        assert processes(command)[0].exists()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await until(lambda: not processes(command)[0].exists())

    asyncio.run(asyncio.wait_for(scene(), 90))
