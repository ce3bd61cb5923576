"""What outlives the agent: Docker tells each thing once, and replays nothing.

Rules of this file
  1. A row is on disk when `put` returns, and only then Docker hears of what it says. `put_soon` is for rows that an
     awaited commit follows: all commits reach the disk in their order.
  2. An address's row is put before the address is asked for: what a crash leaves behind is found and given back.
  3. Fields are only added, with defaults.

An address is leased under an id of its own, not under that of the endpoint: Docker asks for the addresses before it
speaks of an endpoint, for IPv4 and IPv6 one by one, and gives them back after the endpoint has gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeVar

import msgspec

from vxlanu.store import Row, Store


class DockerNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """One of Docker's networks and the one of ours that it stands for."""

    space: ClassVar[str] = "docker-network"
    docker_id: str
    network: bytes
    name: str
    subnets: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.docker_id


class DockerEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One of Docker's endpoints and ours. `sandbox` is the path of its namespace from Join to Leave."""

    space: ClassVar[str] = "docker-endpoint"
    docker_id: str
    docker_network: str
    endpoint: bytes
    network: bytes
    name: str
    mac: str
    addresses: tuple[str, ...]
    sandbox: str = ""

    @property
    def key(self) -> str:
        return self.docker_id


class DockerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address that we gave to Docker, under the id that it is leased to.

    `address` is empty while it is asked for; `docker_endpoint` while Docker has not said whose it is.
    """

    space: ClassVar[str] = "docker-address"
    lease: bytes
    network: bytes
    address: str = ""
    docker_endpoint: str = ""

    @property
    def key(self) -> str:
        return self.lease.hex()


Known = DockerNetwork | DockerEndpoint | DockerAddress
K = TypeVar("K", DockerNetwork, DockerEndpoint, DockerAddress)


class Ledger:
    """All rows, in memory by Docker's id (addresses: by their lease) and on disk. Opened before the first commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.networks = _load(store, DockerNetwork)
        self.endpoints = _load(store, DockerEndpoint)
        self.addresses = _load(store, DockerAddress)

    def address(self, network: bytes, address: str) -> DockerAddress | None:
        """The row of an address without its prefix length."""
        found = (row for row in self.addresses.values() if row.network == network)
        return next((row for row in found if row.address.partition("/")[0] == address), None)

    def addresses_of(self, docker_endpoint: str) -> list[DockerAddress]:
        """Those that Docker has said to be an endpoint's."""
        return [row for row in self.addresses.values() if row.docker_endpoint == docker_endpoint]

    async def put(self, *rows: Known) -> None:
        """All of them or none; durable when it returns."""
        await self._store.commit(self._taken_up(rows))

    def put_soon(self, *rows: Known) -> None:
        """On disk before whatever is committed from now on."""
        self._store.commit_later(self._taken_up(rows))

    async def drop(self, *rows: Known) -> None:
        """Durable when it returns; one that is not there is no error."""
        for row in rows:
            for table in (self.networks, self.endpoints, self.addresses):
                table.pop(row.key, None)  # ids of different kinds are never the same
        await self._store.commit([Row(row.space, row.key.encode(), None) for row in rows])

    def _taken_up(self, rows: Iterable[Known]) -> list[Row]:
        changes = []
        for row in rows:
            self._take_up(row)
            changes.append(Row(row.space, row.key.encode(), msgspec.msgpack.encode(row)))
        return changes

    def _take_up(self, row: Known) -> None:
        match row:
            case DockerNetwork():
                self.networks[row.key] = row
            case DockerEndpoint():
                self.endpoints[row.key] = row
            case DockerAddress():
                self.addresses[row.key] = row


def _load(store: Store, kind: type[K]) -> dict[str, K]:
    found = (msgspec.msgpack.decode(value, type=kind) for value in store.load(kind.space).values())
    return {row.key: row for row in found}
