"""Capture files for tests, block by block: good ones, and whatever else can be put together."""

from __future__ import annotations

import struct

from vxlanu.capture import blocks

ARP = bytes.fromhex(
    "ffffffffffff0242c0a8000a0806" "00010800060400010242c0a8000ac0a8000a000000000000c0a80014"
)  # fmt: skip
PING = bytes.fromhex(
    "0242c0a800140242c0a8000a0800" "4500001c000040004001b96ec0a8000ac0a80014" "0800f7f900010005"
)  # fmt: skip


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    length = len(body) + 12
    return struct.pack(f"{order}2I", kind, length) + body + struct.pack(f"{order}I", length)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}2H", code, len(value)) + value + bytes(-len(value) % 4)


def packet(data: bytes, options: bytes = b"", *, interface: int = 0, time: int = 0, order: str = "<") -> bytes:
    fixed = struct.pack(f"{order}5I", interface, time >> 32, time & 0xFFFFFFFF, len(data), len(data))
    return block(6, fixed + data + bytes(-len(data) % 4) + options, order)


def ours(*frames: bytes) -> bytes:
    """A file as the agent writes it."""
    begin = blocks.section("vxlanu test", "host h1") + blocks.interface("vxlanu:A.look", "frames", "A")
    return begin + blocks.names([("192.168.0.10", "A.look"), ("192.168.0.20", "B.look")]) + b"".join(frames)
