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
from collections.abc import Iterator

import pytest
from lab_ns import Namespace, Namespaces, poll

from vxlanu.agent.bearing import Bearing, Weight
from vxlanu.agent.injection import CHANGES
from vxlanu.nsopen import NextHop, NextHops, UplinkFacts
from vxlanu.nsopen.rtnetlink import messages
from vxlanu.nsopen.syscalls import CLONE_NEWNET, enter

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
    "rule add to 198.51.100.7 lookup 100",
    "-6 rule add to fd97::9 lookup 100",
    "neigh replace 192.0.2.9 dev eth0 lladdr 02:00:00:00:00:0b nud reachable",
    "-6 neigh del fd97::9 dev eth0",
)


class Listener:
    """Hears what injection hears, of one namespace."""

    def __init__(self, host: Namespace) -> None:
        self.bundles: list[bytes] = []
        inside = threading.Thread(target=self._open, args=(host,))  # which no other thread is meant to come along
        inside.start()
        inside.join()

    def _open(self, host: Namespace) -> None:
        namespace = os.open(host.path, os.O_RDONLY)
        enter(namespace, CLONE_NEWNET)
        os.close(namespace)
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


def bearing(host: Namespace) -> Bearing:
    index = {it["ifname"]: it["ifindex"] for it in json.loads(host.ip("-j", "link"))}
    hops = {far: NextHop(via, MAC, "") for far, via in zip(FAR, (*FAR[:2], FAR[0]), strict=True)}
    return Bearing.after(NextHops(hops), UplinkFacts("d0", index["d0"], "eth0", index["eth0"]), FAR, "192.0.2.1")


def settled(host: Namespace) -> bool:
    """The addresses that the kernel gives by itself are there."""
    shown = json.loads(host.ip("-j", "-6", "address", "show", "scope", "link"))
    given = [own for link in shown for own in link.get("addr_info", ()) if own]  # of another scope: an empty one
    return len(given) == 4


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


@pytest.mark.parametrize("harm", HARMS)
def test_what_changes_the_way_is_looked_at(host: Namespace, listener: Listener, harm: str) -> None:
    poll(lambda: settled(host), what="the links have their addresses", story=host.story)
    judge = bearing(host)
    listener.forget()
    host.ip(*harm.split())
    poll(lambda: Weight.NOW in map(judge.of, listener.hear()), what="a look is due", story=host.story)
