"""What the view says where two endpoints claim one address, and with it one MAC.

    h1: a        h2: b        both 10.0.0.5 in demonet, so both 02:42:...:05; the ids are in some order
"""

from __future__ import annotations

import pytest
from names_world import World, identity

from vxlanu.control.core.records import EndpointId, NetworkId

NET = NetworkId(identity("demonet"))
ADDRESS = "10.0.0.5"
ENDPOINTS = {"h1": EndpointId(identity("demonet/a")), "h2": EndpointId(identity("demonet/b"))}
LOWER = min(ENDPOINTS, key=lambda host: ENDPOINTS[host])


def doubled(*, dual_stack: bool = False) -> tuple[World, str]:
    """Nobody holds a block yet. Of an address in a large IPv6 subnet nobody ever does: a hash keeps two apart."""
    world = World()
    for host, name in (("h1", "a"), ("h2", "b")):
        world.node(host)
        world.endpoint(host, "demonet", name, f"{ADDRESS}/24", *([f"fd00::{name}/64"] if dual_stack else []))
    return world, world.view.endpoints(NET)[0].body.mac


def who_has(world: World, mac: str) -> tuple[str, str]:
    """Whose the address is, and the MAC; that the other one has lost both is checked on the way."""
    world.view.networks()
    winners = [world.view.winner(NET, claim) for claim in (ADDRESS, mac)]
    lost = {it.owner_name: it.lost for it in world.view.endpoints(NET)}
    assert sorted(map(len, lost.values())) == [0, 2], lost
    address, station = (it.owner_name if it else "" for it in winners)
    assert lost[address] == frozenset()
    return address, station


@pytest.mark.parametrize("dual_stack", [False, True], ids=["IPv4", "dual-stack"])
@pytest.mark.parametrize("holder", ENDPOINTS)
def test_a_mac_goes_to_whoever_holds_the_block_of_the_address_that_it_is_made_from(
    holder: str, dual_stack: bool
) -> None:
    world, mac = doubled(dual_stack=dual_stack)
    assert who_has(world, mac) == (LOWER, LOWER), "the control: without a block the lower id has both"
    world.block(holder, "demonet", "10.0.0.0/26")
    assert who_has(world, mac) == (holder, holder)


@pytest.mark.parametrize("borrower", ENDPOINTS)
def test_a_mac_goes_with_the_loan_of_its_address(borrower: str) -> None:
    world, mac = doubled()
    lender = next(host for host in ENDPOINTS if host != borrower)
    world.block(lender, "demonet", "10.0.0.0/26", loans={ADDRESS: borrower})
    assert who_has(world, mac) == (borrower, borrower)


def test_an_endpoint_is_found_by_its_name_whoever_says_that_it_is_theirs() -> None:
    world, _ = doubled()
    world.endpoint("h1", "blue", "a", "10.1.0.5/24")
    assert [it.id for it in world.view.named(NET, "a")] == [ENDPOINTS["h1"]]
    assert world.view.named(NET, "c") == []
    world.endpoint("h2", "demonet", "a", "10.0.0.7/24", beside=True)
    assert sorted(it.owner_name for it in world.view.named(NET, "a")) == ["h1", "h2"]
