"""Open vSwitch in userspace as a static VTEP: a VXLAN that shares no code with the kernel's.

c1-1
  └─ h1 ── underlay ── ovs        192.168.7.250 on br-int; outer UDP checksums of 0, as OVS sends them
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lab_ns import poll
from sockets import bulk, sizes
from streams import echoes, pings

from benchmarks.peers.ovs import PROGRAMS, OvsHost
from benchmarks.underlay import set_underlay
from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop(*PROGRAMS, "ethtool")]

OVS, OURS = "ovs", "c1-1"
OUTER, INNER = "10.97.0.50", "192.168.7.250"
WAYS = [(OVS, OURS), (OURS, OVS)]
each_way = pytest.mark.parametrize("way", WAYS, ids=["from OVS", "to OVS"])


@pytest.fixture(scope="module")
def segment(make_module_lab: Callable[..., Lab]) -> Iterator[tuple[Lab, dict[str, str]]]:
    """The lab, and both addresses."""
    lab = make_module_lab(hosts=1, containers=1)
    network = lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.7.0/24", "--aux", f"ovs={INNER}")
    ours = lab.vxlanu("h1", "attach", "blue", OURS)["addresses"][0].split("/")[0]
    lab.vxlanu("h1", "vtep", "add", "blue", OUTER)
    set_underlay(lab, "wire", ("h1",))
    with OvsHost.up(lab, OVS, OUTER) as host:
        host.overlay(network["vni"], lab.plan.advertise("h1"), f"{INNER}/24")
        poll(lambda: pings(lab, OVS, ours, wait=1), what="the first echo", story=host.story)
        yield lab, {OVS: INNER, OURS: ours}


def test_each_pings_the_other(segment: tuple[Lab, dict[str, str]]) -> None:
    lab, address = segment
    for sender, receiver in WAYS:
        lab.exec(sender, ["ip", "neigh", "flush", "all"])
        assert echoes(lab, sender, address[receiver], 3) >= 2, (sender, receiver)


@each_way
def test_bulk_arrives_intact(segment: tuple[Lab, dict[str, str]], way: tuple[str, str]) -> None:
    done = bulk(segment[0], *way, segment[1][way[1]], 8 << 20)
    assert done.intact, done


@each_way
def test_datagrams_of_all_sizes_arrive_as_they_were_sent(
    segment: tuple[Lab, dict[str, str]], way: tuple[str, str]
) -> None:
    lab, address = segment
    assert sizes(lab, *way, *(address[end] for end in way), range(1, 8001, 13), window=8) == ([], [])
