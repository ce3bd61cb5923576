"""Why a lab cannot start here, in one line, and what to try.

Rules of this file
  1. What is refused is tried, not guessed: the switches are read afterwards, to explain what the kernel has said.
"""

from __future__ import annotations

import errno
import os

from vxlanu.errors import NotFound, Refused, VxlanuError

__all__ = ["check_tun", "namespaces_refused"]

TUN = "/dev/net/tun"


def check_tun(path: str = TUN) -> None:
    """Whether TAPs may be opened by whoever asks; as root of a user namespace it is the same user as outside."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError as error:
        raise NotFound("lab", f"there is no {path}", hint="modprobe tun, as root", name="tun_missing") from error
    except OSError as error:
        why = f"{path}: {error.strerror}"
        hint = f"chmod 0666 {path}, as root: most distributions have it so"
        raise Refused("lab", why, hint=hint, name="tun_missing") from error


def namespaces_refused(number: int) -> VxlanuError:
    """The error for an unshare(2), or a map of users, that failed with `number`."""
    from vxlanu.doctor.host import userns_barrier
    from vxlanu.doctor.read import read_host

    barrier = userns_barrier(read_host(None, try_taps=False).host)
    if barrier is not None:
        why, hint = barrier
        return Refused("lab", f"no namespaces for an ordinary user: {why}", hint=f"as root: {hint}", name="need_root")
    if number == errno.ENOSPC:
        why = "no more namespaces: a limit of this user or machine is reached"
        return Refused("lab", why, hint="sysctl user.max_user_namespaces user.max_net_namespaces", name="need_root")
    hint = "sudo vxlanu lab up; a container needs CAP_SYS_ADMIN, or --security-opt seccomp=unconfined"
    return Refused("lab", f"no new namespaces here: {os.strerror(number)}", hint=hint, name="need_root")
