"""What a claim leaves behind: rest, promises, loans and leases when their reason has gone.

h1 ---- h2 ---- h3      one network; each story ends with whether an address is free again, and never two have it
"""

from __future__ import annotations

import pytest
from simulator import Cluster, Host, Weather

from vxlanu.control.core.effects import State
from vxlanu.control.core.messages import ClaimAnswer, encode_message
from vxlanu.control.core.records import EndpointId, NetworkId


def world(seed: int, hosts: int = 3, **fields: object) -> tuple[Cluster, NetworkId]:
    """Hosts that know each other and one network."""
    cluster = Cluster(seed, hosts=hosts)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], **fields)
    cluster.run(2.0)
    cluster.until(cluster.agree, 5.0)
    return cluster, network


def state(watcher: Host, watched: Host) -> State | None:
    """What one host thinks of another."""
    member = watcher.core.view.member(watched.node)
    return member.state if member is not None else None


def address_of(cluster: Cluster, endpoint: EndpointId) -> str:
    """What the simulator saw it get, without prefix length."""
    return next(text for (_, text), owner in cluster.grants.items() if owner == endpoint).partition("/")[0]


def promises(host: Host) -> set[bytes]:
    """The keys of its promises on disk."""
    return {key for table, key in host.disk.committed if table == "promise"}


def leases(host: Host, network: NetworkId) -> dict[str, EndpointId]:
    """Who has which address of this host."""
    return {str(it): lease.endpoint for it, lease in host.core._parts.ipam.leases.given[network].items()}


def blocks(host: Host, network: NetworkId) -> set[str]:
    """The prefixes that anybody holds or claims, as a host sees it."""
    return {view.body.prefix for view in host.core.view.blocks(network)}


@pytest.mark.parametrize("restart", [False, True], ids=["", "across a restart"])
def test_a_freed_ipv6_address_rests_before_anybody_else_is_given_it(restart: bool) -> None:
    cluster, network = world(20, subnet="fd00::/127", gateways=("fd00::1",))  # one address
    one, two, _ = cluster.hosts
    endpoint = cluster.attach(one, network)
    cluster.until(cluster.agree, 5.0)
    freed = cluster.now
    cluster.detach(one, network, endpoint)
    if restart:
        cluster.run(1.0)
        cluster.crash(one)
        cluster.start(one)
    for _ in range(16):
        cluster.run(3.0)
        cluster.allocate(two, network)
        if restart:
            cluster.allocate(one, network)
    cluster.run(1.0)
    assert not cluster.grants and cluster.now - freed < 60.0
    cluster.run(40.0)
    cluster.attach(two, network)  # positive control
    assert cluster.now - freed > 60.0


def test_an_ipv6_address_that_was_lent_rests_when_it_comes_back() -> None:
    cluster, network = world(21, subnet="fd00::/126")
    one, two, three = cluster.hosts
    mine = cluster.attach(one, network, "fd00::2")
    cluster.detach(one, network, mine)
    cluster.until(cluster.agree, 5.0)
    borrowed = cluster.attach(two, network, "fd00::2")  # lent: h1 holds it still
    assert any(view.body.loans for view in one.core.view.blocks(network))
    cluster.run(70.0)
    cluster.attach(one, network, "fd00::3")
    freed = cluster.now
    cluster.detach(two, network, borrowed)
    for _ in range(16):
        cluster.run(3.0)
        for host in (one, three):
            cluster.allocate(host, network)
    assert len(cluster.grants) == 1 and cluster.now - freed < 60.0
    cluster.run(40.0)
    cluster.attach(three, network)  # positive control


def test_promises_go_with_the_network_and_with_the_block() -> None:
    cluster, network = world(22, subnet="fd00::/120")
    one, two, _ = cluster.hosts
    endpoints = [cluster.attach(one, network) for _ in range(4)]
    assert len(promises(two)) == 4
    cluster.detach(one, network, endpoints.pop())
    cluster.until(lambda: len(promises(two)) == 3, 200.0)
    for endpoint in endpoints:
        cluster.detach(one, network, endpoint)
    cluster.call(one, lambda core, now: core.remove_network(network, now))
    cluster.until(lambda: not any(map(promises, cluster.hosts)), 200.0)


