"""Where a child works: the agent's own namespace, a nursery for new TAPs, the target.

Rules of this file
  1. Only a child calls these, and no child goes back (it ends instead) but to its home, for the other end of a veth.
  2. TAPs are born in a nursery, a namespace with nothing in it, and moved. A descriptor holds the namespace it was
     *opened* in; opened in the target it would keep a dead container's namespace alive and never tell that it died.

As root the nursery is the helper's private namespace, made once. Without privilege the helper stays where the agent is;
a target is then reached through the user namespace that owns it (rootless Podman, `unshare -Urn`), entered as its
creator, and the nursery is a fresh namespace made there, which ends with the last descriptor.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vxlanu.nsopen import syscalls
from vxlanu.nsopen.syscalls import CLONE_NEWNET, CLONE_NEWUSER
from vxlanu.nsopen.wire import KernelRefused, NamespaceMissing, PermissionMissing


@dataclass(frozen=True, slots=True)
class Place:
    """home: descriptor of the agent's own namespace. target: the one asked for, or None. private: the helper, and so
    every child at its start, is in a nursery already."""

    home: int
    target: int | None
    private: bool

    def go_to_nursery(self) -> None:
        """Be where a TAP may be born that is to move into the target."""
        if self.private:
            return
        _enter_owner(self._target())
        with _blame("make a namespace to create the TAP in"):
            syscalls.new_net()

    def go_home(self) -> None:
        """Be in the agent's own namespace, even after the target: only root of the host comes back from there."""
        with _blame("return to the agent's namespace"):
            syscalls.enter(self.home, CLONE_NEWNET)

    def go_to_scratch(self) -> None:
        """Be where a TAP may be tried that nobody is to have."""
        if self.private:
            return
        with _blame("make a namespace to try a TAP in"):
            try:
                syscalls.new_net()
            except PermissionError:
                syscalls.new_user_net()

    def go_to_target(self) -> None:
        """Be in the target; without one, at home."""
        if self.target is None:
            if self.private:
                self.go_home()
            return
        try:
            syscalls.enter(self.target, CLONE_NEWNET)
        except OSError as why:
            if why.errno == errno.EINVAL:
                raise NamespaceMissing("enter the target", "what it names is not a network namespace") from why
            if why.errno != errno.EPERM:
                raise KernelRefused("enter the target", why.strerror or str(why)) from why
            _enter_owner(self.target)
            with _blame("enter the target"):
                syscalls.enter(self.target, CLONE_NEWNET)

    def target_inode(self) -> int:
        return os.fstat(self._target()).st_ino

    def _target(self) -> int:
        if self.target is None:
            raise KernelRefused("work on a TAP", "no target namespace came with the request")
        return self.target


def _enter_owner(namespace: int) -> None:
    """Become its creator: the user namespace of a rootless container, if it is not our own."""
    with _blame("enter the user namespace of the target"):
        owner = syscalls.owner(namespace)
        try:
            if os.fstat(owner).st_ino != Path("/proc/self/ns/user").stat().st_ino:
                syscalls.enter(owner, CLONE_NEWUSER)
        finally:
            os.close(owner)


@contextmanager
def _blame(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as why:
        text = why.strerror or str(why)
        if why.errno in (errno.EPERM, errno.EACCES):
            hint = "run the agent as root, or as the user who made the namespace"
            raise PermissionMissing(what, text, hint=hint) from why
        raise KernelRefused(what, text) from why
