"""Where a child works: the agent's own namespace, a nursery for new TAPs, the target.

Rules of this file
  1. Only a child calls these, and no child goes back: it ends instead.
  2. TAPs are born in a nursery, a namespace with nothing in it, and moved. A descriptor holds the namespace it was
     *opened* in; opened in the target it would keep a dead container's namespace alive and never tell that it died.

As root the nursery is the helper's private namespace, made once. Without privilege the helper stays where the agent is;
a target is then reached through the user namespace that owns it (rootless Podman, `unshare -Urn`), entered as its
creator, and the nursery is a fresh namespace made there, which ends with the last descriptor.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from vxlanu._native import lib
from vxlanu.nsopen.wire import KernelRefused, NamespaceMissing, PermissionMissing

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


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
        owner = _checked(lib.vx_ns_owner(self._target()), "find the owner of the target namespace")
        # Root of a user namespace that owns the target is there already: EINVAL says so.
        code = lib.vx_ns_enter(owner, CLONE_NEWUSER)
        os.close(owner)
        if code not in (0, -errno.EINVAL):
            _checked(code, "enter the user namespace of the target")
        _checked(lib.vx_ns_new_net(), "make a namespace to create the TAP in")

    def go_to_target(self) -> None:
        """Be in the target; without one, at home."""
        if self.target is None:
            if self.private:
                _checked(lib.vx_ns_enter(self.home, CLONE_NEWNET), "return to the agent's namespace")
            return
        code = lib.vx_ns_enter(self.target, CLONE_NEWNET)
        if code == -errno.EPERM:
            owner = _checked(lib.vx_ns_owner(self.target), "find the owner of the target namespace")
            _checked(lib.vx_ns_enter(owner, CLONE_NEWUSER), "enter the user namespace of the target")
            os.close(owner)
            code = lib.vx_ns_enter(self.target, CLONE_NEWNET)
        if code == -errno.EINVAL:
            raise NamespaceMissing("enter the target namespace", "what it names is not a network namespace")
        _checked(code, "enter the target namespace")

    def target_inode(self) -> int:
        return os.fstat(self._target()).st_ino

    def _target(self) -> int:
        if self.target is None:
            raise KernelRefused("work on a TAP", "no target namespace came with the request")
        return self.target


def _checked(code: int, what: str) -> int:
    if code >= 0:
        return int(code)
    why = os.strerror(-code)
    if code in (-errno.EPERM, -errno.EACCES):
        hint = "run the agent as root, or as the user who made the namespace"
        raise PermissionMissing(what, why, hint=hint)
    raise KernelRefused(what, why)
