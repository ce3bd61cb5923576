"""Records on virtual time: epochs, tombstones, networks, conflicts, and what survives what."""

from __future__ import annotations

import pytest
from simulator import Cluster, Host, Weather

from vxlanu.control.core.config import LOCAL, Profile
from vxlanu.control.core.effects import JoinFailed, State
from vxlanu.control.core.errors import Refusal
from vxlanu.control.core.records import EndpointId, Kind, Network, NetworkId, Vtep
from vxlanu.control.core.view import NetworkState

LOSSY = Weather(loss=0.1, double=0.1, delay_max=0.02, stream_break=0.01)


def ready(seed: int, hosts: int = 3, weather: Weather = LOSSY, profile: Profile = LOCAL) -> tuple[Cluster, NetworkId]:
    """A cluster that agrees on one network."""
    cluster = Cluster(seed, hosts=hosts, weather=weather, profile=profile)
    cluster.start_all()
    network = cluster.network(cluster.hosts[0])
    cluster.until(cluster.agree, 30.0)
    return cluster, network


def names(host: Host) -> list[str]:
    """The shown endpoints."""
    return [endpoint.body.name for endpoint in host.core.view.endpoints()]


def test_a_written_record_is_on_all_hosts_within_one_way_and_confirmed() -> None:
    cluster, network = ready(1, weather=Weather(delay_max=0.005))
    host = cluster.hosts[1]
    endpoint = EndpointId(bytes(16))
    cluster.put_endpoint(host, network, endpoint, "192.168.0.5/24")
    record = host.core._parts.owned.logs[host.node].records[Kind.ENDPOINT, endpoint]
    request = cluster.request()
    start = cluster.now
    cluster.call(host, lambda core, now: core.publish(request, [record], None, now + 1.0, now))
    cluster.until(lambda: request in cluster.published, 2.0)
    assert (cluster.published[request].acked, cluster.published[request].wanted) == (2, 2)
    assert cluster.now - start < 0.05
    assert all(names(other) == ["c000000"] for other in cluster.hosts)


def test_publish_to_a_cut_host_ends_at_its_deadline_and_the_exchange_brings_it_later() -> None:
    cluster, network = ready(2, weather=Weather())
    host, deaf = cluster.hosts[0], cluster.hosts[2]
    cluster.partition([deaf], [other for other in cluster.hosts if other is not deaf])
    cluster.put_endpoint(host, network, EndpointId(bytes(16)), "192.168.0.5/24")
    record = host.core._parts.owned.logs[host.node].records[Kind.ENDPOINT, bytes(16)]
    request = cluster.request()
    cluster.call(host, lambda core, now: core.publish(request, [record], None, now + 0.2, now))
    start = cluster.now
    cluster.until(lambda: request in cluster.published, 1.0)
    assert 0.15 < cluster.now - start < 0.25
    assert (cluster.published[request].acked, cluster.published[request].wanted) == (1, 2)
    cluster.run(30.0)
    cluster.heal()
    cluster.until(lambda: names(deaf) == ["c000000"], 10.0)


@pytest.mark.parametrize("seed", range(6))
def test_a_restarted_host_keeps_its_records_and_shows_the_others_at_once(seed: int) -> None:
    cluster, network = ready(seed)
    for host in cluster.hosts:
        cluster.attach(host, network)
    cluster.until(cluster.agree, 30.0)
    before = names(cluster.hosts[0])
    victim = cluster.hosts[seed % 3]
    cluster.run(2.0)
    cluster.crash(victim)
    cluster.start(victim)
    assert names(victim) == before  # before a single packet arrived
    assert all(view.node is not None for view in victim.core.view.members())
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 20.0)
    assert names(cluster.hosts[0]) == before


