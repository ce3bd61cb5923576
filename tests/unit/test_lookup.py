"""Words that could mean two things: the name of one, and the beginning of another's id.

Ids are 128 random bits, so any word of hexadecimal digits meets one by chance. Here they are made from names, and meet.

    h1 (ourselves), h2        demonet 10.0.0.0/24, other 10.1.0.0/24
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from names_world import World, identity

from vxlanu.agent import egress, lookup
from vxlanu.agent.agent import Agent
from vxlanu.agent.links import _meant
from vxlanu.agent.reclaim import reclaim
from vxlanu.agent.why import _in_network
from vxlanu.api import schema
from vxlanu.api.client import Client
from vxlanu.capture.wanted import select
from vxlanu.cli import complete
from vxlanu.control.core.effects import State
from vxlanu.control.core.records import NetworkId, NodeId
from vxlanu.errors import BadRequest, NotFound

ME = NodeId(identity("h1"))


def beginning(name: str, digits: int = 4) -> str:
    """Of the id of that thing."""
    return identity(name).hex()[:digits]


@pytest.fixture
def world() -> World:
    made = World()
    made.node("h1")
    made.node("h2")
    made.network("demonet", "10.0.0.0/24")
    made.network("other", "10.1.0.0/24")
    made.endpoint("h1", "demonet", "C0", "10.0.0.2/24", aliases=["web"])
    made.endpoint("h1", "other", "C1", "10.1.0.2/24")
    made.endpoint("h2", "demonet", "C2", "10.0.0.3/24", aliases=["web"])
    return made


def agent(world: World) -> Agent:
    return cast(Agent, SimpleNamespace(view=world.view))


def test_the_beginning_of_an_id_has_four_digits_at_least(world: World) -> None:
    for digits in (4, 5, 12, 32):
        assert lookup.network(world.view, beginning("demonet", digits).upper()).name == "demonet"
        assert lookup.member(world.view, beginning("h2", digits)).name == "h2"
        assert lookup.endpoint(world.view, beginning("demonet/C0", digits)).body.name == "C0"
    for digits in (1, 2, 3):  # `network rm B` where B is misspelt
        with pytest.raises(NotFound):
            lookup.network(world.view, beginning("demonet", digits))
        with pytest.raises(NotFound):
            lookup.member(world.view, beginning("h2", digits))
        with pytest.raises(NotFound):
            lookup.endpoint(world.view, beginning("demonet/C0", digits))


def test_a_name_goes_before_the_beginning_of_an_id_of_its_own_kind(world: World) -> None:
    world.network(beginning("demonet"), "10.2.0.0/24")
    world.node(beginning("h2"))
    world.endpoint("h1", "other", beginning("demonet/C0"), "10.1.0.9/24")
    assert lookup.network(world.view, beginning("demonet")).body.subnets == ("10.2.0.0/24",)
    assert lookup.member(world.view, beginning("h2")).id == identity(beginning("h2"))
    assert lookup.endpoint(world.view, beginning("demonet/C0")).body.addresses == ("10.1.0.9/24",)


def test_a_capture_is_of_what_is_called_so_whatever_kind_has_an_id_that_begins_so(world: World) -> None:
    by_id = select(world.view, ME, [beginning("demonet"), beginning("other/C1")])
    assert by_id.networks == {identity("demonet")} and by_id.endpoints == {identity("other/C1")}, "the control"
    called = beginning("demonet")
    world.endpoint("h1", "other", called, "10.1.0.9/24")
    assert select(world.view, ME, [called]).endpoints == {identity(f"other/{called}")}
    assert not select(world.view, ME, [called]).networks
    called = beginning("demonet/C2")  # an endpoint of another host, which cannot be captured here
    world.network(called, "10.2.0.0/24")
    assert select(world.view, ME, [called]).networks == {identity(called)}
    called = beginning("other")
    world.node(called)
    assert select(world.view, ME, [called]).only_vteps


def test_a_capture_of_what_two_kinds_are_called_is_refused(world: World) -> None:
    world.endpoint("h1", "other", "demonet", "10.1.0.9/24")
    with pytest.raises(BadRequest, match="network and endpoint"):
        select(world.view, ME, ["demonet"])
    assert select(world.view, ME, ["demonet.other"]).endpoints == {identity("other/demonet")}


def test_a_link_is_what_is_called_so(world: World) -> None:
    called = beginning("demonet")
    assert _meant(agent(world), called)[0][0].name == "demonet", "the control"
    world.endpoint("h1", "other", called, "10.1.0.9/24")
    [network], endpoint = _meant(agent(world), called)
    assert network.name == "other" and endpoint is not None and endpoint.body.name == called
    world.network(beginning("other/C1"), "10.2.0.0/24")
    assert _meant(agent(world), beginning("other/C1"))[0][0].body.subnets == ("10.2.0.0/24",)


def test_the_beginning_of_a_networks_and_an_endpoints_id_is_refused_with_both_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ids begin alike here: 64 digits are enough to tell them apart, four are not."""
    alike = identity("demonet")[:4] + b"\0" * 12
    monkeypatch.setattr("names_world.identity", lambda name: alike if name == "other/twin" else identity(name))
    world.endpoint("h2", "other", "twin", "10.1.0.9/24")
    with pytest.raises(BadRequest, match=r"2 match: network demonet .*; endpoint twin\.other .* on h2") as refused:
        _meant(agent(world), beginning("demonet"))
    assert (refused.value.exit, refused.value.name) == (2, "ambiguous")
    [network], endpoint = _meant(agent(world), beginning("demonet", 12))
    assert network.name == "demonet" and endpoint is None, "the control"
    [network], endpoint = _meant(agent(world), alike.hex()[:12])
    assert network.name == "other" and endpoint is not None and endpoint.body.name == "twin"
    assert _meant(agent(world), "10.1.0.9")[1] == endpoint
    world.endpoint("h1", "other", beginning("demonet"), "10.1.0.10/24")
    assert _meant(agent(world), beginning("demonet"))[1] is not None, "a name goes before both"


