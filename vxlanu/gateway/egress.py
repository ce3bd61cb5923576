"""Containers' way out: one veth per target, on an isolated port of the host's bridge, masqueraded.

Rules of this file
  1. One way out per target, shared by its endpoints in all networks that are not internal: made with the first, gone
     with the last. Bridge and rules (ground.py) stand while there is any.
  2. A host that cannot have it (no privilege, no nft) says so once, and its containers have the overlay alone; only
     who asked for a published port is refused. What a user can put right (another's bridge, an overlap) is refused.
  3. A target with a default route of its own keeps its runtime's way out, and gets none of ours.

IPv4 only, as Docker's docker_gwbridge is. A container's IPv6 default route, if its runtime gave it one, is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec.structs

from vxlanu.errors import Conflict, Refused, VxlanuError
from vxlanu.gateway import pool
from vxlanu.gateway.ground import FIREWALL_S, Ground
from vxlanu.gateway.ledger import EgressRow, Ledger
from vxlanu.gateway.patience import Patience
from vxlanu.gateway.published import Published, hold, hold_all
from vxlanu.gateway.rules import BRIDGE
from vxlanu.netns import Target
from vxlanu.nsopen import EgressWire, NamespaceHelper, NamespaceMissing, WayOut, WireFacts
from vxlanu.nsopen.client import AT_ONCE

log = logging.getLogger("vxlanu.egress")

AUDIT_S = 5.0
MENDS_AT_ONCE = AT_ONCE // 2  # of the helper's children; attaches want some too
FAILURES = (VxlanuError, OSError, sqlite3.Error)
MTU = 1500  # nothing is encapsulated here

Identity = tuple[int, int]
"""Device and inode of a namespace."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What egress has to know of the rest of the agent."""

    target_of: Callable[[str], Target | None]  # of a local endpoint, by id
    name_of: Callable[[str], str]
    spawn: Callable[[Coroutine[None, None, None]], None]


