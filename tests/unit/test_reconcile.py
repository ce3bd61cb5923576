"""Following changes key by key must end where the full recomputation ends, whatever happened in between."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxlanu.control.core.effects import ChangeKey, State
from vxlanu.control.core.records import Endpoint, EndpointId, Network, NetworkId, Node, NodeId, Vtep, router_mac
from vxlanu.control.core.view import EndpointView, NetworkState, NetworkView
from vxlanu.dataplane.values import Destination, FdbRow, Member, NeighborRow, NetworkConfig, PortRef, SoftRow, VtepRef
from vxlanu.reconcile import VISIBLE, Reconciler

ME = NodeId(b"m" * 16)
NODES = [ME, *(NodeId(bytes([number]) * 16) for number in (1, 2, 3))]
NETWORKS = [NetworkId(bytes([number]) * 16) for number in (10, 11)]
ENDPOINTS = [EndpointId(bytes([number]) * 16) for number in range(20, 26)]
MACS = ["02:42:c0:a8:00:02", "02:42:c0:a8:00:03"]
ADDRESSES = ["192.168.0.2/24", "192.168.0.3/24", "fd00::2/64"]
GATEWAYS = ("192.168.0.1", "fd00::1")
ROUTERS = [*map(router_mac, NODES), MACS[1], ""]
"""What a node may say of itself; nothing keeps it from an endpoint's MAC, or from another node's."""


@dataclass
class Facts:
    """Records that a test writes directly; the rules are the view's, in their simplest form."""

    nodes: dict[NodeId, tuple[str, State]] = field(default_factory=dict)
    routers: dict[NodeId, str] = field(default_factory=lambda: {node: router_mac(node) for node in NODES})
    present: dict[NetworkId, NetworkState] = field(default_factory=dict)
    claims: dict[EndpointId, tuple[NodeId, Endpoint]] = field(default_factory=dict)
    foreign: dict[tuple[bytes, str], Vtep] = field(default_factory=dict)

    def network(self, network: NetworkId) -> NetworkView | None:
        if network not in self.present:
            return None
        body = Network(id=network, name=network.hex(), vni=network[0], subnets=(), gateways=GATEWAYS)
        return NetworkView(network, body.name, self.present[network], body)

    def endpoints(self, network: NetworkId | None = None) -> list[EndpointView]:
        return [
            EndpointView(body, owner, owner.hex(), self.nodes[owner][1], 0.0)
            for owner, body in self.claims.values()
            if network in (None, body.network) and self.nodes[owner][1] is not State.LEFT
        ]

    def endpoint(self, endpoint: EndpointId) -> EndpointView | None:
        return next((view for view in self.endpoints() if view.body.id == endpoint), None)

    def winner(self, network: NetworkId, address_or_mac: str) -> EndpointView | None:
        named = [
            view
            for view in self.endpoints(network)
            if address_or_mac in (view.body.mac, *(text.split("/")[0] for text in view.body.addresses))
        ]
        return min(named, key=lambda view: (view.owner_state is State.DEAD, view.body.id), default=None)

    def hosts(self, network: NetworkId, states: Iterable[State] = (State.ALIVE, State.SUSPECT)) -> list[NodeId]:
        return sorted({view.owner for view in self.endpoints(network) if view.owner_state in states})

    def networks_of(self, node: NodeId) -> list[NetworkId]:
        return sorted({NetworkId(view.body.network) for view in self.endpoints() if view.owner == node})

    def router(self, network: NetworkId, mac: str) -> NodeId | None:
        return min((node for node in self.hosts(network, VISIBLE) if self.routers[node] == mac), default=None)

    def vteps(self, network: NetworkId | None = None) -> list[Vtep]:
        return [vtep for vtep in self.foreign.values() if network in (None, vtep.network)]

    def node(self, node: NodeId) -> Node | None:
        host, mac = self.nodes[node][0], self.routers[node]
        return Node(name=node.hex(), control_host=host, control_port=7946, data_host=host, router_mac=mac)


