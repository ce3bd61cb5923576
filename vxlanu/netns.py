"""Targets: whose namespace an endpoint lives in, and how we learn that it has ended.

Rules of this file
  1. A target is resolved once, at attach, to a path and the namespace's identity (device and inode of nsfs). Whoever
     comes back later opens the path and compares: a recycled pid or a re-made name is not our namespace.
  2. No descriptor of a namespace is kept: it would pin the namespace, and its links would outlive the container.
  3. Every watched target is reported at most once, on the loop, within a second of its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A network namespace that somebody named.

    kind    name, path, pid, docker, podman
    text    as the user wrote it
    path    what to open, now and after a restart
    device, inode   which namespace it was when it was resolved
    pid     process whose end is the end of the target; 0 where the path is what ends
    """

    kind: str
    text: str
    path: str
    device: int
    inode: int
    pid: int = 0

    @contextmanager
    def open(self) -> Iterator[int]:
        """A descriptor of this very namespace for the time of a `with`; NamespaceMissing if it has ended."""
        raise NotImplementedError
        yield 0

    def alive(self) -> bool:
        """Whether the path still leads to this namespace."""
        raise NotImplementedError


async def resolve(text: str) -> Target:
    """What a user calls a target: bare word (ip-netns name), /path, pid:N, docker:NAME, podman:NAME.

    Errors: BadRequest (no such form), NamespaceMissing (nothing of that name), PermissionMissing.
    """
    raise NotImplementedError


class EndOfLifeWatch:
    """Tells when a target ends: pidfd for processes, inotify on the directory of a bind mount."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def add(self, key: str, target: Target, ended: Callable[[str], None]) -> None:
        """Call `ended(key)` once on the loop when `target` ends; soon, if it has ended already."""
        raise NotImplementedError

    def discard(self, key: str) -> None:
        """Stop watching; fine if it is not watched."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
