"""Fair turns: one endpoint floods small frames without end, and its neighbour on the same worker gets on regardless.

c11 floods c12, where every frame passes packet filters as long as they may be: they run inside the write to its TAP
c13 pings and sends to c23 meanwhile
 │ │ │                    │ │ │
[ h1 ] ──── underlay ──── [ h2 ]

Rules of this file
  1. A flood is one only while it loses frames to a full ring: then its TAP is never empty, and a turn that ends only
     when its TAP is empty would never end.
  2. Progress is judged, never speed: a transfer that starves fails by the time-out of its sockets.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest
from data_plane import Bench, Container, inside, transfer
from lab_ns import Namespaces, poll

from vxlanu._native import lib

pytestmark = pytest.mark.netns

BYTES = random.Random(17).randbytes(500_000)
PORT = 9000
SO_ATTACH_FILTER, ETH_P_ALL = 26, 3
FILTERS, INSTRUCTIONS = 8, 1500  # a frame takes far longer than its sender needs for the next
FLOODERS = 2
FLOOD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
    mouth.connect((sys.argv[1], int(sys.argv[2])))
    while True:
        try:
            mouth.send(b"small")
        except OSError:
            pass
"""


def _lost_to_the_ring(container: Container) -> int:
    (link,) = json.loads(container.namespace.ip("-s", "-j", "link", "show", "eth0"))
    dropped: int = link["stats64"]["tx"]["dropped"]
    return dropped


def _slow_down(target: Container, stack: contextlib.ExitStack) -> None:
    """Packet sockets whose filters divide again and again and then refuse the frame."""
    code = [struct.pack("HBBI", 0x34, 0, 0, 3)] * (INSTRUCTIONS - 1) + [struct.pack("HBBI", 0x06, 0, 0, 0)]
    room = ctypes.create_string_buffer(b"".join(code))
    program = struct.pack("HL", len(code), ctypes.addressof(room))
    for _ in range(FILTERS):
        ear = stack.enter_context(inside(target.namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)))
        ear.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        ear.bind(("eth0", ETH_P_ALL))


@contextlib.contextmanager
def _flood(bench: Bench, source: Container, target: Container) -> Iterator[None]:
    """Small datagrams without end; there from when the first are lost to a full ring."""
    with contextlib.ExitStack() as stack:
        ear = stack.enter_context(inside(target.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        ear.bind((target.v4, PORT))
        _slow_down(target, stack)
        flooders: list[subprocess.Popen[str]] = []
        try:
            for _ in range(FLOODERS):
                flooders.append(source.namespace.start(sys.executable, "-c", FLOOD, target.v4, str(PORT)))
            poll(lambda: _lost_to_the_ring(source), what="a ring that is full", story=bench.story)
            yield
        finally:
            for flooder in flooders:
                flooder.kill()
                flooder.wait(60)


def test_a_flood_of_small_frames_leaves_its_neighbour_its_turns(namespaces: Namespaces) -> None:
    with Bench.of(namespaces, per_host=3) as bench:
        flooder, target, neighbour, *_, other = bench.containers
        host = bench.hosts[0]
        assert neighbour.namespace.pings(other.v4), bench.story()
        with _flood(bench, flooder, target):
            sent, lost = host.counters(lib.VX_AT_PORT, flooder.port).in_frames, _lost_to_the_ring(flooder)
            poll(lambda: neighbour.namespace.pings(other.v4, wait=1), what="a ping beside it", story=bench.story)
            got = transfer(other.namespace, neighbour.namespace, other.v4, BYTES)
            assert got == BYTES, f"{len(got)} bytes came\n{bench.story()}"
            poll(
                lambda: host.counters(lib.VX_AT_PORT, flooder.port).in_frames > sent + 100,
                what="frames of the flood, too",
                story=bench.story,
            )
            poll(lambda: _lost_to_the_ring(flooder) > lost, what="a ring that was full meanwhile", story=bench.story)
