"""Numbered datagrams and whoever checks their order, run inside containers: `python numbered.py VERB …`.

send ADDRESS PORT FLOWS SEED     datagrams of FLOWS flows, sizes mixed, a round every millisecond until end of input;
                                 {"ready": true} after the first round
check ADDRESS PORT               {"ready": true}; at end of input {"received": n, "flows": n, "late": n, "first": …}
                                 once nothing has come for a tenth of a second: the senders have to have ended before

Each flow is a socket of its own, so a source port. A datagram begins with its flow and its number in the flow. One that
comes after a higher number of its flow is late; losses are no matter here. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import struct
import sys
import time

HEAD = struct.Struct("!IQ")
SIZES = (HEAD.size, 64, 200, 700, 1300, 1400)
SEGMENT = 600  # some sends are super-frames of such datagrams: UDP_SEGMENT
SOL_UDP, UDP_SEGMENT = 17, 103
SO_RCVBUFFORCE, RECEIVE_BYTES = 33, 64 << 20  # a second of all flows, for a checker that gets no time
PAUSE_S = 0.001  # some 20 000 datagrams a second: a load, and the machine still answers


class Order:
    """What has been seen of each flow."""

    def __init__(self) -> None:
        self.newest: dict[int, int] = {}
        self.received = 0
        self.late = 0
        self.first = ""

    def see(self, datagram: bytes) -> None:
        flow, number = HEAD.unpack_from(datagram)
        self.received += 1
        newest = self.newest.get(flow, -1)
        if number > newest:
            self.newest[flow] = number
            return
        self.late += 1
        self.first = self.first or f"flow {flow}: {number} ({len(datagram)} bytes) after {newest}"


def ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def check(address: str, port: int) -> None:
    order = Order()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
        sock.bind((address, port))
        sock.settimeout(0.05)
        print(json.dumps({"ready": True}), flush=True)
        silent = 0
        while silent < 2:  # to the last that waits: who got no time is behind when it is told to end
            try:
                order.see(sock.recv(65536))
                silent = 0
            except TimeoutError:
                silent += ended()
    told = {"received": order.received, "flows": len(order.newest), "late": order.late, "first": order.first}
    print(json.dumps(told), flush=True)


def send(address: str, port: int, flows: int, seed: int) -> None:
    rng, sent = random.Random(seed), 0
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(flows)]
    numbers = [0] * flows
    for sock in socks:
        sock.connect((address, port))
    first = True
    while first or not ended():
        for flow, sock in enumerate(socks):
            count = rng.choice((1, 1, 1, 8))
            size = SEGMENT if count > 1 else rng.choice(SIZES)
            sock.setsockopt(SOL_UDP, UDP_SEGMENT, size if count > 1 else 0)
            parts = (HEAD.pack(flow, numbers[flow] + at).ljust(size, b".") for at in range(count))
            with contextlib.suppress(OSError):  # ENOBUFS from a full ring is a loss like any other
                sock.send(b"".join(parts))
            numbers[flow] += count
            sent += count
        if first:
            print(json.dumps({"ready": True}), flush=True)
            first = False
        time.sleep(PAUSE_S)
    print(json.dumps({"sent": sent}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(sys.argv[2], int(sys.argv[3]))
    else:
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
