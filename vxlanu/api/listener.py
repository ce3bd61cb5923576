"""A unix socket to listen on, as a file that others find.

Rules of this file
  1. The file appears with its final mode and group: nobody can connect a moment earlier than they may.
  2. A socket that another process listens on is never taken over, unless that one says to give way; one that nobody
     listens on is stale and is replaced.
"""

from __future__ import annotations

import grp
import logging
import os
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM
from socket import socket as Socket

from vxlanu.errors import Refused

log = logging.getLogger("vxlanu.api")

SOCKET_GROUP = "vxlanu"
BACKLOG = 64


class Listener:
    """One file. `shared`: the group vxlanu may connect too; else only who we are.

    `gives_way` is asked of a file on which somebody listens: whether it may be replaced all the same.
    """

    def __init__(
        self, path: Path, option: str, *, shared: bool, gives_way: Callable[[Path], bool] = lambda _: False
    ) -> None:
        self.path = path
        self._option = option
        self._shared = shared
        self._gives_way = gives_way
        self._socket: Socket | None = None
        self._found = False  # whether the file is there, and ours

    @property
    def socket(self) -> Socket:
        """The open socket."""
        if self._socket is None:
            raise RuntimeError("open() comes first")
        return self._socket

    def open(self) -> None:
        """Bind the file.

        Raises:
            Refused: somebody listens there, or the directory cannot be written.
        """
        if _answers(self.path) and not self._gives_way(self.path):
            why = "another process listens on it"
            raise Refused(f"socket {self.path}", why, hint=self._option, name="socket_in_use")
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            self._socket = _bind(self.path, shared=self._shared)
            self._found = True
        except OSError as error:
            raise Refused(f"socket {self.path}", error.strerror or str(error), hint=self._option) from error

    def unlink(self) -> None:
        """Take the file away, once: what has its name later is somebody else's."""
        if self._found:
            self._found = False
            self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Have the file stay: another process listens on the same socket."""
        self._found = False

    def close(self) -> None:
        """Take the file away and close."""
        self.unlink()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _answers(path: Path) -> bool:
    with Socket(AF_UNIX, SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _bind(path: Path, *, shared: bool) -> Socket:
    """A listening socket whose file is 0600, or 0660 root:vxlanu (umask covers the moment of birth)."""
    listener = Socket(AF_UNIX, SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    if shared and os.geteuid() == 0:
        try:
            os.chown(path, 0, grp.getgrnam(SOCKET_GROUP).gr_gid)
        except (KeyError, OSError):  # no such group, or, as root of a user namespace, none that this one knows
            log.debug("no group %s: the socket stays with root", SOCKET_GROUP, extra={"event": "api_group"})
        path.chmod(0o660)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
