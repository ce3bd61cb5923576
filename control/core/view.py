"""The view: read-only questions on records and member states. What reconcile, the API and the CLI see.

Rules of this file
  1. It changes nothing and keeps nothing that could not be computed again from the records and the members.
  2. Conflicts are resolved by pure functions of the record set, the same on every node: whoever loses is shown as the
     loser, never hidden and never renumbered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from .effects import Address, State
from .records import Block, Endpoint, EndpointId, Network, NetworkId, Node, NodeId, Vtep

__all__ = ["BlockView", "EndpointView", "MemberView", "NetworkState", "NetworkView", "View"]


class NetworkState(StrEnum):
    """ACTIVE; REMOVING: removed while endpoints live on; CONFLICT: its VNI belongs to a lower id, not programmed."""

    ACTIVE = "active"
    REMOVING = "removing"
    CONFLICT = "network_conflict"


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network as people see it. `name` is NAME~ID4 when a lower id owns the plain name."""

    id: NetworkId
    name: str
    state: NetworkState
    body: Network
    conflict_with: NetworkId | None = None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint with its place. `lost`: those of its addresses (no prefix length) and its MAC that another wins."""

    body: Endpoint
    owner: NodeId
    owner_name: str
    owner_state: State
    owner_since: float
    lost: frozenset[str] = frozenset()

    @property
    def id(self) -> EndpointId:
        """The endpoint's id."""
        return EndpointId(self.body.id)


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member. `since` is the monotonic time at which it entered `state`; `node` is its record, if known yet."""

    id: NodeId
    name: str
    address: Address
    state: State
    since: float
    epoch: int
    incarnation: int
    me: bool
    node: Node | None


@dataclass(frozen=True, slots=True)
class BlockView:
    """A block of a network's pool and who holds it."""

    body: Block
    owner: NodeId
    owner_name: str
    owner_state: State


class View:
    """Obtained as `core.view`; always current. Lists are sorted (by name, then id), so output is stable."""

    def networks(self) -> list[NetworkView]:
        """Every network that is active, in conflict, or still being removed."""
        raise NotImplementedError

    def network(self, network: NetworkId) -> NetworkView | None:
        """One network by its full id."""
        raise NotImplementedError

    def find_networks(self, reference: str) -> list[NetworkView]:
        """By shown name (exact; alone if it matches), else by id prefix in hex. More than one: ambiguous."""
        raise NotImplementedError

    def is_removed(self, network: NetworkId) -> bool:
        """Whether this network was removed for ever, endpoints or not."""
        raise NotImplementedError

    def endpoints(self, network: NetworkId | None = None) -> list[EndpointView]:
        """Endpoints (of one network) of alive, suspect and dead owners; left, gone and unknown owners hide theirs."""
        raise NotImplementedError

    def endpoint(self, endpoint: EndpointId) -> EndpointView | None:
        """One endpoint by its full id."""
        raise NotImplementedError

    def winner(self, network: NetworkId, address_or_mac: str) -> EndpointView | None:
        """Which endpoint an address (no prefix length) or MAC belongs to: alive beats dead, then see conflicts.py."""
        raise NotImplementedError

    def hosts(self, network: NetworkId, states: Iterable[State] = (State.ALIVE, State.SUSPECT)) -> list[NodeId]:
        """Nodes in one of `states` with at least one endpoint in the network: the flood list, ourselves included."""
        raise NotImplementedError

    def networks_of(self, node: NodeId) -> list[NetworkId]:
        """Networks in which this node has an endpoint: what a change of its state touches."""
        raise NotImplementedError

    def vteps(self, network: NetworkId | None = None) -> list[Vtep]:
        """Foreign VTEPs (of one network)."""
        raise NotImplementedError

    def node(self, node: NodeId) -> Node | None:
        """The node record: where its VTEP is."""
        raise NotImplementedError

    def member(self, node: NodeId) -> MemberView | None:
        """One member by id."""
        raise NotImplementedError

    def members(self) -> list[MemberView]:
        """All members but GONE ones, ourselves included."""
        raise NotImplementedError

    def find_members(self, reference: str) -> list[MemberView]:
        """By name (exact), else by id prefix in hex."""
        raise NotImplementedError

    def blocks(self, network: NetworkId | None = None) -> list[BlockView]:
        """Blocks that are claimed or held, whoever holds them and whatever became of it."""
        raise NotImplementedError

    def free_addresses(self, network: NetworkId) -> int:
        """How many IPv4 addresses this node could hand out now without asking anyone."""
        raise NotImplementedError
