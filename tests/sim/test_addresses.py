"""Addresses on virtual time: never one for two, whatever is lost, doubled, cut or crashed.

    h1 ---- h2 ---- h3 ...      one network, small enough that everybody wants the same blocks

`VXLANU_SIM_SEEDS` sets how many seeds the long runs take (default 500). Every invariant of simulator.py is checked at
every effect; a failure prints its seed and its story.
"""

from __future__ import annotations

import os
import random
from ipaddress import ip_interface, ip_network
from typing import NamedTuple

import pytest
from simulator import Broken, Cluster, Host, Weather

from vxlanu.control.core.effects import Allocated, Joined, State
from vxlanu.control.core.messages import ClaimAnswer, encode_message
from vxlanu.control.core.records import EndpointId, NetworkId

SEEDS = int(os.environ.get("VXLANU_SIM_SEEDS", "500"))
ROUGH = Weather(loss=0.1, double=0.1, delay_max=0.03, stream_break=0.02)
SUBNETS = ("192.168.0.0/24", "192.168.0.0/28", "192.168.0.0/25", "192.168.0.0/22")
SUBNETS6 = ("fd00::/126", "fd00::/122", "fd00::/112")  # so small that two hosts may choose the same address


def put_when_allocated(cluster: Cluster, network: NetworkId) -> None:
    """What the agent does: the record follows the address."""

    def put(host: Host, effect: Allocated) -> None:
        cluster.at(0.001, lambda: host.up and cluster.put_endpoint(host, network, effect.endpoint, effect.address))

    cluster.on_allocated = put


def ask_at(cluster: Cluster, delay: float, host: Host, network: NetworkId, wanted: str | None) -> None:
    """Ask for an address a moment later, if the host is up then."""
    cluster.at(delay, lambda: host.up and cluster.allocate(host, network, wanted))


def one_run(seed: int, subnets: tuple[str, ...] = SUBNETS) -> tuple[int, int]:
    """Two or three hosts attach at once, one may crash and return. Returns how many got an address and how many not."""
    rng = random.Random(seed)
    cluster = Cluster(seed, hosts=rng.choice((2, 3, 3)), weather=ROUGH if rng.random() < 0.8 else Weather())
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnet=rng.choice(subnets))
    cluster.until(lambda: all(host.core.view.network(network) for host in cluster.hosts), 30.0)
    put_when_allocated(cluster, network)
    number = rng.randrange(2, 14)
    fixed = f"fd00::{number:x}" if subnets is SUBNETS6 else f"192.168.0.{number}"
    asked = 0
    for host in cluster.hosts:
        for _ in range(rng.randrange(1, 3)):
            asked += 1
            ask_at(cluster, 0.02 * rng.random(), host, network, rng.choice((None, None, fixed)))
    if rng.random() < 0.5:
        victim = rng.choice(cluster.hosts)
        cluster.at(0.1 * rng.random(), lambda: cluster.crash(victim))
        cluster.at(0.5 + rng.random(), lambda: cluster.start(victim))
    cluster.run(2.0)
    for host in cluster.hosts:
        if host.up:
            cluster.allocate(host, network)
            asked += 1
    cluster.run(2.0)
    cluster.one_holder_per_block()
    return asked, cluster.granted


def test_two_hosts_attach_at_once_and_never_get_one_address() -> None:
    asked = granted = 0
    for seed in range(SEEDS):
        more_asked, more_granted = one_run(seed)
        asked, granted = asked + more_asked, granted + more_granted
    print(f"{SEEDS} seeds: {granted} of {asked} requests got an address")
    assert granted > 0.6 * asked  # the others wanted one fixed address, or crashed with their host


