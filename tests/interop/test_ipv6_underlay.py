"""An underlay without IPv4 between the agents: everything that holds over IPv4 holds over IPv6, in 20 octets less.

c1-1 c1-2     c2-1 c2-2     c3-1 c3-2        blue: all six, IPv4 and IPv6 inside
   h1 ───────── h2 ───────── h3              agents advertise fd97::N
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lab_ns import poll
from streams import answer_of, datagrams, once, pairs, pings, ready

from vxlanu.lab.topology import Lab

pytestmark = pytest.mark.netns

SIX = ("c1-1", "c1-2", "c2-1", "c2-2", "c3-1", "c3-2")
HOSTS = ("h1", "h2", "h3")


class Segment:
    """One network over an IPv6 underlay."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24", "--ipv6")
        self.addresses: dict[tuple[str, str], str] = {}
        for name in SIX:
            for text in lab.vxlanu(f"h{name[1]}", "attach", "blue", name)["addresses"]:
                self.addresses[name, "v6" if ":" in text else "v4"] = text.split("/")[0]


@pytest.fixture(scope="module")
def segment(make_module_lab: Callable[..., Lab]) -> Iterator[Segment]:
    yield Segment(make_module_lab(hosts=3, containers=2, underlay="ipv6"))


def test_the_network_has_the_mtu_that_is_left(segment: Segment) -> None:
    assert [segment.lab.vxlanu(host, "network", "ls")[0]["mtu"] for host in HOSTS] == [1430] * 3
    assert "mtu 1430 " in segment.lab.exec("c2-1", ["ip", "link", "show", "eth0"]).stdout


def test_the_tunnel_ends_are_ipv6(segment: Segment) -> None:
    shown = {row["node"]: row["address"] for row in segment.lab.vxlanu("h1", "vtep", "ls")}
    assert shown == {"h1": "fd97::1", "h2": "fd97::2", "h3": "fd97::3"}


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_all_pairs_ping(segment: Segment, version: str) -> None:
    lost = [way for way in pairs(SIX) if not pings(segment.lab, way[0], segment.addresses[way[1], version])]
    assert not lost


@pytest.mark.parametrize(("version", "headers"), [("v4", 28), ("v6", 48)])
def test_the_largest_packet_fits_and_no_larger_one_leaves(segment: Segment, version: str, headers: int) -> None:
    address = segment.addresses["c2-1", version]

    def echoed(octets: int) -> bool:
        asked = ["ping", "-n", "-q", "-c", "1", "-W", "2", "-M", "do", "-s", str(octets - headers), address]
        return segment.lab.exec("c1-1", asked, check=False).returncode == 0

    poll(lambda: echoed(1430), what="the largest one answered", story=segment.lab.story)
    assert not echoed(1431)


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_random_bytes_arrive_intact(segment: Segment, version: str) -> None:
    for sender, receiver in (("c1-1", "c2-1"), ("c3-2", "c1-2")):
        address = segment.addresses[receiver, version]
        with ready(segment.lab, receiver, "receive", "tcp", address, 5001, 60) as listening:
            sent = once(segment.lab, sender, "send", "tcp", address, 5001, 8 << 20, 5, 0)
            assert answer_of(listening) == sent
        sent, came = datagrams(segment.lab, sender, receiver, address, 30, 4000)
        assert came == sent, "in fragments"


def test_nothing_of_arp_or_nd_has_crossed_and_verify_prints_nothing(segment: Segment) -> None:
    assert pings(segment.lab, "c1-1", segment.addresses["c3-1", "v6"])
    for host in HOSTS:
        rows = segment.lab.vxlanu(host, "stats")
        assert sum(row["arp_nd_underlay"] for row in rows) == 0, rows
        assert segment.lab.exec(host, ["vxlanu", "verify"]).stdout == ""
