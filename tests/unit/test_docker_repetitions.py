"""Requests of Docker's that come too late for it: what the late one made is undone, and nothing else.

dockerd repeats a request whose connection broke, so the first may have been done, and heard of, before a repetition of
it that takes too long.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from vxlanu.agent.agent import Agent
from vxlanu.control.core.records import Endpoint, EndpointId, Network, NetworkId
from vxlanu.control.core.view import NetworkState, NetworkView
from vxlanu.runtimes.docker import driver, pools
from vxlanu.runtimes.docker.ledger import DockerAddress, DockerEndpoint, DockerNetwork, Ledger
from vxlanu.runtimes.docker.plugin import DockerPlugin
from vxlanu.runtimes.docker.server import Server
from vxlanu.store import Store

SUBNET = "10.0.0.0/24"
BODY = Network(id=b"N" * 16, name="blue", vni=300, subnets=(SUBNET,), gateways=("10.0.0.1",))
BLUE = NetworkView(NetworkId(BODY.id), "blue", NetworkState.ACTIVE, BODY)
DOCKER_NETWORK, DOCKER_ENDPOINT = "d" * 64, "e" * 64
NETWORK = DockerNetwork(docker_id=DOCKER_NETWORK, network=BODY.id, name="blue", subnets=(SUBNET,))
LEASE = DockerAddress(lease=b"L" * 16, network=BODY.id, address="10.0.0.2/24")
ENDPOINT = DockerEndpoint(
    docker_id=DOCKER_ENDPOINT, docker_network=DOCKER_NETWORK, endpoint=b"E" * 16, network=BODY.id, name="e" * 12,
    mac="02:42:0a:00:00:02", addresses=("10.0.0.2/24",),
)  # fmt: skip


class Host:
    """As much of an agent as networks and endpoints without an interface ask of it."""

    def __init__(self, folder: Path) -> None:
        self.records: dict[bytes, Endpoint] = {}
        self.supervisor = SimpleNamespace(listens=True)
        self.config = SimpleNamespace(docker_sync=False, state_dir=str(folder))
        self.underlay = SimpleNamespace(mtu=1500, overhead=50, ifname="eth0")
        self.opened = {ENDPOINT.endpoint.hex(): object()}
        self.endpoints = SimpleNamespace(returned=lambda _: None)
        self.view = SimpleNamespace(
            networks=lambda: [BLUE],
            network=lambda _: BLUE,
            endpoint=lambda identity: self.records.get(identity),
            winner=lambda *_: None,
        )
        self.control = SimpleNamespace(put_endpoint=self.put, delete_endpoint=self.delete)

    async def put(self, body: Endpoint) -> None:
        self.records[body.id] = body

    async def delete(self, identity: EndpointId) -> None:
        self.records.pop(identity, None)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        work.close()


class Scene:
    """A plugin of whose endpoints and networks it is always the turn of `gate`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = Host(folder)
        self.store = Store(folder)
        self.ledger = Ledger(self.store)
        self.path = folder / "vxlanu.sock"
        plugin = DockerPlugin(cast(Agent, self.host), self.ledger, self.path)
        self.methods = plugin._methods()
        self.server = Server(self.path)
        self.gate = asyncio.Lock()

        async def take_down(*_: object) -> None:
            pass

        monkeypatch.setattr(driver, "take_down", take_down)
        monkeypatch.setattr(driver.Driver, "turn", lambda *_: self.gate)

    async def run(self, asked: Callable[[], Coroutine[None, None, None]]) -> None:
        """`asked`, and then whatever comes of it."""
        self.server.open()
        await self.server.start(self.methods)
        try:
            await asked()
        finally:
            await self.server.close()  # which waits for what is late
            self.store.close()

    async def ask(self, name: str, patience_s: float = 60.0) -> str:
        """The error, or nothing."""
        self.methods[f"NetworkDriver.{name}"] = replace(self.methods[f"NetworkDriver.{name}"], patience_s=patience_s)
        body = json.dumps(REQUESTS[name]).encode()
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        head = f"POST /NetworkDriver.{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        said = await reader.read()
        writer.close()
        return str(json.loads(said.partition(b"\r\n\r\n")[2]).get("Err", ""))

    def made(self) -> dict[str, object]:
        """What each of the requests makes; a row that is put again is the same."""
        endpoint = self.ledger.endpoints.get(DOCKER_ENDPOINT)
        return {
            "CreateNetwork": self.ledger.networks.get(DOCKER_NETWORK),
            "CreateEndpoint": endpoint and (endpoint.endpoint, self.ledger.addresses_of(DOCKER_ENDPOINT)),
            "Join": bool(endpoint and endpoint.sandbox) and list(self.host.records),
        }


OF = {"NetworkID": DOCKER_NETWORK, "EndpointID": DOCKER_ENDPOINT}
REQUESTS: dict[str, dict[str, object]] = {
    "CreateNetwork": {
        "NetworkID": DOCKER_NETWORK, "IPv4Data": [{"AddressSpace": pools.SPACE, "Pool": SUBNET}], "IPv6Data": [],
    },
    "CreateEndpoint": {**OF, "Interface": {"Address": "10.0.0.2/24"}},
    "Join": {**OF, "SandboxKey": "/run/docker/netns/1"},
}  # fmt: skip
BEFORE: dict[str, list[DockerNetwork | DockerEndpoint | DockerAddress]] = {
    "CreateNetwork": [],
    "CreateEndpoint": [NETWORK, LEASE],
    "Join": [NETWORK, ENDPOINT, msgspec.structs.replace(LEASE, docker_endpoint=DOCKER_ENDPOINT)],
}


@pytest.mark.parametrize("name", list(REQUESTS))
def test_a_repetition_that_is_late_leaves_what_the_first_one_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked() -> None:
        await scene.ledger.put(*BEFORE[name])
        assert await scene.ask(name) == ""
        made.update(scene.made())
        async with scene.gate:
            assert "not done within" in await scene.ask(name, patience_s=0.05)

    scene, made = Scene(tmp_path, monkeypatch), dict[str, object]()
    asyncio.run(asyncio.wait_for(scene.run(asked), 60))
    assert made[name]
    assert scene.made() == made


@pytest.mark.parametrize("name", list(REQUESTS))
def test_a_first_one_that_is_late_is_undone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked() -> None:
        await scene.ledger.put(*BEFORE[name])
        made.update(scene.made())
        async with scene.gate:
            assert "not done within" in await scene.ask(name, patience_s=0.05)

    scene, made = Scene(tmp_path, monkeypatch), dict[str, object]()
    asyncio.run(asyncio.wait_for(scene.run(asked), 60))
    assert not made[name]
    assert scene.made() == made


@pytest.mark.parametrize("name", list(REQUESTS))
def test_a_late_one_is_not_undone_once_its_repetition_was_heard_of(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked() -> None:
        await scene.ledger.put(*BEFORE[name])
        async with scene.gate:
            assert "not done within" in await scene.ask(name, patience_s=0.05)
            again = asyncio.ensure_future(scene.ask(name))
            await asyncio.wait({again}, timeout=0.2)  # it is at the gate, before the undoing of the first
        assert await again == ""

    scene = Scene(tmp_path, monkeypatch)
    asyncio.run(asyncio.wait_for(scene.run(asked), 60))
    assert scene.made()[name]
