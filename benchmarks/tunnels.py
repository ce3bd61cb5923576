"""Peers that are one program with one TUN or TAP on each host: tinc, nebula, wireguard-go, fastd, openvpn.

    h1: 10.N.0.1 on the device ─ program ─ eth0 ── underlay ── eth0 ─ program ─ 10.N.0.2 on the device: h2

Sender and receiver are the hosts, where such a program puts its device: the same one crossing of a TUN on each side
that a container of vxlanu has, without a bridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path as File

from benchmarks.daemon import Program, make_folder, start
from benchmarks.scene import HOSTS, Path, Scene, Witness

__all__ = ["Tunnel"]


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One peer on both hosts. `network` is the N of its addresses, `mtu` the inner one."""

    peer: str
    scene: Scene
    stack: ExitStack
    network: int
    mtu: int
    folders: dict[str, File] = field(default_factory=dict)
    programs: list[Program] = field(default_factory=list)

    def __post_init__(self) -> None:
        for host in HOSTS:
            self.folders[host] = make_folder(self.scene.lab, f"{self.peer}-{host}")

    def device(self, host: str) -> str:
        """Of different names, since sockets in the lab's one /run are named after them."""
        return f"{self.peer}-{host}"

    def inner(self, host: str) -> str:
        """The host's address inside of the tunnel."""
        return f"10.{self.network}.0.{host[1:]}"

    def outer(self, host: str, port: int) -> str:
        """Where the host's program listens, as most of them write it."""
        address = self.scene.lab.plan.advertise(host)
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def write(self, host: str, name: str, text: str) -> str:
        """A file of that name for the host's program; returns its path in the lab."""
        inside = self.folders[host] / name
        file = self.scene.lab.path(inside)
        file.parent.mkdir(exist_ok=True)
        file.touch(0o600)
        file.write_text(text)
        return str(inside)

    def run(self, host: str, words: Sequence[str], text: str = "") -> str:
        """What a program said on the host."""
        return self.scene.lab.exec(host, words, text=text).stdout

    def start(self, host: str, words: Sequence[str]) -> None:
        """Start the host's program, and wait for its device."""
        there = ["ip", "link", "show", "dev", self.device(host)]
        lab = self.scene.lab
        self.programs.append(
            start(self.stack, lab, host, words, log=self.folders[host] / f"{self.peer}.log",
                  until=lambda: lab.exec(host, there, check=False).returncode == 0)
        )  # fmt: skip

    def address_devices(self) -> None:
        """Addresses and MTU, for programs that leave them to their administrator."""
        for host in HOSTS:
            device = self.device(host)
            self.run(host, ["ip", "address", "add", f"{self.inner(host)}/24", "dev", device])
            self.run(host, ["ip", "link", "set", device, "mtu", str(self.mtu), "up"])

    def path(self) -> Path:
        """From h1 to h2, through the devices and the underlay."""
        witnesses = [Witness(host, device) for host in HOSTS for device in (self.device(host), "eth0")]
        return Path(
            self.peer, self.scene.lab, *HOSTS, self.inner("h2"), self.inner("h1"), tuple(witnesses),
            processes=tuple(it.pid for it in self.programs), logs=self.told,
        )  # fmt: skip

    def told(self) -> str:
        """What the programs have said last."""
        return "\n".join(it.told() for it in self.programs)
