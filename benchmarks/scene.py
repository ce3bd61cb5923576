"""Where a comparison takes place: two hosts of a lab on one underlay, and the paths over it that are compared.

    c1-1 ─ h1 ── underlay ── h2 ─ c2-1     every peer joins the same two hosts (or, where it wants a host's card for
    c1-k ─ (same hosts)          ─ c2-k    itself, two more on the same underlay), and gives one Path to measure

Rules of this file
  1. A path says by which interfaces its bytes have to go (`Witness`); whoever measures holds it to that.
  2. Names of containers end in the peer's name, so that the lab's own tools show whose they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from benchmarks.underlay import join_underlay, set_underlay
from vxlanu.lab.plan import UNDERLAY
from vxlanu.lab.topology import Lab, poll

__all__ = ["HOSTS", "Path", "Scene", "Witness"]

HOSTS = ("h1", "h2")
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Witness:
    """An interface that every byte of a path passes, in either direction."""

    place: str
    device: str


@dataclass(frozen=True, slots=True)
class Path:
    """From a place of the lab to an address of another, over one peer. Places are containers or hosts."""

    peer: str
    lab: Lab = field(repr=False)
    sender: str
    receiver: str
    address: str
    """Of the receiver."""
    back: str
    """Of the sender."""
    witnesses: tuple[Witness, ...]
    overlay: bool = True
    """False for the underlay by itself, which is a ceiling and no peer."""
    processes: tuple[int, ...] = ()
    """Process ids, as they are out here, of the peer's own programs, for what it costs; none: it is the kernel's."""
    logs: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """The end of what its programs have said, for a failure; without it, the lab's story."""

    def reversed(self) -> Path:
        """The other direction."""
        return replace(
            self, sender=self.receiver, receiver=self.sender, address=self.back, back=self.address
        )

    def ready(self) -> None:
        """Wait until an echo comes back. Raises TryAgain, with the logs in its `detail`."""
        asked = ["ping", "-n", "-q", "-c", "1", "-W", "2", self.address]
        poll(
            lambda: self.lab.exec(self.sender, asked, check=False).returncode == 0,
            f"{self.peer}: {self.sender} to reach {self.address}", READY_S, self.logs or self.lab.story,
        )  # fmt: skip

    def mtu(self) -> int:
        """The largest packet inside: of the interface behind which the receiver's address is."""
        route = json.loads(self.lab.exec(self.sender, ["ip", "-j", "route", "get", self.address]).stdout)
        link = self.lab.exec(self.sender, ["ip", "-j", "link", "show", "dev", route[0]["dev"]]).stdout
        return int(json.loads(link)[0]["mtu"])

    def passed(self) -> Mapping[Witness, int]:
        """Bytes that each witness has seen, both directions added up."""
        return {witness: _octets(self.lab, witness) for witness in self.witnesses}


def _octets(lab: Lab, witness: Witness) -> int:
    """By netlink: /sys in a lab shows the machine's own interfaces."""
    shown = json.loads(lab.exec(witness.place, ["ip", "-j", "-s", "link", "show", "dev", witness.device]).stdout)
    return sum(int(shown[0]["stats64"][way]["bytes"]) for way in ("rx", "tx"))


@dataclass(frozen=True, slots=True)
class Scene:
    """The lab, and the kind of underlay that all cables have."""

    lab: Lab
    underlay: str

    @classmethod
    @contextmanager
    def up(
        cls, underlay: str = "offload", *, family: str = "ipv4", mtu: int = 1500, agent_flags: tuple[str, ...] = ()
    ) -> Iterator[Scene]:
        """A lab of two hosts; gone with the block."""
        with Lab(2, 1, underlay=family, mtu=mtu, agent_flags=agent_flags) as lab:
            set_underlay(lab, underlay, HOSTS)
            yield cls(lab, underlay)

    @property
    def inner_mtu(self) -> int:
        """What VXLAN leaves of the underlay's: 50 bytes less over IPv4, 70 over IPv6."""
        return self.lab.plan.mtu - (50 if self.lab.plan.underlay == "ipv4" else 70)

    def add_host(self, name: str, address: str) -> None:
        """One more host with that underlay address (with its prefix length) on eth0; none if it is empty."""
        join_underlay(self.lab, name)
        set_underlay(self.lab, self.underlay, (name,))
        if address:
            nodad = ["nodad"] if ":" in address else []
            self.lab.exec(UNDERLAY, ["ip", "-n", name, "address", "add", address, "dev", "eth0", *nodad])
