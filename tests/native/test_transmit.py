"""Sending on a real kernel: what leaves an engine, as hosts without one receive it.

     c1
      │tap with all offloads       10.7.0.11
  [ engine ]   plain socket   nobody
      h1 ──────── h2 ───────── h3          10.89.0.H, or fd89::H

c1 believes that 10.7.0.21 is behind h2 and 10.7.0.31 behind h3, and 10.7.0.41 behind a host that is not there.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from data_plane import TUN_F_ALL, VNI, Container, Host, inside, new_engine
from lab_ns import Namespace, Namespaces, Underlay, poll
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from vxlanu._native import lib

pytestmark = pytest.mark.netns

SOL_UDP, UDP_SEGMENT, SO_RCVBUFFORCE, ETH_P_ALL = 17, 103, 33, 3
PORT = 4789
LIVE, DEAD, ABSENT = 2, 3, 99  # hosts of the underlay
NO_SEGMENT = lib.VX_OFFLOAD_ALL & ~lib.VX_OFFLOAD_UDP_SEGMENT
BYTES = random.Random(11).randbytes(64_000)


@dataclass
class Stand:
    """An engine, a container behind it, and a plain socket where h2's VTEP would be."""

    underlay: Underlay
    host: Host
    container: Container
    receiver: socket.socket
    ipv6: bool

    @classmethod
    @contextlib.contextmanager
    def of(cls, namespaces: Namespaces, ipv6: bool = False, mtu: int = 1450, **fields: int) -> Iterator[Stand]:
        underlay = Underlay.build(namespaces, 3)
        own = underlay.v6 if ipv6 else underlay.v4
        engine = new_engine(underlay.hosts[0], own(1), **fields)
        assert not isinstance(engine, int)
        host = Host(underlay.hosts[0], own(1), engine, lib.vx_network_add(engine, VNI, mtu, 0))
        container = Container(namespaces.make("c1"), "02:42:0a:07:00:11", "10.7.0.11", "fd07::11")
        receiver = _socket_at(underlay.hosts[LIVE - 1], own(LIVE))
        try:
            host.attach(namespaces, container, mtu, TUN_F_ALL)
            host.learn(container, lib.VX_AT_PORT, container.port)
            for number, last in ((LIVE, 21), (DEAD, 31), (ABSENT, 41)):
                there = Container(container.namespace, f"02:42:0a:07:00:{last}", f"10.7.0.{last}", f"fd07::{last}")
                host.learn(there, lib.VX_AT_VTEP, host.add_vtep(own(number), 0))
                stay = ["lladdr", there.mac, "dev", "eth0", "nud", "permanent"]  # however late an engine answers
                for theirs in (there.v4, there.v6):
                    container.namespace.ip("neigh", "replace", theirs, *stay)
            assert lib.vx_engine_start(engine) == 0
            yield cls(underlay, host, container, receiver, ipv6)
        finally:
            receiver.close()
            lib.vx_engine_free(engine)

    def vtep(self, number: int) -> int:
        return self.host.vteps[self.underlay.v6(number) if self.ipv6 else self.underlay.v4(number)]

    def left(self) -> int:
        """Frames that the kernel took to the live host."""
        return int(self.host.counters(lib.VX_AT_VTEP, self.vtep(LIVE)).out_frames)

    def sender(self, inner6: bool = False) -> socket.socket:
        family = socket.AF_INET6 if inner6 else socket.AF_INET
        return inside(self.container.namespace, lambda: socket.socket(family, socket.SOCK_DGRAM))

    def arrived(self, count: int) -> list[bytes]:
        """So many datagrams, and that no more come at once."""
        got: list[bytes] = []

        def take() -> bool:
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(self.receiver.recv(65536))
            return len(got) >= count

        poll(take, what=f"{count} datagrams", story=lambda: f"{len(got)} came; {self.host.story()}")
        return got


