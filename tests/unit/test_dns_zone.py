"""What a question is answered with: names, aliases, reverse names; what is refused, and what is passed on.

demonet 192.168.0.0/24, fd00::/64      C0 on h1, C1 on h2 (alias web), C2 on h2 (aliases web, db.local)
other   10.9.0.0/24                    X on h1
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from names_world import World, identity

from vxlanu.control.core.effects import State
from vxlanu.control.core.records import Endpoint, EndpointId, NetworkId, NodeId
from vxlanu.control.core.view import EndpointView, View
from vxlanu.dns.zone import AAAA, ANY, DNSKEY, PTR, A, Found, Kind, Zone, reversed_address

MX = 15


@pytest.fixture
def world() -> World:
    made = World()
    made.node("h1")
    made.node("h2")
    made.network("demonet", "192.168.0.0/24", "fd00::/64")
    made.network("other", "10.9.0.0/24")
    made.endpoint("h1", "demonet", "C0", "192.168.0.100/24", "fd00::100/64")
    made.endpoint("h2", "demonet", "C1", "192.168.0.101/24", aliases=["web"])
    made.endpoint("h2", "demonet", "C2", "192.168.0.102/24", aliases=["WEB", "db.local"])
    made.endpoint("h1", "other", "X", "10.9.0.7/24")
    return made


def zone(world: World, network: str = "demonet") -> Zone:
    return Zone(world.index.networks[identity(network)], world.view)


@pytest.mark.parametrize("name", ["c0", "c0.demonet", "c0.vxlanu.internal", "c0.demonet.vxlanu.internal"])
def test_a_name_is_known_in_four_forms(world: World, name: str) -> None:
    found = zone(world).find(name, A)
    assert (found.kind, found.values) == (Kind.RECORD, ("192.168.0.100",))
    assert zone(world).find(name, AAAA).values == ("fd00::100",)
    assert zone(world).find(name, ANY).values == ("192.168.0.100", "fd00::100")


@pytest.mark.parametrize("name", ["web", "web.demonet", "web.vxlanu.internal", "web.demonet.vxlanu.internal"])
def test_an_alias_of_several_has_the_addresses_of_all(world: World, name: str) -> None:
    found = zone(world).find(name, A)
    assert found.kind is Kind.ALIAS
    assert sorted(found.values) == ["192.168.0.101", "192.168.0.102"]


def test_a_name_that_is_there_has_an_empty_answer_for_what_it_lacks(world: World) -> None:
    for name, rtype in (("c1", AAAA), ("c1.vxlanu.internal", MX), ("web", PTR)):
        found = zone(world).find(name, rtype)
        assert found.values == () and found.kind in (Kind.RECORD, Kind.ALIAS), name


def test_a_name_with_dots_makes_the_names_above_it(world: World) -> None:
    seen = zone(world)
    assert seen.find("db.local", A).values == ("192.168.0.102",)
    for name in ("local.", "local.demonet.", "demonet.", ""):
        found = seen.find(name + "vxlanu.internal", A)
        assert (found.kind, found.values, found.inside) == (Kind.ZONE, (), True), name
    assert seen.find("x.demonet.vxlanu.internal", A).kind is Kind.UNKNOWN


def test_endpoints_of_other_networks_are_never_seen(world: World) -> None:
    assert zone(world, "other").find("x", A).values == ("10.9.0.7",), "the control: its own network has it"
    for name in ("x", "x.other", "x.vxlanu.internal", "x.other.vxlanu.internal", "x.demonet.vxlanu.internal"):
        assert zone(world).find(name, A).values == (), name
    assert zone(world).find("7.0.9.10.in-addr.arpa", PTR).kind is Kind.FOREIGN


def test_nxdomain_is_said_only_of_what_no_other_server_can_know(world: World) -> None:
    seen = zone(world)
    assert seen.find("nobody.vxlanu.internal", A).kind is Kind.UNKNOWN
    assert seen.find("nobody.demonet.vxlanu.internal", A).kind is Kind.UNKNOWN
    assert seen.find("nobody", A).kind is Kind.REFUSED
    assert seen.find("nobody.other.vxlanu.internal", A).kind is Kind.REFUSED


def test_foreign_names_are_passed_on_or_refused_where_the_network_is_internal(world: World) -> None:
    world.network("inside", "10.8.0.0/24", internal=True)
    for name, rtype in (("www.example.org", A), ("nobody.demonet", A), ("org", DNSKEY), ("", DNSKEY)):
        assert zone(world).find(name, rtype).kind is Kind.FOREIGN, name
        assert zone(world, "inside").find(name, rtype).kind is Kind.REFUSED, name


def test_reverse_names_within_the_subnets_are_ours(world: World) -> None:
    seen = zone(world)
    for text, name in (("192.168.0.101", "C1"), ("fd00::100", "C0")):
        asked = ipaddress.ip_address(text).reverse_pointer
        assert seen.find(asked, PTR).values == (f"{name}.demonet.vxlanu.internal",)
        assert seen.find(asked, A) == Found(Kind.REVERSE)
    assert seen.find("200.0.168.192.in-addr.arpa", PTR).kind is Kind.UNKNOWN
    assert seen.find("8.8.8.8.in-addr.arpa", PTR).kind is Kind.FOREIGN


@given(st.ip_addresses())
def test_reverse_names_are_read_as_they_are_written(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert reversed_address(address.reverse_pointer) == address


@pytest.mark.parametrize(
    "name",
    [
        "0.168.192.in-addr.arpa",
        "in-addr.arpa",
        "x.0.168.192.in-addr.arpa",
        "256.0.0.1.in-addr.arpa",
        "a.1.0.168.192.in-addr.arpa",
        "1.ip6.arpa",
        ".".join(["g"] * 32) + ".ip6.arpa",
    ],
)
def test_a_reverse_name_that_is_not_whole_is_none(name: str) -> None:
    assert reversed_address(name) is None


def test_endpoints_of_a_dead_host_are_hidden_and_come_back_with_it(world: World) -> None:
    seen = zone(world)
    for state, there in ((State.SUSPECT, True), (State.DEAD, False), (State.ALIVE, True), (State.LEFT, False)):
        world.node("h2", state)
        seen.member_changed(NodeId(identity("h2")))
        assert bool(seen.find("c1.vxlanu.internal", A).values) is there, state
        assert (seen.find("c1.vxlanu.internal", A).kind is Kind.UNKNOWN) is not there
        assert bool(seen.find("101.0.168.192.in-addr.arpa", PTR).values) is there
        assert seen.find("c0", A).values == ("192.168.0.100",), "the control: the other host lives"


def test_an_address_that_another_endpoint_wins_is_told_for_that_one_alone(world: World) -> None:
    world.node("h3")
    world.endpoint("h3", "demonet", "C9", "192.168.0.101/24")
    seen = zone(world)
    holders = [name for name in ("c1", "c9") if seen.find(name, A).values]
    assert len(holders) == 1
    assert seen.find("101.0.168.192.in-addr.arpa", PTR).values[0].lower().startswith(holders[0])


Change = tuple[str, int, int]


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "state"]), st.integers(0, 5), st.integers(0, 3))))
def test_following_changes_ends_where_reading_everything_ends(changes: list[Change]) -> None:
    world = World()
    states = (State.ALIVE, State.SUSPECT, State.DEAD, State.LEFT)
    for host in ("h1", "h2"):
        world.node(host)
    network = world.network("demonet", "192.168.0.0/24")
    followed = Zone(network, world.view)
    for kind, number, what in changes:
        endpoint = identity(f"demonet/c{number}")
        if kind == "state":
            world.node(f"h{number % 2 + 1}", states[what])
            followed.member_changed(NodeId(identity(f"h{number % 2 + 1}")))
            continue
        if kind == "add":
            aliases = [f"a{what}", "x.y"][:what]
            world.endpoint(f"h{number % 2 + 1}", "demonet", f"c{number}", f"192.168.0.{number + 2}/24", aliases=aliases)
        else:
            world.gone(endpoint)
        followed.endpoint_changed(endpoint)
    names = [f"c{n}" for n in range(6)] + [f"a{n}" for n in range(4)] + ["x.y", "y"]
    for name in names:
        for form in (name, f"{name}.demonet", f"{name}.vxlanu.internal"):
            assert followed.find(form, A) == Zone(network, world.view).find(form, A), form


class Counting:
    """The records, and how often they were asked."""

    def __init__(self, records: View) -> None:
        self._records = records
        self.asked: Counter[str] = Counter()

    def records_of(self, network: NetworkId, endpoint: EndpointId | None = None) -> list[tuple[NodeId, Endpoint]]:
        found = self._records.records_of(network, endpoint)
        self.asked["records"] += len(found)
        return found

    def holds(self, network: NetworkId, address: str, endpoint: EndpointId, owner: NodeId) -> bool:
        self.asked["holds"] += 1
        return self._records.holds(network, address, endpoint, owner)

    def is_live(self, node: NodeId) -> bool:
        self.asked["live"] += 1
        return self._records.is_live(node)

    def winner(self, network: NetworkId, address_or_mac: str) -> EndpointView | None:
        self.asked["winner"] += 1
        return self._records.winner(network, address_or_mac)


def crowd(holders: int, hosts: int = 30) -> tuple[World, Counting, Zone]:
    """Endpoints of as many hosts in turn, all with one alias."""
    world = World()
    for number in range(hosts):
        world.node(f"h{number}")
    network = world.network("demonet", "10.0.0.0/16")
    for number in range(holders):
        address = f"10.0.{number >> 8}.{number & 255}/16"
        world.endpoint(f"h{number % hosts}", "demonet", f"c{number}", address, aliases=["many"])
    records = Counting(world.view)
    seen = Zone(network, records)
    records.asked.clear()
    return world, records, seen


@pytest.mark.parametrize("holders", [1, 30, 300, 3000])
def test_a_question_costs_what_it_is_answered_with(holders: int) -> None:
    """Counted in questions to the records, not in time."""
    _, records, seen = crowd(holders)
    found = seen.find("many.vxlanu.internal", A, turn=holders - 1, most=32)
    assert len(found.values) == found.looked == records.asked["holds"] == min(holders, 32)
    assert found.more is (holders > 32)
    records.asked.clear()
    assert seen.find("many", AAAA, most=32).values == () and records.asked.total() == 1, "that the name is there"
    assert seen.find("c0", A, most=32).values and records.asked.total() == 2
    assert len(seen.find("many", A, most=512).values) == min(holders, 512), "the control: more costs more"
    assert records.asked["holds"] == 2 + min(holders, 512)


@pytest.mark.parametrize("holders", [30, 3000])
def test_neither_do_the_endpoints_of_dead_hosts_cost_a_question(holders: int) -> None:
    world, records, seen = crowd(holders)
    for number in range(1, 30):
        world.node(f"h{number}", State.DEAD)
        seen.member_changed(NodeId(identity(f"h{number}")))
    assert records.asked == {"live": 29}, "nothing was read again"
    found = seen.find("many", A, most=32)
    assert len(found.values) == records.asked["holds"] == min(holders // 30, 32)
    world.node("h0", State.DEAD)
    seen.member_changed(NodeId(identity("h0")))
    records.asked.clear()
    assert seen.find("many", A, most=32).kind is Kind.REFUSED and records.asked.total() == 0


def test_a_changed_endpoint_is_read_alone() -> None:
    world, records, seen = crowd(3000)
    world.endpoint("h1", "demonet", "c1", "10.0.0.1/16", aliases=["few"])
    seen.endpoint_changed(identity("demonet/c1"))
    assert records.asked["records"] == 1
    assert seen.find("few", A).values == ("10.0.0.1",)
    assert len(seen.find("many", A, most=3000).values) == 2999


@pytest.mark.parametrize("name", ["many", "many.demonet"])
def test_everybody_has_a_turn_to_come_first(name: str) -> None:
    _, _, seen = crowd(100)
    turns = [seen.find(name, A, turn, most=32).values for turn in range(100)]
    assert {len(values) for values in turns} == {32}
    assert len({values[0] for values in turns}) == 100
    assert all(before[1:] == after[:-1] for before, after in pairwise(turns))


def test_addresses_that_others_win_are_passed_over_until_one_counts() -> None:
    """After a partition of a network that may give an address twice: of each two the lower id wins."""
    world, _, seen = crowd(100)
    world.node("h30")
    for number in range(100):
        world.endpoint("h30", "demonet", f"d{number}", f"10.0.0.{number}/16")
        seen.endpoint_changed(identity(f"demonet/d{number}"))
    own = {number for number in range(100) if identity(f"demonet/c{number}") < identity(f"demonet/d{number}")}
    assert 0 < len(own) < 100
    for turn in range(100):
        told = seen.find("many", A, turn, most=1).values
        assert len(told) == 1 and int(told[0].rpartition(".")[2]) in own
    assert len(seen.find("many", A).values) == len(own)


def test_an_endpoint_that_two_hosts_claim_is_told_as_its_winner_has_it(world: World) -> None:
    """A moved endpoint: for a while both records are there, under one id."""
    seen = zone(world)
    world.endpoint("h1", "demonet", "C1", "192.168.0.111/24", aliases=["web"], beside=True)
    seen.endpoint_changed(identity("demonet/C1"))
    assert sorted(seen.find("c1", A).values) == ["192.168.0.101", "192.168.0.111"]
    world.node("h2", State.DEAD)
    seen.member_changed(NodeId(identity("h2")))
    assert seen.find("c1", A).values == seen.find("web", A).values == ("192.168.0.111",)
