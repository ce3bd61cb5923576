"""The shell: sockets, one timer and a journal around the core. Everything here does, nothing here decides.

`ControlPlane` is what the agent holds. Its coroutines run on the agent's loop; none of them blocks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from .core.config import Config, Row
from .core.core import Core
from .core.effects import Changed, Effect, Erase, Persist, Published
from .core.records import Endpoint, EndpointId, Network, NetworkId, NodeId, Record, Vtep

__all__ = ["ControlPlane", "Journal"]


class Journal(Protocol):
    """Stable storage, e.g. one SQLite table (table, key) -> value."""

    async def commit(self, changes: Sequence[Persist | Erase], durable: bool) -> None:
        """Apply all changes in one transaction, in order. `durable`: on stable storage (fsync) when this returns."""


class ControlPlane:
    """The control plane of one agent."""

    core: Core

    def __init__(self, config: Config, rows: Iterable[Row], journal: Journal, *, bind_host: str = "") -> None:
        """`bind_host`: address to bind UDP and TCP to; default the advertised one."""
        raise NotImplementedError

    async def start(self) -> None:
        """Persist the epoch, bind, begin to join. Raises OSError (EADDRINUSE) when the port is held."""
        raise NotImplementedError

    async def stop(self, leave: bool = False) -> None:
        """Flush the journal and close; with `leave`, say goodbye first (at most 2 s)."""
        raise NotImplementedError

    async def first_join(self, deadline: float) -> None:
        """Wait until joined or `deadline` seconds passed. Raises Refusal(name_taken, identity_taken)."""
        raise NotImplementedError

    def subscribe(self, callback: Callable[[Changed], None]) -> None:
        """Called on the loop after every change of the view; must not block."""
        raise NotImplementedError

    def on_event(self, callback: Callable[[Effect], None]) -> None:
        """Called with MemberChanged, Joined, JoinFailed, NameTaken, IdentityTaken, WrongKey."""
        raise NotImplementedError

    async def join(self, seeds: Sequence[str]) -> None:
        """Add HOST[:PORT] seeds and try them now; returns when one answered. Raises Refusal("try_again") after 5 s."""
        raise NotImplementedError

    async def create_network(self, network: Network, timeout: float = 1.0) -> Published:
        """Durable here, then pushed to every alive member. Raises Refusal."""
        raise NotImplementedError

    async def remove_network(self, network: NetworkId, timeout: float = 1.0) -> Published:
        """Raises Refusal."""
        raise NotImplementedError

    async def put_endpoint(self, endpoint: Endpoint, timeout: float = 0.2) -> Published:
        """Durable here, then pushed; returns after the hosts of its network confirmed, or `timeout`."""
        raise NotImplementedError

    async def delete_endpoint(self, endpoint: EndpointId, timeout: float = 0.2) -> Published:
        """Deletes the record and releases its addresses. Nothing to delete is success."""
        raise NotImplementedError

    async def put_vtep(self, vtep: Vtep, timeout: float = 1.0) -> Published:
        """Raises Refusal."""
        raise NotImplementedError

    async def remove_vtep(self, network: NetworkId, address: str, port: int, timeout: float = 1.0) -> Published:
        """Raises Refusal."""
        raise NotImplementedError

    async def allocate(
        self,
        network: NetworkId,
        endpoint: EndpointId,
        *,
        wanted: str | None = None,
        ipv6: bool = False,
        take_over: bool = False,
    ) -> str:
        """An address with its prefix length, journalled. Raises Refusal (errors.py has the names)."""
        raise NotImplementedError

    async def release(self, network: NetworkId, endpoint: EndpointId) -> None:
        """Give its addresses back (a failed attach)."""
        raise NotImplementedError

    async def forget(self, node: NodeId) -> Record:
        """Raises Refusal("not_found" | "member_alive")."""
        raise NotImplementedError

    async def refresh(self, timeout: float = 1.0) -> bool:
        """Exchange state with one random peer now: what `attach` does before it says that a network is unknown."""
        raise NotImplementedError