def _socket_at(namespace: Namespace, own: str) -> socket.socket:
    made = inside(
        namespace, lambda: socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
    )
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    made.setblocking(False)
    made.bind((own, PORT))
    return made


def _source_ports(stand: Stand) -> set[int]:
    """Outer source ports of what has arrived meanwhile."""
    ports = set()
    with contextlib.suppress(BlockingIOError):
        while True:
            ports.add(stand.receiver.recvfrom(65600)[1][1])
    return ports


def _source_port(stand: Stand) -> int:
    """The outer source port of the one datagram that arrives next."""
    return poll(lambda: _source_ports(stand), what="a datagram", story=stand.host.story).pop()


def _wire(namespace: Namespace) -> socket.socket:
    """A packet socket on a host's underlay interface: what the kernel hands over in one piece, it sees as one."""
    made = inside(namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)))
    made.bind(("u0", ETH_P_ALL))
    made.setblocking(False)
    return made


def _vxlan_lengths(wire: socket.socket) -> list[int]:
    """Lengths of the UDP packets to the data port that came in."""
    lengths = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packet, (_, _, kind, *_) = wire.recvfrom(65600)
            udp = packet[20:] if packet[0] >> 4 == 4 and packet[9] == 17 else packet[40:] if packet[6] == 17 else b""
            if kind == 0 and udp[2:4] == PORT.to_bytes(2):
                lengths.append(len(packet))
    return lengths


def _expected(first: bytes, payloads: list[bytes], inner6: bool) -> list[bytes]:
    """The datagrams of a UDP_SEGMENT send, built one by one, after the first one's address, ids and TTL."""
    frame = Ether(first[8:])
    made = []
    for number, payload in enumerate(payloads):
        ether = Ether(src=frame.src, dst=frame.dst, type=frame.type)
        udp = UDP(sport=frame[UDP].sport, dport=frame[UDP].dport) / payload
        if inner6:
            ip = frame[IPv6]
            packet = IPv6(src=ip.src, dst=ip.dst, hlim=ip.hlim, fl=ip.fl, tc=ip.tc) / udp
        else:
            ip = frame[IP]
            number_of = (ip.id + number) & 0xFFFF
            packet = IP(src=ip.src, dst=ip.dst, ttl=ip.ttl, tos=ip.tos, flags=ip.flags, id=number_of) / udp
        made.append(struct.pack("!II", 0x08000000, VNI << 8) + bytes(ether / packet))
    return made


