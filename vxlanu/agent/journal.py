"""What the agent keeps on disk: its endpoints, and the rows that the control core hands out.

Rules of this file
  1. A local endpoint's row is written before its TAP is made and erased after it is gone, so whatever a crash leaves
     behind is found by the next start: a row whose record exists is adopted, one without is cleared away.
  2. Rows have a format version of their own; fields are only added, with defaults.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vxlanu.control.core.effects import Erase, Persist
from vxlanu.netns import Target
from vxlanu.store import Row, Store

CONTROL = "control:"
ENDPOINTS = "endpoint"


class LocalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of this host, as the next start needs it."""

    endpoint: bytes
    network: bytes
    kind: str
    text: str
    path: str
    device: int
    inode: int
    pid: int = 0
    ifname: str = ""

    @classmethod
    def of(cls, endpoint: bytes, network: bytes, target: Target, ifname: str) -> LocalRow:
        """The row for a target that was just resolved."""
        return cls(
            endpoint=endpoint,
            network=network,
            kind=target.kind,
            text=target.text,
            path=target.path,
            device=target.device,
            inode=target.inode,
            pid=target.pid,
            ifname=ifname,
        )

    def target(self) -> Target:
        """The target again."""
        return Target(self.kind, self.text, self.path, self.device, self.inode, self.pid)


class ControlJournal:
    """The control plane's `Journal` on the store: durable rows are awaited, the others are written soon, in order."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self) -> list[tuple[str, bytes, bytes]]:
        """What was persisted by earlier runs."""
        return self._store.load_below(CONTROL)

    async def commit(self, changes: Sequence[Persist | Erase], durable: bool) -> None:
        """Apply all changes in one transaction; on disk when this returns if `durable`."""
        rows = [
            Row(CONTROL + change.table, change.key, change.value if isinstance(change, Persist) else None)
            for change in changes
        ]
        if durable:
            await self._store.commit(rows)
        else:
            self._store.commit_later(rows)


class EndpointJournal:
    """The local endpoints' rows, in memory and on disk."""

    def __init__(self, store: Store) -> None:
        self.store = store
        found = (msgspec.msgpack.decode(value, type=LocalRow) for value in store.load(ENDPOINTS).values())
        self.rows: dict[str, LocalRow] = {row.endpoint.hex(): row for row in found}

    async def write(self, row: LocalRow) -> None:
        """Durable when it returns."""
        self.rows[row.endpoint.hex()] = row
        await self.store.commit([Row(ENDPOINTS, row.endpoint, msgspec.msgpack.encode(row))])

    async def erase(self, endpoint: str) -> None:
        """Durable when it returns; nothing if there is none."""
        if self.rows.pop(endpoint, None):
            await self.store.commit([Row(ENDPOINTS, bytes.fromhex(endpoint), None)])
