"""The facade: one state machine, in the shape of aioquic's connection.

    core.receive_datagram(data, addr, now)          what came in
    core.stream_opened / stream_message / stream_closed
    core.handle_timer(now)  when  core.next_timer() is due
    core.effects()                                  what shall be done about it (effects.py)

plus the local requests: put, delete, create_network, remove_network, publish, allocate, release, join, leave, forget.
Every input may add effects; take them after every input, and ask for the timer again.
"""

from __future__ import annotations

from collections.abc import Iterable

from .config import Config, Rng, Row
from .effects import Address, Effect, StreamId
from .records import Body, EndpointId, Kind, Network, NetworkId, NodeId, Record, Vtep
from .view import View

__all__ = ["Core"]


class Core:
    """One node's control plane."""

    view: View
    node: NodeId
    epoch: int

    def __init__(self, config: Config, rows: Iterable[Row], rng: Rng, now: float) -> None:
        """Start from the rows persisted earlier (none: a new node). The new epoch is among the first effects.

        Cached records of others are in the view at once: forwarding needs no peer.
        """
        raise NotImplementedError

    # what comes in

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Any bytes at all; what is wrong is counted in `counters`, never raised."""
        raise NotImplementedError

    def new_inbound_stream(self) -> StreamId:
        """A number for a stream that the shell accepted."""
        raise NotImplementedError

    def stream_opened(self, stream: StreamId, addr: Address, now: float) -> None:
        """A stream that we asked for is connected, or one was accepted."""
        raise NotImplementedError

    def stream_message(self, stream: StreamId, data: bytes, now: float) -> None:
        """One frame."""
        raise NotImplementedError

    def stream_closed(self, stream: StreamId, now: float) -> None:
        """It ended, or could not be opened."""
        raise NotImplementedError

    def seeds_resolved(self, addresses: Iterable[Address], now: float) -> None:
        """The answer to ResolveSeeds; may be empty."""
        raise NotImplementedError

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called next."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`; being late is harmless."""
        raise NotImplementedError

    def effects(self) -> list[Effect]:
        """Take what is to be done; the list is empty afterwards."""
        raise NotImplementedError

    # what we want

    def put(self, kind: Kind, key: bytes, body: Body, now: float) -> Record:
        """Write an owned record (Kind.ENDPOINT: key = endpoint id). Persisted durably, pushed to every alive member."""
        raise NotImplementedError

    def delete(self, kind: Kind, key: bytes, now: float) -> Record | None:
        """Delete an owned record; None if there was none."""
        raise NotImplementedError

    def create_network(self, network: Network, now: float) -> Record:
        """Write a network. Raises Refusal: name_taken, vni_in_use, subnet_overlaps."""
        raise NotImplementedError

    def remove_network(self, network: NetworkId, now: float) -> Record:
        """Remove a network for ever. Raises Refusal: not_found, network_in_use (endpoints exist, hidden ones apart)."""
        raise NotImplementedError

    def put_vtep(self, vtep: Vtep, now: float) -> Record:
        """Write a foreign VTEP of a network. Raises Refusal: not_found."""
        raise NotImplementedError

    def remove_vtep(self, network: NetworkId, address: str, port: int, now: float) -> Record:
        """Remove a foreign VTEP. Raises Refusal: not_found."""
        raise NotImplementedError

    def publish(
        self, request: int, records: Iterable[Record], network: NetworkId | None, deadline: float, now: float
    ) -> None:
        """Emit Published once every alive member (`network`: every alive host of it) confirmed, or at `deadline`."""
        raise NotImplementedError

    def allocate(
        self,
        request: int,
        network: NetworkId,
        endpoint: EndpointId,
        now: float,
        *,
        wanted: str | None = None,
        ipv6: bool = False,
        take_over: bool = False,
    ) -> None:
        """Ask for an address; ends in Allocated(request) or AllocationRefused(request). Repeating it for one endpoint
        yields the same address. `wanted` without a prefix length. `ipv6` (or a v6 `wanted`) picks from the v6 subnet.
        """
        raise NotImplementedError

    def release(self, network: NetworkId, endpoint: EndpointId, now: float) -> None:
        """Give back every address of this endpoint; each rests 60 s."""
        raise NotImplementedError

    def join(self, addresses: Iterable[Address], now: float) -> None:
        """Try these peers now (and again until one answers)."""
        raise NotImplementedError

    def leave(self, now: float) -> None:
        """Delete what we own, say goodbye. `has_left()` turns true when enough peers heard it or nobody is there."""
        raise NotImplementedError

    def has_left(self, now: float) -> bool:
        """Whether the process may end without being missed."""
        raise NotImplementedError

    def forget(self, node: NodeId, now: float) -> Record:
        """Erase a dead or left member and its blocks everywhere. Raises Refusal: not_found, member_alive."""
        raise NotImplementedError

    def counters(self) -> dict[str, int]:
        """Totals by name: datagrams, messages, and every reason for which something was refused."""
        raise NotImplementedError
