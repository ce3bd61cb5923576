"""What outlives the agent: Docker tells each thing once, and replays nothing.

Rules of this file
  1. A row is on disk when `put` returns, and only then Docker hears of what it says. `put_soon` is for rows that an
     awaited commit follows: all commits reach the disk in their order.
  2. An address's row is put before the address is asked for: what a crash leaves behind is found and given back.
  3. The memory is changed before the disk, so that two requests at once never get the same thing. Where the disk
     refuses the last change of a row, the memory goes back to what the disk has, not to what was here before: that may
     itself have been refused. What Docker was refused must be as free as before, also after the next start.
  4. Fields are only added, with defaults.

An address is leased under an id of its own, not under that of the endpoint: Docker asks for the addresses before it
speaks of an endpoint, for IPv4 and IPv6 one by one, and gives them back after the endpoint has gone.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
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
Place = tuple[str, str]  # space and key
Key = TypeVar("Key", str, Place)
K = TypeVar("K", DockerNetwork, DockerEndpoint, DockerAddress)


class Ledger:
    """All rows, in memory by Docker's id (addresses: by their lease) and on disk. Opened before the first commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.networks = _load(store, DockerNetwork)
        self.endpoints = _load(store, DockerEndpoint)
        self.addresses = _load(store, DockerAddress)
        self._tables: dict[str, dict[str, Known]] = {  # only a row of its kind is ever put into one
            DockerNetwork.space: cast(dict[str, Known], self.networks),
            DockerEndpoint.space: cast(dict[str, Known], self.endpoints),
            DockerAddress.space: cast(dict[str, Known], self.addresses),
        }
        self._on_disk: dict[Place, Known] = {
            (space, key): row for space, table in self._tables.items() for key, row in table.items()
        }
        self._latest: dict[Place, asyncio.Future[None]] = {}
        """The last write of each row that the disk has not answered yet."""

    def address(self, network: bytes, address: str) -> DockerAddress | None:
        """The row of an address without its prefix length."""
        found = (row for row in self.addresses.values() if row.network == network)
        return next((row for row in found if row.address.partition("/")[0] == address), None)

    def addresses_of(self, docker_endpoint: str) -> list[DockerAddress]:
        """Those that Docker has said to be an endpoint's."""
        return [row for row in self.addresses.values() if row.docker_endpoint == docker_endpoint]

    async def put(self, *rows: Known) -> None:
        """All of them or none; durable when it returns."""
        await asyncio.shield(self._write({_place(row): row for row in rows}))

    def put_soon(self, *rows: Known) -> None:
        """On disk before whatever is committed from now on."""
        self._write({_place(row): row for row in rows})

    async def drop(self, *rows: Known) -> None:
        """Durable when it returns; one that is not there is no error."""
        await asyncio.shield(self._write({_place(row): None for row in rows}))

    def _write(self, rows: Mapping[Place, Known | None]) -> asyncio.Future[None]:
        """Change the memory and queue the rows for the disk, both now. Who gives up waiting does not undo it."""
        written = self._store.submit(Row(space, key.encode(), _encoded(row)) for (space, key), row in rows.items())
        for place, row in rows.items():
            self._latest[place] = written
            self._remember(place, row)
        written.add_done_callback(functools.partial(self._settled, rows))
        return written

    def _settled(self, rows: Mapping[Place, Known | None], written: asyncio.Future[None]) -> None:
        """The disk has said yes or no; it answers in the order of the writes."""
        refused = written.exception() is not None
        for place, row in rows.items():
            if not refused:
                _set(self._on_disk, place, row)
            if self._latest.get(place) is written:  # else a later write is on its way, and will settle it
                del self._latest[place]
                if refused:
                    self._remember(place, self._on_disk.get(place))

    def _remember(self, place: Place, row: Known | None) -> None:
        space, key = place
        _set(self._tables[space], key, row)


def _set(table: dict[Key, Known], key: Key, row: Known | None) -> None:
    if row is None:
        table.pop(key, None)
    else:
        table[key] = row


def _place(row: Known) -> Place:
    return row.space, row.key


def _encoded(row: Known | None) -> bytes | None:
    return None if row is None else msgspec.msgpack.encode(row)


def _load(store: Store, kind: type[K]) -> dict[str, K]:
    found = (msgspec.msgpack.decode(value, type=kind) for value in store.load(kind.space).values())
    return {row.key: row for row in found}
