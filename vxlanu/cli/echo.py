"""ICMP and ICMPv6 echo from the namespace that the process is in: one request, one answer, one time.

Own, and not ping(8): a container host need not have one, and what is asked for is a number, not a text.
"""

from __future__ import annotations

import os
import socket
import struct
import time

__all__ = ["Echo"]

REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
HEADER = struct.Struct("!BBHHH")
ANSWER_BYTES = 2048


class Echo:
    """Asks one address. Needs CAP_NET_RAW in the namespace."""

    def __init__(self, address: str) -> None:
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._to = (address, 0)
        self._socket = socket.socket(self._family, socket.SOCK_RAW, PROTOCOL[self._family])
        self._identity = os.getpid() & 0xFFFF

    def once(self, number: int, timeout_s: float, size: int = 56) -> float | None:
        """Seconds until the answer; None: it did not come in time.

        Raises:
            OSError: the kernel would not send it, no route for instance.
        """
        payload = bytes(i & 0xFF for i in range(size))
        began = time.monotonic()
        self._socket.sendto(self._request(number, payload), self._to)
        while (left := began + timeout_s - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                packet, sender = self._socket.recvfrom(ANSWER_BYTES + size)
            except TimeoutError:
                return None
            arrived = time.monotonic()
            if sender[0] == self._to[0] and self._answers(packet, number):
                return arrived - began
        return None

    def _request(self, number: int, payload: bytes) -> bytes:
        """The kernel fills in the checksum of ICMPv6, which covers addresses; that of ICMP is ours."""
        kind = REQUEST[self._family]
        bare = HEADER.pack(kind, 0, 0, self._identity, number) + payload
        return HEADER.pack(kind, 0, checksum(bare), self._identity, number) + payload

    def _answers(self, packet: bytes, number: int) -> bool:
        if self._family == socket.AF_INET:  # a raw IPv4 socket hands over the IP header too
            packet = packet[(packet[0] & 0x0F) * 4 :]
        if len(packet) < HEADER.size:
            return False
        kind, _code, _sum, identity, sequence = HEADER.unpack_from(packet)
        return (kind, identity, sequence) == (REPLY[self._family], self._identity, number)


def checksum(octets: bytes) -> int:
    """RFC 1071."""
    padded = octets + b"\0" * (len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