def test_a_claim_that_is_under_way_ends_with_its_network() -> None:
    cluster, network = world(23, subnet="fd00::/120")
    one, two, three = cluster.hosts
    cluster.partition([one], [three])
    cluster.allocate(one, network)  # h3 does not answer yet
    cluster.run(0.2)
    assert blocks(one, network)
    cluster.call(two, lambda core, now: core.remove_network(network, now))
    cluster.run(0.5)
    cluster.heal()
    cluster.run(30.0)
    assert [refused.name for refused in cluster.refused] == ["network_removed"]
    assert not any(blocks(host, network) for host in cluster.hosts)


def test_what_is_released_while_it_is_asked_for_is_not_given_later() -> None:
    cluster, network = world(24)
    one, two, three = cluster.hosts
    cluster.partition([one], [two, three])
    endpoint = cluster.allocate(one, network, "192.168.0.9")
    cluster.run(0.5)
    cluster.call(one, lambda core, now: core.release(network, endpoint, now))  # an attach that was given up
    cluster.heal()
    cluster.run(30.0)
    assert endpoint not in leases(one, network).values()
    assert [refused.name for refused in cluster.refused] == ["try_again"]
    cluster.attach(two, network, "192.168.0.9")  # positive control


def test_asking_twice_at_once_for_one_endpoint_yields_one_address() -> None:
    cluster, network = world(25, hosts=2)
    one = cluster.hosts[0]
    endpoint = EndpointId(bytes(16))
    for _ in range(3):
        request = cluster.request()
        cluster._asked[request] = (network, endpoint)
        cluster.call(one, lambda core, now, r=request: core.allocate(r, network, endpoint, now))
    cluster.run(3.0)
    assert len(leases(one, network)) == 1 and cluster.granted == 3


def test_one_address_has_one_spelling() -> None:
    cluster, network = world(26, hosts=1, subnet="fd00::/64")
    one = cluster.hosts[0]
    cluster.attach(one, network, "fd00::77")
    for wanted in ("fd00::77%eth0", "fd00:0::77"):
        cluster.allocate(one, network, wanted)
        cluster.run(0.5)
    assert [refused.name for refused in cluster.refused] == ["address_outside", "address_in_use"]


def test_an_address_that_is_leased_without_a_claim_is_not_promised_to_another() -> None:
    cluster, network = world(27, subnet="fd00::/64")
    one, two, _ = cluster.hosts
    endpoint = cluster.allocate(one, network)  # by hash; no record yet, or none while its container does not run
    cluster.until(lambda: bool(cluster.grants), 5.0)
    address = address_of(cluster, endpoint)
    cluster.allocate(two, network, address)
    cluster.until(lambda: bool(cluster.refused), 20.0)
    assert cluster.refused[0].name in ("address_in_use", "try_again") and cluster.refused[0].holder == "h1"
    cluster.call(one, lambda core, now: core.release(network, endpoint, now))
    cluster.grants.clear()
    cluster.attach(two, network, address)  # positive control


def forget(cluster: Cluster, by: Host, gone: Host) -> None:
    """Wait until it is dead, then erase it."""
    cluster.until(lambda: state(by, gone) is State.DEAD, 60.0)
    cluster.call(by, lambda core, now: core.forget(gone.node, now))
    cluster.run(2.0)


@pytest.fixture
def lease_of_a_forgotten_host() -> tuple[Cluster, NetworkId, EndpointId]:
    """h3 keeps 192.168.0.4 for a container that does not run (no record), is cut off, and forgotten by the others."""
    cluster, network = world(28, subnet="192.168.0.0/29")
    one, two, three = cluster.hosts
    kept = cluster.allocate(three, network, "192.168.0.4")
    cluster.until(lambda: bool(cluster.grants), 5.0)
    cluster.until(cluster.agree, 5.0)
    cluster.partition([three], [one, two])
    forget(cluster, one, three)
    cluster.grants.clear()
    return cluster, network, kept


def comes_back_and_asks(cluster: Cluster, network: NetworkId, kept: EndpointId) -> None:
    """The container of h3 runs again, and has an address."""
    cluster.heal()
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 60.0)
    request = cluster.request()
    cluster._asked[request] = (network, kept)
    cluster.call(cluster.hosts[2], lambda core, now: core.allocate(request, network, kept, now))
    cluster.until(lambda: kept in cluster.grants.values(), 20.0)


