"""A process of its own that answers Docker when the agent is no more: `python -I -S stand_in.py FD PATH ID STATE LINE`.

FD is the agent's own listening socket, PATH its file and ID that file's `identity`; STATE is a file that is there as
long as this host has an agent's state; LINE is what Docker is told. Standard input is a pipe whose other end the agent
holds. absence.py is the agent's side.

How it works
  dockerd tries a socket on which nobody listens for 15 s with each request; an answer that says no is an error at once.
  While the agent lives, nothing is done here but to wait for the end of the pipe. Afterwards every request gets LINE,
  those too that reached the agent's queue and never the agent. It ends when PATH is another's or gone.

Rules of this file
  1. Nothing but what Python brings: it runs as a program, without site-packages, in some 4 MB, with one thread.
  2. The answer is 503: with 200, Plugin.Activate would pass for a plugin that can do nothing, and stay so in dockerd.
     No connection is kept: dockerd must ask whoever listens at the moment.
  3. Our socket holds the inode of its file, so no later file can have its identity as long as we look.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable

__all__ = ["NAME", "identity"]

NAME = "vxlanu-stand-in"  # of the process, which has 15 characters for it, and of the server
PATIENCE_S = 5.0  # for a request of which the rest does not come
LOOK_MS = 500  # between two looks at the file
ASKERS_MAX = 64  # the socket's backlog
HEAD_BYTES_MAX = 64 * 1024


def identity(path: str) -> str:
    """Which file that is now; empty for none."""
    try:
        found = os.lstat(path)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def answer_all(listener: socket.socket, stays: Callable[[], bool], reply: bytes) -> None:
    """Give everybody the same reply until `stays` is false and nobody waits any more."""
    askers: dict[int, _Asker] = {}
    poller = select.poll()
    poller.register(listener, select.POLLIN)

    def part(number: int, last: bytes = b"") -> None:
        poller.unregister(number)
        with contextlib.suppress(OSError), askers.pop(number).connection as connection:
            connection.send(last)  # it fits: nothing was sent before

    while True:
        staying = stays()
        happened = [number for number, _ in poller.poll(LOOK_MS if staying or askers else 0)]
        if not (staying or askers or happened):
            return
        for number in happened:
            if number in askers and askers[number].has_asked():
                part(number, reply)
        if listener.fileno() in happened and (asker := _accepted(listener)) is not None:
            if len(askers) == ASKERS_MAX:
                part(next(iter(askers)))
            askers[asker.connection.fileno()] = asker
            poller.register(asker.connection, select.POLLIN)
        for number in [number for number, asker in askers.items() if asker.until < time.monotonic()]:
            part(number)


class _Asker:
    """A connection, and how much of its request is still to come."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.until = time.monotonic() + PATIENCE_S
        self._head = b""
        self._left = -1  # the length of the body is not known yet

    def has_asked(self) -> bool:
        """Take what has come; whether no more of it will."""
        try:
            some = self.connection.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if not some:
            return True
        if self._left < 0:
            self._head += some
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return len(self._head) > HEAD_BYTES_MAX
            self._left, some = _body_bytes(head), body
        self._left -= len(some)
        return self._left <= 0


def _body_bytes(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length" and value.strip().isdigit():
            return int(value.strip()[:9])
    return 0


def _accepted(listener: socket.socket) -> _Asker | None:
    try:
        connection, _ = listener.accept()
    except OSError:  # gone again, or taken by somebody else
        return None
    connection.setblocking(False)
    return _Asker(connection)


def _reply(line: str) -> bytes:
    body = json.dumps({"Err": line}).encode()
    head = f"Server: {NAME}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n\r\n".encode() + body


def main(number: str, path: str, mine: str, state: str, line: str) -> None:
    """Wait for the agent's end, answer, and leave nothing."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
        name.write(NAME)
    os.read(0, 1)
    with socket.socket(fileno=int(number)) as listener:
        answer_all(listener, lambda: identity(path) == mine and identity(state) != "", _reply(line))
        if identity(path) == mine:
            os.unlink(path)  # noqa: PTH108  # pathlib would be a third of the memory


if __name__ == "__main__":
    main(*sys.argv[1:])
