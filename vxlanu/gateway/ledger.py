"""What of egress is on disk: the bridge's subnet, and for each target its veth, its address and who uses it.

Rules of this file
  1. A row is written before its veth is made and erased after it is gone, so that the next start finds what a crash
     left. Which namespace it is says the endpoint's own row (agent/journal.py): a row here has endpoints, no path.
  2. Rows have a format of their own; fields are only added, with defaults.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from vxlanu.gateway.published import Published
from vxlanu.store import Row, Store

SPACE, SUBNET = "egress", b"subnet"
HOST_SPACE, FORWARDING = "egress_host", b"forwarding"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # switches last until the next boot


class EgressRow(msgspec.Struct, frozen=True, kw_only=True):
    """One target's way out. `users`: endpoints (hex) that it was made for, each with the ports published for it."""

    tag: str
    address: str
    users: dict[str, tuple[Published, ...]]
    ifname: str = ""


class Ledger:
    """The rows, in memory and on disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        found = store.load(SPACE)
        self.subnet = found.pop(SUBNET, b"").decode()
        boot, _, when = store.load(HOST_SPACE).get(FORWARDING, b"").decode().partition(" ")
        self.forwarding_since = float(when) if boot == _boot() else None
        """When this agent switched net.ipv4.ip_forward on; None: it did not."""
        rows = (msgspec.msgpack.decode(value, type=EgressRow) for value in found.values())
        self.rows: dict[str, EgressRow] = {row.tag: row for row in rows}

    def of(self, endpoint: str) -> EgressRow | None:
        """The row that serves an endpoint."""
        return next((row for row in self.rows.values() if endpoint in row.users), None)

    async def write(self, row: EgressRow) -> None:
        """Durable when it returns."""
        self.rows[row.tag] = row
        await self._store.commit([Row(SPACE, row.tag.encode(), msgspec.msgpack.encode(row))])

    def note(self, row: EgressRow) -> None:
        """Soon on disk: what a crash may lose, because it can be done without."""
        self.rows[row.tag] = row
        self._store.commit_later([Row(SPACE, row.tag.encode(), msgspec.msgpack.encode(row))])

    async def erase(self, tag: str) -> None:
        """Durable when it returns; nothing if there is none."""
        if self.rows.pop(tag, None):
            await self._store.commit([Row(SPACE, tag.encode(), None)])

    def note_forwarding(self, now: float) -> None:
        """Soon on disk."""
        self.forwarding_since = now
        self._store.commit_later([Row(HOST_SPACE, FORWARDING, f"{_boot()} {now:.0f}".encode())])

    async def keep_subnet(self, subnet: str) -> None:
        """Durable when it returns."""
        if subnet != self.subnet:
            self.subnet = subnet
            await self._store.commit([Row(SPACE, SUBNET, subnet.encode())])


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return "?"
