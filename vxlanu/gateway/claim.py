"""Which of several agents in one network namespace has the bridge and the rules there: the one that holds a socket.

Rules of this file
  1. An abstract address belongs to the network namespace, and goes with its holder however that ends: there is nothing
     to clean up, and no file that agents with directories of their own would have to share.
  2. Anybody may bind such an address. An ordinary user who does keeps no agent from its work.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct

log = logging.getLogger("vxlanu.egress")

ADDRESS = "\0vxlanu/egress"
WAITING = 4096  # askers that nobody accepts: their question is answered by the connection itself
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Claim:
    """Ours, or another's."""

    def __init__(self) -> None:
        self._held: socket.socket | None = None

    def take(self) -> str:
        """Hold it from here on; returns who has it instead."""
        if self._held is not None:
            return ""
        own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            own.bind(ADDRESS)
            own.listen(WAITING)
        except OSError as why:
            own.close()
            if why.errno != errno.EADDRINUSE:
                raise
            return _holder()
        self._held = own
        return ""

    def release(self) -> None:
        """Another may have it."""
        if self._held is not None:
            self._held.close()
            self._held = None


def _holder() -> str:
    pid, uid = 0, 0
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        asking.connect(ADDRESS)
        pid, uid, _ = CREDENTIALS.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    if uid not in (0, os.geteuid()):
        log.warning("uid %d (pid %d) holds the agents' address: passed over", uid, pid, extra={"event": "egress"})
        return ""
    return f"another agent in this network namespace has it{f' (pid {pid})' if pid else ''}"
