"""The whole fast path on a real kernel: engines, TAPs, a kernel vxlan device as peer.

c11   c12              c21
 │tap  │tap             │tap          10.7.0.HC, fd07::HC
[ engine ]           [ engine ]
   h1 ──── underlay ──── h2           10.89.0.H, or fd89::H
"""

from __future__ import annotations

import errno
import gc
import random
import select
import socket
from pathlib import Path

import pytest
from data_plane import REASONS, VNI, Bench, Container, Host, inside, kernel_vxlan, mac, new_engine, settled, transfer
from lab_ns import Namespace, Namespaces, Underlay, poll

from vxlanu._native import ffi, lib

pytestmark = pytest.mark.netns

BYTES = random.Random(7).randbytes(2_000_000)


@pytest.mark.parametrize("ipv6", [False, True], ids=["over-ipv4", "over-ipv6"])
def test_every_pair_pings_and_no_arp_or_nd_crosses_the_underlay(namespaces: Namespaces, ipv6: bool) -> None:
    with Bench.of(namespaces, hosts=2, per_host=2, ipv6=ipv6) as bench:
        settled([c.namespace for c in bench.containers])
        for one in bench.containers:
            for other in bench.containers:
                if one is not other:
                    assert one.namespace.pings(other.v4), bench.story()
                    assert one.namespace.pings(other.v6), bench.story()
        for host in bench.hosts:
            read = host.counters()
            assert read.arp_answered >= 6, bench.story()
            assert read.nd_answered >= 6, bench.story()
            assert read.arp_nd_underlay == 0, bench.story()
            assert read.encapsulated > 0
            assert set(host.drops()) <= {"no_tx_target", "vtep_unknown"}, "MLD from before the hosts knew each other"


@pytest.mark.parametrize("ipv6", [False, True], ids=["over-ipv4", "over-ipv6"])
@pytest.mark.parametrize("inner", ["v4", "v6"])
def test_tcp_arrives_intact_between_hosts(namespaces: Namespaces, ipv6: bool, inner: str) -> None:
    with Bench.of(namespaces, ipv6=ipv6) as bench:
        one, other = bench.containers
        assert transfer(one.namespace, other.namespace, getattr(one, inner), BYTES) == BYTES, bench.story()
        assert transfer(other.namespace, one.namespace, getattr(other, inner), BYTES) == BYTES, bench.story()


def test_tcp_arrives_intact_between_two_taps_of_one_host(namespaces: Namespaces) -> None:
    with Bench.of(namespaces, hosts=1, per_host=2) as bench:
        one, other = bench.containers
        assert transfer(one.namespace, other.namespace, one.v4, BYTES) == BYTES, bench.story()
        assert bench.hosts[0].counters().encapsulated == 0


def test_two_workers_share_the_port_and_the_taps(namespaces: Namespaces) -> None:
    with Bench.of(namespaces, workers=2) as bench:
        one, other = bench.containers
        assert lib.vx_engine_workers(bench.hosts[0].engine) == 2
        for _ in range(3):
            assert transfer(one.namespace, other.namespace, one.v4, BYTES) == BYTES, bench.story()
        assert isinstance(new_engine(bench.hosts[0].namespace, bench.hosts[0].own, 2), int)


