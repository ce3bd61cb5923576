"""Sockets inside a lab's namespaces, held by the test's own process, and exchanges over them.

A socket belongs to the namespace in which it was made, whoever uses it: so a thread goes in, makes one and hands it
out. No process is started in a container, and what was sent and what arrived are compared where both are known.

Rules of this file
  1. An exchange returns what happened; the test says what had to happen.
  2. Bulk is measured in bytes, never in seconds: a slow machine takes longer and proves the same.
  3. Datagrams may be lost: all namespaces of a processor share a queue, which others' bulk may fill (conftest.py).
     What does not come is sent again; what comes and was not sent is never excused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from inside import inside as in_network

from vxlanu.lab.topology import Lab

T = TypeVar("T")

SO_RCVBUFFORCE = 33
SOL_UDP, UDP_SEGMENT = 17, 103
TCP_INFO_TOTAL_RETRANS, TCP_INFO_DATA_SEGS_OUT = 100, 156  # offsets in struct tcp_info (linux/tcp.h)
WAIT_S = 60.0
LOST_S = 20.0  # what has not come by then never will
TRIES_S = (3.0, 3.0, LOST_S)  # how long each is waited for; what is lost each time is lost by us
SHORT_WINDOWS_MAX = 10  # a queue that is full for a moment makes one or two
BLOCK = random.Random(20).randbytes((1 << 20) - 3)  # odd, so that no part of it repeats at a segment's distance


def inside(lab: Lab, place: str, work: Callable[[], T]) -> T:
    """What `work` returns, run by a thread in the network namespace of `place`."""
    network = Path(f"/proc/{lab.pid}/ns/net") if place == "underlay" else lab.path(Path("/run/netns") / place)
    return in_network(network, work)


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def udp_socket(lab: Lab, place: str, address: str, port: int = 0) -> socket.socket:
    """A UDP socket of `place`, bound, with room for everything that one exchange has under way."""
    made = inside(lab, place, lambda: socket.socket(family_of(address), socket.SOCK_DGRAM))
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    made.settimeout(WAIT_S)
    made.bind((address, port))
    return made


def packet_socket(lab: Lab, place: str, device: str) -> socket.socket:
    """Every frame of a device, as it is."""
    made = inside(lab, place, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    made.bind((device, 3))
    made.settimeout(WAIT_S)
    return made


@dataclass(frozen=True)
class Bulk:
    """What a TCP transfer was like."""

    intact: bool
    longest_pause_s: float
    segments: int
    retransmitted: int
    seconds: float

    @property
    def retransmitted_share(self) -> float:
        return self.retransmitted / max(1, self.segments)


def bulk(lab: Lab, sender: str, receiver: str, address: str, octets: int) -> Bulk:
    """Send `octets` over TCP from one place to `address` of another."""
    family = family_of(address)
    listener = inside(lab, receiver, lambda: socket.create_server((address, 0), family=family))
    client = inside(lab, sender, lambda: socket.socket(family, socket.SOCK_STREAM))
    with listener, client:
        listener.settimeout(WAIT_S)
        client.settimeout(WAIT_S)
        client.connect((address, listener.getsockname()[1]))
        connection, _ = listener.accept()
        digest = hashlib.sha256()
        sending = threading.Thread(target=_send_all, args=(client, octets, digest))
        begun = time.monotonic()
        sending.start()
        with connection:
            connection.settimeout(WAIT_S)
            got, pause = _receive_all(connection)
        sending.join()
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    segments, again = (struct.unpack_from("I", info, at)[0] for at in (TCP_INFO_DATA_SEGS_OUT, TCP_INFO_TOTAL_RETRANS))
    return Bulk(got == digest.digest(), pause, segments, again, time.monotonic() - begun)


def _send_all(client: socket.socket, octets: int, digest: hashlib._Hash) -> None:
    try:
        while octets > 0:
            part = BLOCK[:octets]
            client.sendall(part)
            digest.update(part)
            octets -= len(part)
        client.shutdown(socket.SHUT_WR)
    except OSError:
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # the receiver sees the end too early, and says so


def _receive_all(connection: socket.socket) -> tuple[bytes, float]:
    """Digest of everything, and the longest time in which nothing came. Gives up when that is too long."""
    digest, longest, last = hashlib.sha256(), 0.0, time.monotonic()
    room = bytearray(1 << 20)
    try:
        while count := connection.recv_into(room):
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            digest.update(memoryview(room)[:count])
    except OSError:
        longest = max(longest, time.monotonic() - last)
    return digest.digest(), longest


def datagram(size: int) -> bytes:
    """Bytes that no other size begins with."""
    return BLOCK[7 * size : 8 * size]


def sizes(
    lab: Lab,
    sender: str,
    receiver: str,
    source: str,
    address: str,
    wanted: Iterable[int],
    window: int = 32,
    port: int = 0,
) -> tuple[list[int], list[int]]:
    """One datagram of each size from one socket (on `port`) to another: (sizes missing, sizes of what nobody sent).

    Not to its end when too many windows lack something: that is no accident, and each of them is waited for.
    """
    missing = list(wanted)
    surplus: list[int] = []
    late: list[bytes] = []  # given up; one that comes after all was sent
    with udp_socket(lab, sender, source, port) as sending, udp_socket(lab, receiver, address) as receiving:
        for seconds in TRIES_S:
            receiving.settimeout(seconds)
            left, missing, short = missing, [], 0
            while left and short <= SHORT_WINDOWS_MAX:
                some, left = left[:window], left[window:]
                lost, others = _window(sending, receiving, [datagram(size) for size in some])
                missing += map(len, lost)
                short += bool(lost)
                for data in others:
                    if data in late:
                        late.remove(data)
                    else:
                        surplus.append(len(data))
                late += lost
            if short > SHORT_WINDOWS_MAX:
                break
    return missing, surplus


def _window(sending: socket.socket, receiving: socket.socket, sent: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Send some datagrams: which did not come within the socket's time limit, and what came besides."""
    lost, others = list(sent), []
    for data in sent:
        sending.sendto(data, receiving.getsockname()[:2])
    with contextlib.suppress(TimeoutError):
        while lost:
            data = receiving.recv(1 << 16)
            if data in lost:
                lost.remove(data)
            else:
                others.append(data)
    return lost, others


