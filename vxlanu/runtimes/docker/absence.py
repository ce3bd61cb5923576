"""Who answers Docker while the agent is away: a stand-in, kept beside an agent that nobody would start again.

Rules of this file
  1. Under a service manager there is none: a crashed agent is back within a second, and dockerd, which tries again for
     15 s, then gets what it asked for instead of an error.
  2. A clean stop takes file and stand-in away together. A crash leaves both; the next agent replaces the file, and the
     stand-in ends when it sees that.
  3. The stand-in holds the listening socket and a pipe from us, and nothing else of ours.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import time
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM
from socket import socket as Socket

from vxlanu.errors import AgentUnreachable
from vxlanu.runtimes.docker import stand_in

__all__ = ["StandIn", "stands_in"]

log = logging.getLogger("vxlanu.docker")

AGAIN_S = 5.0  # between two starts, so that one that cannot run does not cost a process each second
ANSWER_S = 5.0  # for a stand-in to say that it is one; on an idle host it takes a millisecond
ANSWER_BYTES_MAX = 64 * 1024
COMMAND_MAX = 500  # characters of a command line that can still be read in Docker's error


class StandIn:
    """The one of this agent. `start` when the file is bound, `look` every second, `end` when the file is gone."""

    def __init__(self, path: Path, state: Path) -> None:
        self._path, self._state = path.absolute(), state.absolute()
        self._listener: Socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._next = 0.0

    @property
    def pid(self) -> int | None:
        """Of its process, if there is one."""
        return self._process.pid if self._process is not None else None

    def start(self, listener: Socket) -> None:
        """Have one from now on."""
        self._listener = listener
        self.look(time.monotonic())

    def look(self, now: float) -> None:
        """A chore: start another if it has ended, or could not be started."""
        if self._listener is None or now < self._next or (self._process and self._process.poll() is None):
            return
        self._next = now + AGAIN_S
        self._release()
        number = self._listener.fileno()
        words = [number, self._path, stand_in.identity(str(self._path)), self._state, _line()]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", stand_in.__file__, *map(str, words)],
                pass_fds=[number],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
        except OSError as error:
            log.warning("no stand-in for Docker: %s", error.strerror, extra={"event": "docker_stand_in"})

    def end(self) -> None:
        """None any more, for a clean stop."""
        self._listener = None
        self._release()

    def _release(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin
            self._process.stdin.close()
            self._process = None


def stands_in(path: Path) -> bool:
    """Whether who listens there is the stand-in of an agent that has gone, which gives way to the next one."""
    said = b""
    try:
        with Socket(AF_UNIX, SOCK_STREAM) as connection:
            end = time.monotonic() + ANSWER_S
            connection.settimeout(ANSWER_S)
            connection.connect(str(path))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            while len(said) < ANSWER_BYTES_MAX and (left := end - time.monotonic()) > 0:
                connection.settimeout(left)
                some = connection.recv(4096)
                if not some:
                    break
                said += some
    except OSError:
        return False
    return f"\r\nServer: {stand_in.NAME}\r\n".encode() in said


def _line() -> str:
    """What Docker's user reads, with the very command that has ended where it is one to be typed."""
    command = shlex.join(["vxlanu", *sys.argv[1:]])
    typed = Path(sys.argv[0]).name == "vxlanu" and len(command) <= COMMAND_MAX
    why = "it does not run on this host any more: it was killed or has crashed"
    return AgentUnreachable("agent", why, hint=command if typed else "vxlanu agent --docker").line()
