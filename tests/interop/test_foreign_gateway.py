"""A foreign tunnel end at the gateway: a kernel vxlan device asks for it, pings it, and routes through it.

c1-1 .7.x  fd07::x   c1-2 .8.x fd08::x        c2-1 .8.x fd08::x
    └───── h1 ─────────┘                        h2               every host is the gateway, with a MAC of its own
           └────────────── underlay ─────────────┘
                             kernel .7.250 fd07::250, no agent; 192.168.8.0/24 and fd08::/64 by way of the gateway
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kernel_peer import INNER, KernelPeer
from lab_ns import poll
from streams import pings

from vxlanu.lab.plan import underlay_address
from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("kernel-vxlan", "bridge")]

FOREIGN = "kernel"
SUBNETS = ("192.168.7.0/24", "fd07::/64", "192.168.8.0/24", "fd08::/64")
GATEWAY = {"v4": "192.168.7.1", "v6": "fd07::1"}
FAR = {"v4": "192.168.8.0/24", "v6": "fd08::/64"}
PLACES = {
    "c1-1": ("192.168.7.11", "fd07::11"),
    "c1-2": ("192.168.8.12", "fd08::12"),
    "c2-1": ("192.168.8.21", "fd08::21"),
}
HOSTS = pytest.mark.parametrize("host", ["h1", "h2"])
VERSIONS = pytest.mark.parametrize("version", ["v4", "v6"])


def address(place: str, version: str) -> str:
    return PLACES[place][version == "v6"]


@pytest.fixture(scope="module")
def blue(make_module_lab: Callable[..., Lab]) -> Iterator[KernelPeer]:
    lab = make_module_lab(hosts=2, containers=0)
    words = [word for subnet in SUBNETS for word in ("--subnet", subnet)]
    words += [word for version, it in INNER.items() for word in ("--aux", f"kernel-{version}={it}")]
    network = lab.vxlanu("h1", "network", "create", "blue", "--internal", *words)
    for name in PLACES:
        lab.create_container(name)
        lab.vxlanu(f"h{name[1]}", "attach", "blue", name, "--ip", PLACES[name][0], "--ip6", PLACES[name][1])
    peer = KernelPeer(lab, network, "ipv4", FOREIGN)
    for version, far in FAR.items():
        family = "-6" if version == "v6" else "-4"
        lab.exec(FOREIGN, ["ip", family, "route", "add", far, "via", GATEWAY[version]])
    yield peer


def router_mac(lab: Lab, host: str) -> str:
    return "0a:" + ":".join(re.findall("..", lab.vxlanu(host, "status")["id"][:10]))


def forget_gateway(peer: KernelPeer) -> None:
    for version, gateway in GATEWAY.items():
        family = "-6" if version == "v6" else "-4"
        peer.lab.exec(FOREIGN, ["ip", family, "neigh", "flush", "to", gateway, "dev", peer.device])


def found_at(peer: KernelPeer, host: str, target: str, version: str) -> str:
    """The kernel's entry for the gateway once it has pinged `target`, which must be the host's; it may err a few times.

    The other host, too, tells who it is when its own entry for the kernel has aged: some 20 s after they have talked.
    """
    mac = router_mac(peer.lab, host)
    seen: list[str] = []
    for _ in range(5):
        assert pings(peer.lab, FOREIGN, target), peer.story()
        seen.append(neighbor(peer, GATEWAY[version]))
        if mac in seen[-1]:
            return seen[-1]
        forget_gateway(peer)
    raise AssertionError(f"{mac} is in none of {seen}\n{peer.story()}")


@contextmanager
def asking_only(peer: KernelPeer, host: str) -> Iterator[None]:
    """What the kernel floods goes to one host alone, and it has forgotten who the gateway is."""
    other = underlay_address({"h1": "h2", "h2": "h1"}[host], "ipv4")
    entry = ["00:00:00:00:00:00", "dev", peer.device, "dst", other]
    peer.lab.exec(FOREIGN, ["bridge", "fdb", "del", *entry])
    forget_gateway(peer)
    try:
        yield
    finally:
        peer.lab.exec(FOREIGN, ["bridge", "fdb", "append", *entry])


def neighbor(peer: KernelPeer, address: str) -> str:
    return peer.lab.exec(FOREIGN, ["ip", "neigh", "show", address, "dev", peer.device]).stdout


@VERSIONS
@HOSTS
def test_the_kernel_asks_for_the_gateway_and_the_host_that_hears_it_answers(
    blue: KernelPeer, host: str, version: str
) -> None:
    with asking_only(blue, host):
        found = found_at(blue, host, GATEWAY[version], version)
    assert ("router" in found) is (version == "v6"), found


def hop_limit_reached(lab: Lab, target: str, version: str) -> bool:
    """Whether the gateway says so of a packet that may take one hop; a kernel says it a few times a second at most."""
    said = lab.exec(FOREIGN, ["ping", "-n", "-c", "1", "-W", "2", "-t", "1", target], check=False).stdout
    return re.search(rf"{GATEWAY[version]} .*(Time to live exceeded|Hop limit)", said) is not None


@VERSIONS
@HOSTS
@pytest.mark.parametrize("place", ["c1-2", "c2-1"])
def test_the_kernel_reaches_another_subnet_through_the_gateway(
    blue: KernelPeer, host: str, place: str, version: str
) -> None:
    """Through the host that answered, whether the container is on it or on the other one; one hop is lost there."""
    lab, target = blue.lab, address(place, version)
    with asking_only(blue, host):
        found_at(blue, host, target, version)
        poll(lambda: hop_limit_reached(lab, target, version), what="the gateway to say so", story=blue.story)


@VERSIONS
@pytest.mark.parametrize("place", PLACES)
def test_containers_of_both_subnets_reach_the_kernel(blue: KernelPeer, place: str, version: str) -> None:
    assert pings(blue.lab, place, INNER[version]), blue.story()


@VERSIONS
def test_what_is_no_gateway_is_answered_by_nobody(blue: KernelPeer, version: str) -> None:
    """The control for those above: the answers are not given for every address."""
    nobody = {"v4": "192.168.7.77", "v6": "fd07::77"}[version]
    assert not pings(blue.lab, FOREIGN, nobody, wait=1)
    assert "lladdr" not in neighbor(blue, nobody)
