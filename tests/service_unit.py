"""A service manager for one unit, as far as sd_notify(3) and the FD store go: what systemd would do, where none runs.

Rules of this file
  1. The protocol itself, nothing of the agent: datagrams of KEY=VALUE lines, descriptors beside them, LISTEN_FDS at the
     next start. Kept descriptors are dropped once they poll as dead, unless FDPOLL=0 came with them. (A TAP whose
     namespace ends wakes nobody who waits for its death alone, so the next run may still be handed a dead one.)
  2. `store=False` is FileDescriptorStoreMax=0: the agent is told nothing of it and sends all the same.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from lab_ns import poll

# In the child: move the descriptors to 3, 4, ... and say so, to the very process that then becomes the program.
EXEC = """
import fcntl, os, sys
count = int(sys.argv[1])
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 300) for fd in sys.argv[2:2 + count]]
for fd in sys.argv[2:2 + count]:
    os.close(int(fd))
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number)
if count:
    os.environ["LISTEN_PID"] = str(os.getpid())
for name in ("WATCHDOG_PID",):
    if "WATCHDOG_USEC" in os.environ:
        os.environ[name] = str(os.getpid())
os.execvp(sys.argv[2 + count], sys.argv[2 + count:])
"""
FDS_MAX = 253  # SCM_MAX_FD


class Unit:
    """`with Unit(...) as unit:` runs nothing yet; `start` and `stop` do. Everything ends with the block.

    said    every message so far, as dictionaries
    kept    the FD store: name → descriptor
    """

    def __init__(self, directory: Path, command: Sequence[str], *, store: bool = True, watchdog_s: float = 0.0) -> None:
        self.command = list(command)
        self.log = directory / "log"
        self.said: list[dict[str, str]] = []
        self.kept: dict[str, int] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._unpolled: set[str] = set()
        self._store = store
        self._watchdog_s = watchdog_s
        self._address = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end_reader, self._end_writer = os.pipe()
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Unit:
        self._socket.bind(str(self._address))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.story(), file=sys.stderr)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        os.close(self._end_writer)
        self._thread.join(60)
        for fd in (*self.kept.values(), self._end_reader, self._wake_reader, self._wake_writer):
            os.close(fd)
        self._socket.close()

    def start(self, *more: str, wait: bool = True) -> None:
        """Run the program with what was kept; with `wait`, until it says READY=1."""
        kept = list(self.kept.items())  # one look: the thread drops what dies
        names, fds = [name for name, _ in kept], [fd for _, fd in kept]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("VXLANU_")}
        environment |= {"NOTIFY_SOCKET": str(self._address)}
        if fds:
            environment |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(names)}
        if self._watchdog_s:
            environment["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        before = self.count("READY")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", EXEC, str(len(fds)), *map(str, fds), *self.command, *more],
                pass_fds=fds, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        if wait:
            poll(lambda: self.count("READY") > before or self.ended(), what="READY=1", story=self.story)
            assert not self.ended(), self.story()

    def swap(self, kept: dict[str, int], *, store: bool = True) -> None:
        """Between two runs: hold these instead, and with `store=False` nothing ever again."""
        old, self.kept, self._store = self.kept, kept, store
        os.write(self._wake_writer, b"x")
        for fd in old.values():
            os.close(fd)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the program and wait for its end; its status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(120)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def count(self, key: str, value: str = "1") -> int:
        """How many messages say KEY=VALUE."""
        return sum(message.get(key) == value for message in list(self.said))

    def story(self) -> str:
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"kept: {sorted(self.kept)}\nsaid: {self.said[-20:]}\n{log[-6000:]}"

    def _serve(self) -> None:
        while True:
            poller = select.poll()
            poller.register(self._socket, select.POLLIN)
            poller.register(self._end_reader, select.POLLIN)
            poller.register(self._wake_reader, select.POLLIN)
            watched = {fd: name for name, fd in self.kept.items() if name not in self._unpolled}
            for fd in watched:
                poller.register(fd, 0)  # POLLERR and POLLHUP are told anyway
            for fd, _ in poller.poll():
                if fd == self._end_reader:
                    return
                if fd in watched:
                    if self.kept.get(watched[fd]) == fd:
                        os.close(self.kept.pop(watched[fd]))
                elif fd == self._wake_reader:
                    os.read(fd, 1)
                else:
                    self._receive()

    def _receive(self) -> None:
        data, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(4 * FDS_MAX))
        fds = array.array("i")
        for level, kind, body in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
        message = dict(line.partition("=")[::2] for line in data.decode().splitlines())
        name = message.get("FDNAME", "")
        if message.get("FDSTORE") == "1" and self._store:
            assert len(fds) == 1 and name not in self.kept, f"{message} with {len(fds)}"
            os.set_inheritable(fds[0], False)
            self.kept[name] = fds.pop()
            if message.get("FDPOLL") == "0":
                self._unpolled.add(name)
        if message.get("FDSTOREREMOVE") == "1" and name in self.kept:
            os.close(self.kept.pop(name))
        for fd in fds:  # of a barrier, above all: its end is the answer
            os.close(fd)
        self.said.append(message)
