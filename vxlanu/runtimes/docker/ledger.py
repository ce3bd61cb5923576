"""What outlives the agent: Docker tells each thing once, and replays nothing.

Rules of this file
  1. A row is on disk when `put` returns, and only then Docker hears of what it says. `put_soon` is for rows that an
     awaited commit follows: all commits reach the disk in their order.
  2. An address's row is put before the address is asked for: what a crash leaves behind is found and given back.
  3. The memory is changed before the disk, so that two requests at once never get the same thing, and changed back
     where the disk refuses: what Docker was refused must be as free as before.
  4. Fields are only added, with defaults.

An address is leased under an id of its own, not under that of the endpoint: Docker asks for the addresses before it
speaks of an endpoint, for IPv4 and IPv6 one by one, and gives them back after the endpoint has gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeVar, cast

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
        before = {row.key: self._table(row).get(row.key) for row in rows}
        changes = self._taken_up(rows)
        try:
            await self._store.commit(changes)
        except Exception:
            for row in rows:
                if self._table(row).get(row.key) is row:  # else somebody else has put it since
                    self._restore(row, before[row.key])
            raise

    def put_soon(self, *rows: Known) -> None:
        """On disk before whatever is committed from now on."""
        self._store.commit_later(self._taken_up(rows))

    async def drop(self, *rows: Known) -> None:
        """Durable when it returns; one that is not there is no error."""
        before = {row.key: self._table(row).pop(row.key, None) for row in rows}
        try:
            await self._store.commit([Row(row.space, row.key.encode(), None) for row in rows])
        except Exception:
            for row in rows:
                if row.key not in self._table(row):
                    self._restore(row, before[row.key])
            raise

    def _taken_up(self, rows: Iterable[Known]) -> list[Row]:
        changes = []
        for row in rows:
            self._table(row)[row.key] = row
            changes.append(Row(row.space, row.key.encode(), msgspec.msgpack.encode(row)))
        return changes

    def _restore(self, row: Known, before: Known | None) -> None:
        if before is None:
            self._table(row).pop(row.key, None)
        else:
            self._table(row)[row.key] = before

    def _table(self, row: Known) -> dict[str, Known]:
        """The rows of its kind; only a row of that kind is ever put into it."""
        tables: dict[str, dict[str, Known]] = {
            DockerNetwork.space: cast(dict[str, Known], self.networks),
            DockerEndpoint.space: cast(dict[str, Known], self.endpoints),
            DockerAddress.space: cast(dict[str, Known], self.addresses),
        }
        return tables[row.space]


def _load(store: Store, kind: type[K]) -> dict[str, K]:
    found = (msgspec.msgpack.decode(value, type=kind) for value in store.load(kind.space).values())
    return {row.key: row for row in found}
