"""The pure parts of address management: pools, choices, conflicts."""

from __future__ import annotations

import ipaddress

import pytest

from vxlanu.control.core.choose import choose_ipv6_subnet, choose_subnet, choose_vni, overlapping
from vxlanu.control.core.conflicts import AddressClaim, network_names, vni_owner, winner_of
from vxlanu.control.core.pool import Pool
from vxlanu.control.core.records import EndpointId, Network, NetworkId, NodeId

NET = NetworkId(b"n" * 16)
NODE, OTHER = NodeId(b"a" * 16), NodeId(b"b" * 16)


def network(identifier: bytes = NET, name: str = "demo", vni: int = 256, **fields: object) -> Network:
    """A network record."""
    return Network(id=identifier, name=name, vni=vni, **({"subnets": ("192.168.0.0/24",)} | fields))


def test_blocks_are_26_and_single_addresses_in_subnets_of_26_and_smaller() -> None:
    address = ipaddress.IPv4Address("192.168.0.70")
    assert str(Pool(network()).block_of(address)) == "192.168.0.64/26"
    assert str(Pool(network(subnets=("192.168.0.64/26",))).block_of(address)) == "192.168.0.70/32"


def test_every_usable_address_is_in_exactly_one_block_of_the_order_of_preference() -> None:
    pool = Pool(network(subnets=("192.168.0.0/24", "10.0.0.0/29"), aux={"r": "192.168.0.9"}))
    blocks = set(pool.preference(NET, NODE))
    usable = [address for block in blocks for address in pool.usable(block)]
    assert len(usable) == len(set(usable)) == 254 - 2 + 6 - 1
    assert {"192.168.0.0", "192.168.0.1", "192.168.0.9", "192.168.0.255"}.isdisjoint(map(str, usable))


def test_ranges_bound_what_is_picked_and_a_given_gateway_frees_the_first_host() -> None:
    pool = Pool(network(ip_ranges=("192.168.0.128/28",), gateways=("192.168.0.254",)))
    usable = [address for block in set(pool.preference(NET, NODE)) for address in pool.usable(block)]
    assert (min(usable), max(usable)) == tuple(map(ipaddress.IPv4Address, ("192.168.0.128", "192.168.0.143")))
    assert ipaddress.IPv4Address("192.168.0.1") not in pool.reserved


def test_two_nodes_begin_with_different_blocks() -> None:
    pool = Pool(network(subnets=("10.0.0.0/16",)))
    assert next(pool.preference(NET, NODE)) != next(pool.preference(NET, OTHER))


def test_choices_are_functions_of_the_id_and_avoid_what_is_used() -> None:
    vni = choose_vni(NET, ())
    assert 256 <= vni < 1 << 24 and choose_vni(NET, ()) == vni and choose_vni(NET, {vni}) == vni + 1
    subnet = choose_subnet(NET, ["0.0.0.0/0"])
    assert subnet.startswith("10.") and subnet.endswith("/24")
    assert overlapping(choose_subnet(NET, [subnet]), [subnet]) is None
    assert overlapping(subnet, ["fd00::/8", "10.0.0.0/8"]) == "10.0.0.0/8"
    ula = choose_ipv6_subnet(NET)
    pool = Pool(network(subnets=(ula,)))
    assert ula.startswith("fd") and ula.endswith("/64") and choose_ipv6_subnet(NET) == ula
    (address, shared), (other, _) = (next(pool.ipv6_candidates(node, EndpointId(b"e" * 16))) for node in (NODE, OTHER))
    assert address in ipaddress.ip_network(ula) and address != other and not shared


def test_a_range_narrows_the_subnet_it_lies_in_and_no_other() -> None:
    subnets = ("10.0.0.0/8", "192.168.0.0/24", "fd00::/64", "fd01::/64")
    pool = Pool(network(subnets=subnets, ip_ranges=("10.5.0.0/24", "fd00::ab00/120")))
    blocks = set(pool.preference(NET, NODE))
    shown = {str(block) for block in blocks}
    assert shown == {f"{place}.{low}/26" for place in ("10.5.0", "192.168.0") for low in (0, 64, 128, 192)}
    assert sum(1 for block in blocks for _ in pool.usable(block)) == 256 + 254 - 1
    candidates = list(pool.ipv6_candidates(NODE, EndpointId(b"e" * 16)))
    assert {address for address, _ in candidates[:256]} == set(ipaddress.ip_network("fd00::ab00/120"))
    assert all(shared for _, shared in candidates[:256]), "two hosts may choose the same of 256"
    address, shared = candidates[256]
    assert address in ipaddress.ip_network("fd01::/64") and not shared


def test_a_small_range_in_a_large_block_is_found() -> None:
    pool = Pool(network(subnets=("10.0.0.0/8",), ip_ranges=("10.200.3.16/28",)))
    assert {str(block) for block in pool.preference(NET, NODE)} == {"10.200.3.0/26"}
    assert len(list(pool.usable(next(pool.preference(NET, NODE))))) == 16


def claim(endpoint: int, alive: bool = True, entitled: bool = False, supersedes: int = 0) -> AddressClaim:
    """One claim."""
    previous = bytes([supersedes]) * 16 if supersedes else b""
    return AddressClaim(bytes([endpoint]) * 16, NODE, alive, entitled, previous)


@pytest.mark.parametrize(
    ("claims", "winner"),
    [
        ([claim(1), claim(2)], 1),
        ([claim(1, alive=False), claim(2)], 2),
        ([claim(1), claim(2, entitled=True)], 2),
        ([claim(1, entitled=True), claim(2, supersedes=1)], 2),
        ([claim(1, alive=False, entitled=True), claim(2, alive=False)], 1),
        ([claim(1, supersedes=2), claim(2, supersedes=1)], 1),  # nonsense has a winner too
    ],
)
def test_who_wins_an_address(claims: list[AddressClaim], winner: int) -> None:
    for order in (claims, claims[::-1]):
        best = winner_of(order)
        assert best is not None and best.endpoint[0] == winner
    assert winner_of([]) is None


def test_names_and_vnis_belong_to_the_lowest_id() -> None:
    networks = {bytes([n]) * 16: network(bytes([n]) * 16, name) for n, name in ((1, "web"), (2, "web"), (3, "db"))}
    assert network_names(networks) == {b"\1" * 16: "web", b"\2" * 16: "web~0202", b"\3" * 16: "db"}
    assert vni_owner(networks, 256) == b"\1" * 16 and vni_owner(networks, 7) is None
