"""Who answers for the rest of the world: the nameservers of the host's resolv.conf, as it is now.

Rules of this file
  1. The file is looked at when somebody asks, at most once a second, and read again only when it is another.
  2. A gateway of ours is no resolver: a question would come back to us.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from vxlanu.addresses import is_address
from vxlanu.dns.limits import RESOLVERS_CHECKED_S, RESOLVERS_MAX

__all__ = ["RESOLV_CONF", "Resolvers", "nameservers"]

RESOLV_CONF = Path("/etc/resolv.conf")
_BYTES_MAX = 65536

log = logging.getLogger("vxlanu.dns")


def nameservers(text: str) -> list[str]:
    """The addresses of a resolv.conf (resolv.conf(5)), in order, each once; what is none is passed over."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and is_address(words[1]) and words[1] not in found:
            found.append(words[1])
    return found


class Resolvers:
    """The host's resolvers. `ours` answers the addresses that are never asked."""

    def __init__(self, ours: Callable[[], Collection[str]], path: Path = RESOLV_CONF) -> None:
        self._ours = ours
        self._path = path
        self._read: list[str] = []
        self._state: tuple[int, ...] | None = None  # of the file when it was read; empty: it could not be
        self._looked = float("-inf")

    def now(self, now: float) -> list[str]:
        """Those to ask, in the order of the file."""
        if now - self._looked >= RESOLVERS_CHECKED_S:
            self._looked = now
            self._look()
        ours = set(self._ours())
        return [address for address in self._read if address.partition("%")[0] not in ours][:RESOLVERS_MAX]

    def _look(self) -> None:
        state: tuple[int, ...]
        try:
            status = self._path.stat()
            state = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            if state == self._state:
                return
            with self._path.open(errors="replace") as file:
                self._read = nameservers(file.read(_BYTES_MAX))
        except OSError as error:
            state, self._read = (), []
            if state != self._state:
                log.warning("cannot read %s: %s", self._path, error.strerror, extra={"event": "dns"})
        self._state = state
