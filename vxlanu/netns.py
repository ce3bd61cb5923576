"""Targets: whose namespace an endpoint lives in, and how we learn that it has ended.

Rules of this file
  1. A target is resolved once, at attach, to a path and the namespace's identity (device and inode of nsfs). Whoever
     comes back later opens the path and compares: a recycled pid or a re-made name is not our namespace.
  2. No descriptor of a namespace is kept: it would pin the namespace, and its links would outlive the container.
  3. Every watched target is reported at most once, on the loop, within a second of its end.

A TAP that was born outside its target dies with it and says so (POLLERR). One that was adopted after a crash was opened
inside: it pins the namespace and says nothing. The watch here is what ends such a namespace, so it never asks the TAP.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import select
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vxlanu.errors import BadRequest, near
from vxlanu.nsopen import syscalls
from vxlanu.nsopen.wire import KernelRefused, NamespaceMissing, PermissionMissing

RUN_NETNS = Path("/run/netns")
OWN_NETNS = "/proc/self/ns/net"
NS_GET_NSTYPE = 0xB703  # include/uapi/linux/nsfs.h
RUNTIMES = ("docker", "podman")
PROCESS_NAMESPACE = re.compile(r"/proc/([1-9][0-9]*)/(?:task/[0-9]+/)?ns/net")
NAME = re.compile(r"[A-Za-z0-9_.@:+-]+")

IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
IN_ONLYDIR = 0x1000000
CHANGES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
EVENT = struct.Struct("iIII")  # struct inotify_event: watch, mask, cookie, length of the name that follows


@dataclass(frozen=True, slots=True)
class Target:
    """A network namespace that somebody named.

    kind    name, path, pid, docker, podman; own, plugin (a runtime's sandbox)
    text    as the user wrote it
    path    what to open, now and after a restart
    device, inode   which namespace it was when it was resolved
    pid     process whose end is the end of the target; 0 where the path is what ends
    container   id of the container, where a runtime was asked
    """

    kind: str
    text: str
    path: str
    device: int
    inode: int
    pid: int = 0
    container: str = ""

    @contextmanager
    def open(self) -> Iterator[int]:
        """A descriptor of this very namespace for the time of a `with`; NamespaceMissing if it has ended."""
        fd = _open(self.text, self.path)
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != (self.device, self.inode):
                raise NamespaceMissing(f"target {self.text}", "the namespace has ended and another has its place")
            yield fd
        finally:
            os.close(fd)

    def alive(self) -> bool:
        """Whether the path still leads to this namespace."""
        try:
            status = Path(self.path).stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == (self.device, self.inode)


def own() -> Target:
    """The namespace that this process is in: of kind `own`, which never ends as long as anybody looks."""
    return _identified("own", "this host", OWN_NETNS, 0)


def sandbox(text: str, path: str) -> Target:
    """The namespace that a runtime has promised at `path`. Not there yet, or not to be seen from here: device and
    inode are 0, and it cannot be opened."""
    try:
        return _identified("plugin", text, path, 0)
    except (NamespaceMissing, PermissionMissing):
        return Target("plugin", text, path, 0, 0)


async def resolve(text: str) -> Target:
    """What a user calls a target: bare word (ip-netns name), /path, pid:N, docker:NAME, podman:NAME.

    Errors: BadRequest (no such form), NamespaceMissing (nothing of that name), PermissionMissing.
    """
    kind, colon, rest = text.partition(":")
    if text.startswith("/"):
        process = PROCESS_NAMESPACE.fullmatch(text)
        return _identified("path", text, text, int(process[1]) if process else 0)
    if colon and kind == "pid":
        if not rest.isascii() or not rest.isdigit() or int(rest) == 0:
            raise BadRequest(f"target {text}", "what follows pid: must be a process id")
        return _of_process("pid", text, int(rest))
    if colon and kind in RUNTIMES:
        return await _of_container(kind, text, rest)
    if not NAME.fullmatch(text) or text in (".", ".."):
        forms = "NAME of ip netns, /path, pid:N, docker:NAME, podman:NAME"
        raise BadRequest(f"target {text!r}", "this names no namespace", hint=forms)
    return _identified("name", text, str(RUN_NETNS / text), 0)


def _of_process(kind: str, text: str, pid: int) -> Target:
    return _identified(kind, text, f"/proc/{pid}/ns/net", pid)


def _identified(kind: str, text: str, path: str, pid: int) -> Target:
    fd = _open(text, path)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return Target(kind, text, path, status.st_dev, status.st_ino, pid)


def _open(text: str, path: str) -> int:
    """A descriptor of the network namespace at `path`, checked to be one: the file of a removed name is not."""
    what = f"target {text}"
    try:
        # O_NONBLOCK: a path can be a FIFO, and opening one must not stop the agent.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError) as why:
        hint = _near(text) if path == str(RUN_NETNS / text) else ""
        raise NamespaceMissing(what, f"there is no {path}", hint=hint) from why
    except PermissionError as why:
        hint = "run the agent as root, or as the user who made the namespace"
        raise PermissionMissing(what, f"{path}: {why.strerror}", hint=hint) from why
    except OSError as why:
        raise NamespaceMissing(what, f"{path}: {why.strerror}") from why
    try:
        found = fcntl.ioctl(fd, NS_GET_NSTYPE)
    except OSError:
        found = 0
    if found != syscalls.CLONE_NEWNET:
        os.close(fd)
        raise NamespaceMissing(what, f"{path} is not a network namespace")
    return fd


def _near(name: str) -> str:
    """The names of ip-netns(8) that were perhaps meant, else how to see them."""
    try:
        known = [entry.name for entry in RUN_NETNS.iterdir()]
    except OSError:
        known = []
    return near(name, known) or "ip netns list"


async def _of_container(runtime: str, text: str, name: str) -> Target:
    """The container's first process, asked of the runtime."""
    from vxlanu.runtimes import containers  # the HTTP client behind it is loaded by who needs it

    what = f"target {text}"
    if not NAME.fullmatch(name) or name.startswith("-"):
        raise BadRequest(what, f"what follows {runtime}: must be a container's name or id")
    try:
        found = await containers.find(runtime, name)
    except (containers.NoContainer, containers.RuntimeAway) as why:
        raise NamespaceMissing(what, str(why)) from why
    # A stopped container has pid 0; nothing below 2 is ever a container.
    if found.pid < 2:
        raise NamespaceMissing(what, "the container is not running", hint=f"{runtime} start {name}")
    return replace(_of_process(runtime, text, found.pid), container=found.id)


class EndOfLifeWatch:
    """Tells when a target ends: pidfd for processes; for a bind mount inotify on its directory, which sees the name go,
    and the mount table, which sees a mount go whose name stays."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[str, tuple[Target, Callable[[str], None]]] = {}
        self._pidfds: dict[str, int] = {}
        self._directories: dict[int, set[str]] = {}  # inotify watch number: keys of the targets in that directory
        try:
            self._inotify = syscalls.watch_open()
        except OSError as why:
            hint = "sysctl fs.inotify.max_user_instances=512"
            raise KernelRefused("watch namespaces", why.strerror or str(why), hint=hint) from why
        loop.add_reader(self._inotify, self._directory_changed)
        self._mounts = open("/proc/self/mountinfo")  # noqa: SIM115 - open as long as the watch
        self._mount_changes = select.epoll()
        # A changed table is POLLPRI, which add_reader cannot ask for; an epoll of its own turns it into input.
        self._mount_changes.register(self._mounts, select.EPOLLPRI)
        loop.add_reader(self._mount_changes.fileno(), self._mounts_changed)

    def add(self, key: str, target: Target, ended: Callable[[str], None]) -> None:
        """Call `ended(key)` once on the loop when `target` ends; soon, if it has ended already."""
        self.discard(key)
        self._watched[key] = (target, ended)
        watching = self._add_process(key, target.pid) if target.pid else self._add_path(key, target.path)
        # Asked after the watch stands, so that no end falls between.
        if not watching or not target.alive():
            self._loop.call_soon(self._ended, key, target)

    def discard(self, key: str) -> None:
        """Stop watching; fine if it is not watched."""
        self._watched.pop(key, None)
        pidfd = self._pidfds.pop(key, None)
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        for number, keys in list(self._directories.items()):
            keys.discard(key)
            if not keys:
                del self._directories[number]
                with contextlib.suppress(OSError):
                    syscalls.watch_remove(self._inotify, number)

    def close(self) -> None:
        """Stop watching everything."""
        for key in list(self._watched):
            self.discard(key)
        if self._inotify >= 0:
            self._loop.remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1
            self._loop.remove_reader(self._mount_changes.fileno())
            self._mount_changes.close()
            self._mounts.close()

    def _add_process(self, key: str, pid: int) -> bool:
        target, _ = self._watched[key]
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return False
        self._pidfds[key] = pidfd
        self._loop.add_reader(pidfd, self._ended, key, target)
        return True

    def _add_path(self, key: str, path: str) -> bool:
        try:
            number = syscalls.watch_add(self._inotify, str(Path(path).parent), CHANGES)
        except OSError:
            return False
        self._directories.setdefault(number, set()).add(key)
        return True

    def _ended(self, key: str, target: Target) -> None:
        """Report once; a key that was discarded or given to another target since is none of ours."""
        watched = self._watched.get(key)
        if watched is None or watched[0] is not target:
            return
        self.discard(key)
        watched[1](key)

    def _directory_changed(self) -> None:
        """Something happened beside our targets: look which are still what they were."""
        suspects: set[str] = set()
        for number, mask in self._read_events():
            if mask & IN_Q_OVERFLOW:
                suspects.update(*self._directories.values())
            suspects |= self._directories.get(number, set())
            if mask & IN_IGNORED:  # the directory itself has gone, and the kernel's watch with it
                self._directories.pop(number, None)
        self._look_at(suspects)

    def _mounts_changed(self) -> None:
        """Some mount came or went: every container start does that, so what is done here is one stat per target."""
        self._mount_changes.poll(0)  # asking is what takes the news off
        self._look_at(set().union(*self._directories.values()))

    def _look_at(self, suspects: set[str]) -> None:
        for key in suspects:
            target = self._watched[key][0] if key in self._watched else None
            if target and not target.alive():
                self._ended(key, target)

    def _read_events(self) -> Iterator[tuple[int, int]]:
        try:
            data = os.read(self._inotify, 64 * 1024)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _, length = EVENT.unpack_from(data, at)
            yield number, mask
            at += EVENT.size + length
