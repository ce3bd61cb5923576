"""The TAPs of this host: attach, adopt, detach, and nothing left behind.

Rules of this file
  1. Life of the device only: no records, no forwarding, no names. The agent calls `open` before it writes a record and
     `close` after the fast path has let go of the port.
  2. A step that fails undoes the steps before it; what is raised is the first failure.
  3. A namespace is never pinned: no descriptor of it is kept, and a TAP that ended is closed without a question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vxlanu.netns import EndOfLifeWatch, Target
from vxlanu.nsopen import NamespaceHelper


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """An endpoint whose TAP is open here.

    `fds`, one per queue, belong to whoever takes this value (the fast path, whose reaper closes them). `Endpoints`
    keeps a duplicate of the first, by which `close` takes the device away even if its namespace cannot be reached.
    """

    endpoint_id: str
    target: Target
    ifname: str
    ifindex: int
    mac: str
    mtu: int
    adopted: bool
    fds: tuple[int, ...]


class Endpoints:
    """All local endpoints, by id (hex; the first 12 digits make the device's names)."""

    def __init__(
        self, helper: NamespaceHelper, watch: EndOfLifeWatch, vanished: Callable[[str], None], *, queues: int = 1
    ) -> None:
        """`vanished(endpoint_id)` is called once on the loop when a target ends; the agent then calls `close`."""

    async def open(
        self, endpoint_id: str, target: Target, *, mac: str, mtu: int, addresses: tuple[str, ...], ifname: str = ""
    ) -> LocalEndpoint:
        """Make the TAP in `target`, addressed and up. Empty `ifname`: the lowest free ethN."""
        raise NotImplementedError

    async def adopt(self, endpoint_id: str, target: Target) -> LocalEndpoint:
        """Open the TAP that an earlier agent left. NamespaceMissing or TapMissing mean: it ended while we were away."""
        raise NotImplementedError

    async def close(self, endpoint_id: str) -> None:
        """Delete the device, end the watch. Idempotent; never fails because the target is gone."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let go of everything and leave the devices as they are: the agent stops, the containers go on."""
        raise NotImplementedError