class Memory:
    """Tables in memory."""

    def __init__(self) -> None:
        self.configs: dict[bytes, NetworkConfig] = {}
        self.member_sets: dict[bytes, frozenset[Member]] = {}
        self.entries: dict[bytes, dict[str, Destination]] = {}
        self.known: dict[bytes, dict[str, tuple[str, bool]]] = {}
        self.writes = 0

    def networks(self) -> list[bytes]:
        return list(self.configs)

    def network_config(self, network: bytes) -> NetworkConfig | None:
        return self.configs.get(network)

    def set_network(self, network: bytes, config: NetworkConfig | None) -> None:
        self.writes += 1
        if config is None:
            self.configs.pop(network, None)
            self.entries.pop(network, None)
            self.known.pop(network, None)
            self.member_sets.pop(network, None)
        else:
            self.configs[network] = config
            self.entries.setdefault(network, {})
            self.known.setdefault(network, {})

    def members(self, network: bytes) -> frozenset[Member]:
        return self.member_sets.get(network, frozenset())

    def set_members(self, network: bytes, members: frozenset[Member]) -> None:
        if network in self.configs:
            self.member_sets[network] = members

    def set_fdb(self, network: bytes, mac: str, to: Destination | None) -> None:
        self.writes += 1
        table = self.entries.get(network, {})
        table.pop(mac, None)
        if to is not None:
            table[mac] = to

    def set_neighbor(self, network: bytes, address: str, mac: str | None, *, router: bool = False) -> None:
        self.writes += 1
        table = self.known.get(network, {})
        table.pop(address, None)
        if mac is not None:
            table[address] = (mac, router)

    def fdb(self, network: bytes) -> list[FdbRow]:
        return [FdbRow(mac, to) for mac, to in self.entries[network].items()]

    def neighbors(self, network: bytes) -> list[NeighborRow]:
        return [NeighborRow(address, *known) for address, known in self.known[network].items()]

    def soft(self, network: bytes) -> list[SoftRow]:
        return []


class World:
    """Facts, tables, the reconciler between them, and steps that change a fact and say which."""

    def __init__(self) -> None:
        self.facts = Facts({node: (f"10.0.0.{number}", State.ALIVE) for number, node in enumerate(NODES, 1)})
        self.tables = Memory()
        self.reconciler = Reconciler(self.facts, self.tables, ME)

    def say(self, *keys: ChangeKey) -> None:
        self.reconciler.changed(keys)

    def step(self, rng: random.Random) -> str:
        """One random change; its name."""
        steps = [self.claim, self.unclaim, self.turn, self.move, self.make, self.unmake, self.stranger, self.route]
        choice = rng.choice(steps)
        choice(rng)
        if rng.random() < 0.2:
            network = rng.choice(NETWORKS)
            rng.choice([self.reconciler.hold, self.reconciler.let_go])(network)
        if rng.random() < 0.2:
            self.reconciler.serve(rng.choice(NETWORKS), rng.random() < 0.7)
        return choice.__name__

    def claim(self, rng: random.Random) -> None:
        endpoint, network = rng.choice(ENDPOINTS), rng.choice(NETWORKS)
        if endpoint in self.facts.claims:
            return
        body = Endpoint(
            id=endpoint, network=network, name="e", mac=rng.choice(MACS), addresses=tuple(rng.sample(ADDRESSES, 2))
        )
        self.facts.claims[endpoint] = (rng.choice(NODES), body)
        self.say(("endpoint", network, endpoint))

    def unclaim(self, rng: random.Random) -> None:
        endpoint = rng.choice(ENDPOINTS)
        if endpoint in self.facts.claims:
            _, body = self.facts.claims.pop(endpoint)
            self.say(("endpoint", body.network, endpoint))

    def turn(self, rng: random.Random) -> None:
        node = rng.choice(NODES[1:])
        self.facts.nodes[node] = (self.facts.nodes[node][0], rng.choice([State.ALIVE, State.DEAD, State.LEFT]))
        self.say(("member", node, b""))

    def move(self, rng: random.Random) -> None:
        node = rng.choice(NODES[1:])
        self.facts.nodes[node] = (f"10.0.1.{rng.randrange(1, 9)}", self.facts.nodes[node][1])
        self.say(("node", node, b""))

    def route(self, rng: random.Random) -> None:
        node = rng.choice(NODES[1:])
        self.facts.routers[node] = rng.choice(ROUTERS)
        self.say(("node", node, b""))

    def make(self, rng: random.Random) -> None:
        network = rng.choice(NETWORKS)
        self.facts.present[network] = rng.choice([NetworkState.ACTIVE, NetworkState.CONFLICT])
        self.say(("network", network, b""))

    def unmake(self, rng: random.Random) -> None:
        network = rng.choice(NETWORKS)
        self.facts.present.pop(network, None)
        self.say(("network", network, b""))

    def stranger(self, rng: random.Random) -> None:
        network, address = rng.choice(NETWORKS), f"172.16.0.{rng.randrange(1, 3)}"
        if self.facts.foreign.pop((network, address), None) is None:
            macs = tuple(rng.sample(MACS, rng.randrange(3)))
            self.facts.foreign[network, address] = Vtep(network=network, address=address, macs=macs)
        self.say(("vtep", network, b""))


