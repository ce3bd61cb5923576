"""Networks side by side: several subnets in each, a container on both, VLAN tags in one of them.

plain: 10.61.0.0/24 10.62.0.0/24 fd61::/64      c1-1 (10.61, fd61) c2-1 (10.62, fd61), tags are dropped
trunk: 10.71.0.0/24 10.72.0.0/24                c1-2 (10.71) c2-2 (10.72) and c1-1 (10.71), tags pass
       h1 ── underlay ── h2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_ns import poll
from scapy.layers.inet import IP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.utils import rdpcap
from streams import answer_of, exactly, once, pings, ready, watching

from vxlanu.lab.topology import Lab

pytestmark = pytest.mark.netns

PLAIN, TRUNK = {"c1-1": "10.61.0.11", "c2-1": "10.62.0.21"}, {"c1-2": "10.71.0.12", "c2-2": "10.72.0.22"}
BOTH = "10.71.0.11"  # c1-1 on trunk
EXPERIMENT = 253  # an IP protocol number for experiments (RFC 3692)


class Pair:
    """The two networks and who is where."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.vxlanu("h1", "network", "create", "plain", "--subnet", "10.61.0.0/24", "--subnet", "10.62.0.0/24",
                   "--subnet", "fd61::/64")  # fmt: skip
        lab.vxlanu("h2", "network", "create", "trunk", "--subnet", "10.71.0.0/24", "--subnet", "10.72.0.0/24",
                   "--vlan", "pass")  # fmt: skip
        self.mac: dict[str, str] = {}
        self.v6: dict[str, str] = {}
        for name, address in PLAIN.items():
            body = self._attach("plain", name, address)
            self.v6[name] = next(text.split("/")[0] for text in body["addresses"] if ":" in text)
        for name, address in TRUNK.items():
            self._attach("trunk", name, address)
        self.second = lab.vxlanu("h1", "attach", "trunk", "c1-1", "--ip", BOTH)["ifname"]
        self.vni = {row["name"]: row["vni"] for row in lab.vxlanu("h1", "network", "ls")}

    def _attach(self, network: str, name: str, address: str) -> dict[str, list[str]]:
        body: dict[str, list[str]] = self.lab.vxlanu(f"h{name[1]}", "attach", network, name, "--ip", address)
        self.mac[name] = str(body["mac"])
        return body

    def tagged(self, way: tuple[str, str], addresses: dict[str, str], marker: bytes, *, vlan: bool = True) -> Ether:
        """A frame of the sender's own, with or without VLAN 7."""
        sender, receiver = way
        packet = IP(src=addresses[sender], dst=addresses[receiver], proto=EXPERIMENT) / marker
        frame = Ether(src=self.mac[sender], dst=self.mac[receiver])
        return frame / Dot1Q(vlan=7) / packet if vlan else frame / packet

    def send(self, way: tuple[str, str], frame: Ether) -> None:
        """Ten times the frame."""
        once(self.lab, way[0], "frame", "eth0", bytes(frame).hex(), 10)

    def drops(self, host: str, network: str) -> int:
        rows = self.lab.vxlanu(host, "drops")
        return sum(row["frames"] for row in rows
                   if (row["reason"], row["scope"], row["network"]) == ("vlan", "network", network))  # fmt: skip

    def dropped(self, host: str, network: str, count: int) -> None:
        """That so many frames are counted as dropped for their tag: soon, and then no more."""
        poll(lambda: self.drops(host, network) >= count, what=f"{count} drops", story=self.lab.story)
        assert self.drops(host, network) == count


@pytest.fixture(scope="module")
def pair(make_module_lab: Callable[..., Lab]) -> Iterator[Pair]:
    yield Pair(make_module_lab(hosts=2, containers=2))


def test_subnets_of_one_network_reach_each_other_and_those_of_the_other_do_not(pair: Pair) -> None:
    lab = pair.lab
    assert pings(lab, "c1-1", PLAIN["c2-1"]) and pings(lab, "c2-1", PLAIN["c1-1"])
    assert pings(lab, "c1-2", TRUNK["c2-2"]) and pings(lab, "c2-2", TRUNK["c1-2"])
    assert pings(lab, "c1-1", pair.v6["c2-1"])
    for name, target in (("c1-2", PLAIN["c2-1"]), ("c2-1", TRUNK["c2-2"]), ("c2-2", PLAIN["c1-1"])):
        lab.exec(name, ["ip", "route", "replace", f"{target}/32", "dev", "eth0"])
        assert not pings(lab, name, target, wait=1), (name, target)


