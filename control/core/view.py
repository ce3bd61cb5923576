"""The view: read-only questions on records and member states. What reconcile, the API and the CLI see.

Rules of this file
  1. It changes nothing and keeps nothing that could not be computed again from the records and the members.
  2. Conflicts are resolved by pure functions of the record set, the same on every node: whoever loses is shown as the
     loser, never hidden and never renumbered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from .conflicts import AddressClaim, network_names, vni_owner, winner_of
from .effects import Address, State
from .index import Claimant, Index
from .members import LIVE, Member, MemberTable
from .pool import parse_prefix
from .records import Block, Endpoint, EndpointId, Network, NetworkId, Node, NodeId, Vtep, is_mac, short

__all__ = ["BlockView", "EndpointView", "MemberView", "NetworkState", "NetworkView", "View", "begins"]

ID_DIGITS_MIN = 4  # one in 65536; a shorter word is more often a name that is misspelt: `network rm B`


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
    """A member. `since` is the monotonic time at which it entered `state`; `node` is its record, if known yet.

    `rtt` is that of the last probe, in seconds; None for ourselves, and before the first.
    """

    id: NodeId
    name: str
    address: Address
    state: State
    since: float
    epoch: int
    incarnation: int
    me: bool
    node: Node | None
    rtt: float | None = None


@dataclass(frozen=True, slots=True)
class BlockView:
    """A block of a network's pool and who holds it."""

    body: Block
    owner: NodeId
    owner_name: str
    owner_state: State


def begins(view: NetworkView | EndpointView | MemberView, reference: str) -> bool:
    """Whether an id begins so, and the reference is long enough for it to be no accident."""
    return len(reference) >= ID_DIGITS_MIN and view.id.hex().startswith(reference.lower())


