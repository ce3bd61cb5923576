"""Which of a host's changes are worth a look; the messages are made, tests/netns has the kernel's."""

from __future__ import annotations

import netlink_messages as netlink
import pytest

from vxlanu.agent.bearing import Bearing, Weight
from vxlanu.nsopen import NextHop, NextHops, UplinkFacts

UPLINK, TAP, OTHER = 2, 7, 31
OWN, DIRECT, ROUTED, GATEWAY, SIXTH = "192.0.2.1", "192.0.2.2", "198.51.100.7", "192.0.2.254", "2001:db8::2"
MAC, ANOTHER = "02:00:00:00:00:09", "02:00:00:00:00:0a"
OPENED = UplinkFacts("vxlanu_tx0", TAP, "eth0", UPLINK)
HOPS = {
    DIRECT: NextHop(DIRECT, MAC, ""),
    ROUTED: NextHop(GATEWAY, "", ""),
    SIXTH: NextHop(SIXTH, MAC, ""),
}
NOTHING, LATER, NOW = Weight.NOTHING, Weight.LATER, Weight.NOW

CASES = {
    "the uplink": (netlink.link(UPLINK, "eth0"), NOW),
    "the TAP": (netlink.link(TAP, "vxlanu_tx0", netlink.DEL), NOW),
    "another uplink": (netlink.link(OTHER, "eth0"), NOW),
    "a container's link": (netlink.link(OTHER, "veth12ab"), NOTHING),
    "a container's link ends": (netlink.link(OTHER, "eth0.5", netlink.DEL), NOTHING),
    "an address of the uplink": (netlink.address(UPLINK, OWN, netlink.DEL), NOW),
    "an address of a container": (netlink.address(OTHER, "fe80::1"), NOTHING),
    "the TAP's qdisc": (netlink.tc(netlink.QDISC, TAP, netlink.DEL), NOW),
    "the TAP's filter": (netlink.tc(netlink.FILTER, TAP, netlink.DEL), NOW),
    "a container's qdisc": (netlink.tc(netlink.QDISC, OTHER), NOTHING),
    "the default route": (netlink.route(OTHER, "0.0.0.0/0", netlink.DEL), NOW),
    "a prefix around one": (netlink.route(OTHER, "198.51.0.0/16"), NOW),
    "one alone": (netlink.route(OTHER, f"{DIRECT}/32"), NOW),
    "our own address": (netlink.route(OTHER, f"{OWN}/32", netlink.DEL), NOW),
    "the last of a prefix": (netlink.route(OTHER, "198.51.100.0/29"), NOW),
    "the prefix after it": (netlink.route(OTHER, "198.51.100.8/29"), NOTHING),
    "one beside it": (netlink.route(OTHER, "198.51.100.8/32"), NOTHING),
    "a container's prefix": (netlink.route(OTHER, "172.18.0.0/16"), NOTHING),
    "all of IPv6": (netlink.route(OTHER, "::/0"), NOW),
    "a prefix around that of IPv6": (netlink.route(OTHER, "2001:db8::/32"), NOW),
    "what comes with a container's link": (netlink.route(OTHER, "fe80::/64"), NOTHING),
    "and its multicast": (netlink.route(OTHER, "ff00::/8"), NOTHING),
    "a rule": (netlink.rule(), NOW),
    "as it was": (netlink.neighbour(UPLINK, DIRECT, MAC, netlink.REACHABLE), NOTHING),
    "as it was, of IPv6": (netlink.neighbour(UPLINK, SIXTH, MAC, netlink.DELAY), NOTHING),
    "stale": (netlink.neighbour(UPLINK, DIRECT, MAC, netlink.STALE), LATER),
    "another MAC": (netlink.neighbour(UPLINK, DIRECT, ANOTHER, netlink.REACHABLE), NOW),
    "another MAC, and stale": (netlink.neighbour(UPLINK, DIRECT, ANOTHER, netlink.STALE), NOW),
    "does not answer": (netlink.neighbour(UPLINK, DIRECT, MAC, netlink.FAILED), NOW),
    "was forgotten": (netlink.neighbour(UPLINK, DIRECT, MAC, netlink.STALE, netlink.DEL), NOW),
    "is known now": (netlink.neighbour(UPLINK, GATEWAY, MAC, netlink.REACHABLE), NOW),
    "still does not answer": (netlink.neighbour(UPLINK, GATEWAY, "", netlink.FAILED), NOTHING),
    "that of another link": (netlink.neighbour(OTHER, DIRECT, ANOTHER, netlink.REACHABLE), NOTHING),
    "nobody we send to": (netlink.neighbour(UPLINK, "192.0.2.77", ANOTHER, netlink.REACHABLE), NOTHING),
    "lost": (b"", NOW),
    "cut short": (netlink.link(OTHER, "veth12ab")[:20], NOW),
}  # fmt: skip


def after(*addresses: str) -> Bearing:
    return Bearing.after(NextHops(HOPS), OPENED, addresses, OWN)


@pytest.mark.parametrize(("bundle", "weight"), CASES.values(), ids=CASES)
def test_what_a_message_means(bundle: bytes, weight: Weight) -> None:
    assert after(DIRECT, ROUTED, SIXTH).of(bundle) is weight


MOVED = {
    "another MAC": {DIRECT},
    "another MAC, and stale": {DIRECT},
    "does not answer": {DIRECT},
    "was forgotten": {DIRECT},
    "is known now": {ROUTED},
}


@pytest.mark.parametrize("case", CASES)
def test_what_must_not_go_by_a_mac_any_more(case: str) -> None:
    assert after(DIRECT, ROUTED, SIXTH).moved(CASES[case][0]) == MOVED.get(case, set())


def test_of_a_bundle_the_weightiest_counts() -> None:
    nothing, later, now = (CASES[it][0] for it in ("a container's link", "stale", "the TAP"))
    bearing = after(DIRECT, ROUTED, SIXTH)
    assert [bearing.of(it) for it in (nothing * 2, nothing + later, later + now + nothing)] == [NOTHING, LATER, NOW]


def test_where_routes_need_a_carrier_all_links_matter() -> None:
    """One that gets it says nothing of its routes."""
    found = NextHops(HOPS, carrier=True)
    assert Bearing.after(found, OPENED, HOPS, OWN).of(CASES["a container's link"][0]) is NOW
    assert after(*HOPS).of(CASES["a container's link"][0]) is NOTHING


def test_as_long_as_one_is_reached_by_another_link_all_links_matter() -> None:
    """Their IPv4 routes go with them, and no message says so."""
    bearing = after(DIRECT, "203.0.113.5")
    assert bearing.of(CASES["a container's link"][0]) is NOW
    assert bearing.of(CASES["a container's qdisc"][0]) is NOTHING
