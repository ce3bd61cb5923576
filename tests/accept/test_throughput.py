"""Bulk TCP, compared inside one run: `make accept` prints the table. Ratios count, never figures by themselves.

    c1-1 ─ h1 ── underlay ── h2 ─ c2-1        vxlanu
    c1-k ─ bridge, vxlan ── (same) ─ c2-k     the kernel's: what Docker's overlay network is made of
           o1 ── (same) ── o2                 Open vSwitch in userspace, inner addresses on its own TAPs

Each round measures one after the other, so that what else the machine does meets all of them; medians of `ROUNDS`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from lab_ns import poll
from streams import pings

from benchmarks.peers.ovs import PROGRAMS, OvsHost
from benchmarks.underlay import set_underlay
from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.accept, pytest.mark.netns, pytest.mark.interop("iperf3", "ethtool", "kernel-vxlan")]

ROUNDS = 9  # of five the ratio moved by 0.03 between runs of the same code
SECONDS = 2
HOSTS = ("h1", "h2")
MTU = 1450


@dataclass(frozen=True)
class Path:
    """From one place to an address of another."""

    lab: Lab
    sender: str
    receiver: str
    address: str

    def gigabits(self, streams: int) -> float:
        """What iperf3's receiver got, in Gbit/s."""
        with self.lab.running(self.receiver, ["iperf3", "-s", "-1", "--forceflush"]) as server:
            assert server.stdout
            while "listening" not in (line := server.stdout.readline()):
                assert line, server.stderr and server.stderr.read()
            command = ["iperf3", "-c", self.address, "-t", str(SECONDS), "-P", str(streams), "-J"]
            shown = json.loads(self.lab.exec(self.sender, command).stdout)
        return float(shown["end"]["sum_received"]["bits_per_second"]) / 1e9

    def ready(self) -> None:
        poll(lambda: pings(self.lab, self.sender, self.address, wait=1), timeout=20, what=f"{self.sender} reaches it")


def compared(title: str, paths: Mapping[str, Path], streams: int) -> float:
    """Print the medians of all, and return the ratio of the first to the second."""
    measured: dict[str, list[float]] = {name: [] for name in paths}
    for path in paths.values():
        path.ready()
    for _ in range(ROUNDS):
        for name, path in paths.items():
            measured[name].append(path.gigabits(streams))
    medians = [statistics.median(values) for values in measured.values()]
    print(f"\n{title}, {streams} stream{'s' * (streams > 1)}")
    for (name, values), median in zip(measured.items(), medians, strict=True):
        print(f"  {name:26} {median:6.2f} Gbit/s   (of {ROUNDS}: {min(values):.2f} to {max(values):.2f})")
    print(f"  {'ratio':26} {medians[0] / medians[1]:6.2f}")
    return medians[0] / medians[1]


def vxlanu_path(lab: Lab, name: str = "1") -> Path:
    """A network with a container on each host."""
    lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/16")
    for host in HOSTS:
        attached = lab.vxlanu(host, "attach", "blue", f"c{host[1]}-{name}")
    return Path(lab, f"c1-{name}", f"c2-{name}", attached["addresses"][0].split("/")[0])


def kernel_path(lab: Lab) -> Path:
    """Containers behind veth, bridge and vxlan device, on the same hosts; the port differs from the agents'."""
    for number, host in enumerate(HOSTS, 1):
        name = f"c{number}-k"
        lab.create_container(name)
        own, other = (lab.plan.advertise(HOSTS[at]) for at in (number - 1, 2 - number))
        for command in (
            "ip link add br-k type bridge",
            f"ip link add vx-k type vxlan id 7 local {own} remote {other} dstport 4790",
            f"ip link add veth-k mtu {MTU} type veth peer name eth0 mtu {MTU} netns {name}",
            f"ip link set vx-k mtu {MTU} master br-k up",
            "ip link set veth-k master br-k up",
            "ip link set br-k up",
        ):
            lab.exec(host, command.split())
        lab.exec(name, f"ip addr add 10.66.0.{number}/24 dev eth0".split())
        lab.exec(name, ["ip", "link", "set", "eth0", "up"])
    return Path(lab, "c1-k", "c2-k", "10.66.0.2")


def ovs_path(lab: Lab, stack: ExitStack, underlay: str) -> Path:
    """Two further hosts on the same underlay."""
    outer = {"o1": "10.97.0.61", "o2": "10.97.0.62"}
    for number, name in enumerate(outer, 1):
        host = stack.enter_context(OvsHost.up(lab, name, outer[name], underlay))
        host.overlay(7, outer["o2" if name == "o1" else "o1"], f"10.67.0.{number}/24", MTU)
    return Path(lab, "o1", "o2", "10.67.0.2")


@pytest.fixture(scope="module")
def both(make_module_lab: Callable[..., Lab]) -> Iterator[dict[str, Path]]:
    lab = make_module_lab(hosts=2, containers=1)
    yield {"vxlanu": vxlanu_path(lab), "kernel vxlan and bridge": kernel_path(lab)}


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize(("underlay", "promised"), [("offload", 0.55), ("plain", 0.75)])
def test_bulk_tcp_beside_kernel_vxlan(both: dict[str, Path], underlay: str, promised: float, streams: int) -> None:
    set_underlay(both["vxlanu"].lab, underlay, HOSTS)
    assert compared(f"underlay {underlay}, promised {promised}", both, streams) >= promised


@pytest.mark.interop(*PROGRAMS)
@pytest.mark.parametrize("underlay", ["offload", "wire"])
def test_without_any_offload_it_is_no_slower_than_open_vswitch(make_lab: Callable[..., Lab], underlay: str) -> None:
    lab = make_lab(hosts=2, containers=1, agent_flags=("--offload", "off"))
    set_underlay(lab, underlay, HOSTS)
    with ExitStack() as stack:
        paths = {"vxlanu --offload off": vxlanu_path(lab), "OVS userspace": ovs_path(lab, stack, underlay)}
        assert compared(f"underlay {underlay}, no offloads, promised 1", paths, 1) >= 1
