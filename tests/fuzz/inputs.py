"""Frames for the fuzz targets, and how fuzz_switch.c takes them. Made with scapy, the same every time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, IPOption_Router_Alert, IPOption_Timestamp
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

TUNNEL, HEADER, SOURCE, TARGET, VNET, FOREIGN, CHECKSUMS = 1, 2, 4, 8, 16, 32, 64  # WAY_* of fuzz_switch.c
NEEDS_CSUM, TCPV4, TCPV6, UDP_L4, ECN = 1, 1, 4, 5, 0x80  # linux/virtio_net.h
A, FAR = "02:42:0a:07:00:11", "02:42:0a:07:00:21"


def frames() -> list[bytes]:
    """One frame of each kind that some stage treats in its own way."""
    ether = Ether(src=A, dst=FAR)
    arp = ARP(hwsrc=A, psrc="10.7.0.17", pdst="10.7.0.33")
    ns = ICMPv6ND_NS(tgt="fd07::21") / ICMPv6NDOptSrcLLAddr(lladdr=A)
    v4, v6 = IP(src="10.7.0.17", dst="10.7.0.33"), IPv6(src="fd07::11", dst="fd07::21")
    made = [
        Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / arp,
        Ether(src=A, dst="33:33:ff:00:00:21") / IPv6(src="fd07::11", dst="ff02::1:ff00:21", hlim=255) / ns,
        ether / IPv6(src="fd07::11", dst="fd07::21", hlim=255) / ICMPv6ND_NA(tgt="fd07::11", S=1),
        ether / v4 / TCP(flags="S"),
        ether / v4 / TCP(flags="A") / (b"x" * 200),
        ether / v6 / TCP(flags="A", options=[("Timestamp", (1, 2))]) / (b"x" * 200),
        ether / v4 / TCP() / (b"x" * 3000),
        ether / v4 / UDP(sport=1, dport=2) / b"payload",
        ether / v4 / ICMP(),
        ether / v6 / TCP() / (b"x" * 3000),
        ether / v4 / TCP(flags="CPA") / (b"x" * 3000),
        ether / v4 / UDP(sport=1, dport=2) / (b"x" * 3000),
        ether / v6 / UDP(sport=1, dport=2) / (b"x" * 3000),
        ether / IP(src="10.7.0.17", dst="10.7.0.33", options=[IPOption_Router_Alert()]) / UDP() / (b"x" * 1300),
        ether / v6 / IPv6ExtHdrFragment(offset=0, m=1) / UDP(),
        Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0") / UDP(sport=68, dport=67) / BOOTP() / DHCP(),
        ether / Dot1Q(vlan=5) / v4 / UDP(),
        ether / v6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["fd07::31"]) / TCP() / b"abcdefg",
        ether / IP(src="10.7.0.17", dst="10.7.0.33", options=[IPOption_Timestamp()]) / UDP() / b"abcdefg",
    ]
    return [bytes(frame) for frame in (*made, *too_big(), *neighbours())]


def too_big() -> list[Packet]:
    """Frames that a narrow path does not carry, one for each thing that may be done about it."""
    ether, filling = Ether(src=A, dst=FAR), b"x" * 1390
    v4, v6 = IP(src="10.7.0.17", dst="10.7.0.33", flags="DF"), IPv6(src="fd07::11", dst="fd07::21")
    options = IPOption(bytes.fromhex("01 94040000 070304"))  # nothing, a router alert (copied), a route to be recorded
    return [
        ether / v4 / UDP() / filling,
        ether / v4 / TCP(flags="A") / (b"x" * 3000),
        ether / v4 / ICMP(type="echo-request") / filling,
        ether / v4 / ICMP(type="dest-unreach", code=4) / filling,
        ether / IP(src="10.7.0.17", dst="224.0.0.9", flags="DF") / UDP() / filling,
        ether / IP(src="10.7.0.17", dst="10.7.0.33", options=[options]) / UDP() / filling,
        ether / v6 / ICMPv6EchoRequest() / filling,
        ether / v6 / ICMPv6DestUnreach() / filling,
    ]


def neighbours() -> list[Packet]:
    """What says who is where, or who routes and leases, in each form that the guard and the proxy tell apart."""
    everyone, ours = Ether(src=A, dst="ff:ff:ff:ff:ff:ff"), IP(src="10.7.0.17", dst="255.255.255.255")
    nodes, solicited = Ether(src=A, dst="33:33:00:00:00:01"), Ether(src=A, dst="33:33:ff:00:00:11")
    all_nodes = IPv6(src="fd07::11", dst="ff02::1", hlim=255)
    unspecified = IPv6(src="::", dst="ff02::1:ff00:11", hlim=255)
    return [
        everyone / ARP(op=2, hwsrc=A, psrc="10.7.0.17", pdst="10.7.0.17"),
        everyone / ARP(hwsrc=A, psrc="10.7.0.40", pdst="10.7.0.40"),
        everyone / ARP(hwsrc=A, psrc="0.0.0.0", pdst="10.7.0.17"),
        everyone / ARP(hwsrc=A, psrc="10.7.0.17", pdst="10.7.0.99"),
        solicited / unspecified / ICMPv6ND_NS(tgt="fd07::11"),
        solicited / unspecified / ICMPv6ND_NS(tgt="fd07::21"),
        nodes / all_nodes / ICMPv6ND_NA(tgt="fd07::11", S=0, O=1) / ICMPv6NDOptMTU() / ICMPv6NDOptDstLLAddr(lladdr=A),
        nodes / all_nodes / ICMPv6ND_NA(tgt="fd07::99", S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=A),
        nodes / all_nodes / ICMPv6ND_RA(),
        nodes / IPv6(src="::", dst="ff02::2", hlim=255) / ICMPv6ND_RS(),
        nodes / IPv6(src="::", dst="ff02::16", hlim=1) / ICMPv6MLReport2(),
        everyone / ours / UDP(sport=67, dport=68) / BOOTP(op=2) / DHCP(options=[("message-type", "offer"), "end"]),
        nodes / all_nodes / UDP(sport=547, dport=546) / b"reply",
        Ether(src=A, dst="01:00:5e:00:00:16") / IP(src="10.7.0.17", dst="224.0.0.22", proto=2, ttl=1) / bytes(16),
    ]


def switch_inputs(frame: bytes) -> Iterator[bytes]:
    """A frame as fuzz_switch takes it: from a TAP, a member and a foreign VTEP, as it is and made plausible; from the
    TAP also behind a narrow path, and as the super-frame that it may be."""
    keep, narrow, free = bytes([7, 0, 0, 0]), bytes([7, 95, 0, 0]), bytes([6, 1, 0, 0])  # change_tables()
    for ways in (0, SOURCE | TARGET, TUNNEL | HEADER, TUNNEL | HEADER | SOURCE | TARGET | CHECKSUMS):
        yield bytes([ways]) + keep + bytes(10) + frame
    yield bytes([TUNNEL | HEADER | FOREIGN]) + keep + bytes(10) + frame
    yield bytes([SOURCE | TARGET]) + narrow + bytes(10) + frame
    for size in (1000, 1398):
        if vnet := virtio_header(frame, size):
            for steer in (free, narrow, keep):
                yield bytes([SOURCE | TARGET | VNET]) + steer + vnet + frame
    came = TUNNEL | HEADER | SOURCE | TARGET
    for congested, ect in ((3, 0), (3, 1), (1, 2)):  # in the outer header, and from its sender
        yield bytes([came]) + keep + bytes(9) + bytes([congested]) + with_ecn(frame, ect)
    if partial := with_partial_checksum(frame):
        for steer in (keep, bytes([12, 1, 0, 0])):
            yield bytes([came | CHECKSUMS]) + steer + bytes(10) + partial
    for operation, argument in CHANGES:
        for ways in (SOURCE | TARGET, came):
            yield bytes([ways, operation, argument, 33, 128]) + bytes(10) + frame
        yield bytes([SOURCE | TARGET, operation, argument, 33, 64]) + bytes(10) + frame


def probes() -> Iterator[bytes]:
    """Probes of netcheck as fuzz_switch takes them: whole, and too short by a byte."""
    whole = bytes([8, 0, 0, 0, 0, 0, 0, 0]) + bytes.fromhex("0180c2000000 020000000001 88b5 76787001") + bytes(8)
    for datagram in (whole, whole[:-1]):
        yield bytes([TUNNEL]) + bytes([7, 0, 0, 0]) + bytes(10) + datagram


CHANGES = ((8, 2), (8, 0), (9, 0), (9, 1), (9, 0x7F), (10, 0), (11, 40), (10, 0))
"""Operations of change_tables() with an argument: what they do to each frame is worth a seed. The last undo others."""


def with_ecn(frame: bytes, ect: int) -> bytes:
    """An IP frame from a sender that says `ect` of itself, header checksum kept right; others as they are."""
    headers = 14 + (frame[14] & 15) * 4 if len(frame) >= 34 else 0
    if frame[12:14] == b"\x08\x00" and 34 <= headers <= len(frame):
        start, rest = bytes([frame[14], ect]) + frame[16:24], frame[26:headers]
        checksum = 0xFFFF - folded(start + rest)
        return frame[:14] + start + checksum.to_bytes(2, "big") + rest + frame[headers:]
    if frame[12:14] == b"\x86\xdd" and len(frame) >= 54:
        return frame[:14] + bytes([0x60, ect << 4 | frame[15] & 15]) + frame[16:]
    return frame


def folded(words: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def with_partial_checksum(frame: bytes) -> bytes | None:
    """A TCP or UDP frame as a container on this kernel sends it: its checksum is that of the pseudo-header alone."""
    vnet = virtio_header(frame, 0)
    if vnet is None:
        return None
    l4 = int.from_bytes(vnet[6:8], "little")
    place, fourth = l4 + int.from_bytes(vnet[8:10], "little"), frame[12:14] == b"\x08\x00"
    end = 14 + int.from_bytes(frame[16:18], "big") if fourth else 54 + int.from_bytes(frame[18:20], "big")
    if end <= l4:
        return None  # a length of 0: captured before the sender's card cut it
    addresses = frame[26:34] if fourth else frame[22:54]
    words = addresses + bytes([0, frame[23] if fourth else frame[20]]) + (end - l4).to_bytes(2, "big")
    return frame[:place] + folded(words).to_bytes(2, "big") + frame[place + 2 :]


def virtio_header(frame: bytes, size: int) -> bytes | None:
    """What a TAP would put before a TCP or UDP frame with more payload than `size`; None if it is none."""
    version = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[12:14])
    if version is None or len(frame) < 80:
        return None
    l4 = 14 + ((frame[14] & 15) * 4 if version == 4 else 40)
    protocol = frame[23] if version == 4 else frame[20]
    if protocol not in (6, 17) or len(frame) < l4 + 20 + size:
        return None
    kind = UDP_L4 if protocol == 17 else TCPV4 if version == 4 else TCPV6
    kind |= ECN if protocol == 6 and frame[l4 + 13] & 0x80 else 0
    return struct.pack("=BBHHHH", NEEDS_CSUM, kind, 0, size, l4, 6 if protocol == 17 else 16)


def gro_inputs(frame: bytes) -> Iterator[bytes]:
    """A frame and three like it as fuzz_gro takes them: as they are, made to follow each other, and once twisted."""
    valid, like, twist, partial = 1, 2, 4, 8
    size = min(len(frame), 600).to_bytes(2, "big")
    for ways in (0, valid, valid | like, valid | like | partial, valid | like | twist):
        first = valid if ways else 0
        yield b"".join(bytes([way]) + size + frame[:600] for way in (first, ways, first | ways & like, ways))


def gso_inputs(frame: bytes) -> Iterator[bytes]:
    """A frame as fuzz_gso takes it: to be cut small and large, made plausible and fit, plausible only, and as it is."""
    for ways, size in ((3, 3), (3, 1000), (1, 1000), (0, 0)):
        yield bytes([ways]) + struct.pack("<BBHHHH", 0, 0, 0, size, 0, 0) + frame


def bench_inputs(several: list[bytes]) -> Iterator[bytes]:
    """Frames as fuzz_bench takes them, in each of its kinds."""
    for kind in range(3):
        yield bytes([kind]) + b"".join(len(frame).to_bytes(2, "big") + frame for frame in several)