def test_a_restart_behind_a_blocked_control_port_keeps_every_member_and_record() -> None:
    cluster, network = ready(7)
    for host in cluster.hosts:
        cluster.attach(host, network)
    cluster.until(cluster.agree, 30.0)
    cluster.run(2.0)
    alone, *rest = cluster.hosts
    cluster.crash(alone)
    cluster.partition([alone], rest)
    cluster.start(alone)
    cluster.run(600.0)
    assert len(names(alone)) == 3 and len(names(rest[0])) == 3
    assert {m.state for m in alone.core.view.members()} == {State.ALIVE}  # as they were: nobody was met, nobody judged
    assert rest[0].core.view.hosts(network) == sorted(host.node for host in rest)  # there it is dead: not flooded to
    assert alone.took(JoinFailed)
    cluster.heal()
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 15.0)


def test_a_new_epoch_replaces_the_old_set_only_when_it_is_complete() -> None:
    cluster, network = ready(8, weather=Weather())
    owner, witness = cluster.hosts[2], cluster.hosts[0]
    for number in range(20):
        cluster.put_endpoint(owner, network, EndpointId(bytes([number + 1]) * 16), f"192.168.0.{number + 10}/24")
    cluster.until(cluster.agree, 10.0)
    cluster.run(2.0)
    cluster.crash(owner)
    cluster.start(owner)
    sizes: set[int] = set()

    def restored() -> bool:
        sizes.add(len(names(witness)))
        member = witness.core.view.member(owner.node)
        log = witness.core._parts.owned.logs[owner.node]
        return member is not None and member.epoch == 2 and log.epoch == 2

    cluster.until(restored, 20.0)
    assert sizes == {20}


def test_a_delete_reaches_a_host_that_slept_longer_than_the_tombstone_lives() -> None:
    cluster, network = ready(9, profile=Profile(sync_interval=3.0, tombstone_life=60.0, join_retry_max=2.0))
    owner, sleeper = cluster.hosts[0], cluster.hosts[2]
    endpoint = EndpointId(bytes(16))
    cluster.put_endpoint(owner, network, endpoint, "192.168.0.5/24")
    cluster.put_endpoint(owner, network, EndpointId(b"\1" * 16), "192.168.0.6/24")
    cluster.until(cluster.agree, 20.0)
    cluster.run(2.0)
    cluster.crash(sleeper)
    cluster.call(owner, lambda core, now: core.delete(Kind.ENDPOINT, endpoint, now))
    cluster.run(300.0)
    for host in cluster.hosts[:2]:
        assert (Kind.ENDPOINT, endpoint) not in host.core._parts.owned.logs[owner.node].records  # no tombstone is left
    cluster.start(sleeper)
    assert len(names(sleeper)) == 2  # its cache is old
    cluster.until(lambda: len(names(sleeper)) == 1 and cluster.agree(), 60.0)


def test_a_tombstone_travels_with_the_life_it_has_left() -> None:
    cluster, network = ready(10, profile=Profile(sync_interval=3.0, tombstone_life=600.0))
    owner = cluster.hosts[0]
    endpoint = EndpointId(bytes(16))
    cluster.put_endpoint(owner, network, endpoint, "192.168.0.5/24")
    cluster.until(cluster.agree, 20.0)
    cluster.call(owner, lambda core, now: core.delete(Kind.ENDPOINT, endpoint, now))
    cluster.run(400.0)
    late = cluster.add_host("h9")
    cluster.start(late)
    cluster.until(lambda: late.core.joined(), 20.0)
    cluster.run(5.0)
    log = late.core._parts.owned.logs[owner.node]
    left = log.expires[Kind.ENDPOINT, endpoint] - cluster.now
    assert 100.0 < left < 200.0


def test_a_disk_that_went_back_in_time_is_noticed_and_passed() -> None:
    cluster, network = ready(11)
    owner = cluster.hosts[2]
    old = dict(owner.disk.committed)
    for _ in range(3):
        cluster.crash(owner)
        cluster.start(owner)
        cluster.until(cluster.all_alive, 30.0)
    cluster.put_endpoint(owner, network, EndpointId(bytes(16)), "192.168.0.5/24")
    cluster.until(lambda: len(names(cluster.hosts[0])) == 1, 20.0)
    reached = owner.core.epoch
    cluster.crash(owner)
    owner.disk.committed = old
    cluster.start(owner)
    cluster.until(lambda: owner.core.epoch > reached and cluster.all_alive() and cluster.agree(), 30.0)
    assert names(cluster.hosts[0]) == []  # what the owner no longer knows is no longer so


