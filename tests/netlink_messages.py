"""Messages of rtnetlink as the kernel tells them by itself, for tests that play a host."""

from __future__ import annotations

import socket
import struct

NEW, DEL = 0, 1
LINK, ADDRESS, ROUTE, NEIGHBOUR, RULE, QDISC, FILTER = 16, 20, 24, 28, 32, 36, 44
REACHABLE, STALE, DELAY, PROBE, FAILED = 0x02, 0x04, 0x08, 0x10, 0x20
UP = 0x1


def _packed(address: str) -> bytes:
    return socket.inet_pton(_family(address), address)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def link(index: int, name: str, change: int = NEW, flags: int = UP) -> bytes:
    mtu = _attribute(4, struct.pack("=I", 1500))
    name_z = _attribute(3, name.encode() + b"\0")
    return _message(LINK + change, struct.pack("=BxHiII", 0, 1, index, flags, 0xFFFFFFFF) + mtu + name_z)


def address(index: int, own: str, change: int = NEW) -> bytes:
    body = struct.pack("=BBBBI", _family(own), 24, 0, 0, index)
    return _message(ADDRESS + change, body + _attribute(2, _packed(own)))


def route(index: int, prefix: str, change: int = NEW) -> bytes:
    """To `prefix`, of which a length of 0 goes without an attribute, as the kernel's does."""
    network, _, bits = prefix.partition("/")
    body = struct.pack("=BBBBBBBBI", _family(network), int(bits), 0, 0, 254, 3, 0, 1, 0)
    to = _attribute(1, _packed(network)) if int(bits) else b""
    return _message(ROUTE + change, body + to + _attribute(4, struct.pack("=I", index)))


def neighbour(index: int, far: str, mac: str, state: int, change: int = NEW) -> bytes:
    body = struct.pack("=BxHiHBB", _family(far), 0, index, state, 0, 1)
    known = _attribute(2, bytes.fromhex(mac.replace(":", ""))) if mac else b""
    return _message(NEIGHBOUR + change, body + _attribute(1, _packed(far)) + known)


def tc(kind: int, index: int, change: int = NEW) -> bytes:
    """Of a qdisc or a filter."""
    return _message(kind + change, struct.pack("=BxHiIII", 0, 0, index, 0, 0xFFFFFFF1, 0) + _attribute(1, b"ingress\0"))


def rule(change: int = NEW) -> bytes:
    return _message(RULE + change, struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 100, 0, 0, 1, 0))