class View:
    """Obtained as `core.view`; always current. Lists are sorted (by name, then id), so output is stable."""

    def __init__(self, index: Index, table: MemberTable) -> None:
        self._index = index
        self._table = table

    # networks

    def networks(self) -> list[NetworkView]:
        """Every network that is active, in conflict, or still being removed."""
        shown = self._shown_networks()
        names = network_names(shown)
        views = [self._network_view(NetworkId(identifier), names[identifier], shown) for identifier in shown]
        return sorted(views, key=lambda view: (view.name, view.id))

    def network(self, network: NetworkId) -> NetworkView | None:
        """One network by its full id."""
        shown = self._shown_networks()
        return self._network_view(network, network_names(shown)[network], shown) if network in shown else None

    def find_networks(self, reference: str) -> list[NetworkView]:
        """By shown name (exact; alone if it matches), else by id prefix in hex. More than one: ambiguous."""
        networks = self.networks()
        return [view for view in networks if view.name == reference] or [it for it in networks if begins(it, reference)]

    def is_removed(self, network: NetworkId) -> bool:
        """Whether this network was removed for ever, endpoints or not."""
        return network in self._index.removed

    def vnis_in_use(self) -> set[int]:
        """The VNIs of all shown networks."""
        return {network.vni for network in self._shown_networks().values()}

    def subnets_in_use(self) -> list[str]:
        """The subnets of all shown networks."""
        return [subnet for network in self._shown_networks().values() for subnet in network.subnets]

    # endpoints

    def endpoints(self, network: NetworkId | None = None) -> list[EndpointView]:
        """Endpoints (of one network) of alive, suspect and dead owners; left, gone and unknown owners hide theirs."""
        claimants = self._index.endpoints if network is None else self._index.endpoints_of.get(network, ())
        views = [view for claimant in claimants if (view := self._endpoint_view(claimant)) is not None]
        return sorted(views, key=lambda view: (view.body.name, view.id))

    def named(self, network: NetworkId, name: str) -> list[EndpointView]:
        """Those of `endpoints` that have a name: one, or several where it was given on two sides of a partition."""
        index = self._index
        claimants = [it for it in index.endpoints_of.get(network, ()) if index.endpoints[it].name == name]
        views = [view for claimant in claimants if (view := self._endpoint_view(claimant)) is not None]
        return sorted(views, key=lambda view: view.id)

    def endpoint(self, endpoint: EndpointId, network: NetworkId | None = None) -> EndpointView | None:
        """One endpoint by its full id (and network)."""
        views = [view for c in self._claimants(endpoint, network) if (view := self._endpoint_view(c)) is not None]
        return min(views, key=lambda view: (view.owner_state not in LIVE, view.owner), default=None)

    def records_of(self, network: NetworkId, endpoint: EndpointId | None = None) -> list[tuple[NodeId, Endpoint]]:
        """What is written of a network's endpoints (or of one) and by whom, those of hidden owners too; unsorted."""
        index = self._index
        found = index.endpoints_of.get(network, ()) if endpoint is None else self._claimants(endpoint, network)
        return [(claimant[1], index.endpoints[claimant]) for claimant in found]

    def winner(self, network: NetworkId, address_or_mac: str) -> EndpointView | None:
        """Which endpoint an address (no prefix length) or MAC belongs to: alive beats dead, then see conflicts.py."""
        claimant = self._winner(network, address_or_mac)
        return self._endpoint_view(claimant) if claimant is not None else None

    def holds(self, network: NetworkId, address: str, endpoint: EndpointId, owner: NodeId) -> bool:
        """Whether an address belongs to this endpoint as its owner wrote it: `winner` without the rest of it."""
        return self._winner(network, address) == (endpoint, owner)

    def is_live(self, node: NodeId) -> bool:
        """Whether a member is alive or suspect."""
        member = self._table.by_id.get(node)
        return member is not None and member.state in LIVE

    def hosts(self, network: NetworkId, states: Iterable[State] = (State.ALIVE, State.SUSPECT)) -> list[NodeId]:
        """Nodes in one of `states` with at least one endpoint in the network: the flood list, ourselves included."""
        wanted = frozenset(states)
        owners = {owner for _, owner in self._index.endpoints_of.get(network, ())}
        return sorted(owner for owner in owners if (m := self._table.by_id.get(owner)) and m.state in wanted)

    def networks_of(self, node: NodeId) -> list[NetworkId]:
        """Networks in which this node has an endpoint: what a change of its state touches."""
        return sorted(NetworkId(network) for network in self._index.networks_of.get(node, ()))

    def router(self, network: NetworkId, mac: str) -> NodeId | None:
        """Which host with an endpoint in the network routes from this MAC; the lowest id, should several say so."""
        found = [
            node
            for node in self._index.routers.get(mac, ())
            if network in self._index.networks_of.get(node, ())
            and (member := self._table.by_id.get(node)) is not None
            and member.state in _SHOWN
        ]
        return min(found, default=None)

    # the rest

    def vteps(self, network: NetworkId | None = None) -> list[Vtep]:
        """Foreign VTEPs (of one network)."""
        tables = self._index.vteps.values() if network is None else [self._index.vteps.get(network, {})]
        found = [vtep for table in tables for vtep in table.values()]
        return sorted(found, key=lambda vtep: (vtep.network, vtep.address, vtep.port))

    def node(self, node: NodeId) -> Node | None:
        """The node record: where its VTEP is."""
        return self._index.nodes.get(node)

    def member(self, node: NodeId) -> MemberView | None:
        """One member by id."""
        member = self._table.by_id.get(node)
        return self._member_view(member) if member is not None else None

    def members(self) -> list[MemberView]:
        """All members but GONE ones, ourselves included."""
        shown = [self._member_view(m) for m in self._table.by_id.values() if m.state is not State.GONE]
        return sorted(shown, key=lambda view: (view.name, view.id))

    def find_members(self, reference: str) -> list[MemberView]:
        """By name (exact), else by id prefix in hex."""
        members = self.members()
        return [view for view in members if view.name == reference] or [it for it in members if begins(it, reference)]

    def blocks(self, network: NetworkId | None = None) -> list[BlockView]:
        """Blocks that are claimed or held, whoever holds them and whatever became of it."""
        tables = self._index.blocks.values() if network is None else [self._index.blocks.get(network, {})]
        views = []
        for table in tables:
            for (owner, _), block in table.items():
                member = self._table.by_id.get(owner)
                name, state = (member.name, member.state) if member is not None else (short(owner), State.GONE)
                views.append(BlockView(block, owner, name, state))
        return sorted(views, key=lambda view: (view.body.network, view.body.prefix, view.owner))

    # inside

    def _shown_networks(self) -> dict[bytes, Network]:
        index = self._index
        return {i: body for i, body in index.networks.items() if i not in index.removed or index.populated(i)}

    def _network_view(self, network: NetworkId, name: str, shown: dict[bytes, Network]) -> NetworkView:
        body = shown[network]
        if network in self._index.removed:
            return NetworkView(network, name, NetworkState.REMOVING, body)
        owner = vni_owner(shown, body.vni)
        if owner is not None and owner != network:
            return NetworkView(network, name, NetworkState.CONFLICT, body, NetworkId(owner))
        return NetworkView(network, name, NetworkState.ACTIVE, body)

    def _claimants(self, endpoint: EndpointId, network: NetworkId | None) -> list[Claimant]:
        found = self._index.claimants_of.get(endpoint, ())
        return [it for it in found if network is None or self._index.endpoints[it].network == network]

    def _endpoint_view(self, claimant: Claimant) -> EndpointView | None:
        body = self._index.endpoints[claimant]
        member = self._table.by_id.get(claimant[1])
        if member is None or member.state not in _SHOWN:
            return None
        network = NetworkId(body.network)
        claims = self._index.claims_of[claimant]
        lost = frozenset(claim for claim in claims if self._winner(network, claim) not in (None, claimant))
        return EndpointView(body, member.id, member.name, member.state, member.since, lost)

    def _winner(self, network: NetworkId, claim: str) -> Claimant | None:
        claimants = self._index.claims.get((network, claim), ())
        shown = [c for c in claimants if (m := self._table.by_id.get(c[1])) is not None and m.state in _SHOWN]
        if len(shown) < 2:
            return shown[0] if shown else None
        winner = winner_of(self._claim(network, claim, claimant) for claimant in shown)
        return (winner.endpoint, winner.owner) if winner is not None else None

    def _claim(self, network: NetworkId, claim: str, claimant: Claimant) -> AddressClaim:
        alive = self._table.by_id[claimant[1]].state in LIVE
        body = self._index.endpoints[claimant]
        if is_mac(claim):
            # It is made from an address, of IPv4 if there is one, and goes with that: else one host would get what is
            # sent to another's address. Of an address in a large IPv6 subnet nobody holds a block.
            addresses = self._index.claims_of[claimant][1:]
            claim = min(addresses, key=lambda it: ":" in it, default="")
        entitled = bool(claim) and self._entitled(network, claim, claimant[1])
        return AddressClaim(*claimant, alive, entitled, body.supersedes)

    def _entitled(self, network: NetworkId, address: str, node: NodeId) -> bool:
        """Whether a block of `node` covers the address, or the address is lent to it."""
        ip = ipaddress.ip_address(address)
        for (owner, prefix), block in self._index.blocks.get(network, {}).items():
            lent = block.loans.get(address)
            if lent is not None and lent[:16] == node:
                return True
            if owner == node and lent is None and ip in parse_prefix(prefix):
                return True
        return False

    def _member_view(self, member: Member) -> MemberView:
        node = self._index.nodes.get(member.id)
        me = member.id == self._table.me
        return MemberView(
            member.id, member.name, member.address, member.state, member.since, *member.stamp, me, node, member.rtt
        )


_SHOWN = LIVE | {State.DEAD}
