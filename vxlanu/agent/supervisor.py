"""The service manager's protocol, sd_notify(3): what the agent tells, and the descriptors that outlive it.

How it works
  Each message is one datagram of KEY=VALUE lines to $NOTIFY_SOCKET; descriptors travel beside it. Those sent with
  FDSTORE=1 the manager keeps, and passes to the next run from number 3 on, named in $LISTEN_FDNAMES. It keeps them
  after that too, until FDSTOREREMOVE=1. One that polls as dead may go earlier, or be handed over dead.

Rules of this file
  1. Without a manager everything here is nothing: the agent runs the same from a shell.
  2. Nothing blocks: what the manager's socket does not take at once waits in order, in duplicates of its descriptors.
  3. The variables are taken out of the environment, and the descriptors made close-on-exec, before anything is forked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterable, MutableMapping

log = logging.getLogger("vxlanu.supervisor")

FIRST_FD = 3  # SD_LISTEN_FDS_START
PATIENCE_S = 5.0  # the manager answers a barrier when it has worked off what came before
VARIABLES = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC")


class Supervisor:
    """The manager of this process. `taken` holds by name what an earlier run left; whoever takes one owns it."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0, taken: dict[str, int] | None = None) -> None:
        self.watchdog_s = watchdog_s
        self.taken = taken or {}
        self._kept = set(self.taken)
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._socket = _connected(address)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Supervisor:
        """What the manager said to this very process; call it before anything is opened or forked."""
        said = {name: environ.pop(name, "") for name in VARIABLES}
        pid = str(os.getpid())
        watchdog = said["WATCHDOG_USEC"] if said["WATCHDOG_PID"] in ("", pid) else ""
        taken = _passed(said["LISTEN_FDS"], said["LISTEN_FDNAMES"]) if said["LISTEN_PID"] == pid else {}
        return cls(said["NOTIFY_SOCKET"], _number(watchdog) / 1e6, taken)

    @property
    def listens(self) -> bool:
        """Whether there is a manager."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Everything is up, after a start or a reload."""
        self._tell(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={text}")

    def reloading(self) -> None:
        """SIGHUP came; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """Feed the watchdog. What still waits will do as well: a manager that reads nothing is not told more."""
        if not self._waiting:
            self._tell("WATCHDOG=1")

    def keep(self, name: str, fd: int, *, poll: bool = True) -> None:
        """Have a descriptor outlive us. `poll`: until it is dead (POLLERR), as a TAP is with its namespace."""
        if self.listens and name not in self._kept:
            self._kept.add(name)
            self._tell(f"FDSTORE=1\nFDNAME={name}" + ("" if poll else "\nFDPOLL=0"), [fd])

    def drop(self, names: Iterable[str]) -> None:
        """Have descriptors forgotten; nothing for a name that was never kept."""
        for name in names:
            if name in self._kept:
                self._kept.discard(name)
                self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    async def barrier(self) -> None:
        """Return once the manager has done what it was told so far: it closes the descriptor that comes with this."""
        if not self.listens:
            return
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        self._tell("BARRIER=1", [writer])
        os.close(writer)
        closed = asyncio.Event()
        loop.add_reader(reader, closed.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await closed.wait()
        except TimeoutError:
            log.warning("the service manager does not answer", extra={"event": "supervisor"})
        finally:
            loop.remove_reader(reader)
            os.close(reader)

    def stopping(self) -> None:
        """The last word, and whatever still waits: from here on the loop runs no more."""
        self._tell("STOPPING=1\nSTATUS=stopping")
        if self._socket is not None:
            asyncio.get_running_loop().remove_writer(self._socket)
            self._socket.settimeout(PATIENCE_S)
            self._send_waiting()

    def _tell(self, message: str, fds: Iterable[int] = ()) -> None:
        if self._socket is None:
            return
        try:
            copies = [os.dup(fd) for fd in fds]  # one at most
        except OSError as error:
            log.warning("cannot keep a descriptor: %s", error.strerror, extra={"event": "supervisor"})
            return
        self._waiting.append((message.encode(), copies))
        self._send_waiting()

    def _send_waiting(self) -> None:
        """All that is taken at once; in blocking mode (`stopping`), until the manager lets us wait once."""
        assert self._socket is not None
        while self._waiting:
            message, fds = self._waiting[0]
            try:
                socket.send_fds(self._socket, [message], fds)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._socket, self._writable)
                return
            except TimeoutError:
                log.warning("the service manager does not answer", extra={"event": "supervisor"})
                self._forget_waiting()
                return
            except OSError as error:
                log.warning("cannot tell the service manager: %s", error.strerror, extra={"event": "supervisor"})
            self._waiting.popleft()
            for fd in fds:
                os.close(fd)

    def _forget_waiting(self) -> None:
        for fd in (fd for _, fds in self._waiting for fd in fds):
            os.close(fd)
        self._waiting.clear()

    def _writable(self) -> None:
        assert self._socket is not None
        asyncio.get_running_loop().remove_writer(self._socket)
        self._send_waiting()


def _connected(address: str) -> socket.socket | None:
    """A socket to the manager; an address that begins with @ is in the abstract namespace. None: there is none."""
    if not address.startswith(("/", "@")):
        return None
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    try:
        made.connect("\0" + address[1:] if address[0] == "@" else address)
    except OSError as error:
        made.close()
        log.warning("no service manager at %s: %s", address, error.strerror, extra={"event": "supervisor"})
        return None
    return made


def _passed(count: str, names: str) -> dict[str, int]:
    """The descriptors by name; of two with one name, and of those without, the later ones are closed. A number that
    is not open ends the list: what follows was never passed, and may become anything."""
    found: dict[str, int] = {}
    each = names.split(":")
    for number in range(_number(count)):
        fd, name = FIRST_FD + number, each[number] if number < len(each) else ""
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            log.warning("descriptor %d was not passed: %s", fd, error.strerror, extra={"event": "supervisor"})
            break
        if not name or name in found:
            os.close(fd)
            continue
        found[name] = fd
    return found


def _number(text: str) -> int:
    """What a variable of the manager says; 0 for nothing, and for what is no number."""
    return int(text) if text.isascii() and text.isdigit() else 0
