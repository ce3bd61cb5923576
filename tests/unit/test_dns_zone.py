"""What a question is answered with: names, aliases, reverse names; what is refused, and what is passed on.

    demonet 192.168.0.0/24, fd00::/64      C0 on h1, C1 on h2 (alias web), C2 on h2 (aliases web, db.local)
    other   10.9.0.0/24                    X on h1
"""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from names_world import World, identity

from vxlanu.control.core.effects import State
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
            followed.member_changed()
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


def test_a_question_costs_the_same_among_thousands_of_endpoints() -> None:
    """Within a factor of ten, where reading them all would be a factor of a thousand."""
    took = []
    for count in (4, 4000):
        world = World()
        world.node("h1")
        network = world.network("demonet", "10.0.0.0/16")
        for number in range(count):
            world.endpoint("h1", "demonet", f"c{number}", f"10.0.{number >> 8}.{number & 255}/16")
        seen = Zone(network, world.view)
        began = time.process_time()
        for number in range(1000):
            assert seen.find(f"c{number % count}.demonet.vxlanu.internal", A).values
        took.append(time.process_time() - began)
    assert took[1] < 10 * took[0], f"{took[0]:.4f} s and {took[1]:.4f} s for 1 000 questions"