@pytest.mark.parametrize("batched", [True, False], ids=["udp-segment", "singles"])
@pytest.mark.parametrize("inner6", [False, True], ids=["inner-ipv4", "inner-ipv6"])
@pytest.mark.parametrize("ipv6", [False, True], ids=["over-ipv4", "over-ipv6"])
def test_a_super_frame_arrives_as_the_packets_it_stands_for(
    namespaces: Namespaces, ipv6: bool, inner6: bool, batched: bool
) -> None:
    size, octets = 1000, 30_300
    payloads = [BYTES[at : at + size] for at in range(0, octets, size)]
    payloads[-1] = BYTES[octets // size * size : octets]
    offloads = lib.VX_OFFLOAD_ALL if batched else NO_SEGMENT
    with Stand.of(namespaces, ipv6, 1430, offloads=offloads) as stand, stand.sender(inner6) as sender:
        wire = _wire(stand.underlay.hosts[LIVE - 1])
        sender.setsockopt(SOL_UDP, UDP_SEGMENT, size)
        sender.sendto(BYTES[:octets], ("fd07::21" if inner6 else "10.7.0.21", 9))
        got = stand.arrived(len(payloads))
        assert got == _expected(got[0], payloads, inner6), stand.host.story()
        poll(lambda: stand.left() >= len(payloads), what="all counted", story=stand.host.story)  # once they have left
        lengths = _vxlan_lengths(wire)
        wire.close()
        assert (len(lengths), max(lengths) > 1500) == ((1, True) if batched else (len(payloads), False)), lengths
        assert (stand.left(), stand.host.drops(lib.VX_AT_VTEP, stand.vtep(LIVE))) == (len(payloads), {})


def _icmp(namespace: Namespace, name: str) -> int:
    names, values = (line.split() for line in namespace.run("cat", "/proc/net/snmp").splitlines() if "Icmp:" in line)
    return int(values[names.index(name)])


def test_dead_vteps_cost_a_live_one_nothing(namespaces: Namespaces) -> None:
    """One answers port unreachable to everything, of another the kernel says host unreachable; one socket for all."""
    with Stand.of(namespaces, tx_sockets=1) as stand, stand.sender() as sender:
        near, dead = stand.underlay.hosts[0], stand.underlay.hosts[DEAD - 1]
        dead.run("sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000")
        near.run("sysctl", "-q", "-w", "net.ipv4.neigh.u0.mcast_solicit=1", "net.ipv4.neigh.u0.retrans_time_ms=20")
        sender.sendto(b"", ("10.7.0.21", 9))
        stand.arrived(1)  # addresses are resolved: from now on a flow is in order
        sent, got = 0, list[bytes]()

        def another_round() -> bool:
            nonlocal sent
            for _ in range(50):
                for last in (31, 21, 41, 21):
                    sender.sendto(struct.pack("!I", sent), (f"10.7.0.{last}", 9))
                    sent += last == 21
            got.extend(stand.arrived(sent - len(got)))  # before the next: no more are on their way than a ring holds
            refused, unreachable = _icmp(dead, "OutDestUnreachs"), _icmp(near, "OutDestUnreachs")
            return refused >= 200 and unreachable >= 20

        poll(another_round, what="ICMP errors of both kinds", story=lambda: stand.host.story())
        poll(lambda: _icmp(near, "InDestUnreachs") >= 200, what="the ICMP errors to arrive", story=stand.host.story)
        assert [struct.unpack("!I", data[50:])[0] for data in got] == list(range(sent))
        assert stand.host.drops(lib.VX_AT_VTEP, stand.vtep(LIVE)) == {}, stand.host.story()


def test_what_a_queue_of_the_underlay_drops_is_counted(namespaces: Namespaces) -> None:
    with Stand.of(namespaces, offloads=NO_SEGMENT) as stand, stand.sender() as sender:
        near, vtep = stand.underlay.hosts[0], stand.vtep(LIVE)
        for _ in range(20):  # the control: without a queue nothing is lost
            sender.sendto(BYTES[:1000], ("10.7.0.21", 9))
        stand.arrived(20)
        assert stand.host.drops(lib.VX_AT_VTEP, vtep) == {}
        near.run(
            *["tc", "qdisc", "replace", "dev", "u0", "root", "tbf", "rate", "200kbit", "burst", "2000", "limit", "4000"]
        )
        for _ in range(200):
            sender.sendto(BYTES[:1000], ("10.7.0.21", 9))

        def settled() -> int:
            read = stand.host.counters(lib.VX_AT_VTEP, vtep)
            return read.out_frames + sum(read.drops) == 220 and read.out_frames

        left = poll(settled, what="every frame sent or dropped", story=stand.host.story)
        drops = stand.host.drops(lib.VX_AT_VTEP, vtep)
        assert list(drops) == ["sock_full"] and drops["sock_full"] > 50, drops
        assert len(stand.arrived(left - 20)) == left - 20


@pytest.mark.parametrize("ipv6", [False, True], ids=["over-ipv4", "over-ipv6"])
def test_a_narrower_underlay_lowers_the_path_mtu(namespaces: Namespaces, ipv6: bool) -> None:
    with Stand.of(namespaces, ipv6, 1430) as stand, stand.sender() as sender:
        near, vtep = stand.underlay.hosts[0], stand.vtep(LIVE)
        sender.setsockopt(SOL_UDP, UDP_SEGMENT, 1300)
        sender.sendto(BYTES[:13_000], ("10.7.0.21", 9))
        stand.arrived(10)
        assert lib.vx_vtep_path_mtu(stand.host.engine, vtep, 0) == 0
        near.ip("link", "set", "u0", "mtu", "1350")
        sender.sendto(BYTES[:13_000], ("10.7.0.21", 9))
        told = poll(lambda: [(e[0], e[3]) for e in stand.host.events() if e[0] == lib.VX_EVENT_PATH_MTU])
        assert told == [(lib.VX_EVENT_PATH_MTU, 1350)]
        assert lib.vx_vtep_path_mtu(stand.host.engine, vtep, 0) == 1350
        too_big = {"pkt_too_big": 10}
        poll(lambda: stand.host.drops(lib.VX_AT_VTEP, vtep) == too_big, what="ten drops", story=stand.host.story)


def test_a_forged_icmp_error_lowers_no_path_mtu(namespaces: Namespaces) -> None:
    """The kernel believes it: that is the control. The narrower device that comes later is believed, and not more."""
    with Stand.of(namespaces) as stand, stand.sender() as sender:
        near, far, vtep = stand.underlay.hosts[0], stand.underlay.hosts[LIVE - 1], stand.vtep(LIVE)
        sender.sendto(BYTES[:1000], ("10.7.0.21", 9))
        source = _source_port(stand)
        quoted = IP(src=stand.underlay.v4(1), dst=stand.underlay.v4(LIVE)) / UDP(sport=source, dport=PORT, len=1050)
        lie = ICMP(type="dest-unreach", code="fragmentation-needed", nexthopmtu=700) / quoted
        with inside(far, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as forger:
            forger.sendto(bytes(lie), (stand.underlay.v4(1), 0))

        def believed() -> bool:
            return "mtu 700" in near.ip("route", "get", stand.underlay.v4(LIVE))

        poll(believed, what="a kernel that believes", story=stand.host.story)
        sender.sendto(BYTES[:1400], ("10.7.0.21", 9))
        stand.arrived(1)
        assert lib.vx_vtep_path_mtu(stand.host.engine, vtep, 0) == 0
        near.ip("link", "set", "u0", "mtu", "1400")
        assert believed()
        sender.sendto(BYTES[:1400], ("10.7.0.21", 9))
        poll(lambda: stand.host.drops(lib.VX_AT_VTEP, vtep) == {"pkt_too_big": 1}, story=stand.host.story)
        assert lib.vx_vtep_path_mtu(stand.host.engine, vtep, 0) == 1400


def _flows(namespace: Namespace, stack: contextlib.ExitStack, count: int) -> list[socket.socket]:
    """Senders with ports of their own, so that each always takes the same transmit socket."""

    def one(port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", port))
        return made

    ports = range(20_000, 20_000 + count)
    return [stack.enter_context(inside(namespace, lambda port=port: one(port))) for port in ports]


def test_a_full_socket_is_given_up_and_the_others_go_on(namespaces: Namespaces) -> None:
    """What waits for a neighbour that never answers fills the buffer of one transmit socket."""
    with Stand.of(namespaces) as stand, stand.sender() as sender, contextlib.ExitStack() as stack:
        near, neigh = stand.underlay.hosts[0], "net.ipv4.neigh.u0."
        near.run("sysctl", "-q", "-w", f"{neigh}unres_qlen_bytes={64 << 20}", f"{neigh}mcast_solicit=10000")
        flows = _flows(stand.container.namespace, stack, 12)

        def used(before: set[int]) -> set[int]:
            """With outer source ports by which a datagram of each flow arrives: that of a full socket is missing."""
            for flow in flows:
                flow.sendto(b"live", ("10.7.0.21", 9))
            before |= _source_ports(stand)
            return before

        before: set[int] = set()
        poll(lambda: len(used(before)) >= 5, what="flows over many sockets", story=stand.host.story)
        sender.setsockopt(SOL_UDP, UDP_SEGMENT, 1400)

        def is_full() -> bool:
            for _ in range(20):
                with contextlib.suppress(BlockingIOError):
                    sender.sendto(BYTES[: 1400 * 40], ("10.7.0.41", 9))
            return stand.host.drops(lib.VX_AT_VTEP, stand.vtep(ABSENT)).get("sock_full", 0) > 0

        sender.setblocking(False)
        poll(is_full, what="a full socket that is given up", story=stand.host.story)
        _source_ports(stand)
        during: set[int] = set()
        poll(lambda: len(before - used(during)) <= 1, what="the others", story=stand.host.story)
        near.run("sysctl", "-q", "-w", f"{neigh}mcast_solicit=1")
        poll(lambda: used(during) >= before, what="all again", story=stand.host.story)


def _lost_to_the_ring(container: Container) -> int:
    (link,) = json.loads(container.namespace.ip("-s", "-j", "link", "show", "eth0"))
    dropped: int = link["stats64"]["tx"]["dropped"]
    return dropped


def _backlog(host: Namespace) -> tuple[int, int]:
    """Bytes that wait in the queue of a host's device, and packets that it dropped."""
    (shown,) = json.loads(host.run("tc", "-s", "-j", "qdisc", "show", "dev", "u0"))
    return shown["backlog"], shown["drops"]


def test_while_the_underlay_takes_no_more_the_tunnel_is_served(namespaces: Namespaces) -> None:
    """A slow queue fills the socket: its EAGAIN holds the TAP back, where frames are lost then. What comes in is not.

    A machine that stands still for VX_STUCK_MS makes the worker give the socket up for once; that round proves nothing.
    """
    with Stand.of(namespaces, tx_sockets=1) as stand, stand.sender() as sender, stand.sender() as ear:
        near, own, vtep = stand.underlay.hosts[0], stand.container, stand.vtep(LIVE)
        ear.bind((own.v4, 9))
        ear.settimeout(60)
        sender.setblocking(False)
        sender.setsockopt(SOL_UDP, UDP_SEGMENT, 1400)
        queue = ["rate", "50mbit", "burst", "70000", "limit", str(64 << 20)]
        near.run("tc", "qdisc", "replace", "dev", "u0", "root", "tbf", *queue)

        def loses_more(before: int) -> bool:
            for _ in range(50):
                with contextlib.suppress(BlockingIOError):
                    sender.sendto(BYTES[: 1400 * 40], ("10.7.0.21", 9))
            return _lost_to_the_ring(own) > before

        came = Ether(src="02:42:0a:07:00:21", dst=own.mac) / IP(src="10.7.0.21", dst=own.v4) / UDP(sport=9, dport=9)
        poll(lambda: loses_more(0) and _backlog(near)[0] > 1 << 20, what="a long queue", story=stand.host.story)
        held_back = 0
        for number in range(100):
            lost, drops = _lost_to_the_ring(own), stand.host.drops(lib.VX_AT_VTEP, vtep)
            poll(lambda: loses_more(lost), what="a ring that is not read", story=stand.host.story)  # noqa: B023
            payload = struct.pack("!II", 0x08000000, VNI << 8) + bytes(came / struct.pack("!I", number))
            stand.receiver.sendto(payload, (stand.underlay.v4(1), PORT))
            assert struct.unpack("!I", ear.recv(100)) == (number,), stand.host.story()
            held_back += stand.host.drops(lib.VX_AT_VTEP, vtep) == drops
            if held_back == 10:
                break
        assert held_back == 10, f"whoever does not wait drops: {stand.host.story()}"
        length, dropped = _backlog(near)
        assert length > 1 << 20 and not dropped, "the control: all of it waits for this queue"
