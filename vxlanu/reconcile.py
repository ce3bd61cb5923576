"""Forwarding state as a function of records: what every table should hold, and making it so.

Rules of this file
  1. `desired(key, …)` is pure: one key of one table, the records, the members, what is here (`Here`). No history.
  2. A changed record recomputes only the keys that it names, now or before (`_Index`); the full recomputation is for
     the start and `verify`; a property test shows that both agree.
  3. Soft state of the fast path is not desired and never compared, except where it shadows a record.

Which networks are local is the agent's journal of endpoints: a network is programmed from the moment the agent attaches
a first endpoint until the last one is gone. It is served while its gateway has a port here (vxlanu/gateway/service.py):
each host answers for the gateway itself, with a MAC of its own, so nothing that is sent to it crosses the underlay.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from vxlanu.control.core.effects import ChangeKey, State
from vxlanu.control.core.records import Endpoint, EndpointId, Network, NetworkId, Node, NodeId, Vtep, router_mac
from vxlanu.control.core.view import EndpointView, NetworkState, NetworkView
from vxlanu.dataplane.values import (
    Destination,
    FdbRow,
    Member,
    NeighborRow,
    NetworkConfig,
    PortRef,
    SoftRow,
    VtepRef,
)

log = logging.getLogger("vxlanu.reconcile")

Table = Literal["network", "members", "fdb", "neighbor"]
TableKey = tuple[Table, bytes, str]


@dataclass(frozen=True, slots=True)
class Lladdr:
    """What is answered for an address, and whether as a router."""

    mac: str
    router: bool = False

    def __str__(self) -> str:
        return f"{self.mac} router" if self.router else self.mac


Value = NetworkConfig | frozenset[Member] | Destination | Lladdr | str | None

VISIBLE = (State.ALIVE, State.SUSPECT, State.DEAD)

# Writing in this order never leaves an entry that leads nowhere; a network goes last.
_ORDER: dict[str, int] = {"network": 0, "members": 1, "fdb": 2, "neighbor": 3}


class Records(Protocol):
    """The questions that forwarding asks; `vxlanu.control.core.view.View` answers them."""

    def network(self, network: NetworkId) -> NetworkView | None: ...
    def endpoints(self, network: NetworkId | None = None) -> list[EndpointView]: ...
    def endpoint(self, endpoint: EndpointId) -> EndpointView | None: ...
    def winner(self, network: NetworkId, address_or_mac: str) -> EndpointView | None: ...
    def hosts(self, network: NetworkId, states: Iterable[State] = ...) -> list[NodeId]: ...
    def networks_of(self, node: NodeId) -> list[NetworkId]: ...
    def router(self, network: NetworkId, mac: str) -> NodeId | None: ...
    def vteps(self, network: NetworkId | None = None) -> list[Vtep]: ...
    def node(self, node: NodeId) -> Node | None: ...


class Tables(Protocol):
    """The tables; `vxlanu.dataplane.Dataplane` has them."""

    def networks(self) -> list[bytes]: ...
    def network_config(self, network: bytes) -> NetworkConfig | None: ...
    def set_network(self, network: bytes, config: NetworkConfig | None) -> None: ...
    def members(self, network: bytes) -> frozenset[Member]: ...
    def set_members(self, network: bytes, members: frozenset[Member]) -> None: ...
    def set_fdb(self, network: bytes, mac: str, to: Destination | None) -> None: ...
    def set_neighbor(self, network: bytes, address: str, mac: str | None, *, router: bool = ...) -> None: ...
    def fdb(self, network: bytes) -> list[FdbRow]: ...
    def neighbors(self, network: bytes) -> list[NeighborRow]: ...
    def soft(self, network: bytes) -> list[SoftRow]: ...


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A key whose programmed value is not the desired one."""

    key: TableKey
    programmed: str
    expected: str


@dataclass(frozen=True, slots=True)
class Here:
    """This host: which networks it has endpoints of, and of which it serves the gateway."""

    node: NodeId
    local: frozenset[bytes] = frozenset()
    serving: frozenset[bytes] = frozenset()


