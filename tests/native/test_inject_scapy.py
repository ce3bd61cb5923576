"""The headers in front of an injected super-frame against packets that scapy built, and the offsets against its layers.

Rules of this file
  1. Scapy is the oracle: the outer packet is written here as it should be, and scapy fills in lengths and checksums.
  2. One field differs from such a packet: the outer UDP checksum is that of the pseudo-header alone.
"""

from __future__ import annotations

import ipaddress
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP, in4_chksum
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from test_gso_scapy import SHAPES, SIZE, offload_record

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
SOURCES = (HERE / "head_super.c", *(NATIVE / f"{name}.c" for name in ("inject", "gso", "csum", "eth")))
VNET = struct.Struct("<BBHHHH10xHH")  # struct virtio_net_hdr_v1_hash_tunnel
NEEDS_CSUM, TUNNEL_CSUM, TUNNEL = 1, 8, {4: 0x20, 6: 0x40}
PORTS, ID, TOS, TTL = (49228, 4789), 0xFFF0, 2, 63
ETHER = Ether(dst="02:00:00:00:00:09", src="02:00:00:00:00:01")
OUTER: dict[int, tuple[Packet, str, str]] = {
    4: (IP(src="10.97.0.1", dst="10.97.0.2", id=ID, tos=TOS, ttl=TTL, flags="DF"), "::ffff:10.97.0.1",
        "::ffff:10.97.0.2"),
    6: (IPv6(src="fd97::1", dst="fd97::2", tc=TOS, hlim=TTL), "fd97::1", "fd97::2"),
}  # fmt: skip


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], bytes]:
    """What goes in front of a super-frame, as a function."""
    program = tmp_path_factory.mktemp("head") / "head_super"
    flags = ("-std=gnu11", "-O3", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", "-iquote", str(NATIVE))
    subprocess.run(["gcc", *flags, *map(str, SOURCES), "-o", str(program)], check=True)
    return lambda record: subprocess.run([program], input=record, capture_output=True, check=True, timeout=30).stdout


def pseudo_header_sum(ip: Packet, length: int) -> int:
    """What goes into the UDP checksum's field while the rest is still to be summed."""
    alone = in6_chksum(17, ip, b"") if IPv6 in ip else in4_chksum(17, ip, b"")
    folded = (alone ^ 0xFFFF) + length
    return int((folded & 0xFFFF) + (folded >> 16))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_the_headers_are_those_of_the_packet_that_scapy_builds(
    shape: str, version: int, head: Callable[[bytes], bytes]
) -> None:
    gso_type, layers = SHAPES[shape]
    inner = layers(0, random.Random(7).randbytes(20011), "CFPA")
    record = offload_record(gso_type, inner)
    ip, source, target = OUTER[version]
    addresses = b"".join(ipaddress.IPv6Address(it).packed for it in (source, target))
    ethernet = bytes(ETHER / ip)[:14]
    got = head(addresses + struct.pack(">HHHBB", *PORTS, ID, TOS, TTL) + ethernet + record)
    udp = UDP(sport=PORTS[0], dport=PORTS[1])
    whole = Ether(bytes(ETHER / ip / udp / VXLAN(vni=256) / record[10:]))
    udp.chksum, udp.len = pseudo_header_sum(ip, whole[UDP].len), whole[UDP].len
    upto = len(whole) - len(bytes(whole[UDP])) + 8
    assert got[24:] == bytes(ETHER / ip / udp / VXLAN(vni=256) / record[10:])[:upto]

    flags, kind, header, size, start, field, outer_l4, inner_l3 = VNET.unpack(got[:24])
    upper = inner.getlayer(TCP) or inner.getlayer(UDP)
    tunnel = upto + 8
    assert (flags, kind) == (NEEDS_CSUM | TUNNEL_CSUM, gso_type | TUNNEL[version])
    assert (size, field, outer_l4) == (SIZE, 16 if TCP in inner else 6, upto - 8)
    assert start == tunnel + len(inner) - len(bytes(upper))
    assert header == tunnel + len(inner) - len(bytes(upper.payload))
    assert inner_l3 == tunnel + len(inner) - len(bytes(inner.getlayer(IPv6) or inner.getlayer(IP)))
