"""The host's side of containers' way out: subnet, bridge, forwarding, rules.

Rules of this file
  1. `settle` makes the host what the ledger says, whatever it was before: the first attach, a published port, the
     audit after a firewall reload, the start after a crash and the last detach are all this one function.
  2. Rules come before ports: nothing is open that a rule was to close.
  3. What is another's is left alone: a bridge of our name with another MAC, and whatever else stands in the tables.
     DOCKER-USER is the one chain of another's that gets rules of ours; a host that does not take them has the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path

from vxlanu.config import NO_GATEWAY
from vxlanu.errors import Refused
from vxlanu.gateway import pool
from vxlanu.gateway.claim import Claim
from vxlanu.gateway.docker_user import DockerUser
from vxlanu.gateway.ledger import EgressRow, Ledger
from vxlanu.gateway.nft import Nft
from vxlanu.gateway.published import Published
from vxlanu.gateway.rules import BRIDGE, Wanted
from vxlanu.nsopen import BridgeTaken, EgressGround, NamespaceHelper

log = logging.getLogger("vxlanu.egress")

CAP_NET_ADMIN = 12
FIREWALL_S = 15.0  # the whole rule set of a host can be long


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What is beside the bridge on this host."""

    subnets: Callable[[], Iterable[str]]  # of every network
    underlay: str  # the interface that members are reached by
    stopper: Callable[[], Coroutine[None, None, str]]  # a chain of another's that drops what containers send out


class Ground:
    """Bridge and rules, while the ledger has any row."""

    def __init__(
        self, helper: NamespaceHelper, ledger: Ledger, beside: Neighbourhood, *, subnet: str, node: bytes
    ) -> None:
        self._helper = helper
        self._ledger = ledger
        self._beside = beside
        self._wanted_subnet = subnet
        self._mac = bridge_mac(node)
        self._nft, self._docker_user = Nft(), DockerUser()
        self._turn = asyncio.Lock()
        self._applied: tuple[Wanted, str] | None = None
        self._refused = ""  # what iptables said last
        self.settled = True  # as the ledger has it: nothing is left of what was to go
        self.stands = False  # rules and bridge, as far as we know
        self.stopped_by = ""  # a chain of another's that drops what containers send out
        self._looked_at = 0.0  # when other tables were read for it
        self._claim = Claim()
        self._cannot = self._lacking()

    def why_not(self) -> str:
        """Why this agent has none here; empty where it can, and then no other in this network namespace does."""
        return self._cannot or self._claim.take()

    def _lacking(self) -> str:
        """Why this host has none; empty where it can."""
        if self._wanted_subnet == NO_GATEWAY:
            return f"switched off by gateway-subnet = {NO_GATEWAY}"
        status = Path("/proc/self/status").read_text()
        effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
        if not effective >> CAP_NET_ADMIN & 1:
            return "the agent has no CAP_NET_ADMIN"
        return "" if self._nft.path else "nft is not installed"

    async def choose_subnet(self, addresses: Iterable[str]) -> None:
        """With the first target; it stays until the last is gone."""
        async with self._turn:
            if self._ledger.rows:
                pool.choose(self._ledger.subnet, "", addresses)
                return
            routes = await self._helper.routes()
            bridge = next((link for link in await self._helper.links() if link.name == BRIDGE), None)
            if bridge is not None and bridge.mac != self._mac:  # it refuses, before our rules shut another's ports
                await self._helper.egress_ground(EgressGround(BRIDGE, self._mac, ""))
            own = bridge.index if bridge is not None else 0
            taken = [route.destination for route in routes if route.ifindex != own]
            subnet = pool.choose(self._wanted_subnet, self._ledger.subnet, (*self._beside.subnets(), *taken))
            await self._ledger.keep_subnet(subnet)

    async def settle(self, wiring: Collection[str]) -> list[str]:
        """Rules, bridge and ports as the ledger has them; returns the tags without a veth that are not being wired."""
        async with self._turn:
            self.settled = False
            if other := self._claim.take():
                raise Refused("egress", other, hint="one agent for each network namespace", name="no_egress")
            missing = await self._converge() if self._ledger.rows else await self._take_down()
            self.settled = True
            return [tag for tag in missing if tag not in wiring]

    async def _converge(self) -> tuple[str, ...]:
        rows = self._ledger.rows
        ports = [(port, row.address.partition("/")[0]) for row in rows.values() for port in _ports(row)]
        mended = await self._rules(Wanted(self._ledger.subnet, tuple(sorted(ports))))
        self.stands = False
        facts = await self._helper.egress_ground(self._plan(tuple(rows), loopback=bool(ports)))
        self.stands = True
        if facts.forwarding:
            self._ledger.note_forwarding(time.time())
        for what in (*mended, *facts.mended, *await self._beside_docker(facts.outward)):
            log.info("egress: %s", what, extra={"event": "egress"})
        return facts.missing

    def _plan(self, tags: tuple[str, ...], *, loopback: bool) -> EgressGround:
        gateway = pool.gateway(self._ledger.subnet)
        return EgressGround(BRIDGE, self._mac, gateway, tags, loopback=loopback, underlay=self._beside.underlay)

    async def _beside_docker(self, outward: Iterable[str]) -> list[str]:
        """After the rest: these rules open, and never what ours close."""
        try:
            mended = await self._docker_user.keep(outward)
            self._refused = ""
        except Refused as error:  # what it means for the containers, `look_at_firewall` finds out
            if str(error) != self._refused:
                log.warning("egress beside Docker: %s", error, extra={"event": "egress_failed"})
            mended, self._refused = [], str(error)
        return mended

    async def _rules(self, wanted: Wanted) -> list[str]:
        """Before the ports: nothing is open that a rule was to close."""
        if self._applied is not None and self._applied[0] == wanted:
            if await self._nft.listed() == self._applied[1]:
                return []
            mended = ["rules were changed or gone: put back"]
        else:
            mended = []
        self._applied = (wanted, await self._nft.replace(wanted))
        return mended

    async def _take_down(self) -> tuple[str, ...]:
        """Nothing of ours stays; a bridge of that name that is another's is none of ours, nor are its rules."""
        self.stands = False
        try:
            await self._helper.egress_ground(EgressGround(BRIDGE, self._mac, ""))
        except BridgeTaken:
            self._claim.release()
            return ()
        await self._docker_user.remove()
        await self._nft.remove()
        self._applied = None
        self._claim.release()
        return ()

    def close(self) -> None:
        """Another agent may have it."""
        self._claim.release()

    async def look_at_firewall(self, every_s: float = 0.0) -> None:
        """Whether another table drops what ours lets pass, which ours cannot change."""
        if every_s and time.monotonic() - self._looked_at < every_s:
            return
        self._looked_at = time.monotonic()
        before, self.stopped_by = self.stopped_by, await self._beside.stopper()
        if self.stopped_by and self.stopped_by != before:
            why = "%s drops what containers send out: see vxlanu doctor"
            log.warning(why, self.stopped_by, extra={"event": "no_egress"})


def bridge_mac(node: bytes) -> str:
    """By which the bridge is known as this agent's, also after a crash."""
    return (b"\x06" + node[:5]).hex(":")


def _ports(row: EgressRow) -> Iterable[Published]:
    return (port for ports in row.users.values() for port in ports)