def test_a_lease_whose_block_was_given_away_meanwhile_is_not_renewed(
    lease_of_a_forgotten_host: tuple[Cluster, NetworkId, EndpointId],
) -> None:
    cluster, network, kept = lease_of_a_forgotten_host
    cluster.attach(cluster.hosts[0], network, "192.168.0.4")
    comes_back_and_asks(cluster, network, kept)
    assert address_of(cluster, kept) != "192.168.0.4"


def test_a_lease_outlives_a_fence_where_nobody_took_its_address(
    lease_of_a_forgotten_host: tuple[Cluster, NetworkId, EndpointId],
) -> None:
    cluster, network, kept = lease_of_a_forgotten_host
    one, _, three = cluster.hosts
    comes_back_and_asks(cluster, network, kept)
    assert address_of(cluster, kept) == "192.168.0.4"
    assert "192.168.0.4/32" in blocks(one, network) | blocks(three, network)


def test_a_loan_to_a_member_that_left_is_over() -> None:
    cluster, network = world(30)
    one, two, _ = cluster.hosts
    first = cluster.attach(one, network)
    cluster.until(cluster.agree, 5.0)
    head, _, last = address_of(cluster, first).rpartition(".")
    wanted = f"{head}.{int(last) // 64 * 64 + 33}"
    borrowed = cluster.attach(two, network, wanted)
    assert any(view.body.loans for view in one.core.view.blocks(network))
    del cluster.grants[network, f"{wanted}/24"]
    cluster.call(two, lambda core, now: core.leave(now))
    cluster.until(lambda: two.core.has_left(cluster.now), 10.0)
    cluster.crash(two)
    cluster.until(lambda: not any(view.body.loans for view in one.core.view.blocks(network)), 30.0)
    cluster.start(two)
    cluster.until(cluster.all_alive, 30.0)
    assert borrowed not in leases(two, network).values()


def test_a_host_that_gave_everything_back_and_died_leaves_a_small_subnet_usable() -> None:
    cluster, network = world(31, subnet="192.168.0.0/29")
    one, two, three = cluster.hosts
    mine = [cluster.attach(three, network) for _ in range(5)]
    for endpoint in mine:
        cluster.detach(three, network, endpoint)
    cluster.run(90.0)
    cluster.crash(three)
    cluster.until(lambda: state(one, three) is state(two, three) is State.DEAD, 60.0)
    cluster.attach(one, network)


def test_a_full_ipv6_subnet_whose_holders_are_away_says_try_again() -> None:
    cluster, network = world(32, subnet="fd00::/126")
    one, two, three = cluster.hosts
    for _ in range(2):
        cluster.attach(three, network)
    cluster.until(cluster.agree, 5.0)
    cluster.allocate(one, network)
    cluster.until(lambda: len(cluster.refused) == 1, 20.0)
    cluster.crash(three)
    cluster.until(lambda: state(one, three) is state(two, three) is State.DEAD, 60.0)
    cluster.allocate(one, network)
    cluster.until(lambda: len(cluster.refused) == 2, 20.0)
    assert [refused.name for refused in cluster.refused] == ["pool_exhausted", "try_again"]


def test_hundreds_that_wait_for_one_claim_are_served_when_the_last_peer_dies() -> None:
    cluster, network = world(33, hosts=2, subnet="fd00::/112", ipam="available")
    one, two = cluster.hosts
    cluster.crash(two)
    for _ in range(200):
        cluster.allocate(one, network)
    cluster.until(lambda: len(cluster.grants) == 200, 60.0)


def test_a_loan_that_comes_back_late_does_not_undo_the_lease_that_took_it_over() -> None:
    cluster, network = world(34)
    one, two, _ = cluster.hosts
    first = cluster.attach(one, network)
    cluster.until(cluster.agree, 5.0)
    head, _, last = address_of(cluster, first).rpartition(".")
    wanted = f"{head}.{int(last) // 64 * 64 + 33}"
    old = cluster.attach(two, network, wanted)
    cluster.until(cluster.agree, 5.0)
    cluster.crash(two)
    cluster.until(lambda: state(one, two) is State.DEAD, 60.0)
    cluster.grants.clear()
    taker = cluster.allocate(one, network, wanted, take_over=True)
    cluster.run(1.0)
    cluster.put_endpoint(one, network, taker, f"{wanted}/24", supersedes=old)
    cluster.start(two)
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 60.0)
    cluster.call(two, lambda core, now: core.release(network, old, now))
    cluster.until(lambda: not any(view.body.loans for view in one.core.view.blocks(network)), 30.0)
    cluster.crash(one)
    cluster.start(one)
    assert leases(one, network).get(wanted) == taker


