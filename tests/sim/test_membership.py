"""Membership on virtual time: joining, crashing, returning, names, keys, partitions."""

from __future__ import annotations

import pytest
from simulator import Broken, Cluster, Weather

from vxlanu.control.core.config import LAN
from vxlanu.control.core.effects import IdentityTaken, NameTaken, State, WrongKey
from vxlanu.control.core.records import NodeId
from vxlanu.control.seal import Seal

LOSSY = Weather(loss=0.1, double=0.05, delay_max=0.02, stream_break=0.01)


@pytest.mark.parametrize("seed", range(10))
def test_all_meet_through_one_seed_and_agree(seed: int) -> None:
    cluster = Cluster(seed, hosts=5, weather=LOSSY)
    cluster.start_all()
    cluster.until(cluster.agree, 30.0)


def test_a_crashed_member_is_dead_within_the_suspicion_time_and_alive_again_after_its_restart() -> None:
    cluster = Cluster(1, hosts=4)
    cluster.start_all()
    victim, witness = cluster.hosts[3], cluster.hosts[0]
    cluster.crash(victim)

    def seen() -> State:
        view = witness.core.view.member(victim.node)
        assert view is not None
        return view.state

    cluster.until(lambda: seen() is State.DEAD, 30.0)
    epoch = witness.core.view.member(victim.node)
    cluster.start(victim)
    cluster.until(cluster.all_alive, 10.0)
    again = witness.core.view.member(victim.node)
    assert epoch is not None and again is not None and again.epoch > epoch.epoch


def test_a_slow_lossy_network_kills_nobody() -> None:
    cluster = Cluster(2, hosts=5, weather=Weather(loss=0.15, delay_max=0.08), profile=LAN)
    cluster.start_all()
    for _ in range(60):
        cluster.run(1.0)
        for host in cluster.hosts:
            assert all(member.state in ("alive", "suspect") for member in host.core.view.members())


def test_the_round_trip_is_that_of_an_ack_the_member_sent_itself() -> None:
    cluster = Cluster(4, hosts=3, weather=Weather(delay_min=0.02, delay_max=0.03))
    cluster.start_all()
    witness, far, third = cluster.hosts

    def rtt() -> float | None:
        view = witness.core.view.member(far.node)
        assert view is not None
        return view.rtt

    cluster.until(lambda: rtt() is not None, 10.0)
    before = rtt()
    assert before is not None and 0.04 <= before <= 0.06
    cluster.partition([witness], [far])  # the third answers for it: alive, but that is another way
    cluster.run(20.0)
    view = witness.core.view.member(far.node)
    assert view is not None and view.state is State.ALIVE
    assert rtt() == before
    cluster.heal()
    cluster.until(lambda: rtt() != before, 10.0)
    assert [m.rtt for m in third.core.view.members() if m.me] == [None]


@pytest.mark.parametrize("seed", range(5))
def test_a_partition_longer_than_gossip_remembers_heals_by_itself(seed: int) -> None:
    cluster = Cluster(seed, hosts=4, weather=LOSSY)
    cluster.start_all()
    cluster.partition(cluster.hosts[:2], cluster.hosts[2:])
    cluster.run(120.0)
    states = {m.name: m.state for m in cluster.hosts[0].core.view.members()}
    assert states["h3"] is State.DEAD and states["h2"] is State.ALIVE
    cluster.heal()
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 10.0)


def test_an_asymmetric_cut_still_ends_in_agreement_once_healed() -> None:
    cluster = Cluster(3, hosts=4)
    cluster.start_all()
    cluster.cut([cluster.hosts[0]], cluster.hosts[2:])
    cluster.run(40.0)
    cluster.heal()
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 15.0)


def test_a_second_live_node_of_a_name_is_refused_and_told_the_holder() -> None:
    cluster = Cluster(4, hosts=3)
    cluster.start_all()
    before = cluster.picture(cluster.hosts[0])
    twin = cluster.add_host("h3", address="10.0.0.77")
    cluster.start(twin)
    cluster.until(lambda: bool(twin.took(NameTaken)), 10.0)
    (taken,) = twin.took(NameTaken)
    assert isinstance(taken, NameTaken) and taken.holder == cluster.hosts[2].node
    cluster.run(5.0)
    assert not twin.core.joined()
    assert cluster.picture(cluster.hosts[0]) == before  # the cluster noticed nothing
    other = cluster.add_host("h9", address="10.0.0.78")  # positive control: another name comes in
    cluster.start(other)
    cluster.until(other.core.joined, 10.0)