def desired(key: TableKey, records: Records, here: Here) -> Value:
    """What a table should hold under `key`; None: nothing. The empty set of members is a value."""
    table, identity, name = key
    network = records.network(NetworkId(identity)) if identity in here.local else None
    if network is None:
        return frozenset() if table == "members" else None
    if table == "network":
        return network_config(network)
    if table == "members":
        return _members(network.id, records, here.node)
    if table == "neighbor":
        return _neighbor(name, network, records, here)
    return _destination(name, network.id, records, here)


def _neighbor(address: str, network: NetworkView, records: Records, here: Here) -> Lladdr | None:
    """The gateway is ourselves, whoever else may claim its address."""
    if network.id in here.serving and address in network.body.gateways:
        return Lladdr(router_mac(here.node), router=True)
    winner = records.winner(network.id, address)
    return Lladdr(winner.body.mac) if winner else None


def _destination(mac: str, network: NetworkId, records: Records, here: Here) -> Destination | None:
    """An endpoint's MAC by its record; a router's by its host's, so that the guard lets in what that host routes; what
    foreign VTEPs are said to have."""
    if network in here.serving and mac == router_mac(here.node):
        return PortRef.of_gateway(network)
    winner = records.winner(network, mac)
    if winner is not None:
        return PortRef(winner.body.id.hex()) if winner.owner == here.node else _vtep_of(winner.owner, records)
    router = records.router(network, mac)
    if router is not None and router != here.node:
        return _vtep_of(router, records)
    return next((VtepRef(vtep.address, vtep.port) for vtep in records.vteps(network) if mac in vtep.macs), None)


def network_config(network: NetworkView) -> NetworkConfig:
    """The fast path's part of a network."""
    body: Network = network.body
    conflict = network.state is NetworkState.CONFLICT
    return NetworkConfig(body.vni, body.mtu, body.vlan == "pass", conflict)


def _vtep_of(owner: NodeId, records: Records) -> VtepRef | None:
    node = records.node(owner)
    return VtepRef(node.data_host, node.data_port) if node and node.data_host else None


def _members(network: NetworkId, records: Records, me: NodeId) -> frozenset[Member]:
    """Hosts with an endpoint, floods only to those that live, and the foreign VTEPs. A member is never foreign too."""
    living = set(records.hosts(network))
    members: dict[str, Member] = {}
    for node in records.hosts(network, VISIBLE):
        vtep = _vtep_of(node, records) if node != me else None
        if vtep:
            earlier = members.get(vtep.address)
            members[vtep.address] = Member(vtep, flood=node in living or bool(earlier and earlier.flood))
    for foreign in records.vteps(network):
        members.setdefault(foreign.address, Member(VtepRef(foreign.address, foreign.port), foreign=True))
    return frozenset(members.values())


def keys_of(network: bytes, endpoint: Endpoint) -> frozenset[TableKey]:
    """The table keys that an endpoint's record names."""
    addresses: list[TableKey] = [("neighbor", network, address.split("/")[0]) for address in endpoint.addresses]
    return frozenset([("fdb", network, endpoint.mac), *addresses])


def own_keys(network: bytes, records: Records, node: NodeId) -> Iterator[TableKey]:
    """The table keys that serving the gateway is about."""
    yield ("fdb", network, router_mac(node))
    view = records.network(NetworkId(network))
    for gateway in view.body.gateways if view else ():
        yield ("neighbor", network, gateway)


def all_keys(records: Records, here: Here) -> Iterator[TableKey]:
    """Every key that any record names in the local networks."""
    for network in sorted(here.local):
        yield ("network", network, "")
        yield ("members", network, "")
        yield from own_keys(network, records, here.node)
        for host in records.hosts(NetworkId(network), VISIBLE):
            node = records.node(host)
            if node and node.router_mac:
                yield ("fdb", network, node.router_mac)
        for endpoint in records.endpoints(NetworkId(network)):
            yield from keys_of(network, endpoint.body)
        for vtep in records.vteps(NetworkId(network)):
            yield from (("fdb", network, mac) for mac in vtep.macs)