@pytest.mark.parametrize("seed", range(40, 44))
def test_after_a_partition_an_available_network_gives_no_address_twice(seed: int) -> None:
    # both sides claim the one block there is; once they see each other, only one goes on giving from it
    cluster, network = world(seed, hosts=2, subnet="10.0.0.0/25", ip_ranges=("10.0.0.0/26",), ipam="available")
    one, two = cluster.hosts
    cluster.partition([one], [two])
    cluster.until(lambda: state(one, two) is state(two, one) is State.DEAD, 60.0)
    cluster.grants.clear()
    for host, address in ((one, "10.0.0.20"), (two, "10.0.0.30")):
        cluster.attach(host, network, address)
    cluster.heal()
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 60.0)
    cluster.run(1.0)
    for _ in range(5):
        for host in (one, two):
            cluster.allocate(host, network)  # at the same instant
        cluster.run(3.0)
    assert len(cluster.grants) == 12, "I1 is the simulator's"
    for key, endpoint in list(cluster.grants.items()):
        if key[1] in ("10.0.0.20/25", "10.0.0.30/25"):
            cluster.detach(next(h for h in (one, two) if endpoint in leases(h, network).values()), network, endpoint)
    assert Weather() == cluster.weather


@pytest.mark.parametrize("seed", range(50, 56))
def test_a_host_that_returns_after_its_blocks_were_given_up_makes_no_second_of_an_address(seed: int) -> None:
    # `ipam reclaim h3` while h3 sits behind a broken link and its containers run on
    cluster, network = world(seed, subnet=("192.168.0.0/28", "fd00::/124")[seed % 2])
    one, two, three = cluster.hosts
    theirs = {cluster.attach(three, network): three for _ in range(3)}
    cluster.until(cluster.agree, 5.0)
    cluster.partition([three], [one, two])
    forget(cluster, one, three)
    away = {key: owner for key, owner in cluster.grants.items() if owner in theirs}
    for key in away:
        del cluster.grants[key]
    wanted = address_of_key(next(iter(away)))
    ours = [cluster.attach(one, network, wanted), *(cluster.attach(host, network) for host in (one, two, two))]
    cluster.heal()
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 60.0)
    for key, owner in away.items():
        lost = three.core.view.endpoint(owner).lost
        assert (address_of_key(key) in lost) == (key in cluster.grants), "who has an address that was given again loses"
        cluster.grants.setdefault(key, owner)
    assert all(one.core.view.winner(network, address_of(cluster, it)).id == it for it in ours)
    for host in (three, one, two):  # whatever is given now is nobody's: the simulator's I1
        cluster.attach(host, network)
    cluster.one_holder_per_block()


def address_of_key(key: tuple[NetworkId, str]) -> str:
    """Without prefix length."""
    return key[1].partition("/")[0]


def test_a_promise_that_comes_after_the_networks_end_makes_no_block() -> None:
    cluster, network = world(60, hosts=2)
    one, two = cluster.hosts
    cluster.partition([one], [two])
    cluster.allocate(one, network)
    cluster.run(0.1)
    (claim,) = (outgoing.record for outgoing in one.core._parts.ipam.claims._outgoing.values())
    cluster.call(one, lambda core, now: core.remove_network(network, now))
    answer = ClaimAnswer(two.node, claim.key, claim.epoch, claim.version, True)
    data = one.core._parts.out.wire.datagram([encode_message(answer)])
    cluster.call(one, lambda core, now: core.receive_datagram(data, two.address, now))
    cluster.run(1.0)
    assert not blocks(one, network) and not cluster.grants


def test_a_lender_that_does_not_answer_is_no_reason_to_call_the_pool_exhausted() -> None:
    cluster, network = world(61, subnet="10.0.0.0/25", ip_ranges=("10.0.0.0/26",))  # one block
    one, two, _ = cluster.hosts
    cluster.attach(one, network)
    cluster.until(cluster.agree, 5.0)
    cluster.partition([one], [two])  # h3 sees both, so h1 stays alive for h2
    cluster.allocate(two, network)
    cluster.until(lambda: bool(cluster.refused), 30.0)
    assert cluster.refused[0].name == "try_again" and "h1" in cluster.refused[0].holder
    cluster.heal()
    cluster.attach(two, network)  # positive control