def test_two_hosts_never_get_one_ipv6_address_of_a_small_subnet() -> None:
    asked = granted = 0
    for seed in range(SEEDS // 5):
        more_asked, more_granted = one_run(seed, SUBNETS6)
        asked, granted = asked + more_asked, granted + more_granted
    print(f"{SEEDS // 5} seeds: {granted} of {asked} requests got an address")
    assert granted > 0.4 * asked  # a /126 has two to give


def test_a_fixed_ipv6_address_is_one_hosts_at_a_time_and_free_again_after_its_use() -> None:
    cluster = Cluster(10, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnet="fd00::/64")
    cluster.until(cluster.agree, 5.0)
    one, two, three = cluster.hosts
    put_when_allocated(cluster, network)
    for host in (one, two):  # at the same instant: nobody has heard of the other
        cluster.allocate(host, network, "fd00::77")
    cluster.until(lambda: len(cluster.grants) + len(cluster.refused) == 2, 30.0)
    assert len(cluster.grants) == 1 and cluster.refused[0].name in ("address_in_use", "try_again")
    ((_, endpoint),) = cluster.grants.items()
    owner = one if one.core.view.endpoint(endpoint).owner == one.node else two
    cluster.until(cluster.agree, 5.0)
    cluster.detach(owner, network, endpoint)
    cluster.until(cluster.agree, 5.0)
    again = cluster.attach(three, network, "fd00::77")  # by name it may be had before it has rested
    cluster.run(0.1)
    cluster.detach(three, network, again)
    cluster.until(lambda: not three.core.view.blocks(network), 90.0)
    cluster.attach(three, network, "fd00::77")


def test_a_small_ipv6_subnet_is_given_out_to_the_last_address_and_again_after_a_rest() -> None:
    cluster = Cluster(11, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnet="fd00::/124", aux={"router": "fd00::9"})
    cluster.until(cluster.agree, 5.0)
    put_when_allocated(cluster, network)
    while not cluster.refused:
        before = len(cluster.grants)
        cluster.allocate(cluster.hosts[before % 3], network)
        cluster.until(lambda b=before: len(cluster.grants) > b or bool(cluster.refused), 20.0)
    assert cluster.refused[0].name == "pool_exhausted"
    given = sorted(text for _, text in cluster.grants)
    assert given == sorted(f"fd00::{number:x}/124" for number in range(2, 16) if number != 9)
    host = cluster.hosts[0]
    (mine, *_) = [e.id for e in host.core.view.endpoints(network) if e.owner == host.node]
    cluster.detach(host, network, mine)
    cluster.run(5.0)
    again = len(cluster.refused)
    cluster.allocate(host, network)
    cluster.until(lambda: len(cluster.refused) > again, 20.0)
    cluster.run(61.0)
    cluster.attach(host, network)
    assert sorted(text for _, text in cluster.grants) == given


@pytest.mark.parametrize("seed", range(8))
def test_partitions_crashes_and_releases_for_two_minutes_then_everything_agrees(seed: int) -> None:
    rng = random.Random(seed)
    cluster = Cluster(seed, hosts=4, weather=ROUGH)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnet=rng.choice(SUBNETS))
    cluster.until(lambda: all(host.core.view.network(network) for host in cluster.hosts), 30.0)
    put_when_allocated(cluster, network)
    for _ in range(60):
        host = rng.choice(cluster.hosts)
        match rng.randrange(8):
            case 0 if host.up and sum(other.up for other in cluster.hosts) > 2:
                cluster.crash(host)
            case 1 | 2 if not host.up:
                cluster.start(host)
            case 3:
                side = rng.sample(cluster.hosts, 2)
                cluster.partition(side, [other for other in cluster.hosts if other not in side])
            case 4:
                cluster.heal()
            case 5 if host.up:
                release_one(cluster, host, network, rng)
            case _ if host.up:
                cluster.allocate(host, network, rng.choice((None, f"192.168.0.{rng.randrange(2, 14)}")))
        cluster.run(rng.uniform(0.05, 4.0))
    cluster.heal()
    for host in cluster.hosts:
        if not host.up:
            cluster.start(host)
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 60.0)
    cluster.one_holder_per_block()
    assert cluster.granted > 0