def test_a_removed_network_stays_removed_whoever_comes_back() -> None:
    cluster, network = ready(12)
    sleeper = cluster.hosts[2]
    cluster.run(2.0)
    cluster.crash(sleeper)
    cluster.call(cluster.hosts[0], lambda core, now: core.remove_network(network, now))
    cluster.run(60.0)
    cluster.start(sleeper)
    assert sleeper.core.view.network(network) is not None  # its cache is old
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 20.0)
    assert all(host.core.view.networks() == [] for host in cluster.hosts)


def test_a_network_removed_while_its_endpoints_were_hidden_is_removing_until_the_last_one_leaves() -> None:
    cluster, network = ready(13)
    owner, *rest = cluster.hosts[::-1]
    endpoint = cluster.attach(owner, network)
    cluster.until(cluster.agree, 20.0)
    with pytest.raises(Refusal, match="network_in_use"):
        rest[0].core.remove_network(network, cluster.now)
    cluster.partition([owner], rest)
    other = cluster.network(owner, "other", subnet="10.9.0.0/24")
    fresh = cluster.attach(owner, network)
    cluster.until(lambda: rest[0].core.view.hosts(network) == [], 40.0)
    cluster.call(rest[0], lambda core, now: core.forget(owner.node, now))
    cluster.call(rest[0], lambda core, now: core.remove_network(network, now))
    assert rest[0].core.view.network(network) is None
    cluster.heal()
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 30.0)
    view = owner.core.view.network(network)
    assert view is not None and view.state is NetworkState.REMOVING
    cluster.allocate(owner, network)
    cluster.until(lambda: bool(cluster.refused), 20.0)
    assert cluster.refused[0].name == "network_removed"
    for leaving in (endpoint, fresh):
        cluster.detach(owner, network, leaving)
    cluster.until(lambda: all(host.core.view.network(network) is None for host in cluster.hosts), 20.0)
    cluster.until(cluster.agree, 20.0)
    assert [view.id for view in owner.core.view.networks()] == [other]


def test_two_networks_of_one_name_and_vni_from_two_sides_are_told_apart_alike_everywhere() -> None:
    cluster = Cluster(14, hosts=4)
    cluster.start_all()
    cluster.partition(cluster.hosts[:2], cluster.hosts[2:])
    cluster.run(30.0)
    one = cluster.network(cluster.hosts[0], "web", subnet="10.1.0.0/24", vni=300)
    other = cluster.network(cluster.hosts[3], "web", subnet="10.2.0.0/24", vni=300)
    cluster.heal()
    cluster.until(lambda: cluster.all_alive() and cluster.agree(), 15.0)
    low, high = sorted((one, other))
    for host in cluster.hosts:
        lower, higher = host.core.view.network(low), host.core.view.network(high)
        assert lower is not None and (lower.name, lower.state) == ("web", NetworkState.ACTIVE)
        assert higher is not None and (higher.name, higher.state) == (f"web~{high.hex()[:4]}", NetworkState.CONFLICT)
        assert [found.id for found in host.core.view.find_networks("web")] == [low]
        assert [found.id for found in host.core.view.find_networks(high.hex()[:12])] == [high]


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"name": "demo"}, "name_taken"),
        ({"vni": 256}, "vni_in_use"),
        ({"subnets": ("192.168.0.128/25",)}, "subnet_overlaps"),
        ({}, None),
    ],
)
def test_creating_what_clashes_is_refused_by_name(changed: dict[str, object], name: str | None) -> None:
    cluster, _ = ready(15, hosts=2)
    fields: dict[str, object] = {"name": "new", "vni": 999, "subnets": ("10.5.0.0/24",)} | changed
    body = Network(id=bytes(16), **fields)
    if name is None:
        cluster.hosts[1].core.create_network(body, cluster.now)
        return
    with pytest.raises(Refusal) as refusal:
        cluster.hosts[1].core.create_network(body, cluster.now)
    assert refusal.value.name == name


