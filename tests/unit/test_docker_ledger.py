"""What the plugin remembers is there after a restart, and an address that nothing runs with is given back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from vxlanu.agent.agent import Agent
from vxlanu.runtimes.docker.ledger import DockerAddress, DockerEndpoint, DockerNetwork, Ledger
from vxlanu.runtimes.docker.plugin import IDLE_S, DockerPlugin
from vxlanu.store import Store

NETWORK = DockerNetwork(docker_id="n" * 64, network=b"N" * 16, name="blue", subnets=("10.0.0.0/24",))
ENDPOINT = DockerEndpoint(
    docker_id="e" * 64, docker_network="n" * 64, endpoint=b"E" * 16, network=b"N" * 16, name="e" * 12,
    mac="02:42:0a:00:00:02", addresses=("10.0.0.2/24",), sandbox="/run/docker/netns/1",
)  # fmt: skip
USED = DockerAddress(lease=b"U" * 16, network=b"N" * 16, address="10.0.0.2/24", docker_endpoint="e" * 64)
UNTIED = DockerAddress(lease=b"F" * 16, network=b"N" * 16, address="10.0.0.3/24")


def reopened(folder: Path) -> Ledger:
    store = Store(folder)
    try:
        return Ledger(store)
    finally:
        store.close()


def test_what_was_put_is_there_after_a_restart_and_what_was_dropped_is_not(tmp_path: Path) -> None:
    async def use(ledger: Ledger) -> None:
        await ledger.put(NETWORK, ENDPOINT)
        ledger.put_soon(USED)
        await ledger.put(UNTIED)
        await ledger.drop(NETWORK)
        await ledger.drop(NETWORK)

    store = Store(tmp_path)
    ledger = Ledger(store)
    asyncio.run(use(ledger))
    store.close()
    for each in (ledger, reopened(tmp_path)):
        assert each.networks == {}
        assert list(each.endpoints.values()) == [ENDPOINT]
        assert sorted(each.addresses.values(), key=lambda row: row.lease) == [UNTIED, USED]
        assert each.address(b"N" * 16, "10.0.0.3") == UNTIED
        assert each.address(b"X" * 16, "10.0.0.3") is None
        assert each.addresses_of("e" * 64) == [USED]


def test_a_disk_that_refuses_leaves_the_memory_as_the_disk_is(tmp_path: Path) -> None:
    """sqlite itself refuses here, as on a full disk."""
    store = Store(tmp_path)
    ledger = Ledger(store)
    changed = msgspec.structs.replace(USED, docker_endpoint="")

    def rows() -> list[object]:
        return [*ledger.networks.values(), *ledger.endpoints.values(), *ledger.addresses.values()]

    async def use() -> None:
        await ledger.put(NETWORK, USED)
        store._db.execute("PRAGMA query_only = ON")
        for attempt in (ledger.put(ENDPOINT, changed), ledger.put(UNTIED), ledger.drop(NETWORK, USED)):
            with pytest.raises(sqlite3.OperationalError):
                await attempt
            assert rows() == [NETWORK, USED]
        store._db.execute("PRAGMA query_only = OFF")
        await ledger.put(ENDPOINT, changed)
        await ledger.drop(NETWORK)
        assert rows() == [ENDPOINT, changed], "the control"

    asyncio.run(use())
    store.close()
    assert list(reopened(tmp_path).addresses.values()) == [changed]


def test_two_quick_changes_that_the_disk_refuses_leave_what_the_disk_has(tmp_path: Path) -> None:
    """The second must not go back to the first: that one was refused, too."""
    store = Store(tmp_path)
    ledger = Ledger(store)
    first, second = (msgspec.structs.replace(USED, docker_endpoint=letter * 64) for letter in "fs")
    pairs = {
        "put, put": lambda: (ledger.put(first), ledger.put(second)),
        "drop, put": lambda: (ledger.drop(USED), ledger.put(second)),
        "put, drop": lambda: (ledger.put(first), ledger.drop(USED)),
        "one row twice": lambda: (ledger.put(first), ledger.put(first)),
        "put soon, put": lambda: (soon(first), ledger.put(second)),
    }

    async def soon(row: DockerAddress) -> None:
        ledger.put_soon(row)

    async def use() -> None:
        await ledger.put(USED)
        for name, pair in pairs.items():
            store._db.execute("PRAGMA query_only = ON")
            told = await asyncio.gather(*pair(), return_exceptions=True)
            assert isinstance(told[1], sqlite3.OperationalError), (name, told)
            assert list(ledger.addresses.values()) == [USED], name
            store._db.execute("PRAGMA query_only = OFF")
        await asyncio.gather(ledger.put(first), ledger.put(second))
        assert list(ledger.addresses.values()) == [second], "the control"

    asyncio.run(use())
    store.close()
    assert list(reopened(tmp_path).addresses.values()) == [second]


def test_a_change_that_nobody_waits_for_any_more_is_in_memory_what_it_becomes_on_disk(tmp_path: Path) -> None:
    """A request of Docker's that ends in between cancels the wait, not the write."""
    store = Store(tmp_path)
    ledger = Ledger(store)

    async def given_up(work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def use() -> None:
        await ledger.put(USED)
        await given_up(ledger.put(UNTIED))
        store._db.execute("PRAGMA query_only = ON")
        await given_up(ledger.drop(USED))
        with pytest.raises(sqlite3.OperationalError):
            await ledger.drop(UNTIED)

    # The store's thread takes what waits when it comes to it: whether it had begun when the switch was turned may vary,
    # what the memory and the disk say then may not.
    asyncio.run(use())
    store.close()
    assert ledger.addresses == reopened(tmp_path).addresses


class Host:
    """As much of an agent as the chore asks: who runs, a control plane that gives back, tasks that are run later."""

    def __init__(self) -> None:
        self.released: list[bytes] = []
        self.tasks: list[Coroutine[None, None, None]] = []
        self.journal = SimpleNamespace(rows={ENDPOINT.endpoint.hex(): None})
        self.control = SimpleNamespace(release=self.release)
        self.config = SimpleNamespace(docker_sync=False, state_dir=".")
        self.supervisor = SimpleNamespace(listens=True)

    async def release(self, network: bytes, lease: bytes) -> None:
        assert network == b"N" * 16
        self.released.append(lease)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        self.tasks.append(work)

    async def settle(self) -> None:
        while self.tasks:
            await self.tasks.pop()


def test_an_address_that_nothing_runs_with_is_given_back_after_a_minute_and_no_other(tmp_path: Path) -> None:
    async def watch(host: Host, plugin: DockerPlugin) -> None:
        await plugin.ledger.put(ENDPOINT, USED, UNTIED)
        for now in (100.0, 100.0 + IDLE_S):
            plugin.look(now)
            await host.settle()
            assert host.released == [], "not yet"
        plugin.look(101.0 + IDLE_S)
        await host.settle()
        assert host.released == [UNTIED.lease]
        assert list(plugin.ledger.addresses.values()) == [USED]
        plugin.look(1000.0)
        await host.settle()
        assert host.released == [UNTIED.lease], "what runs keeps its address for ever"

    store = Store(tmp_path)
    host = Host()
    ledger = Ledger(store)
    asyncio.run(watch(host, DockerPlugin(cast(Agent, host), ledger, tmp_path / "socket")))
    store.close()