def test_a_broadcast_reaches_every_other_container_once(namespaces: Namespaces) -> None:
    with Bench.of(namespaces, hosts=2, per_host=2) as bench:
        sender, *others = bench.containers

        def listener() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind(("", 5005))
            return made

        ears = [inside(c.namespace, listener) for c in others]
        voice = inside(sender.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        voice.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        voice.sendto(b"to all", ("10.7.0.255", 5005))
        for ear in ears:
            ear.settimeout(60)
            assert ear.recv(100) == b"to all"
        voice.sendto(b"end", ("10.7.0.255", 5005))
        for ear in ears:
            assert ear.recv(100) == b"end", "a second copy of the first datagram"
            ear.close()
        voice.close()


@pytest.mark.parametrize("ipv6", [False, True], ids=["over-ipv4", "over-ipv6"])
@pytest.mark.parametrize("ecn", [0, 1, 2, 3])
def test_the_outer_header_shows_the_inner_ecn_field(namespaces: Namespaces, ipv6: bool, ecn: int) -> None:
    with Bench.of(namespaces, ipv6=ipv6) as bench:
        one, other = bench.containers
        kind = 0x86DD if ipv6 else 0x0800
        wire = inside(
            bench.hosts[1].namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
        )
        wire.setblocking(False)
        marked = ["ping", "-n", "-q", "-c", "1", "-W", "10", "-Q", str(0xB8 | ecn), other.v4]
        poll(lambda: "1 received" in one.namespace.run(*marked, check=False), what="an echo", story=bench.story)
        seen = set()
        while select.select([wire], [], [], 0)[0]:
            frame = wire.recv(2000)
            outer = int.from_bytes(frame[14:16], "big") >> 4 & 0xFF if ipv6 else frame[15]
            inner = frame[14 + (40 if ipv6 else 20) + 16 :]
            if inner[12:14] == b"\x08\x00" and inner[23] == 1 and inner[34] == 8:  # the echo request
                seen.add((outer, inner[15]))
        wire.close()
        assert seen == {(ecn, 0xB8 | ecn)}, bench.story()


@pytest.mark.interop("kernel-vxlan", "ethtool")
@pytest.mark.parametrize("ipv6", [False, True], ids=["over-ipv4", "over-ipv6"])
@pytest.mark.parametrize("software", [False, True], ids=["offloads-on", "offloads-off"])
def test_ping_and_tcp_with_a_kernel_vxlan_device_both_ways(namespaces: Namespaces, ipv6: bool, software: bool) -> None:
    with Bench.of(namespaces, hosts=1, strangers=1, ipv6=ipv6) as bench:
        host, container = bench.hosts[0], bench.containers[0]
        kernel = bench.underlay.hosts[1]
        own, peer = (bench.underlay.v6, bench.underlay.v4)[not ipv6](2), host.own
        if software:
            kernel.run("ethtool", "-K", "u0", "tx", "off", "tso", "off", "gso", "off", "tx-udp_tnl-segmentation", "off")
        vtep = host.add_vtep(own, lib.VX_MEMBER_FLOOD | lib.VX_MEMBER_FOREIGN)
        kernel_vxlan(kernel, own, peer, mtu=1430 if ipv6 else 1450)

        assert container.namespace.pings("10.7.0.99"), bench.story()
        assert container.namespace.pings("fd07::99"), bench.story()
        assert kernel.pings(container.v4), bench.story()
        assert host.counters().arp_nd_underlay > 0, "a foreign VTEP is asked by ARP"
        for to in (container.v4, container.v6):
            assert transfer(container.namespace, kernel, to, BYTES) == BYTES, bench.story()
        for to in ("10.7.0.99", "fd07::99"):
            assert transfer(kernel, container.namespace, to, BYTES) == BYTES, bench.story()
        soft = ffi.new("vx_soft_entry[]", 8)
        assert lib.vx_soft_dump(host.engine, host.network, ffi.new("uint64_t *"), soft, 8) == 1
        assert (soft[0].kind, soft[0].vtep) == (lib.VX_SOFT_LEARNED, vtep)
        assert set(host.drops()) <= {"neigh_miss", "fdb_miss", "no_tx_target"}, bench.story()


def test_a_second_engine_and_a_kernel_device_on_the_port_are_told_apart_from_a_free_one(
    namespaces: Namespaces,
) -> None:
    underlay = Underlay.build(namespaces, 2)
    first = new_engine(underlay.hosts[0], underlay.v4(1))
    assert not isinstance(first, int), "the port is free"
    assert new_engine(underlay.hosts[0], underlay.v4(1)) == -errno.EADDRINUSE
    assert new_engine(underlay.hosts[0], underlay.v4(2)) == -errno.EADDRNOTAVAIL
    lib.vx_engine_free(first)
    again = new_engine(underlay.hosts[0], underlay.v4(1))
    assert not isinstance(again, int), "the port is free again"
    lib.vx_engine_free(again)
    kernel_vxlan(underlay.hosts[1], underlay.v4(2), underlay.v4(1))
    assert new_engine(underlay.hosts[1], underlay.v4(2)) == -errno.EADDRINUSE


def wait_for_event(host: Host, kind: int, port: int, timeout: float = 60.0) -> None:
    """Wait on the event descriptor, as the agent does, until an event of a kind about a port came."""
    seen: list[tuple[int, int, bytes, int]] = []

    def came() -> bool:
        select.select([lib.vx_engine_event_fd(host.engine)], [], [], 0.1)
        seen.extend(host.events())
        return any(event[:2] == (kind, port) for event in seen)

    poll(came, timeout=timeout, what=f"event {kind} of port {port}", story=lambda: repr(seen))


def test_a_namespace_that_vanishes_parks_its_port_and_disturbs_no_other(namespaces: Namespaces) -> None:
    with Bench.of(namespaces, hosts=2, per_host=2) as bench:
        host = bench.hosts[0]
        gone, stays = host.containers
        far = bench.hosts[1].containers[0]
        assert far.namespace.pings(gone.v4), bench.story()
        namespaces.delete(gone.namespace)
        wait_for_event(host, lib.VX_EVENT_PORT_GONE, gone.port)
        info = ffi.new("vx_port_info *")
        assert lib.vx_port_info_get(host.engine, gone.port, info) == 0
        assert info.state == lib.VX_PORT_PARKED
        assert not far.namespace.pings(gone.v4, wait=1)
        poll(lambda: "tap_down" in host.drops(lib.VX_AT_PORT, gone.port), what="a drop", story=bench.story)
        assert far.namespace.pings(stays.v4), bench.story()
        assert lib.vx_port_del(host.engine, gone.port) == 0
        wait_for_event(host, lib.VX_EVENT_PORT_CLOSED, gone.port)


def test_a_port_index_used_again_never_gets_its_predecessors_frames(namespaces: Namespaces) -> None:
    with Bench.of(namespaces, hosts=2, per_host=1) as bench:
        host, far = bench.hosts[0], bench.hosts[1].containers[0]
        old = host.containers[0]
        assert far.namespace.pings(old.v4), bench.story()
        assert lib.vx_port_del(host.engine, old.port) == 0
        wait_for_event(host, lib.VX_EVENT_PORT_CLOSED, old.port)
        new = Container(namespaces.make("new"), "02:42:0a:07:00:66", "10.7.0.66", "fd07::66")
        poll(lambda: lib.vx_engine_reclaim(host.engine) == 0, what="nothing left to free")
        host.attach(namespaces, new)
        assert new.port == old.port, "the index is used again, or else this proves nothing"
        before = host.counters(lib.VX_AT_PORT, new.port).out_frames
        assert not far.namespace.pings(old.v4, wait=1)
        poll(lambda: "fdb_miss" in host.drops(), what="a drop", story=bench.story)
        assert host.counters(lib.VX_AT_PORT, new.port).out_frames - before <= 8, "no more than its own ND"


def test_a_path_that_got_narrower_is_noticed_and_counted(namespaces: Namespaces) -> None:
    with Bench.of(namespaces) as bench:
        one, other = bench.containers
        assert one.namespace.pings(other.v4)
        bench.hosts[0].namespace.ip("link", "set", "u0", "mtu", "1400")
        one.namespace.run("ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "1", "-s", "1400", other.v4, check=False)
        poll(lambda: bench.hosts[0].drops().get("pkt_too_big") == 2, what="two drops", story=bench.story)
        vtep = bench.hosts[0].vteps[bench.hosts[1].own]
        assert lib.vx_vtep_path_mtu(bench.hosts[0].engine, vtep, 0) == 1400
        assert one.namespace.pings(other.v4), "small ones still pass"


def test_a_path_mtu_that_no_ip_packet_has_is_refused(namespaces: Namespaces) -> None:
    with Bench.of(namespaces) as bench:
        engine, vtep = bench.hosts[0].engine, bench.hosts[0].vteps[bench.hosts[1].own]
        said = {mtu: lib.vx_vtep_path_mtu(engine, vtep, mtu) for mtu in (576, 65535, 575, 65536, 65536 + 1500)}
        assert said == {576: 576, 65535: 65535} | dict.fromkeys((575, 65536, 65536 + 1500), -errno.EINVAL)
        assert lib.vx_vtep_path_mtu(engine, vtep, 0) == 65535, "the last one that was taken"


def test_frames_of_no_member_and_of_another_vni_are_dropped_and_counted(namespaces: Namespaces) -> None:
    with Bench.of(namespaces, hosts=2, strangers=1) as bench:
        victim, friend = bench.containers
        inner = mac(victim.mac) + mac(friend.mac) + b"\x88\xb5" + b"forged" * 10

        def datagram(vni: int) -> bytes:
            return b"\x08\0\0\0" + vni.to_bytes(3, "big") + b"\0" + inner

        def send(host: Namespace, payload: bytes) -> None:
            with inside(host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as voice:
                voice.sendto(payload, (bench.hosts[0].own, 4789))

        ear = inside(victim.namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)))
        ear.setblocking(False)
        send(bench.underlay.hosts[2], datagram(VNI))
        poll(lambda: bench.hosts[0].drops().get("vtep_unknown") == 1, story=bench.story)
        send(bench.underlay.hosts[1], datagram(VNI + 1))
        poll(lambda: bench.hosts[0].drops().get("vxlan_vni_not_found") == 1, story=bench.story)
        with pytest.raises(BlockingIOError):
            ear.recv(2000)
        send(bench.underlay.hosts[1], datagram(VNI))  # a member, the same frame: arrives
        poll(lambda: select.select([ear], [], [], 0.1)[0], what="the member's frame arrives", story=bench.story)
        assert ear.recv(2000) == inner
        ear.close()


def test_every_frame_is_delivered_answered_absorbed_or_counted_as_dropped(namespaces: Namespaces) -> None:
    """sent = delivered + drops, exactly, for unicast over the tunnel with both ends' counters."""
    with Bench.of(namespaces, hosts=2) as bench:
        one, other = bench.containers
        settled([one.namespace, other.namespace])
        near, far = bench.hosts
        with inside(one.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as voice:
            for number in range(2000):
                voice.sendto(number.to_bytes(4, "big") * 50, (other.v4, 9))

        def is_accounted(host: Host) -> bool:
            total = host.counters()
            unicast = total.in_frames - total.arp_answered - total.nd_answered - total.absorbed
            return unicast <= total.out_frames + sum(host.drops().values())

        def is_settled() -> bool:
            """Nothing is on its way between two counters; a frame lost without a reason would keep it so for ever."""
            read = near.counters(lib.VX_AT_VTEP, near.vteps[far.own])
            arrived = far.counters(lib.VX_AT_VTEP, far.vteps[near.own])
            same = read.out_frames == arrived.in_frames + far.drops().get("rx_overflow", 0)
            return read.out_frames > 0 and same and all(map(is_accounted, bench.hosts))

        poll(is_settled, what="what left is what arrived", story=bench.story)
        for host in bench.hosts:
            assert host.counters(lib.VX_AT_PORT, host.containers[0].port).in_frames > 0

        def is_conserved() -> bool:
            port = far.counters(lib.VX_AT_PORT, other.port)
            drops = far.drops(lib.VX_AT_PORT, other.port)
            lost = sum(drops.values()) - drops.get("no_tx_target", 0)  # its own MLD, sent before it knew the others
            from_near = far.counters(lib.VX_AT_VTEP, far.vteps[near.own])
            refused = sum(far.drops(lib.VX_AT_VTEP, far.vteps[near.own]).values())
            answered = port.arp_answered + port.nd_answered
            return from_near.in_frames == port.out_frames - answered + lost + refused

        poll(is_conserved, what="what arrived is delivered or counted", story=bench.story)


def test_what_a_socket_lost_is_counted_though_nothing_comes_behind_it(namespaces: Namespaces) -> None:
    """With a datagram the kernel tells what it had lost before; of a burst's end it tells with none."""
    underlay, sent = Underlay.build(namespaces, 2), 1000
    engine = new_engine(underlay.hosts[0], underlay.v4(1), receive_bytes=65536)
    assert not isinstance(engine, int)
    host = Host(underlay.hosts[0], underlay.v4(1), engine, -1)

    def are_counted(number: int) -> None:
        poll(lambda: sum(host.drops().values()) == number, what=f"{number} datagrams", story=host.story)

    try:
        with inside(underlay.hosts[1], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as voice:
            for _ in range(sent):
                voice.sendto(bytes(64), (host.own, 4789))
            poll(lambda: host.drops().get("rx_overflow", 0) > sent // 2, what="losses, though nobody reads")
            assert inside(host.namespace, lambda: lib.vx_engine_start(engine)) == 0
            are_counted(sent)
            before = host.drops()
            voice.sendto(bytes(64), (host.own, 4789))  # brings the count, which was in the sum already
            are_counted(sent + 1)
            assert host.drops()["rx_overflow"] == before["rx_overflow"]
            assert host.counters(lib.VX_AT_WORKER).drops[REASONS.index("rx_overflow")] == before["rx_overflow"]
    finally:
        lib.vx_engine_free(engine)


def test_a_port_that_is_refused_leaves_its_descriptor_to_the_caller(namespaces: Namespaces, tmp_path: Path) -> None:
    with Bench.of(namespaces, hosts=1) as bench, (tmp_path / "no-tap").open("wb") as file:
        host = bench.hosts[0]
        host.events()
        made = lib.vx_port_add(host.engine, host.network, mac("02:00:00:00:00:01"), 1450, 0, [file.fileno()], 1)
        assert made == -errno.EPERM, "epoll takes no regular file"
        poll(lambda: lib.vx_engine_reclaim(host.engine) == 0, what="nothing left to free")
        file.write(b"still open")
        file.flush()
        assert not [event for event in host.events() if event[0] == lib.VX_EVENT_PORT_CLOSED]


def test_an_engine_leaves_no_descriptor_behind(namespaces: Namespaces) -> None:
    underlay = Underlay.build(namespaces, 1)

    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()  # what earlier tests left open would be closed in between
    before = opened()
    for _ in range(3):
        engine = new_engine(underlay.hosts[0], underlay.v4(1), 2)
        assert not isinstance(engine, int)
        assert opened() > before
        assert lib.vx_engine_start(engine) == 0
        lib.vx_engine_free(engine)
        assert isinstance(new_engine(underlay.hosts[0], "10.255.255.1"), int)
    assert opened() == before
