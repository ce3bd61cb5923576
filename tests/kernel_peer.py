"""A host without an agent on a lab's underlay, whose overlay is the kernel's: a vxlan device.

It is set up by nothing but the commands that `vxlanu vtep add` prints.
"""

from __future__ import annotations

import json
import shlex

from lab_ns import poll

from vxlanu.lab.topology import Lab

__all__ = ["INNER", "OUTER", "KernelPeer"]

OUTER = {"ipv4": "10.97.0.50", "ipv6": "fd97::50"}
INNER = {"v4": "192.168.7.250", "v6": "fd07::250"}
SUBNETS = ("192.168.7.0/24", "fd07::/64")


class KernelPeer:
    """The host `name`, and its vxlan device in a network of the lab."""

    def __init__(self, lab: Lab, network: dict[str, str | int], underlay: str, name: str = "kernel") -> None:
        self.lab, self.name, self.outer = lab, name, OUTER[underlay]
        self.network, self.device = str(network["name"]), f"vx{network['vni']}"
        self._join_underlay()
        self.commands = self.add()
        for command in self.commands:
            lab.exec(name, shlex.split(command))
        shown = lab.exec(name, ["ip", "-j", "link", "show", self.device]).stdout
        self.mac = str(json.loads(shown)[0]["address"])
        # A tentative address is not answered for, and the kernel would ping from its link-local one meanwhile.
        poll(lambda: not self._tentative(), what="the kernel's own addresses stand", story=self.story)

    def _tentative(self) -> str:
        return self.lab.exec(self.name, ["ip", "-6", "addr", "show", "dev", self.device, "tentative"]).stdout

    def _join_underlay(self) -> None:
        """A host as the lab makes them, only without an agent."""
        length, mtu = 64 if ":" in self.outer else 24, self.lab.plan.mtu
        for command in (
            f"ip netns add {self.name}",
            f"ip link add {self.name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {self.name}",
            f"ip link set {self.name} master underlay addrgenmode none up",
            f"ip -n {self.name} link set lo up",
            f"ip -n {self.name} address add {self.outer}/{length} dev eth0{' nodad' * (length == 64)}",
            f"ip -n {self.name} link set eth0 up",
            # For the devices made from here on: their addresses are nobody else's, and without DAD stand 1.6 s sooner.
            f"ip netns exec {self.name} sysctl -qw net.ipv6.conf.default.accept_dad=0",
        ):
            self.lab.exec("underlay", command.split())

    def add(self) -> list[str]:
        """`vtep add`, and what it tells a person to run on the other side, the addresses filled in."""
        done = self.lab.exec("h1", ["vxlanu", "vtep", "add", self.network, self.outer])
        printed = [line for line in done.stdout.splitlines() if not line.startswith("#")]
        for subnet, address in zip(SUBNETS, INNER.values(), strict=True):
            printed = [line.replace(f"<free address of {subnet}>", address) for line in printed]
        return printed

    def story(self) -> str:
        """The device and its tables, and what the hosts dropped, for a test that failed."""
        asked = (f"ip -d -s link show {self.device}", f"bridge fdb show dev {self.device}", "ip neigh")
        shown = [self.lab.exec(self.name, shlex.split(command), check=False).stdout for command in asked]
        for host in self.lab.hosts():
            for words in (("fdb", "show"), ("drops",), ("stats",)):
                shown.append(self.lab.exec(host, ["vxlanu", *words], check=False).stdout)
        return "\n".join((*self.commands, *shown))