@given(st.integers(0, 2**32))
def test_following_changes_ends_where_the_full_recomputation_ends(seed: int) -> None:
    rng, world, story = random.Random(seed), World(), []
    for network in NETWORKS:
        world.facts.present[network] = NetworkState.ACTIVE
        world.reconciler.hold(network)
    for _ in range(60):
        story.append(world.step(rng))
        _, differences = world.reconciler.verify()
        assert not differences, (seed, story, differences)


@pytest.fixture
def blue() -> World:
    """One network that is local, one endpoint of another host in it."""
    world = World()
    world.facts.present[NETWORKS[0]] = NetworkState.ACTIVE
    world.reconciler.hold(NETWORKS[0])
    body = Endpoint(id=ENDPOINTS[0], network=NETWORKS[0], name="e", mac=MACS[0], addresses=(ADDRESSES[0],))
    world.facts.claims[ENDPOINTS[0]] = (NODES[1], body)
    world.say(("endpoint", NETWORKS[0], ENDPOINTS[0]))
    return world


def test_verify_sees_an_entry_that_the_records_do_not_ask_for(blue: World) -> None:
    assert blue.reconciler.verify()[1] == []
    blue.tables.set_fdb(NETWORKS[0], MACS[1], VtepRef("10.9.9.9"))
    blue.tables.set_neighbor(NETWORKS[0], "192.168.0.2", None)
    found = {(it.key[0], it.key[2]): (it.programmed, it.expected) for it in blue.reconciler.verify()[1]}
    assert found == {
        ("fdb", MACS[1]): ("vtep 10.9.9.9:4789", "nothing"),
        ("neighbor", "192.168.0.2"): ("nothing", MACS[0]),
    }


def test_a_dead_host_keeps_its_unicast_and_loses_its_floods(blue: World) -> None:
    blue.facts.nodes[NODES[1]] = ("10.0.0.2", State.DEAD)
    blue.say(("member", NODES[1], b""))
    known = {MACS[0]: VtepRef("10.0.0.2"), router_mac(NODES[1]): VtepRef("10.0.0.2")}
    assert blue.tables.entries[NETWORKS[0]] == known
    assert blue.tables.members(NETWORKS[0]) == {Member(VtepRef("10.0.0.2"), flood=False)}
    blue.facts.nodes[NODES[1]] = ("10.0.0.2", State.LEFT)
    blue.say(("member", NODES[1], b""))
    assert blue.tables.entries[NETWORKS[0]] == {}
    assert blue.tables.members(NETWORKS[0]) == frozenset()