def release_one(cluster: Cluster, host: Host, network: NetworkId, rng: random.Random) -> None:
    """Detach one endpoint whose record this host has written."""
    mine = [e.id for e in host.core.view.endpoints(network) if e.owner == host.node]
    if mine:
        cluster.detach(host, network, EndpointId(rng.choice(mine)))


def test_a_minority_gets_no_new_block_and_goes_on_with_what_it_holds() -> None:
    cluster = Cluster(1, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0])
    cluster.until(cluster.agree, 5.0)
    alone, *rest = cluster.hosts
    cluster.attach(alone, network)
    cluster.until(cluster.agree, 5.0)
    cluster.partition([alone], rest)
    cluster.until(lambda: all(m.state is State.DEAD for m in alone.core.view.members() if not m.me), 40.0)
    cluster.attach(alone, network)  # from its own block
    own = {b.body.prefix for b in alone.core.view.blocks(network)}
    other = next(f"192.168.0.{n}" for n in (10, 80, 140, 200) if f"192.168.0.{n // 64 * 64}/26" not in own)
    cluster.allocate(alone, network, other)
    cluster.until(lambda: bool(cluster.refused), 20.0)
    assert cluster.refused[0].name == "try_again" and "strict" in cluster.refused[0].why
    cluster.attach(rest[0], network, other)  # positive control: the majority may


class Lending(NamedTuple):
    """Two hosts, of which one holds a block with an address that the other wants."""

    cluster: Cluster
    network: NetworkId
    holder: Host
    borrower: Host
    wanted: str

    def loans(self) -> set[str]:
        """What the holder has on loan."""
        return {text for block in self.holder.core.view.blocks(self.network) for text in block.body.loans}


def lending_of(seed: int) -> Lending:
    """Before anything is lent: the holder has one endpoint, hence the only block."""
    cluster = Cluster(seed, hosts=2)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0])
    cluster.until(cluster.agree, 5.0)
    holder, borrower = cluster.hosts
    cluster.attach(holder, network)
    cluster.until(cluster.agree, 5.0)
    (block,) = holder.core.view.blocks(network)
    return Lending(cluster, network, holder, borrower, str(ip_network(block.body.prefix)[40]))


def test_a_fixed_address_in_anothers_block_is_lent_and_given_back() -> None:
    lending = lending_of(2)
    cluster, network, holder, borrower, wanted = lending
    endpoint = cluster.attach(borrower, network, wanted)
    cluster.until(cluster.agree, 5.0)
    assert lending.loans() == {wanted}
    cluster.allocate(holder, network, wanted)
    cluster.until(lambda: bool(cluster.refused), 20.0)
    assert cluster.refused[0].name == "address_in_use" and "h2" in cluster.refused[0].holder
    cluster.detach(borrower, network, endpoint)
    cluster.until(lambda: not lending.loans(), 15.0)
    cluster.attach(holder, network, wanted)  # and may be had again


def test_a_lost_answer_to_a_loan_heals_by_audit() -> None:
    lending = lending_of(3)
    cluster, network, _, borrower, wanted = lending
    cluster.allocate(borrower, network, wanted)
    cluster.until(lambda: bool(lending.loans()), 5.0)
    cluster.crash(borrower)  # before or after its journal had it: both are in order
    cluster.start(borrower)
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 10.0)
    leased = bool(borrower.core._parts.ipam.leases.given[network])
    cluster.run(25.0)
    assert bool(lending.loans()) is leased


def test_a_return_that_is_lost_on_its_way_is_repeated_soon() -> None:
    lending = lending_of(2)
    cluster, network, holder, borrower, wanted = lending
    endpoint = cluster.attach(borrower, network, wanted)
    cluster.until(cluster.agree, 5.0)
    assert lending.loans()
    cluster.cut([borrower], [holder])
    cluster.detach(borrower, network, endpoint)
    cluster.run(0.1)
    cluster.heal()
    cluster.until(lambda: not lending.loans(), 1.5)