def _take(receiving: socket.socket, count: int) -> list[bytes]:
    """Up to `count` datagrams; fewer when none comes for the socket's time limit."""
    came: list[bytes] = []
    try:
        while len(came) < count:
            came.append(receiving.recv(1 << 16))
    except TimeoutError:
        pass
    return came


def lengths(heard: socket.socket, outgoing: bool) -> list[int]:
    """The lengths of all frames that a packet socket has heard by now, of one direction."""
    found = []
    heard.setblocking(False)
    try:
        while True:
            length, (_, _, kind, _, _) = heard.recvfrom_into(bytearray(1), 1, socket.MSG_TRUNC)
            if (kind == socket.PACKET_OUTGOING) == outgoing:
                found.append(length)
    except BlockingIOError:
        return found


def segmented(lab: Lab, sender: str, receiver: str, source: str, address: str, segment: int, octets: int) -> list[str]:
    """One send with UDP_SEGMENT of `octets` as datagrams of `segment`. What is wrong with what arrived."""
    data = os.urandom(octets)
    wanted = [data[at : at + segment] for at in range(0, octets, segment)]
    for seconds in TRIES_S:  # each with sockets of its own, which hear nothing late of the last try
        with udp_socket(lab, sender, source) as sending, udp_socket(lab, receiver, address) as receiving:
            sending.setsockopt(SOL_UDP, UDP_SEGMENT, segment)
            receiving.settimeout(seconds)
            sending.sendto(data, receiving.getsockname()[:2])
            came = _take(receiving, len(wanted))
        if came == wanted:
            return []
        rest = iter(wanted)
        if not all(datagram in rest for datagram in came):
            break  # not only fewer, but others, or in another order
    return [f"{segment}: {len(came)} of {len(wanted)} datagrams, lengths {sorted(set(map(len, came)))}"]
