"""pcapng blocks that Python makes: section header, interface descriptions, names (draft-ietf-opsawg-pcapng).

Rules of this file
  1. Byte order is the machine's, as that of the frames that the fast path writes: the section header says which.
  2. Every block is a multiple of four bytes, with its length at both ends: an unpadded one makes readers give up.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

__all__ = ["interface", "names", "section"]

SECTION, INTERFACE, NAMES = 0x0A0D0D0A, 1, 4
BYTE_ORDER_MAGIC = 0x1A2B3C4D
LENGTH_UNKNOWN = -1
LINK_ETHERNET = 1
NANOSECONDS = b"\x09"
SHB_OS, SHB_USERAPPL = 3, 4
IF_NAME, IF_DESCRIPTION, IF_TSRESOL, IF_FILTER = 2, 3, 9, 11
NAME_IPV4, NAME_IPV6 = 1, 2
TEXT_MAX = 1024


def section(application: str, host: str) -> bytes:
    """The section header that a file begins with."""
    fixed = struct.pack("=IHHq", BYTE_ORDER_MAGIC, 1, 0, LENGTH_UNKNOWN)
    return _block(SECTION, fixed + _options([(SHB_OS, _text(host)), (SHB_USERAPPL, _text(application))]))


def interface(name: str, description: str, wanted: str = "") -> bytes:
    """One interface: Ethernet, nanoseconds, no limit on lengths. `wanted` says what was asked for."""
    options = [(IF_NAME, _text(name)), (IF_DESCRIPTION, _text(description)), (IF_TSRESOL, NANOSECONDS)]
    if wanted:
        options.append((IF_FILTER, b"\0" + _text(wanted)))
    return _block(INTERFACE, struct.pack("=HHI", LINK_ETHERNET, 0, 0) + _options(options))


def names(records: Iterable[tuple[str, str]]) -> bytes:
    """Addresses and what they are called; readers show them when told to resolve names (`tshark -N n`)."""
    body = b""
    for address, name in records:
        packed = ipaddress.ip_address(address).packed
        value = packed + _text(name) + b"\0"
        body += struct.pack("=HH", NAME_IPV4 if len(packed) == 4 else NAME_IPV6, len(value)) + _padded(value)
    return _block(NAMES, body + struct.pack("=HH", 0, 0)) if body else b""


def _text(text: str) -> bytes:
    return text.encode()[:TEXT_MAX]


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    told = b"".join(struct.pack("=HH", code, len(value)) + _padded(value) for code, value in options)
    return told + struct.pack("=HH", 0, 0)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("=II", kind, length) + body + struct.pack("=I", length)