def test_why_looks_for_a_name_in_the_senders_network_first_then_for_names_elsewhere(world: World) -> None:
    demonet = world.view.network(NetworkId(identity("demonet")))
    assert demonet is not None
    world.endpoint("h2", "other", "C0", "10.1.0.7/24")
    world.endpoint("h2", "other", beginning("demonet/C2"), "10.1.0.8/24")
    for target, meant in (
        ("C0", "demonet/C0"),
        ("C1", "other/C1"),
        ("C0.other", "other/C0"),
        ("10.0.0.3", "demonet/C2"),
        (beginning("demonet/C2"), f"other/{beginning('demonet/C2')}"),
        (beginning("demonet/C2", 12), "demonet/C2"),
    ):
        found = _in_network(agent(world), demonet, target)
        assert found is not None and found.id == identity(meant), target
    with pytest.raises(BadRequest, match="2 match"):
        _in_network(agent(world), demonet, "web")


def test_a_member_whose_addresses_are_reclaimed_is_named_or_begun_with_four_digits(world: World) -> None:
    def holder(reference: str) -> str:
        rows = asyncio.run(reclaim(agent(world), schema.Reclaim(members=[reference], dry_run=True)))
        return ", ".join(row.holder for row in rows)

    world.node("h3", State.GONE)
    world.block("h3", "demonet", "10.0.0.0/26")
    for reference in ("h3", beginning("h3"), beginning("h3", 32).upper()):
        assert holder(reference) == "h3"
    for digits in (0, 1, 3):  # `ipam reclaim "$HOST"` without a HOST, or with one that is misspelt
        with pytest.raises(NotFound):
            holder(beginning("h3", digits))
    world.node(beginning("h3"), State.GONE)
    world.block(beginning("h3"), "demonet", "10.0.0.64/26")
    assert holder(beginning("h3")) == beginning("h3"), "a name goes before the beginning of an id"


def test_the_bridge_is_not_meant_by_the_name_of_a_network(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = schema.Network("beef" * 8, "vxlanu_gw", 0, ["172.18.0.0/16"], 1500, 1, scope="local")
    monkeypatch.setattr(egress, "bridge", lambda _: [bridge])
    monkeypatch.setattr(egress, "_ports", lambda _: [])
    asked = agent(world)
    asked.config, asked.egress = SimpleNamespace(name="h1"), SimpleNamespace(ledger=SimpleNamespace(rows={}))
    assert egress.bridge_detail(asked, "beef") is not None, "the control"
    world.network("beef", "10.2.0.0/24")
    assert egress.bridge_detail(asked, "beef") is None
    assert egress.bridge_detail(asked, "beefb") is not None and egress.bridge_detail(asked, "vxlanu_gw") is not None


def test_an_endpoint_whose_name_is_not_its_own_is_offered_with_its_network() -> None:
    rows = [
        schema.Endpoint(id="", name=name, network=network, network_id="", addresses=[], mac="", node="", vtep="",
                        target="", local=local)
        for name, network, local in (("C0", "demonet", True), ("C0", "other", False), ("C1", "other", True))
    ]  # fmt: skip
    asked = cast(Client, SimpleNamespace(endpoints=lambda: SimpleNamespace(value=SimpleNamespace(items=rows))))
    offered = [name for name, _ in complete._local_endpoints(asked, cast(complete.click.Context, None))]
    assert offered == ["C0.demonet", "C1"]
