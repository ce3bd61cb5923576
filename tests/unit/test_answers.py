"""Lists of a large cluster: a list costs one pass over the records, whatever number of rows it has.

They are made on the agent's loop. `member ls` of 1 000 members with 2 000 endpoints once asked the view for all
endpoints at each row, and took 38 s in which nothing else happened.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from sample_agent import golden

from vxlanu.agent import answers
from vxlanu.agent.agent import Agent
from vxlanu.api.schema import Overview
from vxlanu.cli.overview import draw_overview
from vxlanu.control.core.config import PROFILES
from vxlanu.control.core.effects import State
from vxlanu.control.core.index import Index
from vxlanu.control.core.members import Member, MemberTable
from vxlanu.control.core.out import Outbox
from vxlanu.control.core.records import (
    Endpoint,
    EndpointId,
    Kind,
    Network,
    NetworkId,
    Node,
    NodeId,
    Record,
    encode_body,
)
from vxlanu.control.core.view import EndpointView, NetworkView, View
from vxlanu.control.core.wire import Wire
from vxlanu.dataplane import Totals
from vxlanu.gateway.service import Service

MEMBERS, NETWORKS, ENDPOINTS = 40, 5, 200
PASSES_MAX = 3


class CountingView(View):
    """The real view, which counts how often it is asked for what costs a pass."""

    passes = 0

    def networks(self) -> list[NetworkView]:
        self.passes += 1
        return super().networks()

    def network(self, network: NetworkId) -> NetworkView | None:
        self.passes += 1
        return super().network(network)

    def endpoints(self, network: NetworkId | None = None) -> list[EndpointView]:
        self.passes += network is None
        return super().endpoints(network)

    def endpoint(self, endpoint: EndpointId, network: NetworkId | None = None) -> EndpointView | None:
        self.passes += 1
        return super().endpoint(endpoint, network)


def identity(number: int) -> bytes:
    return number.to_bytes(16, "big")


def cluster() -> CountingView:
    """MEMBERS hosts; endpoint number E is in network E mod NETWORKS on host E mod MEMBERS."""
    out = Outbox(Wire(None, random.Random(1)))
    table, index = MemberTable(NodeId(identity(0)), PROFILES["lan"], out), Index(out)

    def add(writer: int, kind: Kind, key: bytes, body: Node | Network | Endpoint) -> None:
        index.add(Record(NodeId(identity(writer)), 1, 1, kind, key, encode_body(body)))

    for number in range(MEMBERS):
        node, host = NodeId(identity(number)), f"10.1.0.{number}"
        table.by_id[node] = Member(node, f"h{number}", (host, 7946), (1, 1), 1, State.ALIVE, 0.0)
        add(number, Kind.NODE, node, Node(name=f"h{number}", control_host=host, control_port=7946, data_host=host))
    for number in range(NETWORKS):
        key = identity(1000 + number)
        net = Network(id=key, name=f"net{number}", vni=256 + number, subnets=(f"10.{number}.0.0/16",))
        add(0, Kind.NETWORK, key, net)
    for number in range(ENDPOINTS):
        key, network = identity(5000 + number), identity(1000 + number % NETWORKS)
        address = f"10.{number % NETWORKS}.1.{number // NETWORKS}/16"
        mac = f"02:42:00:00:00:{number:02x}"
        body = Endpoint(id=key, network=network, name=f"c{number}", mac=mac, addresses=(address,))
        add(number % MEMBERS, Kind.ENDPOINT, key, body)
    return CountingView(index, table)


@pytest.fixture
def agent() -> Agent:
    """As much of an agent as lists ask; every endpoint of host 0 has a port, and so has the gateway of net0."""
    here = {identity(5000 + number).hex(): SimpleNamespace() for number in range(0, ENDPOINTS, MEMBERS)}
    plane = SimpleNamespace(
        vteps=dict, networks=list, port_totals=lambda key: Totals(in_frames=1, drops={"vlan": 2}), totals=Totals
    )
    return cast(
        Agent,
        SimpleNamespace(
            view=cluster(),
            control=SimpleNamespace(core=SimpleNamespace(node=NodeId(identity(0)))),
            config=SimpleNamespace(name="h0"),
            dataplane=plane,
            opened=here,
            services=SimpleNamespace(standing=lambda: [Service(identity(1000), -1, (), 0, "")]),
            journal=SimpleNamespace(rows=here),
        ),
    )


LISTS: dict[str, tuple[Callable[[Agent], list[object]], int]] = {
    "members": (lambda agent: [*answers.members(agent, agent.view.members())], MEMBERS),
    "endpoints": (lambda agent: [*answers.endpoints(agent, agent.view.endpoints())], ENDPOINTS),
    "vteps": (lambda agent: [*answers.vteps(agent)], MEMBERS),
    "stats": (lambda agent: [*answers.stats(agent)], 1 + ENDPOINTS // MEMBERS + 1),
    "drops": (lambda agent: [*answers.drops(agent, {})], ENDPOINTS // MEMBERS + 1),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_takes_a_few_passes_however_long_it_is(agent: Agent, name: str) -> None:
    make, rows = LISTS[name]
    assert len(make(agent)) == rows
    assert cast(CountingView, agent.view).passes <= PASSES_MAX


def test_members_know_their_endpoints_and_endpoints_their_network(agent: Agent) -> None:
    members = answers.members(agent, agent.view.members())
    assert {row.endpoints for row in members} == {ENDPOINTS // MEMBERS}
    rows = {row.name: row for row in answers.endpoints(agent, agent.view.endpoints())}
    assert (rows["c7"].network, rows["c7"].node, rows["c7"].vtep) == ("net2", "h7", "10.1.0.7")
    [row] = [row for row in answers.stats(agent) if row.name == "c40"]
    assert (row.scope, row.network, row.sent_frames) == ("endpoint", "net0", 1)
    [row] = [row for row in answers.stats(agent) if row.scope == "gateway"]
    assert (row.name, row.network, row.sent_frames) == ("gateway", "net0", 1)


def test_an_overview_names_a_few_endpoints_and_counts_the_others() -> None:
    whole = golden(Overview)
    whole.overlays[0].local = [f"c{number}" for number in range(200)]
    [line] = [line for line in draw_overview(whole) if "here" in line]
    assert line.endswith("here c0, c1, c2, c3, c4, c5, c6, c7 and 192 more")
    whole.overlays[0].local = ["c0", "c1"]
    assert any(line.endswith("here c0, c1") for line in draw_overview(whole))
