"""An underlay that grows narrower under a running overlay, and wide again.

c1-1          c2-1        blue 192.168.9.0/24 and an IPv6 prefix, MTU 1450
 h1 ══════════ h2         the cable: 1500 bytes, 1300 or 1400 for a while
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from streams import answer_of, once, pings, ready, words

from vxlanu.lab.topology import Lab, poll

pytestmark = pytest.mark.netns

OUTER = 50  # Ethernet, VXLAN, UDP and IPv4 around an inner packet
HOSTS = ("h1", "h2")
TRIES = 5


class Way:
    """One network over two hosts, and the width of the cable between them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.9.0/24", "--ipv6")
        bodies = [lab.vxlanu(f"h{number}", "attach", "blue", f"c{number}-1") for number in (1, 2)]
        texts = [text.split("/")[0] for text in bodies[1]["addresses"]]
        self.v4, self.v6 = sorted(texts, key=lambda text: ":" in text)

    def believed(self) -> list[int]:
        """What each host takes for the path MTU to the other."""
        rows = [row for host in HOSTS for row in self.lab.vxlanu(host, "vtep", "ls")]
        return [row["path_mtu"] for row in rows if row["state"] != "self"]

    def set(self, mtu: int) -> None:
        for host in HOSTS:
            self.lab.exec(host, ["ip", "link", "set", "eth0", "mtu", str(mtu)])

    @contextmanager
    def narrowed(self, mtu: int) -> Iterator[None]:
        """The cable takes `mtu` bytes inside the block, and the containers have forgotten everything after it."""
        self.set(mtu)
        try:
            poll(lambda: self.believed() == [mtu, mtu], f"both hosts know {mtu}", 60, self.lab.story)
            yield
        finally:
            self.set(1500)
            poll(lambda: self.believed() == [1500, 1500], "both hosts know 1500 again", 60, self.lab.story)
            for name in ("c1-1", "c2-1"):
                self.lab.exec(name, ["ip", "route", "flush", "cache"])
                self.lab.exec(name, ["ip", "-6", "route", "flush", "cache"])


@pytest.fixture(scope="module")
def way(make_module_lab: Callable[..., Lab]) -> Way:
    made = Way(make_module_lab(hosts=2, containers=1))
    for address in (made.v4, made.v6):
        poll(lambda: pings(made.lab, "c1-1", address, wait=1), f"{address} answers", 60)  # noqa: B023
    return made


def ping(way: Way, address: str, size: int, *options: str) -> str:
    """What ping says about a packet of `size` bytes, sent until something comes of it."""
    header = 48 if ":" in address else 28
    asked = ["ping", "-n", "-c", "1", "-W", "10", "-s", str(size - header), *options, address]
    for _ in range(TRIES):
        said = way.lab.exec("c1-1", asked, check=False).stdout
        if " 0% packet loss" in said or "mtu" in said:
            break
    return said


def test_the_path_mtu_follows_the_links_down_and_up_again(way: Way) -> None:
    poll(lambda: way.believed() == [1500, 1500], "both hosts know the cable", 60, way.lab.story)
    with way.narrowed(1300):
        pass
    assert way.believed() == [1500, 1500]


def test_a_route_with_an_mtu_counts_and_the_kernels_cache_does_not(way: Way) -> None:
    other = next(row["address"] for row in way.lab.vxlanu("h1", "vtep", "ls") if row["state"] != "self")
    limited = ["ip", "route", "replace", f"{other}/32", "dev", "eth0", "mtu", "lock", "1350"]
    way.lab.exec("h1", limited)
    poll(lambda: sorted(way.believed()) == [1350, 1500], "h1 keeps to the route's MTU", 60, way.lab.story)
    way.lab.exec("h1", ["ip", "route", "del", f"{other}/32"])
    poll(lambda: way.believed() == [1500, 1500], "the route is gone and so is its MTU", 60, way.lab.story)


@pytest.mark.parametrize(("version", "cable"), [("v4", 1300), ("v4", 1400), ("v6", 1400)])
def test_a_sender_that_forbids_fragments_is_told_the_mtu(way: Way, version: str, cable: int) -> None:
    address = getattr(way, version)
    assert " 0% packet loss" in ping(way, address, 1450, "-M", "do"), "the positive control: it fits a wide cable"
    with way.narrowed(cable):
        said = ping(way, address, cable - OUTER + 1, "-M", "do")
        wording = {"v4": r"Frag needed and DF set \(mtu = (\d+)\)", "v6": r"Packet too big: mtu=(\d+)"}[version]
        told = re.search(wording, said)
        assert told and int(told[1]) == cable - OUTER, said
        assert f"From {address}" in said, "it comes as from the other end"
        assert " 0% packet loss" in ping(way, address, cable - OUTER, "-M", "do")


def arrived(lab: Lab) -> int:
    """Bytes that the receiving container has got so far."""
    counted = lab.exec("c2-1", ["cat", "/proc/net/dev"]).stdout
    return next(int(line.split()[1]) for line in counted.splitlines() if line.strip().startswith("eth0:"))


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_a_transfer_goes_on_while_the_path_grows_narrow(way: Way, version: str) -> None:
    lab, address, before = way.lab, getattr(way, version), arrived(way.lab)
    with ready(lab, "c2-1", "receive", "tcp", address, 5001, 60) as listening:
        sending = words("send", "tcp", address, 5001, 6 << 20, 1, 2 << 20)  # three seconds
        with lab.running("c1-1", sending) as sender:
            poll(lambda: arrived(lab) > before + (1 << 20), "a megabyte has arrived", 60, lab.story)
            with way.narrowed(1400):
                sent = answer_of(sender)
        assert answer_of(listening) == sent


@pytest.mark.parametrize("size", [1251, 1400, 4000])
def test_what_may_be_fragmented_arrives_whole(way: Way, size: int) -> None:
    lab, address = way.lab, way.v4
    lab.exec("c1-1", ["sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1"])
    try:
        with way.narrowed(1300):
            assert " 0% packet loss" in ping(way, address, size, "-M", "dont")
            with ready(lab, "c2-1", "receive", "udp", address, 5002, 60) as listening:
                sent = once(lab, "c1-1", "send", "udp", address, 5002, 50, 3, size)
                assert answer_of(listening) == sent
            with ready(lab, "c2-1", "receive", "tcp", address, 5003, 60) as listening:
                sent = once(lab, "c1-1", "send", "tcp", address, 5003, 1 << 20, 4, 0)
                assert answer_of(listening) == sent
    finally:
        lab.exec("c1-1", ["sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=0"])
