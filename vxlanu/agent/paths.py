"""The path MTU of every VTEP, from the host's own links and routes.

Rules of this file
  1. A path is as wide as the link that its route leaves by, or as the route says if an administrator gave it an MTU.
     What the kernel has learned from ICMP does not count, since anybody can forge that.
  2. Looked at when a VTEP is new, when netlink says that a link or a route changed, and when the fast path had a
     datagram refused (EMSGSIZE) and lowered the path MTU by itself. So a path grows again as soon as its link does.
  3. A refusal that links and routes do not explain stands until either changes, or for REFUSED_S: raising the value
     at once would only have the next datagram refused, and its sender would never be told.
"""

from __future__ import annotations

import asyncio
import logging
import time

from vxlanu.agent.changes import LINKS, ROUTES, heard, rest
from vxlanu.dataplane import Dataplane, VtepRef
from vxlanu.errors import VxlanuError
from vxlanu.nsopen import NamespaceHelper

log = logging.getLogger("vxlanu.agent")

SETTLE_S = 0.2  # one change of the host's network is many messages
REFUSED_S = 600.0  # RFC 1191 section 6.3: a larger path is tried again after ten minutes
MTU_MIN, MTU_MAX = 576, 65535  # VX_PATH_MTU_MIN, and the longest IP packet


class Paths:
    """Keeps the path MTUs of a data plane true. `run` is its task; the other methods only say that there is work."""

    def __init__(self, helper: NamespaceHelper, dataplane: Dataplane) -> None:
        self._helper = helper
        self._dataplane = dataplane
        self._due = asyncio.Event()
        self._said: dict[VtepRef, int] = {}
        self._refused: dict[VtepRef, float] = {}

    def check(self, now: float | None = None) -> None:
        """Once a second: are there VTEPs that were not looked at, or refusals that are old enough to be tried?"""
        now, used = time.monotonic() if now is None else now, self._dataplane.path_mtus()
        late = [vtep for vtep, since in self._refused.items() if now - since > REFUSED_S]
        for vtep in late:
            self._refused.pop(vtep)
        # One that went and came back meanwhile begins anew with 0.
        self._said = {vtep: mtu for vtep, mtu in self._said.items() if vtep in used and (used[vtep] or not mtu)}
        if late or used.keys() != self._said.keys():
            self._due.set()

    def lowered(self, vtep: VtepRef, now: float | None = None) -> None:
        """The fast path had a datagram refused, and has lowered the path MTU."""
        self._refused[vtep] = time.monotonic() if now is None else now
        self._due.set()

    async def run(self) -> None:
        """Look, whenever something happened."""
        with heard(LINKS | ROUTES, lambda _: self.changed()):
            while True:
                await self._due.wait()
                await asyncio.sleep(SETTLE_S)
                self._due.clear()
                began = time.monotonic()
                await self.look()
                await rest(began)

    def changed(self) -> None:
        """Links or routes changed; which, the helper will find."""
        self._refused.clear()
        self._due.set()

    async def look(self) -> None:
        """Ask links and routes, and tell the fast path."""
        used = self._dataplane.path_mtus()
        try:
            found = await self._helper.path_mtus([vtep.address for vtep in used])
        except VxlanuError as error:
            log.warning("cannot read the paths to other hosts: %s", error, extra={"event": "paths"})
            self._said.clear()  # check() has it tried again
            return
        for vtep, now in self._dataplane.path_mtus().items():
            if vtep in used:
                self._say(vtep, now, found.get(vtep.address, 0))

    def _say(self, vtep: VtepRef, now: int, found: int) -> None:
        """Tell the fast path what was found (0: no route), unless it knows better (rule 3)."""
        mtu = min(max(found, MTU_MIN), MTU_MAX) if found else 0
        if vtep in self._refused and self._said.get(vtep) == mtu:
            return
        self._said[vtep] = mtu
        self._refused.pop(vtep, None)
        if mtu not in (0, now):
            self._dataplane.set_path_mtu(vtep, mtu)
            if now:
                log.info("path MTU to %s is %d, was %d", vtep, mtu, now, extra={"event": "path_mtu"})