def test_what_a_crash_left_on_loan_is_given_back_as_soon_as_its_borrower_is_among_others_again() -> None:
    lending = lending_of(3)
    cluster, network, holder, borrower, wanted = lending
    cluster.cut([holder], [borrower])  # its answer does not arrive
    cluster.allocate(borrower, network, wanted)
    cluster.until(lambda: bool(lending.loans()), 5.0)
    cluster.crash(borrower)
    cluster.start(borrower)
    cluster.run(4.0)
    assert not borrower.took(Joined)
    cluster.heal()
    cluster.until(lambda: bool(borrower.took(Joined)), 10.0)
    cluster.until(lambda: not lending.loans(), 0.5)


def test_more_hosts_than_blocks_borrow_from_each_other_until_the_pool_is_empty() -> None:
    cluster = Cluster(4, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnet="192.168.0.0/25")  # two blocks, 125 addresses without gateway
    cluster.until(cluster.agree, 5.0)
    put_when_allocated(cluster, network)
    while not cluster.refused:
        before = len(cluster.grants)
        cluster.allocate(cluster.hosts[before % 3], network)
        cluster.until(lambda b=before: len(cluster.grants) > b or bool(cluster.refused), 20.0)
    assert cluster.refused[0].name == "pool_exhausted"
    assert len(cluster.grants) == 125
    assert not any(text.startswith(("192.168.0.0/", "192.168.0.1/", "192.168.0.127/")) for _, text in cluster.grants)


def test_a_fixed_address_of_a_dead_host_can_be_taken_over_and_the_old_owner_yields() -> None:
    cluster = Cluster(5, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0])
    cluster.until(cluster.agree, 5.0)
    old = cluster.hosts[2]
    endpoint = cluster.attach(old, network, "192.168.0.50")
    cluster.until(cluster.agree, 5.0)
    cluster.crash(old)
    first = cluster.hosts[0]
    cluster.until(lambda: first.core.view.member(old.node).state is State.DEAD, 30.0)
    cluster.allocate(first, network, "192.168.0.50")
    cluster.until(lambda: bool(cluster.refused), 20.0)
    assert (cluster.refused[0].name, cluster.refused[0].holder) == ("try_again", f"c{endpoint.hex()[:6]}@h3")
    with pytest.raises(Broken, match="I1"):  # the one case in which two have it, by the user's word
        cluster.allocate(first, network, "192.168.0.50", take_over=True)
        cluster.run(5.0)
    taker = EndpointId(cluster.rng.randbytes(16))
    cluster.put_endpoint(first, network, taker, "192.168.0.50/24", supersedes=endpoint)
    cluster.start(old)
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 15.0)
    for host in cluster.hosts:
        winner = host.core.view.winner(network, "192.168.0.50")
        loser = host.core.view.endpoint(endpoint)
        assert winner is not None and winner.id == taker
        assert loser is not None and "192.168.0.50" in loser.lost


