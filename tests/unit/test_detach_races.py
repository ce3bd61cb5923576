"""A detach that comes while something else is under way for the endpoint, held at the very await where it matters."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock, MagicMock

import pytest

from vxlanu.agent import attach
from vxlanu.agent.agent import TAKE_DOWN_S, Agent
from vxlanu.agent.endpoint_life import connect, end, take_down
from vxlanu.api.schema import Attach
from vxlanu.control.core.records import Endpoint, EndpointId
from vxlanu.control.core.view import EndpointView
from vxlanu.errors import NotFound

KEY = "aa" * 16
BODY = Endpoint(id=b"\xaa" * 16, network=bytes(16), name="c0", mac="02:42:c0:a8:00:02", addresses=("192.168.0.2/24",))


class Intents(set[str]):
    """Those that there are; asked after when an endpoint is down."""

    def look(self, key: str) -> None:
        """Nothing to do here."""

    async def erase(self, key: str) -> None:
        """Of one that there is not, mostly."""
        self.discard(key)

    def waiting_for(self, *_: object) -> None:
        """None waits."""


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
        leaving={},
        view=SimpleNamespace(endpoint=lambda _: None),
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


@pytest.mark.parametrize("where", ["put", "ready"])
def test_an_attach_that_is_cut_short_takes_its_record_back(where: str) -> None:
    """A record without a row here could be removed by nobody: `detach` looks for rows."""
    records: set[bytes] = set()
    stands = asyncio.Event()

    async def stand(at: str) -> None:
        stands.set()
        if at == where:
            await asyncio.Event().wait()

    async def put(body: Endpoint) -> None:
        records.add(body.id)
        await stand("put")

    async def ready(_: bytes) -> None:
        await stand("ready")

    async def delete(endpoint: bytes, *, keep_addresses: bool) -> None:
        assert keep_addresses, "who claimed them gives them back"
        records.discard(endpoint)

    agent = MagicMock()
    agent.journal.rows, agent.endpoints.close = {KEY: None}, AsyncMock()
    agent.control.put_endpoint, agent.control.delete_endpoint, agent.services.ready = put, delete, ready
    async def story() -> None:
        stands.clear()
        async with AsyncExitStack() as undo:
            work = asyncio.ensure_future(connect(cast(Agent, agent), BODY, MagicMock(endpoint_id=KEY), undo))
            await stands.wait()
            await asyncio.sleep(0)
            assert records == {BODY.id}, "the control: it is there"
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    asyncio.run(story())
    assert not records


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


class Host:
    """As much of an agent as an endpoint's end asks for; `close` of the device does what the test says."""

    def __init__(self, close: Callable[[str], Awaitable[None]]) -> None:
        body = SimpleNamespace(name="C0", target="c0")
        self.records = {KEY: SimpleNamespace(body=body)}
        self.released: list[bytes] = []
        network = SimpleNamespace(id=bytes(16), name="blue")
        row = SimpleNamespace(
            endpoint=bytes.fromhex(KEY), network=bytes(16), kind="netns", text="c0", device=1, inode=2
        )
        self.rows = {KEY: row}
        self.agent = cast(
            Agent,
            SimpleNamespace(
                journal=SimpleNamespace(rows=self.rows, erase=self._erase),
                leaving={},
                intents=Intents(),
                control=SimpleNamespace(delete_endpoint=self._delete, release=self._release),
                dataplane=SimpleNamespace(remove_port=lambda _: None),
                opened={},
                kept=SimpleNamespace(drop_queues=lambda _: None),
                endpoints=SimpleNamespace(close=close),
                egress=SimpleNamespace(leave=_nothing),
                release_network=lambda network: self.released.append(network),
                names=SimpleNamespace(settle=_nothing),
                view=SimpleNamespace(
                    endpoint=lambda identity: self.records.get(bytes(identity).hex()),
                    networks=lambda: [network],
                    endpoints=lambda _: [],
                ),
                take_down=end,
                spawn=lambda work: self.tasks.append(asyncio.get_running_loop().create_task(work)),
            ),
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def _delete(self, _: bytes, *, keep_addresses: bool) -> None:
        self.records.pop(KEY, None)

    async def _release(self, *_: bytes) -> None:
        return

    async def _erase(self, key: str) -> None:
        self.rows.pop(key, None)


async def _nothing(*_: object) -> None:
    return


@pytest.fixture
def detached(monkeypatch: pytest.MonkeyPatch) -> Callable[[Host], Awaitable[EndpointView]]:
    """`detached(host)`: c0, from blue."""
    monkeypatch.setattr(attach, "_identity", _no_identity)
    monkeypatch.setattr(attach.lookup, "network", lambda view, _: view.networks()[0])
    return lambda host: attach.detach(host.agent, "blue", "c0")


async def _no_identity(_: str) -> tuple[int, int]:
    return (0, 0)


Detached = Callable[[Host], Awaitable[EndpointView]]


def test_a_detach_waits_for_the_end_that_is_under_way_and_is_one(detached: Detached) -> None:
    async def scene() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def close(_: str) -> None:
            begun.set()
            await go_on.wait()

        host = Host(close)
        ending = asyncio.create_task(end(host.agent, KEY))
        await begun.wait()
        assert not host.records, "its record is gone already"
        asked = asyncio.ensure_future(detached(host))
        done, _ = await asyncio.wait({asked}, timeout=0.05)
        assert not done and host.rows, "it waits"
        go_on.set()
        assert (await asked).body.name == "C0"
        await ending
        assert not host.rows and not host.agent.leaving
        with pytest.raises(NotFound, match="not attached"):
            await detached(host)

    asyncio.run(scene())


def test_an_end_that_fails_halfway_is_said_once_and_done_by_the_housekeeping(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = 3

    async def scene() -> None:
        tries = 0

        async def close(_: str) -> None:
            nonlocal tries
            tries += 1
            if tries <= failures:
                raise OSError(5, "the disk")

        host = Host(close)
        await end(host.agent, KEY)
        Agent._take_down_again(host.agent, time.monotonic())
        assert not host.tasks, "not at once"
        for _ in range(failures):
            Agent._take_down_again(host.agent, time.monotonic() + TAKE_DOWN_S)
            await asyncio.gather(*host.tasks)
        assert tries == failures + 1
        assert not host.rows and not host.agent.leaving and host.released == [bytes(16)]
        Agent._take_down_again(host.agent, time.monotonic() + TAKE_DOWN_S)
        assert len(host.tasks) == failures

    asyncio.run(scene())
    assert [record.message for record in caplog.records].count(f"endpoint {KEY[:12]}: {SAID}") == 1


SAID = "cannot be taken down: [Errno 5] the disk"


def test_a_detach_after_an_end_that_failed_finishes_it(detached: Detached) -> None:
    async def scene() -> None:
        fails = True

        async def close(_: str) -> None:
            if fails:
                raise OSError(5, "the disk")

        host = Host(close)
        await end(host.agent, KEY)
        assert host.rows and not host.records
        fails = False
        assert (await detached(host)).body.name == "C0"
        assert not host.rows

    asyncio.run(scene())
