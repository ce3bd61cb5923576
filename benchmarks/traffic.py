"""Captures made on demand: fixed sizes, the simple IMIX, TCP super-frames. The same bytes every time.

Sizes are those of Ethernet frames without FCS. The IMIX is CSIT's: of 12 frames 7 of 60, 4 of 590 and 1 of 1514 bytes,
which FCS makes 64, 594 and 1518, in the order of `IMIX` (RFC 6985 wants it said).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import PcapWriter

from benchmarks.cache import cache_folder

__all__ = ["DEFAULTS", "capture_of"]

DEFAULTS = ("64", "imix", "tso")
IMIX = (60, 590, 60, 590, 60, 60, 1514, 60, 590, 60, 590, 60)
FLOWS = 1020
UDP_HEADERS, TCP_HEADERS = 42, 54
LARGEST = 65226  # a super-frame of 47 segments of 1388 bytes
VERSION = 1  # of what is made here: a new one makes the captures anew


def capture_of(size: str) -> Path:
    """The capture for a --size, made if it is not in the cache.

    Raises:
        ValueError: a size that is none.
    """
    _check(size)
    path = cache_folder() / f"{size}-{VERSION}.pcap"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        with PcapWriter(str(partial), snaplen=262144) as writer:
            for number, packet in enumerate(_packets(size)):
                packet.time = number
                writer.write(packet)
        partial.rename(path)
    return path


def _check(size: str) -> None:
    if size in ("imix", "tso"):
        return
    if not (size.isascii() and size.isdigit() and UDP_HEADERS <= int(size) <= LARGEST):
        raise ValueError(f"--size {size}: none of imix, tso, {UDP_HEADERS} to {LARGEST}")


def _packets(size: str) -> Iterator[Packet]:
    made = random.Random(f"{size} {VERSION}")
    if size == "tso":
        for flow in range(32):
            yield (
                _ip(flow)
                / TCP(sport=1024 + flow, dport=5001, flags="PA", seq=flow)
                / made.randbytes(LARGEST - TCP_HEADERS)
            )
    elif size == "imix":
        for flow in range(FLOWS):
            yield _udp(flow, IMIX[flow % len(IMIX)], made)
    else:
        for flow in range(FLOWS if int(size) < 10_000 else 64):
            yield _udp(flow, int(size), made)


def _ip(flow: int) -> Packet:
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    return ether / IP(src=f"10.1.{flow >> 8}.{flow & 255}", dst="10.2.0.1", id=flow, flags="DF")


def _udp(flow: int, size: int, made: random.Random) -> Packet:
    return _ip(flow) / UDP(sport=1024 + flow, dport=5001) / made.randbytes(size - UDP_HEADERS)