class _Index:
    """Which keys an endpoint's record named when it was last looked at, and whose it was; a node's router MAC."""

    def __init__(self) -> None:
        self.router_macs: dict[bytes, str] = {}
        self._keys: dict[bytes, frozenset[TableKey]] = {}
        self._owner: dict[bytes, bytes] = {}
        self._of_node: dict[bytes, set[bytes]] = {}

    def keys(self, endpoint: bytes) -> frozenset[TableKey]:
        """What it named."""
        return self._keys.get(endpoint, frozenset())

    def of_node(self, node: bytes) -> list[bytes]:
        """The endpoints that were this node's."""
        return list(self._of_node.get(node, ()))

    def owner(self, endpoint: bytes) -> bytes | None:
        """Whose it was."""
        return self._owner.get(endpoint)

    def look(self, endpoint: bytes, view: EndpointView | None) -> set[TableKey]:
        """Remember what it names now; answer everything that it named before or names now."""
        before = self._keys.pop(endpoint, frozenset())
        owner = self._owner.pop(endpoint, None)
        if owner is not None:
            self._of_node[owner].discard(endpoint)
        if view is None:
            return set(before)
        now = self._keys[endpoint] = keys_of(view.body.network, view.body)
        self._owner[endpoint] = view.owner
        self._of_node.setdefault(view.owner, set()).add(endpoint)
        return {*before, *now}


