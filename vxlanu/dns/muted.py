"""Clients that are not heard for a while: the kernel drops what they send before it takes any room.

How it works
  One socket has one receive buffer for all. Whoever asks faster than the agent reads would fill it, and others'
  questions would find no room, however little the agent cares about those of the flood. So the sockets get a filter of
  classic BPF that drops by source address: no packet of a muted client is queued, no connection of it begins. It needs
  no privilege. A connection that stands keeps the filter of its listener's that it began with.

Rules of this file
  1. A filter is a function of who is muted now: it is replaced as a whole, and removed with the last one.
  2. Where the kernel takes none, everything goes on without.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence

from vxlanu.dns.limits import MUTED_MAX

__all__ = ["Muted", "filter_of"]

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h: LD|W|ABS, JMP|JEQ|K, RET|K
NETWORK_HEADER = 0xFFF00000  # linux/filter.h: SKF_NET_OFF; a socket's filter otherwise begins at UDP's or TCP's header
SOURCE = {4: 12, 6: 8}  # where the address is in the header
DROP, KEEP = 0, 0xFFFFFFFF
INSTRUCTION = struct.Struct("=HBBI")
PROGRAM = struct.Struct("@HP")


def filter_of(clients: Iterable[str], version: int) -> bytes:
    """The program for sockets of one IP version: each address is compared word by word, all equal drops."""
    program = []
    for client in clients:
        words = struct.unpack(f"!{1 if version == 4 else 4}I", ipaddress.ip_address(client).packed)
        for at, word in enumerate(words):
            past = 2 * (len(words) - at - 1) + 1  # the rest of the words, and the drop
            program.append(INSTRUCTION.pack(LOAD, 0, 0, NETWORK_HEADER + SOURCE[version] + 4 * at))
            program.append(INSTRUCTION.pack(EQUAL, 0, past, word))
        program.append(INSTRUCTION.pack(RETURN, 0, 0, DROP))
    program.append(INSTRUCTION.pack(RETURN, 0, 0, KEEP))
    return b"".join(program)


class Muted:
    """Who is muted on some sockets."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = {
            version: [it for it in sockets if it.family == family]
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))
        }
        self._clients: dict[int, set[str]] = {4: set(), 6: set()}

    def __contains__(self, client: str) -> bool:
        return client in self._clients[_version(client)]

    def add(self, client: str) -> bool:
        """Mute a client, unless it is or too many are; False then."""
        clients = self._clients[_version(client)]
        if client in clients or len(clients) >= MUTED_MAX:
            return False
        clients.add(client)
        self._settle(_version(client))
        return True

    def remove(self, client: str) -> None:
        """Hear a client again."""
        self._clients[_version(client)].discard(client)
        self._settle(_version(client))

    def _settle(self, version: int) -> None:
        clients = self._clients[version]
        for each in self._sockets[version]:
            with contextlib.suppress(OSError):  # closed by now, or no memory for options
                if clients:
                    _attach(each, filter_of(clients, version))
                else:
                    each.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def _version(client: str) -> int:
    return 6 if ":" in client else 4


def _attach(to: socket.socket, program: bytes) -> None:
    """The kernel copies it."""
    held = ctypes.create_string_buffer(program, len(program))
    count = len(program) // INSTRUCTION.size
    to.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, PROGRAM.pack(count, ctypes.addressof(held)))
