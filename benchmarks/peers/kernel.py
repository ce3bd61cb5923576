"""The kernel's: containers behind veth, bridge and vxlan device, which is what Docker's overlay network is made of.

On the same hosts as the agents; the port differs from theirs. No netfilter rules, no namespaces between, no neighbour
table to ask: the least that a kernel VXLAN overlay of containers costs.
"""

from __future__ import annotations

import platform
from contextlib import ExitStack

from benchmarks.scene import HOSTS, Path, Scene, Witness

TITLE = "kernel vxlan and bridge"
VNI, PORT = 7, 4790


def version() -> str:
    """The kernel's."""
    return platform.release()


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between c1-kernel and c2-kernel."""
    lab, mtu = scene.lab, scene.inner_mtu
    for number, host in enumerate(HOSTS, 1):
        name = f"c{number}-kernel"
        lab.create_container(name)
        own, other = (lab.plan.advertise(HOSTS[at]) for at in (number - 1, 2 - number))
        for command in (
            "ip link add br-k type bridge",
            f"ip link add vx-k type vxlan id {VNI} local {own} remote {other} dstport {PORT}",
            f"ip link add veth-k mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}",
            f"ip link set vx-k mtu {mtu} master br-k up",
            "ip link set veth-k master br-k up",
            "ip link set br-k up",
        ):
            lab.exec(host, command.split())
        lab.exec(name, f"ip addr add 10.66.0.{number}/24 dev eth0".split())
        lab.exec(name, ["ip", "link", "set", "eth0", "up"])
    witnesses = tuple(Witness(host, "vx-k") for host in HOSTS)
    return Path("kernel", lab, "c1-kernel", "c2-kernel", "10.66.0.2", "10.66.0.1", witnesses)