def test_a_network_that_is_removed_while_a_port_is_leaving_goes_with_it(
    blue: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = NETWORKS[0]

    def has_ports(network: bytes, config: NetworkConfig | None) -> None:
        raise OSError(errno.EBUSY, "network has ports")

    with monkeypatch.context() as leaving:
        leaving.setattr(blue.tables, "set_network", has_ports)
        del blue.facts.present[network]
        blue.say(("network", network, b""))
    assert blue.tables.networks() == [network] and not caplog.records
    blue.reconciler.let_go(network)
    assert blue.tables.networks() == [] and blue.reconciler.verify()[1] == []
    with monkeypatch.context() as leaving:
        leaving.setattr(blue.tables, "set_network", has_ports)
        blue.reconciler.let_go(NETWORKS[1])
        blue.facts.present[NETWORKS[1]] = NetworkState.ACTIVE
        blue.reconciler.hold(NETWORKS[1])
        blue.reconciler.let_go(NETWORKS[1])
    assert "cannot program" in caplog.text, "nobody takes that one out later"


def test_one_changed_endpoint_writes_its_own_keys_only(blue: World) -> None:
    rng = random.Random(1)
    for _ in range(20):
        blue.claim(rng)
    writes = blue.tables.writes
    body = Endpoint(id=ENDPOINTS[0], network=NETWORKS[0], name="e", mac=MACS[0], addresses=(ADDRESSES[1],))
    blue.facts.claims[ENDPOINTS[0]] = (NODES[1], body)
    blue.say(("endpoint", NETWORKS[0], ENDPOINTS[0]))
    assert blue.tables.writes - writes == 4, "the MAC, the old address, the new address, the router of its host"


def test_a_gateway_that_is_served_here_is_this_host_and_its_router(blue: World) -> None:
    me, port = router_mac(ME), PortRef.of_gateway(NETWORKS[0])
    assert me not in blue.tables.entries[NETWORKS[0]]
    blue.reconciler.serve(NETWORKS[0])
    assert {address: blue.tables.known[NETWORKS[0]][address] for address in GATEWAYS} == dict.fromkeys(
        GATEWAYS, (me, True)
    )
    assert blue.tables.known[NETWORKS[0]]["192.168.0.2"] == (MACS[0], False)
    assert blue.tables.entries[NETWORKS[0]][me] == port
    blue.tables.set_neighbor(NETWORKS[0], GATEWAYS[0], me, router=False)
    assert [it.key[2] for it in blue.reconciler.verify()[1]] == [GATEWAYS[0]], "also that it answers as a router"
    blue.reconciler.serve(NETWORKS[0], False)
    assert me not in blue.tables.entries[NETWORKS[0]]
    assert not set(GATEWAYS) & set(blue.tables.known[NETWORKS[0]])
    assert blue.reconciler.verify()[1] == []


def test_nobody_takes_the_gateway_or_our_router_mac_by_a_record(blue: World) -> None:
    blue.reconciler.serve(NETWORKS[0])
    thief = Endpoint(
        id=ENDPOINTS[1], network=NETWORKS[0], name="t", mac=router_mac(ME), addresses=(f"{GATEWAYS[0]}/24",)
    )
    blue.facts.claims[ENDPOINTS[1]] = (NODES[2], thief)
    blue.say(("endpoint", NETWORKS[0], ENDPOINTS[1]))
    assert blue.tables.known[NETWORKS[0]][GATEWAYS[0]] == (router_mac(ME), True)
    assert blue.tables.entries[NETWORKS[0]][router_mac(ME)] == PortRef.of_gateway(NETWORKS[0])


def test_a_host_may_route_as_long_as_it_has_an_endpoint_of_the_network(blue: World) -> None:
    routes = blue.tables.entries[NETWORKS[0]]
    assert routes[router_mac(NODES[1])] == VtepRef("10.0.0.2")
    assert router_mac(NODES[2]) not in routes, "it has none"
    blue.facts.routers[NODES[1]] = "0a:00:00:00:00:07"
    blue.say(("node", NODES[1], b""))
    assert (routes.get(router_mac(NODES[1])), routes.get("0a:00:00:00:00:07")) == (None, VtepRef("10.0.0.2"))
    blue.facts.claims.clear()
    blue.say(("endpoint", NETWORKS[0], ENDPOINTS[0]))
    assert routes == {}