def test_cluster_facts_outlive_the_death_and_the_forgetting_of_their_writer() -> None:
    cluster, network = ready(16)
    writer, *rest = cluster.hosts
    vtep = Vtep(network=network, address="10.0.0.200", macs=("02:00:00:00:00:01",))
    cluster.call(writer, lambda core, now: core.put_vtep(vtep, now))
    cluster.until(cluster.agree, 20.0)
    cluster.crash(writer)
    cluster.until(lambda: rest[0].core.view.member(writer.node).state is State.DEAD, 40.0)
    cluster.call(rest[0], lambda core, now: core.forget(writer.node, now))
    for host in rest:
        host.seeds = ("10.0.0.2",)
    late = cluster.add_host("h9")
    late.seeds = ("10.0.0.2",)
    cluster.start(late)
    cluster.until(lambda: late.core.view.vteps() == [vtep], 20.0)
    assert late.core.view.network(network) is not None
    cluster.call(late, lambda core, now: core.remove_vtep(network, vtep.address, vtep.port, now))
    cluster.until(lambda: not rest[0].core.view.vteps() and cluster.agree(), 20.0)


def test_a_record_too_large_for_a_datagram_arrives_by_exchange_and_is_confirmed() -> None:
    cluster, network = ready(17, weather=Weather())
    host = cluster.hosts[0]
    endpoint = EndpointId(bytes(16))
    cluster.put_endpoint(host, network, endpoint, "192.168.0.5/24", labels={"note": "x" * 5000})
    record = host.core._parts.owned.logs[host.node].records[Kind.ENDPOINT, endpoint]
    request = cluster.request()
    cluster.call(host, lambda core, now: core.publish(request, [record], None, now + 2.0, now))
    cluster.until(lambda: request in cluster.published, 3.0)
    assert cluster.published[request].acked == 2
    assert all(names(other) == ["c000000"] for other in cluster.hosts)


def test_a_kind_of_a_later_version_is_kept_and_passed_on() -> None:
    cluster, _ = ready(18, hosts=3)
    host = cluster.hosts[0]
    future_kind, future_shared = 33, 99
    host.core._parts.owned.write(future_kind, b"key", b"\xc1 not even msgpack", False, cluster.now)
    host.core._parts.shared.write(future_shared, b"key", b"\xc1", 1)
    cluster.run(10.0)
    late = cluster.add_host("h9")
    late.seeds = ("10.0.0.2",)
    cluster.start(late)
    cluster.until(late.core.joined, 20.0)
    cluster.run(10.0)
    kept = late.core._parts.owned.logs[host.node].records[future_kind, b"key"]
    assert kept.body == b"\xc1 not even msgpack"
    assert late.core._parts.shared.facts[future_shared, b"key"].body == b"\xc1"
    assert late.core.counters()["unknown_kind"] >= 2


def test_dead_for_72_hours_is_gone_and_the_blocks_stay() -> None:
    cluster, network = ready(19, profile=Profile(dead_until_gone=300.0, sync_interval=3.0))
    victim, witness = cluster.hosts[2], cluster.hosts[0]
    cluster.attach(victim, network)
    cluster.until(cluster.agree, 30.0)
    cluster.crash(victim)
    cluster.until(lambda: witness.core.view.member(victim.node).state is State.DEAD, 60.0)
    assert len(names(witness)) == 1
    cluster.run(400.0)
    assert names(witness) == [] and len(witness.core.view.members()) == 2
    assert len(witness.core.view.blocks()) == 1
    cluster.start(victim)
    cluster.until(lambda: cluster.all_alive() and len(names(witness)) == 1, 30.0)


def test_an_idle_cluster_sends_one_ping_and_one_ack_per_second_and_host() -> None:
    cluster, _ = ready(20, hosts=4, weather=Weather())
    cluster.run(60.0)
    before = [host.core.counters()["datagrams_out"] for host in cluster.hosts]
    cluster.run(60.0)
    sent = [host.core.counters()["datagrams_out"] - old for host, old in zip(cluster.hosts, before, strict=True)]
    assert 4 * 100 < sum(sent) < 4 * 140