def test_the_name_of_a_dead_node_is_free_and_its_return_is_refused() -> None:
    cluster = Cluster(5, hosts=3)
    cluster.start_all()
    old = cluster.hosts[2]
    cluster.crash(old)
    newcomer = cluster.add_host("h3", address="10.0.0.77")
    cluster.start(newcomer)
    cluster.until(newcomer.core.joined, 40.0)
    cluster.start(old)
    cluster.until(lambda: bool(old.took(NameTaken)), 20.0)


def test_a_copied_state_directory_is_refused() -> None:
    cluster = Cluster(6, hosts=3)
    cluster.start_all()
    cluster.run(2.0)
    original = cluster.hosts[2]
    copy = cluster.add_host("h3", address="10.0.0.77", node=original.node)
    copy.disk.committed = dict(original.disk.committed)
    cluster.start(copy)
    cluster.until(lambda: bool(copy.took(IdentityTaken)), 10.0)
    assert not copy.core.joined() and original.core.joined()
    assert not original.took(IdentityTaken)


def test_a_reinstalled_host_at_the_same_address_takes_the_place_of_the_old_one() -> None:
    cluster = Cluster(7, hosts=3)
    cluster.start_all()
    old = cluster.hosts[2]
    cluster.crash(old)
    new = cluster.add_host("h3", address=old.address[0], node=NodeId(bytes(range(16))))
    cluster.start(new)
    cluster.until(new.core.joined, 10.0)
    witness = cluster.hosts[0].core.view

    def replaced() -> bool:
        return [m.id for m in witness.members() if m.name == "h3"] == [new.node]

    cluster.until(replaced, 30.0)


@pytest.mark.parametrize("mine", [None, Seal(bytes(32))])
@pytest.mark.parametrize("theirs", [None, Seal(bytes(32)), Seal(bytes(31) + b"\1")])
def test_only_nodes_with_the_same_key_meet(mine: Seal | None, theirs: Seal | None) -> None:
    cluster = Cluster(8, hosts=2)
    first, second = cluster.hosts
    first.sealer, second.sealer = mine, theirs
    cluster.start(first)
    cluster.start(second)
    cluster.run(10.0)
    same = mine is theirs is None
    if mine is not None and theirs is not None:
        same = mine.open(theirs.seal(b"", bytes(12), b""), b"") == b""
    assert second.core.joined() is same
    assert bool(first.took(WrongKey)) is not same
    assert bool(second.took(WrongKey)) is not same


def test_leaving_is_told_and_hides_what_the_leaver_owned() -> None:
    cluster = Cluster(9, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0])
    cluster.until(cluster.agree, 5.0)
    leaver = cluster.hosts[2]
    cluster.attach(leaver, network)
    cluster.until(cluster.agree, 5.0)
    cluster.call(leaver, lambda core, now: core.leave(now))
    cluster.until(lambda: leaver.core.has_left(cluster.now), 3.0)
    cluster.crash(leaver)
    cluster.run(1.0)
    for host in cluster.hosts[:2]:
        member = host.core.view.member(leaver.node)
        assert member is not None and member.state is State.LEFT
        assert not host.core.view.endpoints() and not host.core.view.blocks()


def test_a_forgotten_node_loses_its_blocks_and_comes_back_without_them() -> None:
    cluster = Cluster(10, hosts=3)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0])
    cluster.until(cluster.agree, 5.0)
    victim = cluster.hosts[2]
    cluster.attach(victim, network)
    cluster.until(cluster.agree, 5.0)
    cluster.crash(victim)
    first = cluster.hosts[0]
    cluster.until(lambda: first.core.view.member(victim.node).state is State.DEAD, 30.0)
    assert first.core.view.blocks() and first.core.view.endpoints()
    cluster.call(first, lambda core, now: core.forget(victim.node, now))
    cluster.run(1.0)
    for host in cluster.hosts[:2]:
        assert host.core.view.member(victim.node) is None
        assert not host.core.view.blocks() and not host.core.view.endpoints()
    cluster.start(victim)
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 15.0)
    assert not first.core.view.blocks()  # void for ever
    assert len(first.core.view.endpoints()) == 1  # what really runs is shown again


def test_the_simulator_can_fail() -> None:
    cluster = Cluster(11, hosts=2)
    cluster.start_all()
    cluster.partition(cluster.hosts[:1], cluster.hosts[1:])
    cluster.run(30.0)
    with pytest.raises(Broken, match="seed 11"):
        cluster.until(cluster.all_alive, 5.0)
