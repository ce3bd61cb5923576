"""What the kernel itself says of changes, and what that means for injection (test_bearing.py of tests/unit: by kind).

    eth0, the uplink     192.0.2.1/24, fd97::1/64; a neighbour of either family
    d0, the TAP's part   a veth
    v0 - v1              a container's link, which comes and goes
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from lab_ns import Namespace, Namespaces, poll

from vxlanu.agent.bearing import Bearing, Weight
from vxlanu.agent.injection import CHANGES
from vxlanu.nsopen import NextHop, NextHops, UplinkFacts
from vxlanu.nsopen.rtnetlink import messages
from vxlanu.nsopen.syscalls import CLONE_NEWNET, enter
from vxlanu.nsopen.uplink import asks_for_carrier

pytestmark = pytest.mark.netns

MAC = "02:00:00:00:00:09"
FAR = ("192.0.2.9", "fd97::9", "198.51.100.7")
CONTAINER = (
    "link add v0 type veth peer name v1",
    "address add 172.18.0.1/16 dev v0",
    "link set v0 up",
    "link set v1 up",
    "link set v0 type veth",
    "route add 172.19.0.0/16 dev v0",
    "neigh add 172.18.0.9 dev v0 lladdr 02:00:00:00:00:0a nud permanent",
    "link del v0",
)
HARMS = (
    "link set eth0 down",
    "link set eth0 mtu 1400",
    "link set d0 address 02:00:00:00:00:77",
    "link del d0",
    "address del 192.0.2.1/24 dev eth0",
    "address del fd97::1/64 dev eth0",
    "route add 198.51.100.0/24 dev d0",
    "route add default dev d0",
    "-6 route add fd97::9/128 dev d0",
    "nexthop add id 7 via 192.0.2.9 dev eth0",
    "rule add to 198.51.100.7 lookup 100",
    "-6 rule add to fd97::9 lookup 100",
    "neigh replace 192.0.2.9 dev eth0 lladdr 02:00:00:00:00:0b nud reachable",
    "-6 neigh del fd97::9 dev eth0",
)
MOVES = {
    "neigh replace 192.0.2.9 dev eth0 lladdr 02:00:00:00:00:0b nud reachable": {"192.0.2.9", "198.51.100.7"},
    "neigh replace 192.0.2.9 dev eth0 nud failed": {"192.0.2.9", "198.51.100.7"},
    "-6 neigh del fd97::9 dev eth0": {"fd97::9"},
    "route add default dev d0": set[str](),
}


def inside(host: Namespace, do: Callable[[], None]) -> None:
    """In its network namespace; no other thread is meant to come along."""

    def entered() -> None:
        namespace = os.open(host.path, os.O_RDONLY)
        enter(namespace, CLONE_NEWNET)
        os.close(namespace)
        do()

    thread = threading.Thread(target=entered)
    thread.start()
    thread.join()


class Listener:
    """Hears what injection hears, of one namespace."""

    def __init__(self, host: Namespace) -> None:
        self.bundles: list[bytes] = []
        inside(host, self._open)

    def _open(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self.socket.bind((0, CHANGES))

    def hear(self) -> list[bytes]:
        """All bundles that came since the last `forget`."""
        try:
            while True:
                self.bundles.append(self.socket.recv(1 << 16))
        except BlockingIOError:
            return self.bundles

    def forget(self) -> None:
        self.hear()
        self.bundles = []


@pytest.fixture
def host(namespaces: Namespaces) -> Namespace:
    made = namespaces.make("h")
    made.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
    for command in (
        "link add eth0 type veth peer name e1", "link add d0 type veth peer name d1",
        "link set e1 up", "link set eth0 up", "link set d0 up", "link set d1 up",
        "address add 192.0.2.1/24 dev eth0", "address add fd97::1/64 dev eth0 nodad",
        f"neigh add {FAR[0]} dev eth0 lladdr {MAC} nud permanent",
        f"-6 neigh add {FAR[1]} dev eth0 lladdr {MAC} nud permanent", "route add 198.51.100.0/25 via 192.0.2.9",
    ):  # fmt: skip
        made.ip(*command.split())
    return made


@pytest.fixture
def listener(host: Namespace) -> Iterator[Listener]:
    made = Listener(host)
    yield made
    made.socket.close()


def bearing(host: Namespace, *, carrier: bool = False) -> Bearing:
    index = {it["ifname"]: it["ifindex"] for it in json.loads(host.ip("-j", "link"))}
    hops = {far: NextHop(via, MAC, "") for far, via in zip(FAR, (*FAR[:2], FAR[0]), strict=True)}
    opened = UplinkFacts("d0", index["d0"], "eth0", index["eth0"])
    return Bearing.after(NextHops(hops, carrier=carrier), opened, FAR, "192.0.2.1")


def settled(host: Namespace, links: int = 4) -> bool:
    """The kernel has said all that it says by itself, and later than the command that was the reason: that a cable is
    there, with the link's state, and each IPv6 address just before it gets its local route (__ipv6_ifa_notify())."""
    states = [it["operstate"] for it in json.loads(host.ip("-j", "link")) if it["ifname"] != "lo"]
    local = json.loads(host.ip("-j", "-6", "route", "show", "table", "local", "type", "local"))
    own = [it["dst"] for it in local if it["dev"] != "lo"]  # one that it gave to each link, and ours
    return states == ["UP"] * links and len(own) == links + 1


