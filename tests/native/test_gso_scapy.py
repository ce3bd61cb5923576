"""The segmenter against packets that scapy built, lengths and checksums included.

Rules of this file
  1. Scapy is the oracle: a segment is written here as the packet it should be, and scapy fills in what it computes.
  2. A super-frame differs from a packet of its whole payload in one field: its checksum is that of the pseudo-header.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_Timestamp, in4_chksum
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting, in6_chksum
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
SOURCES = (HERE / "cut_super.c", *(NATIVE / f"{name}.c" for name in ("gso", "csum", "eth")))
NEEDS_CSUM, TCPV4, TCPV6, UDP_L4, ECN = 1, 1, 4, 5, 0x80
HINT = 128  # hdr_len: the linear length of the sender's buffer, here never that of the headers
SIZE = 1390

Layers = Callable[[int, bytes, str], Packet]
ETHER = Ether(src="02:42:0a:07:00:11", dst="02:42:0a:07:00:21")
OPTIONS = [("NOP", None), ("NOP", None), ("Timestamp", (7, 9))]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], list[bytes]]:
    """The segmenter as a function: virtio header and super-frame to the list of its segments."""
    program = tmp_path_factory.mktemp("cut") / "cut_super"
    flags = ("-std=gnu11", "-O3", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", "-iquote", str(NATIVE))
    subprocess.run(["gcc", *flags, *map(str, SOURCES), "-o", str(program)], check=True)

    def run(record: bytes) -> list[bytes]:
        out = subprocess.run([str(program)], input=record, capture_output=True, check=True, timeout=30).stdout
        segments = []
        while out:
            (length,) = struct.unpack_from(">I", out)
            segments.append(out[4 : 4 + length])
            out = out[4 + length :]
        return segments

    return run


def ipv4(index: int, **more: object) -> Packet:
    return ETHER / IP(src="10.7.0.17", dst="10.7.0.33", id=(0xFFFE + index) & 0xFFFF, flags="DF", ttl=63, **more)


def tcp(offset: int, flags: str) -> Packet:
    return TCP(sport=40000, dport=5001, seq=(0xFFFFF000 + offset) & 0xFFFFFFFF, ack=77, flags=flags, options=OPTIONS)


def udp() -> Packet:
    return UDP(sport=40000, dport=5001)


IPV6 = ETHER / Dot1Q(vlan=5) / IPv6(src="fd07::11", dst="fd07::21", fl=0x12345, tc=0x2E)
ROUTED = IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["fd07::31"], segleft=1)

SHAPES: dict[str, tuple[int, Layers]] = {
    "tcp4": (TCPV4 | ECN, lambda i, data, flags: ipv4(i) / tcp(i * SIZE, flags) / data),
    "tcp4-options": (
        TCPV4 | ECN,
        lambda i, data, flags: ipv4(i, options=[IPOption_Timestamp()]) / tcp(i * SIZE, flags) / data,
    ),
    "tcp6": (TCPV6 | ECN, lambda i, data, flags: IPV6 / tcp(i * SIZE, flags) / data),
    "tcp6-routed": (TCPV6 | ECN, lambda i, data, flags: IPV6 / ROUTED / tcp(i * SIZE, flags) / data),
    "udp4": (UDP_L4, lambda i, data, flags: ipv4(i) / udp() / data),
    "udp6": (UDP_L4, lambda i, data, flags: IPV6 / udp() / data),
}


def flags_of(segment: int, last: int) -> str:
    return ("C" if segment == 0 else "") + ("FP" if segment == last else "") + "A"


def offload_record(gso_type: int, packet: Packet) -> bytes:
    """What a read from a TAP gives for a packet of which the kernel has summed the pseudo-header only."""
    whole = bytes(packet)
    upper = packet.getlayer(TCP) or packet.getlayer(UDP)
    start, field = len(whole) - len(bytes(upper)), 16 if upper.haslayer(TCP) else 6
    protocol = 6 if upper.haslayer(TCP) else 17
    below = upper.underlayer  # from there scapy walks up to the IP header, past the routing header
    alone = in6_chksum(protocol, below, b"") if IPv6 in packet else in4_chksum(protocol, below, b"")
    pseudo = (alone ^ 0xFFFF) + len(bytes(upper))
    pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
    frame = whole[: start + field] + struct.pack(">H", pseudo) + whole[start + field + 2 :]
    return struct.pack("<BBHHHH", NEEDS_CSUM, gso_type, HINT, SIZE, start, field) + frame


def segments_by_scapy(layers: Layers, payload: bytes) -> Iterator[bytes]:
    last = (len(payload) - 1) // SIZE
    for index in range(last + 1):
        yield bytes(layers(index, payload[index * SIZE : (index + 1) * SIZE], flags_of(index, last)))


@pytest.mark.parametrize("length", [SIZE + 1, 3 * SIZE, 20011])
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_segments_are_the_packets_that_scapy_builds(
    shape: str, length: int, cut: Callable[[bytes], list[bytes]]
) -> None:
    gso_type, layers = SHAPES[shape]
    payload = random.Random(length).randbytes(length)
    record = offload_record(gso_type, layers(0, payload, "CFPA"))
    got, wanted = cut(record), list(segments_by_scapy(layers, payload))
    assert len(got) == len(wanted)
    for index, (segment, packet) in enumerate(zip(got, wanted, strict=True)):
        assert segment == packet, f"segment {index}: {Ether(segment[:140])!r}\nis not {Ether(packet[:140])!r}"