class Reconciler:
    """Keeps the tables what the records say."""

    def __init__(self, records: Records, tables: Tables, me: NodeId) -> None:
        self._records = records
        self._tables = tables
        self._here = Here(me)
        self._index = _Index()

    @property
    def local(self) -> frozenset[bytes]:
        """The networks that are programmed here."""
        return self._here.local

    def hold(self, network: bytes) -> None:
        """Program a network: an endpoint of it is about to be here."""
        if network not in self.local:
            self._here = replace(self._here, local=self.local | {network})
            self._write(self._keys_of_network(network))

    def let_go(self, network: bytes) -> None:
        """Take a network out: its last local endpoint is gone, and so must be the gateway's port."""
        if network in self.local:
            keys = self._keys_of_network(network)
            self._here = replace(self._here, local=self.local - {network})
            self._write(keys)

    def serve(self, network: bytes, serving: bool = True) -> None:
        """The gateway of a network has a port here now; or it is about to lose it."""
        others = self._here.serving - {network}
        self._here = replace(self._here, serving=others | {network} if serving else others)
        self._write(own_keys(network, self._records, self._here.node))

    def changed(self, keys: Iterable[ChangeKey]) -> None:
        """Recompute what changed records name."""
        affected: set[TableKey] = set()
        for kind, first, second in keys:
            affected |= self._affected(kind, first, second)
        self._write(affected)

    def port_added(self, endpoint: bytes) -> None:
        """An endpoint's port is there now: entries towards it can be written."""
        self._write(self._index.keys(endpoint))

    def _affected(self, kind: str, first: bytes, second: bytes) -> set[TableKey]:
        if kind == "endpoint":
            return self._look(second)
        if kind == "network":
            return self._keys_of_network(first) if first in self.local else set()
        if kind == "vtep":
            return self._keys_of_vteps(first)
        if kind in ("node", "member"):
            return self._keys_of_node(NodeId(first))
        return set()

    def _look(self, endpoint: bytes) -> set[TableKey]:
        """The keys that an endpoint named before and names now, with members and routers of those networks."""
        view = self._records.endpoint(EndpointId(endpoint))
        owners = {self._index.owner(endpoint), view.owner if view else None} - {None}
        keys = self._index.look(endpoint, view)
        networks = {network for _, network, _ in keys}
        macs = {mac for owner in owners if owner is not None for mac in self._router_macs(owner)}
        routers: set[TableKey] = {("fdb", network, mac) for network in networks for mac in macs}
        return keys | routers | {("members", network, "") for network in networks}

    def _router_macs(self, node: bytes) -> set[str]:
        """The one that the node's record names, and the one that it named when we last heard of the node."""
        record = self._records.node(NodeId(node))
        now = record.router_mac if record else ""
        return {self._index.router_macs.setdefault(node, now), now} - {""}

    def _keys_of_network(self, network: bytes) -> set[TableKey]:
        for endpoint in self._records.endpoints(NetworkId(network)):
            self._index.look(endpoint.body.id, endpoint)
        keys = set(all_keys(self._records, replace(self._here, local=frozenset({network}))))
        if network in self._tables.networks():
            keys |= {("fdb", network, row.mac) for row in self._tables.fdb(network)}
            keys |= {("neighbor", network, row.address) for row in self._tables.neighbors(network)}
        return keys

    def _keys_of_vteps(self, network: bytes) -> set[TableKey]:
        """A foreign VTEP came or went: its MACs are known only while it is here, so the whole FDB is looked at."""
        if network not in self.local:
            return set()
        return {key for key in self._keys_of_network(network) if key[0] in ("members", "fdb")}

    def _keys_of_node(self, node: NodeId) -> set[TableKey]:
        """A member's state, address or router MAC changed: everything about its endpoints in the local networks."""
        keys: set[TableKey] = {("members", network, "") for network in self.local}
        keys |= {("fdb", network, mac) for network in self.local for mac in self._router_macs(node)}
        record = self._records.node(node)
        self._index.router_macs[node] = record.router_mac if record else ""
        for endpoint in self._index.of_node(node):
            keys |= self._look(endpoint)
        for network in self.local.intersection(self._records.networks_of(node)):
            for view in self._records.endpoints(NetworkId(network)):
                if view.owner == node:
                    keys |= self._look(view.body.id)
        return keys

    def _write(self, keys: Iterable[TableKey]) -> None:
        wanted = [(key, desired(key, self._records, self._here)) for key in keys]
        leaving = [item for item in wanted if item[0][0] == "network" and item[1] is None]
        staying = [item for item in wanted if not (item[0][0] == "network" and item[1] is None)]
        # A network that loses its VNI to another steps aside before the other takes it.
        staying.sort(key=lambda item: (_ORDER[item[0][0]], not getattr(item[1], "conflict", False)))
        for key, value in (*staying, *leaving):
            self._write_one(key, value)

    def _write_one(self, key: TableKey, value: Value) -> None:
        table, network, name = key
        try:
            if table == "network" and (value is None or isinstance(value, NetworkConfig)):
                self._tables.set_network(network, value)
            elif table == "members" and isinstance(value, frozenset):
                self._tables.set_members(network, value)
            elif table == "fdb" and (value is None or isinstance(value, PortRef | VtepRef)):
                self._tables.set_fdb(network, name, value)
            elif table == "neighbor" and value is None:
                self._tables.set_neighbor(network, name, None)
            elif table == "neighbor" and isinstance(value, Lladdr):
                self._tables.set_neighbor(network, name, value.mac, router=value.router)
        except OSError as error:
            if table == "network" and error.errno == errno.EBUSY and network in self.local:
                return  # removed everywhere while a port of ours is still leaving: let_go() comes when it has left
            # One key that the tables refuse must not keep the others from being written; verify will show it.
            log.error("cannot program %s %s: %s", table, name or network.hex()[:12], error, extra={"event": "program"})

    def verify(self) -> tuple[int, list[Mismatch]]:
        """Compare every table with the full recomputation: how many keys were looked at, and what differs."""
        programmed = dict(self._programmed())
        keys = set(programmed) | set(all_keys(self._records, self._here))
        found: list[Mismatch] = []
        for key in sorted(keys):
            wanted, there = desired(key, self._records, self._here), programmed.get(key)
            if there != wanted and (there or wanted):
                found.append(Mismatch(key, _text(there), _text(wanted)))
        return len(keys), [*found, *self._shadowed(programmed)]

    def _programmed(self) -> Iterator[tuple[TableKey, Value]]:
        for network in self._tables.networks():
            yield ("network", network, ""), self._tables.network_config(network)
            yield ("members", network, ""), self._tables.members(network)
            for row in self._tables.fdb(network):
                yield ("fdb", network, row.mac), row.to if row.to is not None else "an id that nobody owns"
            for neighbor in self._tables.neighbors(network):
                yield ("neighbor", network, neighbor.address), Lladdr(neighbor.mac, neighbor.router)

    def _shadowed(self, programmed: dict[TableKey, Value]) -> list[Mismatch]:
        """Soft state about a MAC that has a record: it must have given way."""
        return [
            Mismatch(("fdb", network, row.mac), f"{row.kind} {row.vtep}", _text(programmed["fdb", network, row.mac]))
            for network in self._tables.networks()
            for row in self._tables.soft(network)
            if ("fdb", network, row.mac) in programmed
        ]


def _text(value: Value) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, frozenset):
        return ", ".join(sorted(str(member) for member in value)) or "nobody"
    return str(value)