def test_a_freed_address_rests_unless_it_is_asked_for_by_name() -> None:
    cluster = Cluster(6, hosts=1)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnet="192.168.0.0/29")  # .2 to .6
    host = cluster.hosts[0]
    endpoints = [cluster.attach(host, network) for _ in range(5)]
    (freed,) = [text for (_, text), owner in cluster.grants.items() if owner == endpoints[0]]
    cluster.detach(host, network, endpoints[0])
    cluster.allocate(host, network)
    cluster.until(lambda: bool(cluster.refused), 20.0)
    again = cluster.attach(host, network, freed.partition("/")[0])
    cluster.detach(host, network, again)
    cluster.run(61.0)
    cluster.attach(host, network)
    assert freed in {text for _, text in cluster.grants}


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("192.168.0.0", "address_reserved"),
        ("192.168.0.1", "address_reserved"),
        ("192.168.0.255", "address_reserved"),
        ("192.168.0.9", "address_reserved"),
        ("192.168.1.5", "address_outside"),
        ("nonsense", "address_outside"),
    ],
)
def test_what_is_never_handed_out(wanted: str, name: str) -> None:
    cluster = Cluster(7, hosts=1)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], aux={"router": "192.168.0.9"})
    cluster.allocate(cluster.hosts[0], network, wanted)
    cluster.until(lambda: bool(cluster.refused), 1.0)
    assert [refused.name for refused in cluster.refused] == [name]
    cluster.attach(cluster.hosts[0], network, "192.168.0.10")  # positive control


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("fd00::", "address_reserved"),
        ("fd00::1", "address_reserved"),
        ("fd00::9", "address_reserved"),
        ("fd01::5", "address_outside"),
        ("192.168.0.5", "address_outside"),
    ],
)
def test_what_is_never_handed_out_of_ipv6(wanted: str, name: str) -> None:
    cluster = Cluster(7, hosts=1)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnet="fd00::/64", aux={"router": "fd00::9"})
    cluster.allocate(cluster.hosts[0], network, wanted)
    cluster.until(lambda: bool(cluster.refused), 1.0)
    assert [refused.name for refused in cluster.refused] == [name]
    cluster.attach(cluster.hosts[0], network, "fd00::10")  # positive control


def state(watcher: Host, watched: Host) -> State | None:
    """What one host thinks of another."""
    member = watcher.core.view.member(watched.node)
    return member.state if member is not None else None


def test_a_promise_outlives_the_crash_of_the_one_who_gave_it() -> None:
    # h1 holds a block by the promise of h2 alone; then h2 loses its cache, h1 is cut off, and h3 asks h2 for the same.
    cluster = Cluster(8, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0])
    cluster.until(cluster.agree, 5.0)
    cluster.run(2.0)
    one, two, three = cluster.hosts
    cluster.partition([three], [one, two])
    cluster.until(lambda: state(one, three) is state(two, three) is State.DEAD, 40.0)
    cluster.run(2.0)
    cluster.allocate(one, network, "192.168.0.77")
    cluster.until(lambda: bool(cluster.grants), 5.0)
    cluster.crash(two, keep=0)
    two.disk.committed = {key: row for key, row in two.disk.committed.items() if key[0] not in ("rec", "log")}
    cluster.heal()
    cluster.partition([one], [two, three])
    cluster.start(two)
    cluster.until(lambda: state(two, three) is state(three, two) is State.ALIVE, 40.0)
    cluster.until(lambda: state(three, one) is State.DEAD, 40.0)
    cluster.allocate(three, network, "192.168.0.77")
    cluster.until(lambda: bool(cluster.refused), 20.0)
    assert cluster.refused[0].name == "try_again"
    cluster.attach(three, network, "192.168.0.200")  # positive control: the two are a majority for other blocks


def test_an_answer_to_another_attempt_is_not_counted() -> None:
    cluster = Cluster(9, hosts=2)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0])
    cluster.until(cluster.agree, 5.0)
    one, two = cluster.hosts
    cluster.partition([one], [two])
    cluster.allocate(one, network)
    cluster.run(0.1)
    (claim,) = (outgoing.record for outgoing in one.core._parts.ipam.claims._outgoing.values())
    for version, granted in ((claim.version + 1, 0), (claim.version, 1)):
        answer = ClaimAnswer(two.node, claim.key, claim.epoch, version, True)
        data = one.core._parts.out.wire.datagram([encode_message(answer)])
        cluster.call(one, lambda core, now, data=data: core.receive_datagram(data, two.address, now))
        cluster.run(0.1)
        assert len(cluster.grants) == granted


BOTH = ("10.1.0.0/24", "10.2.0.0/29", "fd01::/64", "fd02::/125")


