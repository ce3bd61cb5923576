"""What crosses the wire, judged by two dissectors that nobody here wrote: tshark and scapy.

    c1-1            c2-1        ping, TCP, UDP of many flows and sizes and from UDP_SEGMENT senders, IPv4 and IPv6
     h1 ─ underlay ─ h2         inside; captured on the bridge, where nothing is left for a device to fill in

Run over IPv4 and over IPv6. On a default veth the kernel leaves checksums and segmentation to a card that is not there,
so both ends have them switched off: then every byte of the capture is as it would be on copper.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import pytest
from lab_ns import poll
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from scapy.plist import PacketList
from scapy.utils import rdpcap, wrpcap
from sockets import bulk, segmented, sizes
from streams import pings

from benchmarks.underlay import set_underlay
from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("tshark", "dumpcap", "ethtool")]

VNI = 0xABCDEF
WAY = ("c1-1", "c2-1")
ECHOES = 5
ECHO_TYPES = {8, 0, 128, 129}
FLOWS = 32
LONGEST = 1514
CHECKS = [word for layer in ("ip", "udp", "tcp") for word in ("-o", f"{layer}.check_checksum:TRUE")]
STATUS = [f"{layer}.checksum.status" for layer in ("ip", "udp", "tcp", "icmp", "icmpv6")]
PORTS = ["udp.srcport", "udp.dstport", "tcp.srcport", "tcp.dstport"]
FIELDS = [
    "frame.protocols",
    "frame.len",
    *PORTS,
    "ip.src",
    "ipv6.src",
    "ip.flags.df",
    "vxlan.flags",
    "vxlan.vni",
    *STATUS,
]
GOOD = "1"


def tshark(path: Path, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["tshark", "-n", "-r", path, *CHECKS, *arguments], capture_output=True, text=True, check=check
    )
    return done.stdout


@cache
def dissected(path: Path) -> list[dict[str, list[str]]]:
    """Each frame's FIELDS, every occurrence from the outside in."""
    shown = [word for name in FIELDS for word in ("-e", name)]
    table = tshark(path, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a", *shown)
    rows = [line.split("|") for line in table.splitlines()]
    return [{name: text.split(",") if text else [] for name, text in zip(FIELDS, row, strict=True)} for row in rows]


def faults(path: Path) -> list[list[str]]:
    """For each frame what is wrong with it as a VXLAN datagram of network VNI, as tshark sees it."""
    return [list(_faults(row)) for row in dissected(path)]


def _faults(row: dict[str, list[str]]) -> Iterator[str]:
    protocols = row["frame.protocols"][0].split(":")
    if "vxlan" not in protocols:
        yield "not VXLAN"
        return
    outer, inner = protocols[: protocols.index("vxlan")], protocols[protocols.index("vxlan") :]
    if int(row["frame.len"][0]) > LONGEST:
        yield "length"
    if row["udp.dstport"][0] != "4789":
        yield "destination port"
    if not 49152 <= int(row["udp.srcport"][0]) <= 65535:
        yield "source port"
    if "ip" in outer and row["ip.flags.df"][0] not in ("1", "True"):
        yield "DF"
    if [int(flags, 16) for flags in row["vxlan.flags"]] != [0x0800]:
        yield "flags"
    if row["vxlan.vni"] != [str(VNI)]:
        yield "VNI"
    if not {"icmp", "icmpv6", "tcp", "udp"} & set(inner):
        yield "what is inside"
    for name in STATUS:
        layer = name.split(".")[0]
        if row[name] != [GOOD] * protocols.count(layer):
            yield f"checksum of {layer}"


@dataclass
class Capture:
    """A lab on the wire of which somebody listens, and what was heard."""

    lab: Lab
    family: str
    raw: Path
    addresses: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def datagrams(self) -> Path:
        """What is from or to the data port; the rest of the capture is gossip and the underlay's own ND."""
        return self.raw.with_name(f"{self.family}-data.pcap")

    @cached_property
    def packets(self) -> PacketList:
        """All datagrams, as scapy has them."""
        return rdpcap(str(self.datagrams))

    def replies(self) -> int:
        """Echo replies of each version, at least, on the wire by now; the file may still be growing."""
        wanted = "vxlan && (icmp.type == 0 || icmpv6.type == 129)"
        said = tshark(self.raw, "-Y", wanted, "-T", "fields", "-e", "icmpv6.type", check=False).splitlines()
        return min(said.count(""), said.count("129"))

    def record(self) -> None:
        """Capture until all of the traffic, and then a last ping, are in the file."""
        command = ["dumpcap", "-q", "-P", "-B", "64", "-i", "underlay", "-w", str(self.raw)]
        with self.lab.running("underlay", command) as dumpcap:
            poll(lambda: self.raw.exists() and self.raw.stat().st_size > 24, what="dumpcap captures")
            self._traffic()
            poll(lambda: self.replies() >= ECHOES, what="all echo replies are in the file")
            dumpcap.terminate()
            assert dumpcap.wait(60) == 0, dumpcap.stderr and dumpcap.stderr.read()
        tshark(self.raw, "-Y", "udp.port == 4789", "-F", "pcap", "-w", str(self.datagrams))

    def _traffic(self) -> None:
        for version, address in self.addresses.items():
            lab, ends = self.lab, (self.sources[version], address)
            for way in (WAY, WAY[::-1]):
                assert bulk(lab, *way, ends[way == WAY], 400_000).intact, (version, way)
                assert segmented(lab, *way, *(ends if way == WAY else ends[::-1]), 1111, 40_000) == []
            assert sizes(lab, *WAY, *ends, range(1, 1401, 20)) == ([], [])
            for number in range(FLOWS):
                assert sizes(lab, *WAY, *ends, [500 + number], port=20_000 + number) == ([], [])
        for address in self.addresses.values():
            assert pings(self.lab, "c1-1", address, count=ECHOES)


@pytest.fixture(scope="module", params=["ipv4", "ipv6"], ids=["over IPv4", "over IPv6"])
def captured(
    request: pytest.FixtureRequest, make_module_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Capture]:
    lab = make_module_lab(hosts=2, containers=1, underlay=request.param)
    set_underlay(lab, "wire", ("h1", "h2"))
    capture = Capture(lab, request.param, tmp_path_factory.mktemp("wire") / f"{request.param}.pcap")
    lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24", "--ipv6", "--vni", str(VNI))
    for name, addresses in zip(WAY, (capture.sources, capture.addresses), strict=True):
        for text in lab.vxlanu(f"h{name[1]}", "attach", "blue", name)["addresses"]:
            addresses["v6" if ":" in text else "v4"] = text.split("/")[0]
    capture.record()
    yield capture


def test_tshark_finds_every_datagram_to_be_vxlan_with_good_checksums(captured: Capture) -> None:
    found = faults(captured.datagrams)
    assert len(found) > 1000, "the transfers are in it"
    assert [(number, what) for number, what in enumerate(found, 1) if what] == []
    kinds = {tuple(row["frame.protocols"][0].split(":")[-2:]) for row in dissected(captured.datagrams)}
    assert {("icmp", "data"), ("icmpv6", "data"), ("tcp", "data"), ("udp", "data")} <= kinds


def echoes(packets: Iterable[Packet]) -> Counter[bytes]:
    """Every echo request and reply, as it is: ident, number and the time in it make each another. Its type is first."""
    kinds = (ICMP, ICMPv6EchoRequest, ICMPv6EchoReply)
    return Counter(bytes(packet[kind]) for packet in packets for kind in kinds if kind in packet)


def repeated(packets: Iterable[Packet]) -> list[bytes]:
    return [message for message, times in echoes(packets).items() if times > 1]


def test_each_echo_request_and_reply_crosses_the_wire_once(captured: Capture) -> None:
    """A request whose reply came late was sent again by another ping: there may be more than were counted."""
    heard = [packet for packet in captured.packets if echoes([packet])]
    assert repeated(heard) == []
    types = Counter(message[0] for message in echoes(heard))
    assert set(types) == ECHO_TYPES and min(types.values()) >= ECHOES, types
    for again in heard:
        assert repeated([*heard, again]) == list(echoes([again])), "the control: the same once more is found"


def test_a_flow_keeps_its_source_port_and_flows_differ(captured: Capture) -> None:
    """The source port is the entropy by which an underlay spreads flows over its paths (RFC 7348, section 5)."""
    ports: dict[tuple[str, ...], set[str]] = {}
    for row in dissected(captured.datagrams):
        if len(row["udp.srcport"]) > 1 or row["tcp.srcport"]:
            inner = [row[name][-1] for name in (*PORTS, "ip.src", "ipv6.src") if row[name]]
            ports.setdefault((row["vxlan.vni"][0], *inner), set()).add(row["udp.srcport"][0])
    assert {len(seen) for seen in ports.values()} == {1}, ports
    assert len(ports) > 2 * FLOWS and len(set.union(*ports.values())) >= 8, ports


def settled(packet: Packet) -> Packet:
    """A copy whose lengths and checksums scapy computes anew."""
    copy = Ether(bytes(packet))
    layer: Packet = copy
    while layer:
        for name in ("chksum", "cksum", "len", "plen"):
            if name in layer.fields:
                layer.delfieldval(name)
        layer = layer.payload
    return copy


def test_scapy_parses_and_builds_the_same_bytes(captured: Capture) -> None:
    sample = captured.packets[::20]  # scapy takes its time
    assert {packet[VXLAN].vni for packet in sample} == {VNI}
    assert {layer for packet in sample for layer in (TCP, UDP) if layer in packet[VXLAN].payload} == {TCP, UDP}
    differing = [packet.summary() for packet in sample if bytes(settled(packet)) != bytes(packet)]
    assert differing == []


def broken(packet: Packet, name: str, value: int, at: type[Packet], nth: int = 1) -> Packet:
    """The packet with one field wrong and all that covers it right."""
    copy = settled(Ether(bytes(settled(packet))))
    copy.getlayer(at, nth).setfieldval(name, value)
    return copy


def test_the_same_check_reports_each_broken_frame(captured: Capture, tmp_path: Path) -> None:
    """Positive control: one fault each, put into a captured echo request, is found and is the only one found."""
    echo = next(packet for packet in captured.packets if ICMP in packet and packet[ICMP].type == 8)
    outer = IP if captured.family == "ipv4" else IPv6
    cases = {
        "not VXLAN": broken(echo, "dport", 4790, UDP),
        "length": Ether(bytes(echo) + bytes(LONGEST - len(echo) + 1)),
        "source port": broken(echo, "sport", 40000, UDP),
        "flags": broken(echo, "flags", 0x0C, VXLAN),
        "VNI": broken(echo, "vni", VNI + 1, VXLAN),
        "checksum of udp": broken(echo, "chksum", echo[UDP].chksum ^ 1, UDP),
        "checksum of ip": broken(echo, "chksum", echo[VXLAN][IP].chksum ^ 1, IP, 2 if outer is IP else 1),
        "checksum of icmp": broken(echo, "chksum", echo[ICMP].chksum ^ 1, ICMP),
    }
    if outer is IP:
        cases["DF"] = broken(echo, "flags", 0, IP)
    path = tmp_path / "broken.pcap"
    wrpcap(str(path), [settled(echo), *cases.values()])
    assert faults(path) == [[], *([name] for name in cases)]