def kinds(bundles: list[bytes]) -> list[int]:
    return [kind for bundle in bundles for kind, _, _ in messages(bundle)]


def test_a_container_that_comes_and_goes_bears_on_nothing(host: Namespace, listener: Listener) -> None:
    poll(lambda: settled(host), what="the links have their addresses", story=host.story)
    judge = bearing(host)
    listener.forget()
    for command in CONTAINER:
        host.ip(*command.split())
    poll(lambda: kinds(listener.hear()).count(17) >= 2, what="both ends of the link have ended")
    assert len(kinds(listener.bundles)) > 2 * len(CONTAINER), "positive control"
    assert {judge.of(it) for it in listener.bundles} == {Weight.NOTHING}
    assert not set[str]().union(*map(judge.moved, listener.bundles))


@pytest.mark.parametrize("harm", HARMS)
def test_what_changes_the_way_is_looked_at(host: Namespace, listener: Listener, harm: str) -> None:
    poll(lambda: settled(host), what="the links have their addresses", story=host.story)
    judge = bearing(host)
    listener.forget()
    host.ip(*harm.split())
    poll(lambda: Weight.NOW in map(judge.of, listener.hear()), what="a look is due", story=host.story)


@pytest.mark.parametrize(("harm", "moved"), MOVES.items())
def test_what_goes_by_a_neighbour_that_moved_is_told(
    host: Namespace, listener: Listener, harm: str, moved: set[str]
) -> None:
    poll(lambda: settled(host), what="the links have their addresses", story=host.story)
    judge = bearing(host)
    listener.forget()
    host.ip(*harm.split())
    poll(lambda: Weight.NOW in map(judge.of, listener.hear()), what="a look is due", story=host.story)
    assert set[str]().union(*map(judge.moved, listener.bundles)) == moved


def test_a_route_may_count_again_without_a_word_when_its_link_gets_a_carrier(
    host: Namespace, listener: Listener
) -> None:
    host.ip("link", "add", "w0", "type", "veth", "peer", "name", "w1")
    for link in ("w0", "w1"):
        host.ip("link", "set", link, "up")
    asked = list[bool]()
    inside(host, lambda: asked.append(asks_for_carrier(FAR[0])))
    host.run("sysctl", "-qw", "net.ipv4.conf.w0.ignore_routes_with_linkdown=1")
    inside(host, lambda: asked.extend(map(asks_for_carrier, FAR[:2])))
    assert asked == [False, True, False]
    poll(lambda: settled(host, 6), what="the links have their addresses", story=host.story)
    host.ip("address", "add", "203.0.113.1/24", "dev", "w0")
    host.ip("route", "add", "198.51.100.0/26", "via", "203.0.113.9")
    host.ip("link", "set", "w1", "down")
    poll(lambda: "dev eth0" in host.ip("route", "get", FAR[2]), what="it is passed over", story=host.story)
    judge, unaware = bearing(host, carrier=True), bearing(host)
    listener.forget()
    host.ip("link", "set", "w1", "up")
    poll(lambda: "dev w0" in host.ip("route", "get", FAR[2]), what="it counts again", story=host.story)
    assert (24, socket.AF_INET) not in {(kind, body[0]) for it in listener.hear() for kind, _, body in messages(it)}
    poll(lambda: Weight.NOW in map(judge.of, listener.hear()), what="a look is due", story=host.story)
    assert set(map(unaware.of, listener.bundles)) == {Weight.NOTHING}
