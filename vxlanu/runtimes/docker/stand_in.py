"""A process of its own that answers Docker when the agent is no more: `python -I -S stand_in.py FD PATH ID STATE LINE`.

FD is the agent's own listening socket, PATH its file and ID that file's `identity`; STATE is a file that is there as
long as this host has an agent's state; LINE is what Docker is told. Standard input is a pipe whose other end the agent
holds. absence.py is the agent's side.

How it works
  dockerd tries a socket on which nobody listens for 15 s with each request; an answer that says no is an error at once.
  While the agent lives, nothing is done here but to wait for the end of the pipe. An agent that is stopped says a last
  word there: what Docker is to be told in place of LINE, and for which of its networks. Afterwards every request is
  refused, those too that reached the agent's queue and never the agent.
  `vxlanu agent --stand-in` becomes such a process itself, with the last word waiting for it; there is no agent then.
  It ends when PATH is another's or gone, STATE is gone, it is sent SIGTERM, or Docker has removed the last of the
  networks that it was told. A network that Docker asks us to remove is gone there, whatever we answer: which ones is
  written down beside STATE, for the next agent.

Rules of this file
  1. Nothing but what Python brings: it runs as a program, without site-packages, in some 4 MB, with one thread.
  2. The answer is 503: with 200, Plugin.Activate would pass for a plugin that can do nothing, and stay so in dockerd.
     No connection is kept: dockerd must ask whoever listens at the moment.
  3. Our socket holds the inode of its file, so no later file can have its identity as long as we look.
  4. The file is the agent's until that has said its last word or is dead; SIGTERM before ends this process alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable

__all__ = ["NAME", "REMOVED", "REMOVED_BYTES_MAX", "identity"]

NAME = "vxlanu-stand-in"  # of the process, which has 15 characters for it, and of the server
PATIENCE_S = 5.0  # for a request of which the rest does not come
LOOK_MS = 500  # between two looks at the file
ASKERS_MAX = 64  # the socket's backlog
HEAD_BYTES_MAX = 64 * 1024
REMOVAL = b"POST /NetworkDriver.DeleteNetwork "
REMOVAL_BYTES_MAX = 4096  # of its body, which is one id
REMOVED = "docker-removed"  # a file with one of Docker's ids in each line
REMOVED_BYTES_MAX = 64 * 1024
LINGER_S = 3.0  # before or after it Docker gives back addresses and pool, each in a request of its own


def identity(path: str) -> str:
    """Which file that is now; empty for none."""
    try:
        found = os.lstat(path)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


class Duty:
    """What Docker is told, and whether it can still ask. `networks`: those that it has of ours; None for not known.
    `removed`: the file of those that it has removed.
    """

    def __init__(self, line: str, networks: Iterable[str] | None, removed: str) -> None:
        self._line = line
        self._networks = set(networks) if networks is not None else None
        self._removed = removed
        self._asked = time.monotonic()

    def is_over(self) -> bool:
        """Whether all that it was about is gone."""
        return self._networks == set() and time.monotonic() - self._asked > LINGER_S

    def answer(self, head: bytes, body: bytes) -> bytes:
        """The refusal. Who only looks who is here, an agent or the doctor, is told that too."""
        self._asked = time.monotonic()
        said: dict[str, object] = {"Err": self._line}
        if head.startswith(b"GET "):
            said["Pid"] = os.getpid()
        elif head.startswith(REMOVAL):
            self._note_removal(body)
        return _reply(json.dumps(said).encode())

    def _note_removal(self, body: bytes) -> None:
        try:
            network = str(json.loads(body)["NetworkID"])
        except (ValueError, KeyError, TypeError):
            return
        if not network.isalnum():
            return
        with contextlib.suppress(OSError), open(self._removed, "a", opener=_private) as file:
            if file.tell() + len(network) < REMOVED_BYTES_MAX:
                file.write(f"{network}\n")
        if self._networks is not None:
            self._networks.discard(network)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def answer_all(listener: socket.socket, stays: Callable[[], bool], duty: Duty) -> None:
    """Refuse everybody until `stays` is false and nobody waits any more."""
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
                part(number, duty.answer(askers[number].head, askers[number].body))
        if listener.fileno() in happened and (asker := _accepted(listener)) is not None:
            if len(askers) == ASKERS_MAX:
                part(next(iter(askers)))
            askers[asker.connection.fileno()] = asker
            poller.register(asker.connection, select.POLLIN)
        for number in [number for number, asker in askers.items() if asker.until < time.monotonic()]:
            part(number)


class _Asker:
    """A connection, what it has asked, and how much of that is still to come."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.until = time.monotonic() + PATIENCE_S
        self.head = self.body = b""
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
            self.head += some
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return len(self.head) > HEAD_BYTES_MAX
            self._left, some = _body_bytes(head), body
        self._left -= len(some)
        self.body += some[: REMOVAL_BYTES_MAX - len(self.body)]
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


def _reply(body: bytes) -> bytes:
    head = f"Server: {NAME}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n\r\n".encode() + body


def _last_word(line: str, removed: str) -> Duty:
    """Wait for the agent's end. One that was killed has said nothing, or half of it."""
    said = b""
    while some := os.read(0, 65536):
        said += some
    try:
        word = json.loads(said)
        return Duty(str(word["line"]), map(str, word["networks"]), removed)
    except (ValueError, KeyError, TypeError):
        return Duty(line, None, removed)


def _agent_lives() -> bool:
    """Whether it holds its end of the pipe and has said nothing."""
    poller = select.poll()
    poller.register(0, select.POLLIN)  # the end of the pipe is always told
    return not poller.poll(0)


def main(number: str, path: str, mine: str, state: str, line: str) -> None:
    """Wait for the agent's end, answer, and leave nothing."""
    with socket.socket(fileno=int(number)) as listener:
        try:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # held back while Python started
            with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
                name.write(NAME)
            duty = _last_word(line, f"{state.rpartition('/')[0]}/{REMOVED}")

            def stays() -> bool:
                return identity(path) == mine and identity(state) != "" and not duty.is_over()

            answer_all(listener, stays, duty)
        finally:
            if not _agent_lives() and identity(path) == mine:
                os.unlink(path)  # noqa: PTH108  # pathlib would be a third of the memory


if __name__ == "__main__":
    main(*sys.argv[1:])
