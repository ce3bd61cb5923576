"""Injection, where it is asked for: the uplink TAP, and the next hop of every VTEP, kept true.

Rules of this file
  1. A frame that is injected goes where we say, and the kernel asks nobody whether that is still right. So whatever
     netlink says of links, routes and the neighbours concerned has everything looked at anew, and what is not known for
     certain has no next hop: the sockets reach it, and have the kernel look for the neighbour.
  2. A next hop that the fast path had refused stays refused until it is another one.
  3. The uplink TAP may go, or lose what leads from it to the uplink; or the uplink is replaced by another of its name.
     Then nobody has a next hop, and a new TAP takes the place of the old one under its descriptor, which the workers
     have. That is tried again for ever, but not in haste (REMAKE_S): somebody may want it gone.
  4. Without it everything goes on as if it had not been asked for; `status` says why (`rungs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
from functools import partial

from vxlanu.agent.advertise import Underlay
from vxlanu.agent.changes import FILTERS, LINKS, NEIGHBOURS, ROUTES, heard
from vxlanu.api.schema import Offload
from vxlanu.config import INJECT
from vxlanu.dataplane import Dataplane, VtepRef
from vxlanu.errors import VxlanuError
from vxlanu.nsopen import NamespaceHelper, NextHop, NextHops, OpenedUplink

log = logging.getLogger("vxlanu.agent")

SETTLE_S = 0.1  # one change of the host's network is many messages
REMAKE_S = 5.0  # between two uplink TAPs
NEEDS = frozenset(("tso", "uso"))  # one of these, or no TAP hands over a super-frame
ADDRESSES = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR of linux/rtnetlink.h
ANY_NEIGHBOUR = (b"",)  # found in every message
NETLINK_XFRM, IPSEC_POLICIES = 6, 0x8  # XFRMNLGRP_POLICY of linux/xfrm.h


class Injection:
    """Without `open` it does nothing. `run` is its task."""

    def __init__(self, helper: NamespaceHelper, dataplane: Dataplane, underlay: Underlay) -> None:
        self._helper = helper
        self._dataplane = dataplane
        self._underlay = underlay
        self._uplink: OpenedUplink | None = None
        self._wanted = False
        self._unable = ""
        self._refused: dict[VtepRef | None, str] = {}
        self._due = asyncio.Event()
        self._failed = False
        self._next_make = -math.inf
        self._unmade = ""
        self._neighbours: tuple[bytes, ...] = ()

    async def open(self) -> None:
        """Make the uplink TAP, before the workers run; without one the log says why."""
        self._wanted = True
        try:
            self._uplink = await self._helper.open_uplink(self._underlay.ifname)
        except VxlanuError as why:
            self._unable = why.why
            log.warning("no injection: %s: %s", why.what, why.why, extra={"event": "injection"})
            return
        self._dataplane.inject(self._uplink.fd)
        _say_made(self._uplink)

    def rungs(self) -> list[Offload]:
        """Its row in `status`, if it was asked for."""
        if not self._wanted:
            return []
        why = self._unable or next(iter(self._refused.values()), "")
        if not NEEDS & self._dataplane.offloads():
            why = f"no super-frames: neither {' nor '.join(sorted(NEEDS))} is in use"
        return [Offload(INJECT, not why, why)]

    def refused(self, vtep: VtepRef | None, error: int) -> None:
        """The kernel did not take a frame for a VTEP; the fast path is back to its socket."""
        why = self._refused[vtep] = f"the kernel: refused towards {vtep} with {os.strerror(error)}"
        log.warning("no injection any more: %s", why, extra={"event": "inject_refused"})

    def check(self, _now: float) -> None:
        """Once a second: are there VTEPs that were not looked at, or could it not be done?"""
        if self._uplink is not None and (self._failed or self._dataplane.hops_wanted()):
            self._due.set()

    async def run(self) -> None:
        """Look, whenever something happened."""
        if self._uplink is None:
            return
        with contextlib.ExitStack() as ears:
            ears.enter_context(heard(LINKS | FILTERS | ROUTES | ADDRESSES, lambda _: self._due.set()))
            ears.enter_context(heard(NEIGHBOURS, self._neighbour))
            with contextlib.suppress(OSError):  # a kernel without IPsec has no policies either
                ears.enter_context(heard(IPSEC_POLICIES, lambda _: self._due.set(), NETLINK_XFRM))
            try:
                while True:
                    await self._due.wait()
                    await asyncio.sleep(SETTLE_S)
                    self._due.clear()
                    await self._look(self._uplink)
            except Exception:  # a defect: from now on nobody would see that a next hop is another
                for vtep in self._dataplane.path_mtus():
                    self._dataplane.set_hop(vtep, None)
                raise

    def _neighbour(self, message: bytes) -> None:
        """A neighbour is another: any on a busy segment, so ours is looked for by the bytes of its address."""
        if not message or any(address in message for address in self._neighbours):
            self._due.set()

    async def _look(self, uplink: OpenedUplink) -> None:
        used = frozenset(self._dataplane.path_mtus())
        ask = partial(self._helper.next_hops, opened=uplink.facts, source=self._underlay.address)
        self._neighbours = ANY_NEIGHBOUR  # who they are is not known yet, and one may be resolved meanwhile
        try:
            found, self._failed = await ask([vtep.address for vtep in used]), False
        except VxlanuError as why:
            found, self._failed = NextHops({}, f"{why.what}: {why.why}"), True
        self._refused = {vtep: said for vtep, said in self._refused.items() if vtep in used}
        self._neighbours = tuple({_packed(it.via) for it in found.items.values()})
        self._say(found.unable + self._unmade if found.broken else found.unable)
        for vtep in used & self._dataplane.path_mtus().keys():
            self._tell(vtep, found.items.get(vtep.address))
        if found.broken:
            await self._remake(uplink)

    async def _remake(self, uplink: OpenedUplink) -> None:
        """A new uplink TAP under the descriptor of the old one, which ends with that; or later (`check`)."""
        now = asyncio.get_running_loop().time()
        self._failed = True
        if now < self._next_make:
            return
        self._next_make = now + REMAKE_S
        try:
            made, self._unmade = await self._helper.open_uplink(self._underlay.ifname), ""
        except VxlanuError as why:
            self._unmade = f"; another one: {why.what}: {why.why}"
            return
        os.dup2(made.fd, uplink.fd, inheritable=False)
        os.close(made.fd)
        self._uplink = OpenedUplink(made.facts, uplink.fd)
        _say_made(self._uplink)

    def _tell(self, vtep: VtepRef, hop: NextHop | None) -> None:
        """The fast path, where it is news."""
        if self._dataplane.set_hop(vtep, (hop.mac, hop.source) if hop and hop.mac else None):
            self._refused.pop(vtep, None)

    def _say(self, unable: str) -> None:
        if unable != self._unable:
            self._unable = unable
            log.warning("injection: %s", unable or "is possible again", extra={"event": "injection"})


def _say_made(uplink: OpenedUplink) -> None:
    way = (uplink.facts.ifname, uplink.facts.uplink_ifname)
    log.info("injection by way of %s into %s", *way, extra={"event": "injection"})


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
