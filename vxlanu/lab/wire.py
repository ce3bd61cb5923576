"""One VXLAN datagram off the underlay, explained line by line: what the demo shows where tshark is not installed.

    vxlanu lab exec underlay -- python3 -m vxlanu.lab.wire underlay

Rules of this file
  1. `explain` is pure and total: any bytes give lines or None, never an exception.
  2. It says what each header is for, with offsets, so that the bytes can be held against RFC 7348 figure 1.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator

__all__ = ["capture", "explain"]

VXLAN_PORT = 4789
ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
CAPTURE_S = 15.0
_ETHERTYPES = {0x0800: "IPv4", 0x86DD: "IPv6", 0x0806: "ARP"}
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}


def explain(frame: bytes) -> list[str] | None:
    """The lines for a whole VXLAN frame; None when it is something else, or cut off."""
    outer = _ip(frame, 14)
    if outer is None or outer[2] != 17:
        return None
    at = outer[3]
    if len(frame) < at + 16 + 14:
        return None
    source, port, length, checksum = struct.unpack_from("!4H", frame, at)
    flags, vni = frame[at + 8], int.from_bytes(frame[at + 12 : at + 15], "big")
    if port != VXLAN_PORT or not flags & 0x08:
        return None
    inner = at + 16
    kind = _ethertype(frame, inner + 12)
    lines = [
        _row(frame, 0, 14, f"Ethernet  {_mac(frame, 6)} -> {_mac(frame, 0)}: the underlay's own"),
        _row(frame, 14, at, f"{_ethertype(frame, 12)}  {outer[0]} -> {outer[1]}: host to host"),
        _row(frame, at, at + 8, f"UDP  {source} -> {port}, length {length}, checksum 0x{checksum:04x}"),
        _row(frame, at + 8, inner, f"VXLAN  flags 0x{flags:02x}, VXLAN Network Identifier (VNI): {vni}"),
        _row(frame, inner, inner + 14, f"Ethernet  {_mac(frame, inner + 6)} -> {_mac(frame, inner)}: the containers'"),
    ]
    within = _ip(frame, inner + 14)
    if within is None:
        lines.append(_row(frame, inner + 14, len(frame), kind))
        return lines
    route = f"{kind}  {within[0]} -> {within[1]}: container to container"
    lines.append(_row(frame, inner + 14, within[3], route))
    lines.append(_row(frame, within[3], len(frame), _PROTOCOLS.get(within[2], f"protocol {within[2]}")))
    return lines


def _ethertype(frame: bytes, at: int) -> str:
    number = int.from_bytes(frame[at : at + 2], "big")
    return _ETHERTYPES.get(number, f"ethertype 0x{number:04x}")


def _ip(frame: bytes, at: int) -> tuple[str, str, int, int] | None:
    """Source, destination, protocol and the offset behind the header at `at`; None when it is none, or not whole."""
    ethertype = int.from_bytes(frame[at - 2 : at], "big")
    if ethertype == 0x0800 and len(frame) >= at + 20:
        header = (frame[at] & 15) * 4
        if header < 20 or len(frame) < at + header:
            return None
        source, target = (socket.inet_ntop(socket.AF_INET, frame[at + o : at + o + 4]) for o in (12, 16))
        return source, target, frame[at + 9], at + header
    if ethertype == 0x86DD and len(frame) >= at + 40:
        source, target = (socket.inet_ntop(socket.AF_INET6, frame[at + o : at + o + 16]) for o in (8, 24))
        return source, target, frame[at + 6], at + 40
    return None


def _mac(frame: bytes, at: int) -> str:
    return frame[at : at + 6].hex(":")


def _row(frame: bytes, start: int, end: int, meaning: str) -> str:
    shown = frame[start : min(end, start + 20)].hex()
    return f"{start:4}  {shown + ('..' if end - start > 20 else ''):42}  {meaning}"


def capture(interface: str, seconds: float = CAPTURE_S) -> Iterator[bytes]:
    """Every frame that passes `interface`, until the time is up; a bridge shows what it forwards only when asked to."""
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as packets:
        packets.bind((interface, 0))
        everything = struct.pack("iHH8s", socket.if_nametoindex(interface), PACKET_MR_PROMISC, 0, b"")
        packets.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, everything)
        while (left := deadline - time.monotonic()) > 0:
            packets.settimeout(left)
            try:
                yield packets.recv(65535)
            except TimeoutError:
                return


def main(arguments: list[str]) -> int:
    """wire INTERFACE: explain the first VXLAN frame that passes."""
    if len(arguments) != 1:
        print("usage: python3 -m vxlanu.lab.wire INTERFACE", file=sys.stderr)
        return 2
    for frame in capture(arguments[0]):
        if lines := explain(frame):
            print("\n".join(lines))
            return 0
    print("vxlanu: wire: no VXLAN frame passed", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
