"""Frames that are never sent: what the fast path would do with one, told by the fast path itself (native: vx_trace).

Rules of this file
  1. A trial passes every stage that a frame of the endpoint passes, guards included, so it is built as the endpoint
     would send it: from its own MAC and address.
  2. The payload is of nobody: IPv4 protocol 253 (RFC 3692, for experiments), IPv6 without a next header.
"""

from __future__ import annotations

import ipaddress
import struct

from vxlanu.control.core.view import EndpointView

__all__ = ["arp_or_nd_question", "packet"]

ETHERNET_BYTES = 14
IPV4_BYTES, IPV6_BYTES = 20, 40
ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6, ETHERTYPE_LOCAL = 0x0800, 0x0806, 0x86DD, 0x88B5
EXPERIMENTAL, NO_NEXT_HEADER, ICMPV6, NEIGHBOR_SOLICITATION = 253, 59, 58, 135
DF, TTL = 0x4000, 64
BROADCAST = b"\xff" * 6


def packet(sender: EndpointView, mac: str, address: str, mtu: int) -> bytes:
    """A frame to `mac` whose packet has `mtu` bytes, to `address`; without one, or one of another version than the
    sender has, a frame of no protocol."""
    own = _own(sender, address)
    if own is None:
        return _ethernet(sender, _bytes(mac), ETHERTYPE_LOCAL) + bytes(mtu)
    there = ipaddress.ip_address(address)
    if own.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, mtu, 0, DF, TTL, EXPERIMENTAL, 0) + own.packed + there.packed
        header = header[:10] + struct.pack("!H", _sum(header)) + header[12:]
        return _ethernet(sender, _bytes(mac), ETHERTYPE_IPV4) + header.ljust(mtu, b"\0")
    header = struct.pack("!IHBB", 6 << 28, mtu - IPV6_BYTES, NO_NEXT_HEADER, TTL) + own.packed + there.packed
    return _ethernet(sender, _bytes(mac), ETHERTYPE_IPV6) + header.ljust(mtu, b"\0")


def arp_or_nd_question(sender: EndpointView, address: str) -> bytes | None:
    """Who has `address`? None: the sender has no address from which it could ask."""
    own = _own(sender, address)
    if own is None:
        return None
    there, mac = ipaddress.ip_address(address), _bytes(sender.body.mac)
    if own.version == 4:
        head = struct.pack("!HHBBH", 1, ETHERTYPE_IPV4, 6, 4, 1)
        return _ethernet(sender, BROADCAST, ETHERTYPE_ARP) + head + mac + own.packed + bytes(6) + there.packed
    group = bytes.fromhex("ff0200000000000000000001ff") + there.packed[-3:]
    body = struct.pack("!BBHI", NEIGHBOR_SOLICITATION, 0, 0, 0) + there.packed + b"\x01\x01" + mac
    pseudo = own.packed + group + struct.pack("!II", len(body), ICMPV6)
    body = body[:2] + struct.pack("!H", _sum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255) + own.packed + group
    return _ethernet(sender, b"\x33\x33" + group[-4:], ETHERTYPE_IPV6) + header + body


def _own(sender: EndpointView, address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The sender's address of the same version."""
    if not address:
        return None
    version = ipaddress.ip_address(address).version
    own = (ipaddress.ip_interface(text).ip for text in sender.body.addresses)
    return next((ip for ip in own if ip.version == version), None)


def _ethernet(sender: EndpointView, to: bytes, ethertype: int) -> bytes:
    return to + _bytes(sender.body.mac) + struct.pack("!H", ethertype)


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _sum(octets: bytes) -> int:
    """RFC 1071."""
    padded = octets + b"\0" * (len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
