"""System calls that Python 3.11 lacks, or gets wrong: native/ns.c as functions that raise OSError, and one receive.

Rules of this file
  1. The only place besides `vxlanu.dataplane` that imports the native module, and it takes nothing but vx_ns_ and
     the program of native/steer.c from it.
  2. enter, new_net and new_user_net change the calling thread for good: for children of the helper only.
"""

from __future__ import annotations

import array
import os
import socket

from vxlanu._native import lib

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def enter(namespace: int, kind: int) -> None:
    """Move into a namespace of `kind`. EINVAL: it is of another kind; EPERM: it is not ours to enter."""
    _checked(lib.vx_ns_enter(namespace, kind))


def new_net() -> None:
    """Move into a new, empty network namespace."""
    _checked(lib.vx_ns_new_net())


def new_user_net() -> None:
    """Move into a new user namespace, and a new, empty network namespace in that: no privilege needed."""
    _checked(lib.vx_ns_new_user_net())


def owner(namespace: int) -> int:
    """A descriptor of the user namespace that owns a namespace."""
    return _checked(lib.vx_ns_owner(namespace))


def die_with_parent(parent: int) -> None:
    """Be killed when the process `parent` ends. ESRCH: it has ended already."""
    _checked(lib.vx_ns_die_with_parent(parent))


def steering_program(workers: int) -> int:
    """A descriptor of the program that picks a TAP's queue by the flow (native/steer.c). EPERM: not ours to load."""
    return _checked(lib.vx_steer_program(workers))


def watch_open() -> int:
    """An inotify descriptor."""
    return _checked(lib.vx_ns_watch_open())


def watch_add(watch: int, path: str, mask: int) -> int:
    """Number of the watch on `path`; the same one for the same inode."""
    return _checked(lib.vx_ns_watch_add(watch, os.fsencode(path), mask))


def watch_remove(watch: int, number: int) -> None:
    """End a watch. EINVAL: it has ended by itself."""
    _checked(lib.vx_ns_watch_remove(watch, number))


def receive_fds(channel: socket.socket, size: int, fds_max: int) -> tuple[bytes, list[int], bool]:
    """Bytes, descriptors (close-on-exec), and whether all of both came: `socket.recv_fds` of 3.11 forgets its flags."""
    room = socket.CMSG_LEN(fds_max * array.array("i").itemsize)
    data, ancillary, flags, _ = channel.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds), not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)


def _checked(code: int) -> int:
    if code < 0:
        raise OSError(-code, os.strerror(-code))
    return code
