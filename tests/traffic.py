"""Traffic for tests, run inside containers: `python traffic.py VERB …`. Standard library only; prints one line of JSON.

receive tcp|udp ADDRESS PORT SECONDS     listen, print {"ready": true}, then {"bytes": n, "sha256": …}
send tcp ADDRESS PORT BYTES SEED RATE    connect and send BYTES pseudo-random bytes at RATE bytes/s at most, and never
                                         catch up (0: no limit)
send udp ADDRESS PORT COUNT SEED SIZE    COUNT datagrams of SIZE bytes, each numbered, slowly enough to arrive
echo ADDRESS PORT SECONDS                {"ready": true}, then send every datagram back until an empty one
probe ADDRESS PORT INTERVAL              a numbered datagram to an echo every INTERVAL s; the numbers that return
sizes ADDRESS PORT FIRST LAST            a datagram of every size to an echo, one at a time: {"sizes": n, "wrong": […]}
frame INTERFACE HEX COUNT                send raw frames, slowly enough to arrive
burst INTERFACE HEX COUNT                send raw frames as fast as it goes, whatever the kernel says to it
watch INTERFACE HEX                      count frames with the bytes HEX in them: {"ready": true}, and for each line
                                         of input {"frames": n}, how many came so far
forge ADDRESS PORT HEX COUNT             send the bytes as UDP datagrams (a VXLAN header and a frame, say)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import select
import socket
import sys
import time

CHUNK = 1 << 16
ETH_P_ALL, SO_RCVBUFFORCE = 3, 33
END = b"end of "  # with how many there were
ROOM = 16 << 20  # for all that a sender sends while the receiver gets no time
LOST_S = 20.0  # what has not come by then never will


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def make_room(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    except PermissionError:  # without CAP_NET_ADMIN what rmem_max allows, which is twice rmem_default at least
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)


def receive(protocol: str, address: str, port: int, seconds: float) -> None:
    digest, total = hashlib.sha256(), 0
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family(address), kind) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.settimeout(seconds)
        if protocol == "udp":
            make_room(sock)
            say(ready=True)
            parts: dict[bytes, bytes] = {}
            wanted = sys.maxsize
            with contextlib.suppress(TimeoutError):
                while len(parts) < wanted:
                    data = sock.recv(CHUNK)
                    if data.startswith(END):  # it may overtake what came in fragments: that is another flow to a tunnel
                        wanted = int(data.removeprefix(END))
                    else:
                        parts[data[:8]] = data
                    sock.settimeout(LOST_S)
            for key in sorted(parts):
                digest.update(parts[key])
                total += len(parts[key])
            return say(bytes=total, sha256=digest.hexdigest())
        sock.listen()
        say(ready=True)
        connection, _ = sock.accept()
        connection.settimeout(seconds)
        while data := connection.recv(CHUNK):
            digest.update(data)
            total += len(data)
        connection.sendall(b"all")
    return say(bytes=total, sha256=digest.hexdigest())


def send_tcp(address: str, port: int, size: int, seed: int, rate: float) -> None:
    rng, digest, left = random.Random(seed), hashlib.sha256(), size
    with socket.socket(family(address), socket.SOCK_STREAM) as sock:
        sock.settimeout(60.0)
        sock.connect((address, port))
        while left:
            data = rng.randbytes(min(CHUNK, left))
            sock.sendall(data)
            digest.update(data)
            left -= len(data)
            if rate:
                time.sleep(len(data) / rate)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(16):
            pass
    say(bytes=size, sha256=digest.hexdigest())


def send_udp(address: str, port: int, count: int, seed: int, size: int) -> None:
    rng, digest = random.Random(seed), hashlib.sha256()
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        for number in range(count):
            data = number.to_bytes(8, "big") + rng.randbytes(size - 8)
            sock.sendto(data, (address, port))
            digest.update(data)
            time.sleep(0.001)
        sock.sendto(END + b"%d" % count, (address, port))
    say(bytes=count * size, sha256=digest.hexdigest())


def echo(address: str, port: int, seconds: float) -> None:
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.bind((address, port))
        sock.settimeout(seconds)
        make_room(sock)
        say(ready=True)
        while True:
            data, sender = sock.recvfrom(CHUNK)
            if not data:
                return
            sock.sendto(data, sender)


def probe(address: str, port: int, interval: float) -> None:
    """Without end. Not ping: a burst of late answers overflows its socket, which has room for some 64 KB."""
    number, due = 0, time.monotonic()
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        make_room(sock)
        sock.connect((address, port))
        sock.setblocking(False)
        while True:
            if time.monotonic() >= due:
                number += 1
                with contextlib.suppress(OSError):
                    sock.send(number.to_bytes(8, "big"))
                due = max(due + interval, time.monotonic())
            select.select([sock], [], [], max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                while True:
                    print(int.from_bytes(sock.recv(8), "big"), flush=True)


def sizes(address: str, port: int, first: int, last: int) -> None:
    rng, wrong = random.Random(last), []
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(LOST_S)
        sock.connect((address, port))
        for size in range(first, last + 1):
            data = rng.randbytes(size)
            sock.send(data)
            try:
                if sock.recv(CHUNK) != data:
                    wrong.append(size)
            except TimeoutError:
                wrong.append(size)
                break
        sock.send(b"")
    say(sizes=last - first + 1, wrong=wrong)


def frame(interface: str, text: str, count: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        for _ in range(count):
            sock.send(bytes.fromhex(text))
            time.sleep(0.002)
    say(sent=count)


def burst(interface: str, text: str, count: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        for _ in range(count):
            with contextlib.suppress(OSError):  # ENOBUFS: dropped, and counted by whoever dropped it
                sock.send(bytes.fromhex(text))
    say(sent=count)


def watch(interface: str, text: str) -> None:
    wanted, frames = bytes.fromhex(text), 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sock:
        make_room(sock)
        sock.bind((interface, ETH_P_ALL))
        sock.setblocking(False)
        say(ready=True)
        for _ in sys.stdin:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, (_, _, kind, _, _) = sock.recvfrom(CHUNK)
                    frames += kind != socket.PACKET_OUTGOING and wanted in data
            say(frames=frames)


def forge(address: str, port: int, text: str, count: int) -> None:
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        for _ in range(count):
            sock.sendto(bytes.fromhex(text), (address, port))
            time.sleep(0.002)
    say(sent=count)


def main(verb: str, *words: str) -> None:
    if verb == "receive":
        receive(words[0], words[1], int(words[2]), float(words[3]))
    elif verb == "send" and words[0] == "tcp":
        send_tcp(words[1], int(words[2]), int(words[3]), int(words[4]), float(words[5]))
    elif verb == "send":
        send_udp(words[1], int(words[2]), int(words[3]), int(words[4]), int(words[5]))
    elif verb == "echo":
        echo(words[0], int(words[1]), float(words[2]))
    elif verb == "probe":
        probe(words[0], int(words[1]), float(words[2]))
    elif verb == "sizes":
        sizes(words[0], int(words[1]), int(words[2]), int(words[3]))
    elif verb == "frame":
        frame(words[0], words[1], int(words[2]))
    elif verb == "burst":
        burst(words[0], words[1], int(words[2]))
    elif verb == "watch":
        watch(words[0], words[1])
    elif verb == "forge":
        forge(words[0], int(words[1]), words[2], int(words[3]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
