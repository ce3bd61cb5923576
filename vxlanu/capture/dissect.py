"""What a frame says, in a line: who to whom, and what, in the words of tcpdump.

Rules of this file
  1. A frame is bytes of a stranger and may end anywhere: what is not there is said with `[|PROTOCOL]`, never guessed.
  2. Pure, and standard library only.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["ETHERNET", "Said", "dissect"]

ETHERNET = 1
IPV4, ARP, VLAN, QINQ, IPV6 = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
EXTENSIONS = {0: "hop-by-hop", 43: "routing", 60: "destination"}
FRAGMENT = 44
VXLAN_PORT = 4789
TCP_FLAGS = "FSRP.UEW"  # FIN SYN RST PSH ACK URG ECE CWR, as tcpdump writes them
DEPTH_MAX = 3  # VXLAN in VXLAN: seen in the wild, but a file could go on for ever
EXTENSIONS_MAX = 8

ICMP_TYPES = {
    0: "echo reply", 3: "unreachable", 4: "source quench", 5: "redirect", 8: "echo request", 11: "time exceeded",
    12: "parameter problem",
}  # fmt: skip
ICMPV6_TYPES = {
    1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request",
    129: "echo reply", 130: "listener query", 131: "listener report", 132: "listener done", 133: "router solicitation",
    134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement", 137: "redirect",
    143: "listener report v2",
}  # fmt: skip


@dataclass(slots=True)
class Said:
    """A frame in words."""

    source: str
    target: str
    text: str


@dataclass(slots=True)
class _Layer:
    """What is known on the way down."""

    names: Mapping[str, str]
    depth: int
    source: str = ""
    target: str = ""

    def name(self, address: bytes) -> str:
        if len(address) not in (4, 16):
            raise IndexError("an address that is cut off")
        text = str(ipaddress.ip_address(address))
        return self.names.get(text, text)

    def said(self, text: str) -> Said:
        return Said(self.source, self.target, text)

    def with_ports(self, source: int, target: int) -> None:
        self.source, self.target = (
            f"[{host}]:{port}" if host.count(":") > 1 else f"{host}:{port}"
            for host, port in ((self.source, source), (self.target, target))
        )


def dissect(data: bytes, names: Mapping[str, str], depth: int = 0) -> Said:
    """The frame in words; addresses as they are called in `names`."""
    if len(data) < 14:
        return Said("?", "?", "[|ether]")
    layer = _Layer(names, depth, data[6:12].hex(":"), data[:6].hex(":"))
    kind, at, tags = struct.unpack_from("!H", data, 12)[0], 14, ""
    while kind in (VLAN, QINQ) and len(data) >= at + 4 and tags.count("vlan") < 2:
        tag, kind = struct.unpack_from("!HH", data, at)
        tags += f"vlan {tag & 0xFFF}, "
        at += 4
    try:
        said = _KINDS[kind](layer, data[at:]) if kind in _KINDS else layer.said(_unknown(kind, len(data)))
    except (struct.error, IndexError):
        said = layer.said(f"[|{_NAMES.get(kind, 'ether')}]")
    said.text = tags + said.text
    return said


def _unknown(kind: int, length: int) -> str:
    return f"802.3, length {kind}" if kind < 0x600 else f"ethertype 0x{kind:04x}, length {length}"


def _arp(layer: _Layer, data: bytes) -> Said:
    operation = struct.unpack_from("!H", data, 6)[0]
    if data[4:6] != b"\x06\x04" or len(data) < 28:
        return layer.said("[|arp]")
    mac, sender, target = data[8:14].hex(":"), layer.name(data[14:18]), layer.name(data[24:28])
    if operation == 1 and sender == target:
        return layer.said(f"ARP, announcement of {sender}")
    if operation == 1:
        return layer.said(f"ARP, who-has {target} tell {sender}")
    return layer.said(f"ARP, {sender} is-at {mac}" if operation == 2 else f"ARP, operation {operation}")


def _ipv4(layer: _Layer, data: bytes) -> Said:
    header, total, fragment = (data[0] & 15) * 4, *struct.unpack_from("!H2xH", data, 2)
    layer.source, layer.target = layer.name(data[12:16]), layer.name(data[16:20])
    if header < 20 or data[0] >> 4 != 4:
        return layer.said("IPv4, damaged header")
    offset = (fragment & 0x1FFF) * 8
    payload = data[header : max(total, header)] if total else data[header:]  # 0: a super-frame of more than 64 KB
    if offset:
        return layer.said(f"IP protocol {data[9]}, fragment at {offset}, length {total - header}")
    return _transport(layer, data[9], payload, (total or len(data)) - header)


def _ipv6(layer: _Layer, data: bytes) -> Said:
    length, kind = struct.unpack_from("!HB", data, 4)
    layer.source, layer.target = layer.name(data[8:24]), layer.name(data[24:40])
    if data[0] >> 4 != 6:
        return layer.said("IPv6, damaged header")
    at, left = 40, length or len(data) - 40
    for _ in range(EXTENSIONS_MAX):
        if kind == FRAGMENT and struct.unpack_from("!H", data, at + 2)[0] & 0xFFF8:
            offset = struct.unpack_from("!H", data, at + 2)[0] & 0xFFF8
            return layer.said(f"IP protocol {data[at]}, fragment at {offset}, length {left - 8}")
        if kind not in EXTENSIONS and kind != FRAGMENT:
            break
        size = 8 if kind == FRAGMENT else (data[at + 1] + 1) * 8
        kind, at, left = data[at], at + size, left - size
    return _transport(layer, kind, data[at : at + max(left, 0)], left)


def _transport(layer: _Layer, kind: int, data: bytes, length: int) -> Said:
    """`length` is what the headers say there is, `data` what was kept of it."""
    try:
        if kind in _TRANSPORTS:
            return _TRANSPORTS[kind](layer, data, length)
    except (struct.error, IndexError):
        return layer.said(f"[|{_TRANSPORT_NAMES[kind]}]")
    return layer.said(f"IP protocol {kind}, length {length}")


def _icmp(layer: _Layer, data: bytes, length: int) -> Said:
    kind, code = data[0], data[1]
    text = f"ICMP {ICMP_TYPES.get(kind, f'type {kind}')}"
    if kind in (0, 8):
        identity, number = struct.unpack_from("!HH", data, 4)
        text += f", id {identity}, seq {number}"
    elif kind == 3 and code == 4:
        text += f", need to frag, mtu {struct.unpack_from('!H', data, 6)[0]}"
    elif code:
        text += f", code {code}"
    return layer.said(f"{text}, length {length}")


def _icmpv6(layer: _Layer, data: bytes, length: int) -> Said:
    kind = data[0]
    text = f"ICMPv6 {ICMPV6_TYPES.get(kind, f'type {kind}')}"
    if kind in (128, 129):
        identity, number = struct.unpack_from("!HH", data, 4)
        text += f", id {identity}, seq {number}"
    elif kind in (135, 136):
        text += f", {'who has' if kind == 135 else 'tgt is'} {layer.name(data[8:24])}"
    elif kind == 2:
        text += f", mtu {struct.unpack_from('!I', data, 4)[0]}"
    return layer.said(f"{text}, length {length}")


def _tcp(layer: _Layer, data: bytes, length: int) -> Said:
    source, target, sequence, acknowledged, packed, window = struct.unpack_from("!HHIIHH", data)
    flags = "".join(letter for bit, letter in enumerate(TCP_FLAGS) if packed >> bit & 1)
    layer.with_ports(source, target)
    payload = max(length - (packed >> 12) * 4, 0)
    text = f"TCP [{flags}], seq {sequence}"
    if packed & 16:
        text += f", ack {acknowledged}"
    return layer.said(f"{text}, win {window}, length {payload}")


def _udp(layer: _Layer, data: bytes, length: int) -> Said:
    source, target, _size = struct.unpack_from("!HHH", data)
    layer.with_ports(source, target)
    if target == VXLAN_PORT and len(data) >= 16 and layer.depth < DEPTH_MAX:
        vni = struct.unpack_from("!I", data, 12)[0] >> 8
        if not data[8] & 8:
            return layer.said(f"VXLAN, no VNI (flags 0x{data[8]:02x}), length {length - 8}")
        inside = dissect(data[16:], layer.names, layer.depth + 1)
        return layer.said(f"VXLAN, vni {vni}: {inside.source} > {inside.target}: {inside.text}")
    return layer.said(f"UDP, length {max(length - 8, 0)}")


_KINDS: Mapping[int, Callable[[_Layer, bytes], Said]] = {ARP: _arp, IPV4: _ipv4, IPV6: _ipv6}
_NAMES = {ARP: "arp", IPV4: "ip", IPV6: "ip6"}
_TRANSPORTS: Mapping[int, Callable[[_Layer, bytes, int], Said]] = {ICMP: _icmp, ICMPV6: _icmpv6, TCP: _tcp, UDP: _udp}
_TRANSPORT_NAMES = {ICMP: "icmp", ICMPV6: "icmp6", TCP: "tcp", UDP: "udp"}
