"""The ladder: which offloads the kernel has, which the user refused, which are in use, and why not the others.

Rules of this file
  1. Each name of `vxlanu.config.OFFLOADS` is probed in one place: the TAPs' by a child of the helper
     (vxlanu.nsopen.probe), the sockets' by the fast path when it opens them. What is refused by either goes unused.
  2. The fast path has the last word: it can give up an offload while it runs (a send that the kernel refuses), never
     take one up again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from vxlanu.api.schema import Offload
from vxlanu.config import OFFLOADS, refused_offloads
from vxlanu.dataplane import Dataplane
from vxlanu.errors import VxlanuError
from vxlanu.nsopen import NamespaceHelper, TapQueues
from vxlanu.nsopen.wire import TUN_F_CSUM, TUN_F_TSO, TUN_F_USO

log = logging.getLogger("vxlanu.ladder")

RECEIVE_BYTES = 16 << 20  # native/limits.h: VX_RX_BUFFER
BY_OPTION = "refused by --offload"
BY_KERNEL = {"rcvbufforce": "needs CAP_NET_ADMIN"}


@dataclass(frozen=True, slots=True)
class Ladder:
    """What may be used: `refused` by the user, `lacking` in the kernel's TAPs and how that showed."""

    refused: frozenset[str]
    lacking: dict[str, str]

    @classmethod
    async def probe(cls, setting: str, helper: NamespaceHelper) -> Ladder:
        """Ask the kernel. Where it cannot be asked, only what every kernel has since 5.10 and gives
        to everybody counts as there."""
        try:
            lacking = (await helper.probe_tap()).lacking
        except VxlanuError as why:
            log.warning("cannot try what TAPs can do: %s: %s", why.what, why.why, extra={"event": "probe_failed"})
            lacking = dict.fromkeys(("uso", "steering"), f"cannot be tried: {why.why}")
        return cls(refused_offloads(setting), lacking)

    @property
    def allowed(self) -> frozenset[str]:
        """What the fast path may use, of the TAPs' features and the sockets'."""
        return frozenset(OFFLOADS) - self.refused - self.lacking.keys()

    def tap_queues(self, workers: int) -> TapQueues:
        """How TAPs are opened for so many workers."""
        allowed = self.allowed
        several = "mq" in allowed
        return TapQueues(
            count=workers if several else 1,
            write_queue=several and workers > 1,
            multi_queue=several,
            steering=several and workers > 1 and "steering" in allowed,
            vnet_hdr="vnet-hdr" in allowed,
            offloads=TUN_F_CSUM | (TUN_F_TSO if "tso" in allowed else 0) | (TUN_F_USO if "uso" in allowed else 0),
        )

    def rungs(self, dataplane: Dataplane) -> list[Offload]:
        """Every offload: in use or why not."""
        in_use = dataplane.offloads()
        return [Offload(name, name in in_use, "" if name in in_use else self._why(name)) for name in OFFLOADS]

    def _why(self, name: str) -> str:
        if name in self.refused:
            return BY_OPTION
        return "the kernel: " + self.lacking.get(name, BY_KERNEL.get(name, "refused when it was tried"))


def warnings(ladder: Ladder, dataplane: Dataplane) -> list[str]:
    """What the user should change on this host."""
    got = dataplane.receive_bytes()
    if got >= RECEIVE_BYTES:
        return []
    other = "without no-rcvbufforce" if "rcvbufforce" in ladder.refused else "with CAP_NET_ADMIN"
    return [
        f"receive buffers hold {got >> 10} KB instead of {RECEIVE_BYTES >> 10}: bursts will be lost as rx_overflow"
        f" (sysctl -w net.core.rmem_max={RECEIVE_BYTES}, or the agent {other}; then restart it)"
    ]


def tell(ladder: Ladder, dataplane: Dataplane) -> None:
    """Log the rung at the start."""
    rungs = ladder.rungs(dataplane)
    used = ", ".join(it.name for it in rungs if it.in_use) or "none"
    unused = "; ".join(f"{it.name}: {it.why}" for it in rungs if not it.in_use)
    log.info("offloads: %s%s", used, f" (not {unused})" if unused else "", extra={"event": "offloads"})
    for warning in warnings(ladder, dataplane):
        log.warning("%s", warning, extra={"event": "receive_buffer"})
