"""What outlives the agent: Docker tells each thing once, and replays nothing.

Rules of this file
  1. A row is on disk when its `put` returns, and only then Docker hears of what it says.
  2. An address's row is written before the address is asked for: what a crash leaves behind is found and given back.
  3. Fields are only added, with defaults.

An address is leased under an id of its own, not under that of the endpoint: Docker asks for the addresses before it
speaks of an endpoint, for IPv4 and IPv6 one by one, and gives them back after the endpoint has gone.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from vxlanu.store import Row, Store

NETWORKS, ENDPOINTS, ADDRESSES = "docker-network", "docker-endpoint", "docker-address"


class DockerNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """One of Docker's networks and the one of ours that it stands for."""

    docker_id: str
    network: bytes
    name: str
    subnets: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        return self.docker_id.encode()


class DockerEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One of Docker's endpoints and ours. `sandbox` is the path of its namespace from Join to Leave."""

    docker_id: str
    docker_network: str
    endpoint: bytes
    network: bytes
    name: str
    mac: str
    addresses: tuple[str, ...]
    sandbox: str = ""

    @property
    def key(self) -> bytes:
        return self.docker_id.encode()


class DockerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address that we gave to Docker, under the id that it is leased to.

    `address` is empty while it is asked for; `docker_endpoint` while Docker has not said whose it is.
    """

    lease: bytes
    network: bytes
    address: str = ""
    docker_endpoint: str = ""

    @property
    def key(self) -> bytes:
        return self.lease


R = TypeVar("R", DockerNetwork, DockerEndpoint, DockerAddress)


class Table(Generic[R]):
    """One kind of rows, in memory and on disk, by Docker's id (addresses: by that of the lease)."""

    def __init__(self, store: Store, space: str, kind: type[R]) -> None:
        self._store = store
        self._space = space
        found = (msgspec.msgpack.decode(value, type=kind) for value in store.load(space).values())
        self.rows: dict[bytes, R] = {row.key: row for row in found}

    def get(self, docker_id: str) -> R | None:
        return self.rows.get(docker_id.encode())

    async def put(self, *rows: R) -> None:
        """Durable when it returns."""
        self.rows |= {row.key: row for row in rows}
        await self._store.commit([Row(self._space, row.key, msgspec.msgpack.encode(row)) for row in rows])

    async def drop(self, *rows: R) -> None:
        """Durable when it returns; one that is not there is no error."""
        gone = [row for row in rows if self.rows.pop(row.key, None) is not None]
        if gone:
            await self._store.commit([Row(self._space, row.key, None) for row in gone])


class Ledger:
    """The three tables. Opened before the first commit to the store."""

    def __init__(self, store: Store) -> None:
        self.networks = Table(store, NETWORKS, DockerNetwork)
        self.endpoints = Table(store, ENDPOINTS, DockerEndpoint)
        self.addresses = Table(store, ADDRESSES, DockerAddress)

    def address(self, network: bytes, address: str) -> DockerAddress | None:
        """The row of an address without its prefix length."""
        found = (row for row in self.addresses.rows.values() if row.network == network)
        return next((row for row in found if row.address.partition("/")[0] == address), None)

    def addresses_of(self, docker_endpoint: str) -> list[DockerAddress]:
        """Those that Docker has said to be an endpoint's."""
        return [row for row in self.addresses.rows.values() if row.docker_endpoint == docker_endpoint]