@pytest.mark.parametrize("subnet", BOTH)
def test_an_address_comes_from_the_subnet_that_is_asked_for_to_its_last_one(subnet: str) -> None:
    cluster = Cluster(12, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnets=BOTH)
    cluster.until(cluster.agree, 5.0)
    put_when_allocated(cluster, network)
    wanted = min(ip_network(subnet).num_addresses, 96)
    while not cluster.refused and len(cluster.grants) < wanted:
        before = len(cluster.grants)
        cluster.allocate(cluster.hosts[before % 3], network, subnet=subnet)
        cluster.until(lambda b=before: len(cluster.grants) > b or bool(cluster.refused), 20.0)
    given = {ip_interface(text) for _, text in cluster.grants}
    assert {str(address.network) for address in given} == {subnet}
    if wanted < 96:  # the other subnets are empty, and nothing of them is given
        assert cluster.refused[0].name == "pool_exhausted"
        assert len(given) == {4: 8 - 3, 6: 8 - 2}[next(iter(given)).version]


def test_a_loan_comes_from_the_subnet_that_is_asked_for_and_each_subnet_has_its_own() -> None:
    # one block each: h1 holds both, h2 has to borrow
    cluster = Cluster(13, hosts=2)
    cluster.start_all()
    subnets = ("10.1.0.0/24", "10.2.0.0/24")
    network = cluster.network(cluster.hosts[0], subnets=subnets, ip_ranges=("10.1.0.0/26", "10.2.0.0/26"))
    cluster.until(cluster.agree, 5.0)
    put_when_allocated(cluster, network)
    for host in cluster.hosts:
        for subnet in subnets * 2:
            before = len(cluster.grants)
            endpoint = cluster.allocate(host, network, subnet=subnet)
            cluster.until(lambda b=before: len(cluster.grants) > b, 20.0)
            ((_, given),) = [key for key, owner in cluster.grants.items() if owner == endpoint]
            assert str(ip_interface(given).network) == subnet
    cluster.until(cluster.agree, 5.0)
    loans = [text for b in cluster.hosts[0].core.view.blocks(network) for text in b.body.loans]
    assert sorted(text.rpartition(".")[0] for text in loans) == ["10.1.0", "10.1.0", "10.2.0", "10.2.0"]


@pytest.mark.parametrize(("wanted", "subnet"), [(None, "10.3.0.0/24"), ("10.1.0.9", "10.2.0.0/29")])
def test_a_subnet_that_is_not_the_networks_or_not_the_addresss_is_refused(wanted: str | None, subnet: str) -> None:
    cluster = Cluster(14, hosts=1)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0], subnets=BOTH)
    cluster.allocate(cluster.hosts[0], network, wanted, subnet=subnet)
    cluster.until(lambda: bool(cluster.refused), 1.0)
    assert [refused.name for refused in cluster.refused] == ["address_outside"]
    cluster.allocate(cluster.hosts[0], network, "10.1.0.9", subnet="10.1.0.0/24")  # positive control
    cluster.until(lambda: bool(cluster.grants), 5.0)


def test_one_endpoint_may_have_an_address_of_each_subnet_and_keeps_them() -> None:
    cluster = Cluster(15, hosts=1)
    cluster.start_all()
    host = cluster.hosts[0]
    network = cluster.network(host, subnets=BOTH)
    endpoint = EndpointId(bytes(16))
    asked: dict[int, str] = {}
    for subnet in (*BOTH, *BOTH):
        request = cluster.request()
        cluster._asked[request] = (network, endpoint)
        asked[request] = subnet
        cluster.call(host, lambda core, now, r=request, s=subnet: core.allocate(r, network, endpoint, now, subnet=s))
    cluster.until(lambda: len(host.took(Allocated)) == 8, 5.0)
    for effect in host.took(Allocated):
        assert str(ip_interface(effect.address).network) == asked[effect.request]
    assert len({effect.address for effect in host.took(Allocated)}) == 4