class Egress:
    """The ways out of this host's targets."""

    def __init__(self, helper: NamespaceHelper, ledger: Ledger, ground: Ground, around: Surroundings) -> None:
        self.ledger = ledger
        self._helper = helper
        self._around = around
        self._ground = ground
        self._turns: WeakValueDictionary[Identity, asyncio.Lock] = WeakValueDictionary()
        self._wiring: set[str] = set()
        self._held: dict[str, list[socket.socket]] = {}
        self._unreleased: set[str] = set()  # endpoints that are gone, and something of theirs is not
        self._audited = time.monotonic()
        self._auditing = False
        self._patience = Patience()
        self._failed: dict[str, str] = {}  # what was said of targets that cannot be mended, by tag; of the rest by ""
        self._said = self._last_address = ""

    async def join(
        self, endpoint: str, target: Target, addresses: Iterable[str], wanted: tuple[Published, ...]
    ) -> None:
        """Give an endpoint's target a way out, unless it has one, and publish the ports.

        Raises:
            Conflict: subnet or bridge of another's are in the way.
            Refused: a port is held, or ports were asked for where there is no way out.
        """
        if _is_own(target):
            return self._keeps_its_own("the host itself", wanted)
        if why := self._ground.why_not():
            return self._without(why, wanted)
        async with self._turn(target):
            if endpoint in self._unreleased and not await self._release(endpoint):
                return self._without("what is left of an earlier one cannot be removed", wanted)
            self._check_free(wanted)
            self._held[endpoint] = await hold_all(wanted)
            try:
                await self._open(endpoint, target, addresses, wanted)
            except BaseException:
                await asyncio.shield(self._release(endpoint))
                raise

    def _keeps_its_own(self, what: str, wanted: tuple[Published, ...]) -> None:
        """A target that needs none of ours; ports are its runtime's to publish."""
        if wanted:
            why = f"the target is {what}"
            raise Refused(f"--publish {wanted[0].text()}", why, hint="publish it there", name="no_egress")
        log.info("no way out of ours: the target is %s", what, extra={"event": "egress"})

    def _without(self, why: str, wanted: tuple[Published, ...]) -> None:
        """Go on with the overlay alone; said once, and an error for who needs more."""
        if wanted:
            raise Refused(f"--publish {wanted[0].text()}", f"no way out: {why}", hint="vxlanu doctor", name="no_egress")
        if why != self._said:
            self._said = why
            log.warning("containers get no way out (eth1): %s", why, extra={"event": "no_egress"})

    def _check_free(self, wanted: tuple[Published, ...]) -> None:
        """Not published for somebody else here."""
        taken = [(user, other) for row in self.ledger.rows.values() for user in row.users for other in row.users[user]]
        for one in wanted:
            for user, other in taken:
                if _same_port(one, other):
                    why = f"{one.protocol.upper()} port {one.host_port} leads to {self._around.name_of(user)}"
                    raise Refused(f"--publish {one.text()}", why, hint="another port of the host", name="port_held")

    async def _open(
        self, endpoint: str, target: Target, addresses: Iterable[str], wanted: tuple[Published, ...]
    ) -> None:
        row = self._row_of(target)
        if row is not None:
            await self.ledger.write(msgspec.structs.replace(row, users=row.users | {endpoint: wanted}))
            if wanted:
                await self._ground.settle(self._wiring)
            return
        await self._ground.choose_subnet(addresses)
        used = {other.address for other in self.ledger.rows.values()}
        address = pool.next_address(self.ledger.subnet, self._last_address, used)
        self._last_address = address
        row = EgressRow(tag=secrets.token_hex(6), address=address, users={endpoint: wanted})
        self._wiring.add(row.tag)
        try:
            await self.ledger.write(row)
            if not self._ground.stands or wanted:
                await self._ground.settle(self._wiring)
                self._around.spawn(self._ground.look_at_firewall())
            if not (await self._wire(row, target)).ifname:
                await self._release(endpoint)
                self._keeps_its_own(f"{target.text}, which has a default route of its own", wanted)
            self._said = ""
        except (Conflict, NamespaceMissing):
            raise
        except VxlanuError as error:
            if wanted:
                raise
            await self._release(endpoint)
            self._without(f"{error.what}: {error.why}", wanted)
        finally:
            self._wiring.discard(row.tag)

    async def _wire(self, row: EgressRow, target: Target) -> WireFacts:
        """Make the veth, or what it lacks; no name where the target has a default route already."""
        gateway = pool.gateway(self.ledger.subnet).partition("/")[0]
        plan = EgressWire(row.tag, BRIDGE, pool.mac_of(row.address), row.address, gateway)
        with target.open() as namespace:
            made = await self._helper.egress_wire(namespace, plan)
        row = self.ledger.rows.get(row.tag, row)
        if made.ifname and made.ifname != row.ifname:
            self.ledger.note(msgspec.structs.replace(row, ifname=made.ifname))
        return made

    def name_of(self, endpoint: str) -> str:
        """As people call it."""
        return self._around.name_of(endpoint)

    async def leave(self, endpoint: str) -> None:
        """The endpoint goes; the last one of a target takes its way out along. Idempotent."""
        target = self._around.target_of(endpoint)
        if target is None:
            await self._release(endpoint)
            return
        async with self._turn(target):
            await self._release(endpoint)

    async def _release(self, endpoint: str) -> bool:
        """False: something of it is left, which the audit tries again to remove."""
        for held in self._held.pop(endpoint, ()):
            held.close()
        try:
            row = self.ledger.of(endpoint)
            if row is not None:
                await self._forget(row, endpoint)
                if row.users[endpoint] or not self.ledger.rows:
                    await self._ground.settle(self._wiring)
        except FAILURES as error:
            self._unreleased.add(endpoint)
            self._complain(f"what endpoint {endpoint[:12]} had is not all gone yet: {error}")
            return False
        self._unreleased.discard(endpoint)
        return True

    async def _forget(self, row: EgressRow, endpoint: str) -> None:
        users = {user: ports for user, ports in row.users.items() if user != endpoint}
        if users:
            await self.ledger.write(msgspec.structs.replace(row, users=users))
        else:
            await self._helper.egress_cut(row.tag)
            await self.ledger.erase(row.tag)

    def _turn(self, target: Target) -> asyncio.Lock:
        """One at a time per target."""
        identity = (target.device, target.inode)
        lock = self._turns.get(identity)
        if lock is None:
            lock = self._turns[identity] = asyncio.Lock()
        return lock

    def _row_of(self, target: Target) -> EgressRow | None:
        for row in self.ledger.rows.values():
            if any(_same(self._around.target_of(user), target) for user in row.users):
                return row
        return None

    async def resume(self) -> None:
        """After a start: forget who is no longer, put right what is, remove what nobody has."""
        why = self._ground.why_not()
        if why and not self.ledger.rows:
            return None
        try:
            for row in list(self.ledger.rows.values()):
                users = {user: ports for user, ports in row.users.items() if self._around.target_of(user)}
                if not users:
                    await self.ledger.erase(row.tag)
                elif users != row.users:
                    await self.ledger.write(msgspec.structs.replace(row, users=users))
                self._hold_again(users)
            if why:
                return self._without(why, ())
            await self._repair()
        except FAILURES as error:
            log.warning("egress: %s", error, extra={"event": "egress_failed"})

    def _hold_again(self, users: dict[str, tuple[Published, ...]]) -> None:
        for user, ports in users.items():
            for one in ports:
                try:
                    self._held.setdefault(user, []).append(hold(one))
                except OSError as why:
                    said = (one.text(), why.strerror)
                    log.warning("published %s: taken by somebody meanwhile (%s)", *said, extra={"event": "port_held"})

    def look(self, now: float) -> None:
        """Once a second: is an audit due?"""
        wanted = self.ledger.rows or self._unreleased or not self._ground.settled
        if wanted and not self._auditing and now - self._audited >= AUDIT_S:
            self._auditing = True
            self._around.spawn(self._audit())

    def warnings(self) -> list[str]:
        """For `status`."""
        if self.ledger.rows and self._ground.stopped_by:
            return [f"{self._ground.stopped_by} drops what containers send out (vxlanu doctor)"]
        return [f"containers get no way out: {self._said}"] if self._said else []

    async def _audit(self) -> None:
        try:
            if self._ground.why_not():
                return
            for endpoint in list(self._unreleased):
                await self.leave(endpoint)
            await self._repair()
            await self._ground.look_at_firewall(FIREWALL_S)
        except FAILURES as error:
            self._complain(f"cannot be repaired: {error}")
        else:
            self._failed = {tag: what for tag, what in self._failed.items() if tag in self.ledger.rows}
        finally:
            self._auditing, self._audited = False, time.monotonic()

    def _complain(self, what: str, tag: str = "") -> None:
        """Once: the audit tries again every few seconds."""
        if what != self._failed.get(tag):
            self._failed[tag] = what
            log.warning("egress: %s", what, extra={"event": "egress_failed"})

    async def _repair(self) -> None:
        """Settle, look into every target, and put right what lacks something. One that cannot be, stops no other;
        nor does a look that fails, or a defect of ours: they are raised when all the rest is done."""
        wanting = await self._ground.settle(self._wiring)
        unseen: BaseException | None = None
        try:
            wanting += await self._helper.egress_look(list(self._ways()))
        except FAILURES as error:
            unseen = error
        now = time.monotonic()
        self._patience.keep(self.ledger.rows, now)
        due = [tag for tag in dict.fromkeys(wanting) if self._patience.take(tag, now)]
        gate = asyncio.Semaphore(MENDS_AT_ONCE)
        mended = await asyncio.gather(*(self._mend(tag, gate) for tag in due), return_exceptions=True)
        for failure in filter(None, (*mended, unseen)):
            raise failure

    def _ways(self) -> Iterator[WayOut]:
        """Those that should be whole."""
        for tag, row in self.ledger.rows.items():
            target = self._target_of(row)
            if target is not None and tag not in self._wiring:
                yield WayOut(tag, row.ifname, row.address, target.path, target.device, target.inode)

    def _target_of(self, row: EgressRow) -> Target | None:
        return next(filter(None, map(self._around.target_of, row.users)), None)

    async def _mend(self, tag: str, gate: asyncio.Semaphore) -> None:
        row = self.ledger.rows.get(tag)
        target = self._target_of(row) if row else None
        if row is None or target is None:
            return
        async with gate, self._turn(target):
            if tag not in self.ledger.rows or tag in self._wiring:
                return
            try:
                mended = (await self._wire(row, target)).mended
            except NamespaceMissing:
                return  # its end is on the way
            except FAILURES as error:
                self._complain(f"{target.text}: {error}", tag)
                return
        self._failed.pop(tag, None)
        later = " (so often that it is mended once a minute now)" if self._patience.over(tag, time.monotonic()) else ""
        for what in mended:
            log.warning("egress of %s: %s%s", target.text, what, later, extra={"event": "egress"})

    def close(self) -> None:
        """The agent stops: the kernel goes on with what stands."""
        for sockets in self._held.values():
            for held in sockets:
                held.close()
        self._held.clear()
        self._ground.close()


def _same(one: Target | None, other: Target) -> bool:
    return one is not None and (one.device, one.inode) == (other.device, other.inode)


def _is_own(target: Target) -> bool:
    own = Path("/proc/self/ns/net").stat()
    return (own.st_dev, own.st_ino) == (target.device, target.inode)


def _same_port(one: Published, other: Published) -> bool:
    """Whether both want the same packets; an empty address is every address."""
    same = (one.protocol, one.host_port) == (other.protocol, other.host_port)
    return same and (one.address == other.address or not one.address or not other.address)