def test_a_container_on_both_networks_uses_each_by_its_own_interface(pair: Pair) -> None:
    lab = pair.lab
    assert pair.second == "eth2", "eth1 is the way out that both share"
    assert pings(lab, "c1-1", TRUNK["c2-2"]) and pings(lab, "c1-1", PLAIN["c2-1"])
    for address in (TRUNK["c2-2"], PLAIN["c2-1"]):
        receiver = "c2-2" if address == TRUNK["c2-2"] else "c2-1"
        with ready(lab, receiver, "receive", "tcp", address, 5001, 60) as listening:
            sent = once(lab, "c1-1", "send", "tcp", address, 5001, 2 << 20, 11, 0)
            assert answer_of(listening) == sent
    with ready(lab, "c1-1", "receive", "tcp", BOTH, 5001, 60) as listening:
        sent = once(lab, "c2-2", "send", "tcp", BOTH, 5001, 2 << 20, 12, 0)
        assert answer_of(listening) == sent


def test_tagged_frames_are_dropped_and_counted_unless_the_network_passes_them(pair: Pair) -> None:
    marker, way = b"a frame in VLAN 7", ("c1-1", "c2-1")
    before = pair.drops("h1", "plain")
    with watching(pair.lab, "c2-1", marker) as seen:
        pair.send(way, pair.tagged(way, PLAIN, marker))
        pair.dropped("h1", "plain", before + 10)
        assert seen() == 0
        pair.send(way, pair.tagged(way, PLAIN, marker, vlan=False))
        assert exactly(10, seen)
    way = ("c1-2", "c2-2")
    with watching(pair.lab, "c2-2", marker) as seen:
        pair.send(way, pair.tagged(way, TRUNK, marker))
        assert exactly(10, seen)
    assert pair.drops("h1", "trunk") == 0


def test_a_member_cannot_bring_tagged_frames_in_through_the_tunnel(pair: Pair) -> None:
    """What an older or foreign sender lets out, the receiver still judges by the network's own rule."""
    lab, marker = pair.lab, b"a tagged frame from the tunnel"
    outer = next(row["address"] for row in lab.vxlanu("h1", "member", "ls") if row["name"] == "h2")
    before = pair.drops("h2", "plain")

    def forge(network: str, frame: Ether) -> None:
        forged = VXLAN(flags=0x08, vni=pair.vni[network]) / frame
        once(lab, "h1", "forge", outer, 4789, bytes(forged).hex(), 10)

    way = ("c1-1", "c2-1")
    with watching(lab, "c2-1", marker) as seen:
        forge("plain", pair.tagged(way, PLAIN, marker))
        pair.dropped("h2", "plain", before + 10)
        assert seen() == 0
        forge("plain", pair.tagged(way, PLAIN, marker, vlan=False))
        assert exactly(10, seen)
    way = ("c1-2", "c2-2")
    with watching(lab, "c2-2", marker) as seen:
        forge("trunk", pair.tagged(way, TRUNK, marker))
        assert exactly(10, seen)


@pytest.mark.interop("dumpcap")
def test_a_tag_arrives_as_it_was_sent(pair: Pair, tmp_path: Path) -> None:
    """With the kernel's help: it takes a tag out of the frame for whoever listens, and libpcap puts it back."""
    lab, marker, way, path = pair.lab, b"byte for byte, the tag too", ("c1-2", "c2-2"), tmp_path / "tagged.pcap"
    sent = bytes(pair.tagged(way, TRUNK, marker))

    def heard() -> bool:
        once(lab, way[0], "frame", "eth0", sent.hex(), 5)
        return path.exists() and marker in path.read_bytes()

    with lab.running(way[1], ["dumpcap", "-q", "-P", "-i", "eth0", "-w", str(path)]) as dumpcap:
        poll(heard, what="a frame in the capture")
        dumpcap.terminate()
        assert dumpcap.wait(60) == 0, dumpcap.stderr and dumpcap.stderr.read()
    assert {bytes(packet) for packet in rdpcap(str(path)) if marker in bytes(packet)} == {sent}


def test_verify_prints_nothing(pair: Pair) -> None:
    for host in ("h1", "h2"):
        assert pair.lab.exec(host, ["vxlanu", "verify"]).stdout == ""
