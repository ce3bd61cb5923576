"""Who answers Docker while the agent is away: a stand-in, kept beside an agent that nobody would start again.

Rules of this file
  1. Beside an agent that has a service manager there is none: after a crash it is back within a second, and dockerd,
     which tries again for 15 s, then gets what it asked for instead of an error. When it was stopped the manager
     has a stand-in `become` of `vxlanu agent --stand-in` (vxlanu.agent.away). Nor is there one beside a pid 1,
     with which it would end.
  2. A clean stop takes file and stand-in away together, unless Docker has networks of ours: with each of their
     containers, and at its own start, it would wait 15 s for us several times. Then both stay (`stay`), as after a
     crash; the next agent replaces the file, and the stand-in ends when it sees that.
  3. Who ends the stand-in as well (SIGTERM) wants nothing to stay.
  4. The stand-in holds the listening socket and a pipe from us, and nothing else of ours.
  5. We hold a descriptor of that socket of our own: at a stop the server's is closed before `stay`, which may have to
     start another stand-in.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM
from socket import socket as Socket
from typing import NoReturn

import msgspec

from vxlanu.errors import AgentUnreachable
from vxlanu.runtimes.docker import stand_in

__all__ = ["StandIn", "become", "forget_removed", "gone", "removed_meanwhile", "standing"]

log = logging.getLogger("vxlanu.docker")

AGAIN_S = 5.0  # between two starts, so that one that cannot run does not cost a process each second
ANSWER_S = 5.0  # for a stand-in to say that it is one; on an idle host it takes a millisecond
ANSWER_BYTES_MAX = 64 * 1024
COMMAND_MAX = 500  # characters of a command line that can still be read in Docker's error
CRASHED = "it was killed or has crashed"
ON_SIGTERM = (0, -signal.SIGTERM)  # how a stand-in ends by it: 0 once Python runs its handler


class StandIn:
    """The one of this agent. `start` when the file is bound, `look` every second, then `end` or `stay`."""

    def __init__(self, path: Path, state: Path) -> None:
        self._path, self._state = path.absolute(), state.absolute()
        self._listener: Socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._left: subprocess.Popen[bytes] | None = None  # nobody waits for it any more
        self._next = 0.0

    @property
    def pid(self) -> int | None:
        """Of its process, if there is one."""
        return self._process.pid if self._process is not None else None

    def start(self, listener: Socket) -> None:
        """Have one from now on."""
        self._listener = listener.dup()
        self.look(time.monotonic())

    def look(self, now: float) -> None:
        """A chore: start another if it has ended, or could not be started."""
        if self._listener is None or now < self._next or (self._process and self._process.poll() is None):
            return
        self._next = now + AGAIN_S
        self._release()
        number = self._listener.fileno()
        try:
            self._process = subprocess.Popen(
                _command(number, self._path, self._state, _line(CRASHED)),
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
        """None any more."""
        self._drop_listener()
        self._release()

    def stay(self, why: str, networks: Iterable[str]) -> int | None:
        """Have it answer from now on, with why the agent ends, until Docker has removed these networks; its pid.

        None: there is no such process, so the file must go.
        """
        if self._listener is None:
            return None
        if self._process is None or self._process.poll() not in (None, *ON_SIGTERM):
            self.look(self._next)
        self._drop_listener()
        process = self._process
        if process is None or process.poll() is not None:
            self._release()
            return None
        assert process.stdin
        word = _word(_line(why), networks)
        os.set_blocking(process.stdin.fileno(), False)  # what does not fit would be hundreds of networks, and is lost
        with contextlib.suppress(OSError):
            os.write(process.stdin.fileno(), word)
        process.stdin.close()
        self._process, self._left = None, process
        return process.pid

    def _drop_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _release(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin
            self._process.stdin.close()
            self._process = None


def become(listener: Socket, path: Path, state: Path, line: str, networks: Iterable[str]) -> NoReturn:
    """Let this process be a stand-in from now on, for these networks, with the signal mask that it has: the stand-in
    unblocks SIGTERM as soon as it takes the file away then.
    """
    word = os.memfd_create("word")
    os.write(word, _word(line, networks))
    os.lseek(word, 0, os.SEEK_SET)
    os.dup2(word, 0)
    os.set_inheritable(listener.fileno(), True)
    command = _command(listener.fileno(), path.absolute(), state.absolute(), line)
    os.execve(command[0], command, {})


def _command(number: int, path: Path, state: Path, line: str) -> list[str]:
    words = (number, path, stand_in.identity(str(path)), state, line)
    return [sys.executable, "-I", "-S", stand_in.__file__, *map(str, words)]


def _word(line: str, networks: Iterable[str]) -> bytes:
    return json.dumps({"line": line, "networks": list(networks)}).encode()


def removed_meanwhile(state_dir: Path) -> list[str]:
    """The networks, by Docker's ids, that it has removed while a stand-in answered it. `forget_removed` when done."""
    try:
        with (state_dir / stand_in.REMOVED).open("rb") as file:
            return file.read(stand_in.REMOVED_BYTES_MAX).decode("ascii", "replace").split()
    except OSError:
        return []


def forget_removed(state_dir: Path) -> None:
    """Nobody needs the list any more."""
    with contextlib.suppress(OSError):
        (state_dir / stand_in.REMOVED).unlink(missing_ok=True)


class _Said(msgspec.Struct, rename="pascal"):
    pid: int = 0  # of an older release's stand-in


def standing(path: Path) -> int | None:
    """The pid of who listens there, if it is the stand-in of an agent that has gone, which gives way to the next."""
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
        return None
    head, _, body = said.partition(b"\r\n\r\n")
    if f"\r\nServer: {stand_in.NAME}\r\n".encode() not in head:
        return None
    try:
        return msgspec.json.decode(body, type=_Said).pid
    except msgspec.DecodeError:
        return 0


def _line(why: str) -> str:
    """`gone`, with the very command that has ended where it is one to be typed."""
    command = shlex.join(["vxlanu", *sys.argv[1:]])
    typed = Path(sys.argv[0]).name == "vxlanu" and len(command) <= COMMAND_MAX
    return gone(why, command if typed else "vxlanu agent --docker")


def gone(why: str, hint: str) -> str:
    """What Docker's user reads."""
    return AgentUnreachable("agent", f"it does not run on this host any more: {why}", hint=hint).line()
