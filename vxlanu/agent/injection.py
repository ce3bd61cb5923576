"""Injection, where it is asked for: the uplink TAP, and the next hop of every VTEP, kept true.

Rules of this file
  1. A frame that is injected goes where we say, and the kernel asks nobody whether that is still right. So whatever
     netlink says that bears on the links, routes, rules and neighbours concerned (bearing.py) has everything looked at
     anew, and what is not known for certain has no next hop: the sockets reach it, and have the kernel look for the
     neighbour. A look may have to wait (`rest`); what goes to a MAC that is not the neighbour's any more does not.
  2. A next hop that the fast path had refused stays refused until it is another one, or for REFUSED_S.
  3. The uplink TAP may go, or lose what leads from it to the uplink; or the uplink is replaced by another of its name;
     or there was no TAP to be had at the start. Then nobody has a next hop, and a new TAP takes the place of the old
     one, or of none, under its descriptor, which the workers have. That is tried again for ever, but not in haste
     (REMAKE_S, REMAKE_MAX_S): somebody may want it gone, and a kernel that cannot does not learn it.
  4. Without it everything goes on as if it had not been asked for; `status` says why (`rungs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Sequence

from vxlanu.agent.advertise import Underlay
from vxlanu.agent.bearing import Bearing, Weight
from vxlanu.agent.changes import ADDRESSES, FILTERS, LINKS, NEIGHBOURS, NEXTHOPS, ROUTES, RULES, heard, rest
from vxlanu.api.schema import Offload
from vxlanu.config import INJECT
from vxlanu.dataplane import Dataplane, VtepRef
from vxlanu.errors import VxlanuError
from vxlanu.nsopen import NamespaceHelper, NextHop, NextHops, OpenedUplink, UplinkFacts

log = logging.getLogger("vxlanu.agent")

SETTLE_S = 0.1  # one change of the host's network is many messages
STALE_S = 10.0  # until the kernel is made to ask again for a neighbour that it has not heard of for half a minute
REFUSED_S = 60.0  # a few frames by the sockets and a line in the log, against nobody ever trying again
REMAKE_S, REMAKE_MAX_S = 5.0, 300.0  # between two uplink TAPs; between tries where none is to be had
UNJUDGED_MAX = 256  # bundles of messages that came while we looked
NEEDS = frozenset(("tso", "uso"))  # one of these, or no TAP hands over a super-frame
CHANGES = LINKS | FILTERS | ROUTES | NEXTHOPS | RULES | ADDRESSES | NEIGHBOURS
NETLINK_XFRM, IPSEC_POLICIES = 6, 0x8  # XFRMNLGRP_POLICY of linux/xfrm.h
NO_TAP = "there is no uplink TAP"


class Injection:
    """Without `open` it does nothing. `run` is its task."""

    def __init__(self, helper: NamespaceHelper, dataplane: Dataplane, underlay: Underlay) -> None:
        self._helper = helper
        self._dataplane = dataplane
        self._underlay = underlay
        self._uplink: OpenedUplink | None = None
        self._unable = ""
        self._refused: dict[VtepRef | None, tuple[float, str]] = {}
        self._due = asyncio.Event()
        self._failed = self._broken = self._stale = False
        self._looked = self._next_make = 0.0
        self._pause = REMAKE_S
        self._unmade = ""
        self._bearing: Bearing | None = None  # none while we look, and before
        self._unjudged: list[bytes] = []

    async def open(self) -> None:
        """Make the uplink TAP, before the workers run. Without one its place is kept, and the log says why."""
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._uplink = OpenedUplink(UplinkFacts("", 0, self._underlay.ifname, 0), nowhere)
        self._dataplane.inject(nowhere)
        await self._make(self._uplink)
        if self._broken:
            self._say(NO_TAP + self._unmade)
        self._due.set()

    def rungs(self) -> list[Offload]:
        """Its row in `status`, if it was asked for."""
        if self._uplink is None:
            return []
        why = self._unable or next((why for _, why in self._refused.values()), "")
        if not NEEDS & self._dataplane.offloads():
            why = f"no super-frames: neither {' nor '.join(sorted(NEEDS))} is in use"
        return [Offload(INJECT, not why, why)]

    def refused(self, vtep: VtepRef | None, error: int) -> None:
        """The kernel took none of many frames in a row for a VTEP; the fast path is back to its socket."""
        why = f"the kernel: refused frame after frame towards {vtep} with {os.strerror(error)}"
        self._refused[vtep] = time.monotonic(), why
        log.warning("no injection for now: %s", why, extra={"event": "inject_refused"})

    def check(self, now: float) -> None:
        """Once a second: are there VTEPs that were not looked at, or is it time to try something again?"""
        if self._uplink is None:
            return
        late = any(now - since > REFUSED_S for since, _ in self._refused.values())
        stale = self._stale and now - self._looked > STALE_S
        remake = self._broken and now >= self._next_make
        if self._failed or late or stale or remake or self._dataplane.hops_wanted():
            self._due.set()

    async def run(self) -> None:
        """Look, whenever something happened."""
        if self._uplink is None:
            return
        with contextlib.ExitStack() as ears:
            ears.enter_context(heard(CHANGES, self._hear))
            with contextlib.suppress(OSError):  # a kernel without IPsec has no policies either
                ears.enter_context(heard(IPSEC_POLICIES, lambda _: self._due.set(), NETLINK_XFRM))
            try:
                while True:
                    await self._due.wait()
                    await asyncio.sleep(SETTLE_S)
                    self._due.clear()
                    began = time.monotonic()
                    await self._look(self._uplink)
                    self._looked = time.monotonic()
                    await rest(began)
            except Exception:  # a defect: from now on nobody would see that a next hop is another
                for vtep in self._dataplane.path_mtus():
                    self._dataplane.set_hop(vtep, None)
                raise

    def _hear(self, bundle: bytes) -> None:
        """Messages came. Those that come while we look are judged by what it finds."""
        if not self._bearing:
            if len(self._unjudged) < UNJUDGED_MAX:
                self._unjudged.append(bundle)
            else:
                self._due.set()
            return
        weight = self._bearing.of(bundle)
        self._stale |= weight is Weight.LATER
        if weight is Weight.NOW:
            self._due.set()
            moved = self._bearing.moved(bundle)
            for vtep in [it for it in self._dataplane.path_mtus() if it.address in moved]:
                self._tell(vtep, None)

    async def _look(self, uplink: OpenedUplink) -> None:
        used = frozenset(self._dataplane.path_mtus())
        found = await self._ask(uplink, [vtep.address for vtep in used])
        self._broken = found.broken
        self._say(found.unable + self._unmade if found.broken else found.unable)
        self._forget_refusals(used)
        for vtep in used & self._dataplane.path_mtus().keys():
            self._tell(vtep, found.items.get(vtep.address))
        unjudged, self._unjudged = self._unjudged, []
        for bundle in unjudged:  # not before, or a next hop that moved while we looked would be told again
            self._hear(bundle)
        if found.broken and time.monotonic() >= self._next_make:
            await self._make(uplink)
            if self._broken:
                self._say(found.unable + self._unmade)

    async def _ask(self, uplink: OpenedUplink, addresses: Sequence[str]) -> NextHops:
        """The next hops, and from then on what bears on them. What failed is asked again (`check`)."""
        self._failed = self._stale = False
        self._bearing = None
        try:
            found = NextHops({}, NO_TAP, broken=True)
            if uplink.facts.index:
                found = await self._helper.next_hops(addresses, uplink.facts, self._underlay.address)
        except VxlanuError as why:
            found, self._failed = NextHops({}, f"{why.what}: {why.why}"), True
        self._bearing = Bearing.after(found, uplink.facts, addresses, self._underlay.address)
        return found

    async def _make(self, uplink: OpenedUplink) -> None:
        """A new uplink TAP under the descriptor of the old one, which ends with that; or later (`check`)."""
        now = time.monotonic()
        try:
            made = await self._helper.open_uplink(self._underlay.ifname)
        except VxlanuError as why:
            self._broken, self._unmade = True, f"; a new one: {why.what}: {why.why}"
            self._next_make, self._pause = now + self._pause, min(2 * self._pause, REMAKE_MAX_S)
            return
        os.dup2(made.fd, uplink.fd, inheritable=False)
        os.close(made.fd)
        self._uplink = OpenedUplink(made.facts, uplink.fd)
        self._broken, self._unmade = False, ""
        self._next_make, self._pause = now + REMAKE_S, REMAKE_S
        self._due.set()
        way = (made.facts.ifname, made.facts.uplink_ifname)
        log.info("injection by way of %s into %s", *way, extra={"event": "injection"})

    def _forget_refusals(self, used: frozenset[VtepRef]) -> None:
        """Of VTEPs that have gone; and those that are old enough for another try, with the same next hop."""
        now = time.monotonic()
        for vtep, (since, _) in list(self._refused.items()):
            if vtep not in used or now - since > REFUSED_S:
                del self._refused[vtep]
                if vtep is not None:
                    self._dataplane.set_hop(vtep, None)

    def _tell(self, vtep: VtepRef, hop: NextHop | None) -> None:
        """The fast path, where it is news."""
        if self._dataplane.set_hop(vtep, (hop.mac, hop.source) if hop and hop.mac else None):
            self._refused.pop(vtep, None)

    def _say(self, unable: str) -> None:
        if unable != self._unable:
            self._unable = unable
            log.warning("injection: %s", unable or "is possible now", extra={"event": "injection"})
