"""Probes of the data port: making, sending, and remembering which came. native/probe.c draws one.

Rules of this file
  1. A probe leaves with DF by the agent's address, like the data plane's datagrams, so that firewalls and narrow paths
     treat it the same. It takes a socket of its own: the transmit sockets are the workers'.
  2. Every length is sent twice, a moment apart: one lost datagram is not a closed port.
  3. What came is remembered for a short while and for few senders: anybody can send us probes.

A token is 32 bits of survey, 16 bits of kind, 16 bits of the length that the outer IP packet has.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["BACK", "ECHO", "QUESTION", "Arrivals", "Token", "lengths_to_try", "send"]

QUESTION, ECHO, BACK = 0, 1, 2  # of the asker; returned for the first of these; of the one who was asked
ROUNDS = 2
PAUSE_S = 0.15
REMEMBERED_S = 10.0
SENDERS_MAX = 256
HEADER_BYTES = 8 + 14 + 4 + 8  # VXLAN, Ethernet, magic, token
UDP_BYTES = 8
IP_BYTES = {4: 20, 6: 40}
SHORT = 128  # passes wherever VXLAN passes at all
LADDER = (1500, 1492, 1480, 1460, 1440, 1420, 1400, 1380, 1360, 1340, 1300, 1280)
"""Lengths that underlays have: Ethernet, PPPoE, tunnels in tunnels, clouds, WireGuard, the least of IPv6."""

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE, IPV6_DONTFRAG = 10, 23, 3, 62  # linux/in.h, linux/in6.h
PORTS = range(49152, 65536, 61)  # the transmit sockets' range: a firewall may know it

_VXLAN = struct.Struct("!II")
_FRAME = struct.Struct("!6s6sH4sQ")
GROUP, NOBODY, ETHERTYPE, MAGIC = bytes.fromhex("0180c2000000"), bytes.fromhex("024200000000"), 0x88B5, b"vxp\1"


@dataclass(frozen=True, slots=True)
class Token:
    """What a probe says of itself."""

    survey: int
    kind: int
    length: int

    @classmethod
    def read(cls, value: int) -> Token:
        return cls(value >> 32, value >> 16 & 0xFFFF, value & 0xFFFF)

    def number(self) -> int:
        return self.survey << 32 | self.kind << 16 | self.length


def lengths_to_try(needed: int, link: int) -> tuple[int, ...]:
    """The outer lengths worth a probe: what networks need, and the ladder below; all that our own link takes."""
    wanted = {length for length in (needed, *LADDER) if length <= needed}
    return (SHORT, *sorted(length for length in wanted if length <= link))


def datagram(token: Token, version: int) -> bytes:
    """The UDP payload that makes an outer IP packet of `token.length` bytes."""
    headers = _VXLAN.pack(0x08000000, 0) + _FRAME.pack(GROUP, NOBODY, ETHERTYPE, MAGIC, token.number())
    return headers.ljust(token.length - IP_BYTES[version] - UDP_BYTES, b"\0")


async def send(own: str, to: tuple[str, int], survey: int, kind: int, lengths: Sequence[int]) -> int:
    """Send all lengths, the rounds; returns the errno of the kernel's refusal if not even one could be sent."""
    version = ipaddress.ip_address(own).version
    sent, refused = 0, 0
    if ipaddress.ip_address(to[0]).version != version:
        return errno.EAFNOSUPPORT
    try:
        opened = _open(own, version)
    except OSError as error:
        return error.errno or errno.EIO  # EADDRNOTAVAIL: our own address is gone
    with opened as udp:
        for turn in range(ROUNDS):
            if turn:
                await asyncio.sleep(PAUSE_S)
            for length in lengths:
                try:
                    udp.sendto(datagram(Token(survey, kind, length), version), to)
                    sent += 1
                except OSError as error:
                    refused = error.errno or errno.EIO  # EMSGSIZE: our own link; EPERM: our own firewall
    return 0 if sent else refused


def _open(own: str, version: int) -> socket.socket:
    udp = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if version == 4:
            udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        else:
            udp.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            udp.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
        _bind(udp, own, PORTS)
    except OSError:
        udp.close()
        raise
    return udp


def _bind(udp: socket.socket, own: str, ports: Iterable[int]) -> None:
    for port in ports:
        try:
            udp.bind((own, port))
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    udp.bind((own, 0))


class Arrivals:
    """Which probes came here, by sender and survey."""

    def __init__(self) -> None:
        self._came: OrderedDict[tuple[str, int], tuple[float, dict[int, set[int]]]] = OrderedDict()

    def note(self, sender: str, token: Token) -> bool:
        """Remember one; whether it is the first of its sender and survey."""
        now, key = time.monotonic(), (sender, token.survey)
        first = key not in self._came
        while self._came and (len(self._came) >= SENDERS_MAX or self._oldest() < now - REMEMBERED_S):
            self._came.popitem(last=False)
        _, kinds = self._came.setdefault(key, (now, {}))
        kinds.setdefault(token.kind, set()).add(token.length)
        return first

    def lengths(self, sender: str, survey: int, kind: int) -> list[int]:
        """The lengths that came, shortest first."""
        _, kinds = self._came.get((sender, survey), (0.0, {}))
        return sorted(kinds.get(kind, ()))

    def _oldest(self) -> float:
        return next(iter(self._came.values()))[0]
