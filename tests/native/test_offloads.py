"""Super-frames, trains and their counters between engines, and with a kernel vxlan device, on real TAPs.

c11                  c21
 │tap                 │tap             10.7.0.HC, fd07::HC
[ engine ]        [ engine ]           or, instead of the second, a kernel vxlan device: 10.7.0.99
   h1 ── underlay ── h2                10.89.0.H
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
from collections.abc import Callable, Iterable, Sequence

import pytest
from data_plane import REASONS, Bench, Container, inside, kernel_vxlan, transfer
from lab_ns import Namespace, Namespaces, poll

from vxlanu._native import lib

pytestmark = pytest.mark.netns

UDP_SEGMENT, SO_RCVBUFFORCE = 103, 33
BYTES = random.Random(11).randbytes(8_000_000)
WINDOW = 60
ON_DELIVERY = ("ring_full", "tap_down", "gso_invalid", "hdr_trunc")  # drops that count against the port written to
Datagrams = list[bytes]


def packets(container: Container, which: str) -> int:
    """What the kernel counted on a container's TAP: a super-frame is one."""
    path = f"/sys/class/net/eth0/statistics/{which}_packets"
    return int(container.namespace.run("ip", "netns", "exec", container.namespace.name, "cat", path))


Send = Callable[[socket.socket, tuple[str, int]], int]


def plainly(payload: bytes) -> Send:
    """Send one datagram. All of these return how many datagrams that makes."""

    def send(voice: socket.socket, to: tuple[str, int]) -> int:
        voice.sendto(payload, to)
        return 1

    return send


def segmented(size: int, payload: bytes) -> Send:
    """Send a payload in one call that the kernel cuts into datagrams of `size`."""

    def send(voice: socket.socket, to: tuple[str, int]) -> int:
        voice.sendmsg([payload], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", size))], 0, to)
        return -(-len(payload) // size)

    return send


def resolve_for_good(client: Namespace, to: str) -> None:
    """A permanent neighbour: what waits for ARP is overtaken, and the rest of it dropped, by the sender's kernel."""
    poll(lambda: client.pings(to, wait=1), what="a first echo", story=client.story)
    (entry,) = json.loads(client.ip("-j", "neigh", "show", "to", to))
    client.ip("neigh", "replace", to, "lladdr", entry["lladdr"], "dev", entry["dev"], "nud", "permanent")


def exchange(server: Namespace, client: Namespace, to: str, sends: Sequence[Send], voices: int = 1) -> Datagrams:
    """What a socket in one namespace gets from `sends` in another, taken in turn by so many sockets.

    At most WINDOW datagrams are on their way: a TAP's ring drops what comes while its reader has no time.
    """
    resolve_for_good(client, to)
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with contextlib.ExitStack() as stack:
        ear = stack.enter_context(inside(server, lambda: socket.socket(family, socket.SOCK_DGRAM)))
        mouths = [
            stack.enter_context(inside(client, lambda: socket.socket(family, socket.SOCK_DGRAM))) for _ in range(voices)
        ]
        ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        ear.bind((to, 0))
        ear.settimeout(60)
        got: Datagrams = []
        sent = 0
        for turn, send in enumerate(sends):
            sent += send(mouths[turn % voices], (to, ear.getsockname()[1]))
            while len(got) < sent - (WINDOW if turn < len(sends) - 1 else 0):
                try:
                    got.append(ear.recv(65536))
                except TimeoutError:
                    return got
        return got


def cut(size: int, payloads: Iterable[bytes]) -> Datagrams:
    return [payload[at : at + size] for payload in payloads for at in range(0, len(payload), size)]


def conserved(bench: Bench) -> None:
    """sent = delivered + drops between two hosts, super-frames by their segments, in both directions."""

    def sums() -> list[tuple[int, ...]]:
        made = []
        for near, far in (bench.hosts, bench.hosts[::-1]):
            sent = near.counters(lib.VX_AT_VTEP, near.vteps[far.own])
            came = far.counters(lib.VX_AT_VTEP, far.vteps[near.own])
            port = far.counters(lib.VX_AT_PORT, far.containers[0].port)
            refused = sum(far.drops(lib.VX_AT_VTEP, far.vteps[near.own]).values())
            lost = sum(port.drops[REASONS.index(name)] for name in ON_DELIVERY)
            arrived = port.out_frames - port.arp_answered - port.nd_answered + lost + refused
            made.append((sent.out_frames, came.in_frames, arrived, sent.out_bytes, came.in_bytes))
        return made

    def holds() -> bool:
        return all(sent == came == arrived and out == in_ for sent, came, arrived, out, in_ in sums())

    poll(holds, what="sent = arrived = delivered or counted", story=lambda: f"{sums()}\n{bench.story()}")


@pytest.mark.parametrize("mtu", [1500, 9000])
@pytest.mark.parametrize("inner", ["v4", "v6"])
def test_tcp_crosses_in_super_frames_and_leaves_merged(namespaces: Namespaces, inner: str, mtu: int) -> None:
    with Bench.of(namespaces, underlay_mtu=mtu) as bench:
        one, other = bench.containers
        near, far = bench.hosts
        for a, b in ((one, other), (other, one)):
            assert transfer(b.namespace, a.namespace, getattr(b, inner), BYTES) == BYTES, bench.story()
        conserved(bench)
        for host, container in ((near, one), (far, other)):
            port = host.counters(lib.VX_AT_PORT, container.port)
            assert port.in_frames > 2 * packets(container, "tx"), "TAPs gave super-frames\n" + bench.story()
            assert port.out_frames > 2 * packets(container, "rx"), "TAPs got merged ones\n" + bench.story()
            assert set(host.drops()) <= {"no_tx_target", "vtep_unknown"}, bench.story()


@pytest.mark.parametrize("inner", ["v4", "v6"])
def test_udp_of_every_size_arrives_as_it_was_sent(namespaces: Namespaces, inner: str) -> None:
    with Bench.of(namespaces) as bench:
        one, other = bench.containers
        sent = [BYTES[size : 2 * size] for size in range(1, 8001, 13)]
        got = exchange(other.namespace, one.namespace, getattr(other, inner), [plainly(p) for p in sent])
        assert sorted(got) == sorted(sent), bench.story()  # fragments may take another port than whole ones
        conserved(bench)


@pytest.mark.parametrize("size", [100, 1000, 1402])
@pytest.mark.parametrize("inner", ["v4", "v6"])
def test_segmented_udp_arrives_in_its_datagrams_both_ways(namespaces: Namespaces, inner: str, size: int) -> None:
    with Bench.of(namespaces) as bench:
        payloads = [BYTES[at : at + 40 * size - 7] for at in range(0, 20 * 40 * size, 40 * size)]
        for a, b in (bench.containers, bench.containers[::-1]):
            got = exchange(b.namespace, a.namespace, getattr(b, inner), [segmented(size, p) for p in payloads])
            assert got == cut(size, payloads), bench.story()
            port = bench.hosts[0].counters(lib.VX_AT_PORT, bench.containers[0].port)
            assert port.in_frames + port.out_frames >= 20 * 40
        conserved(bench)


def numbered(flow: int, count: int, rng: random.Random) -> Datagrams:
    return [struct.pack("!II", flow, n) + bytes(rng.choice((20, 300, 300, 300, 1300))) for n in range(count)]


def out_of_order(got: Datagrams) -> list[tuple[int, int, int]]:
    """(flow, number, largest before it) of each datagram that came behind a later one of its flow."""
    last: dict[int, int] = {}
    wrong = []
    for datagram in got:
        flow, number = struct.unpack("!II", datagram[:8])
        if number <= last.get(flow, -1):
            wrong.append((flow, number, last[flow]))
        last[flow] = max(number, last.get(flow, -1))
    return wrong


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_flows_of_mixed_sizes_keep_their_order(namespaces: Namespaces, workers: int) -> None:
    rng = random.Random(5)
    with Bench.of(namespaces, workers=workers) as bench:
        one, other = bench.containers
        flows = [numbered(flow, 400, rng) for flow in range(8)]
        sends = [plainly(datagram) for one_of_each in zip(*flows, strict=True) for datagram in one_of_each]
        got = exchange(other.namespace, one.namespace, other.v4, sends, voices=len(flows))
        assert len(got) == 8 * 400, bench.story()
        assert out_of_order(got) == [], bench.story()
        assert out_of_order([*got, got[0]]) != [], "a datagram that comes late is seen"
        conserved(bench)


@pytest.mark.interop("kernel-vxlan")
@pytest.mark.parametrize("ipv6", [False, True], ids=["over-ipv4", "over-ipv6"])
def test_super_frames_of_a_kernel_vxlan_device_both_ways(namespaces: Namespaces, ipv6: bool) -> None:
    with Bench.of(namespaces, hosts=1, strangers=1, ipv6=ipv6) as bench:
        host, container = bench.hosts[0], bench.containers[0]
        kernel = bench.underlay.hosts[1]
        own = bench.underlay.v6(2) if ipv6 else bench.underlay.v4(2)
        vtep = host.add_vtep(own, lib.VX_MEMBER_FLOOD | lib.VX_MEMBER_FOREIGN)
        kernel_vxlan(kernel, own, host.own, mtu=1430 if ipv6 else 1450)
        assert kernel.pings(container.v4), bench.story()

        for to in (container.v4, container.v6):
            assert transfer(container.namespace, kernel, to, BYTES) == BYTES, bench.story()
        read = host.counters(lib.VX_AT_VTEP, vtep)
        assert read.in_frames > len(BYTES) / 1450, "super-frames count by their segments"
        for to in ("10.7.0.99", "fd07::99"):
            assert transfer(kernel, container.namespace, to, BYTES) == BYTES, bench.story()

        payloads = [BYTES[at : at + 30_000] for at in range(0, 300_000, 30_000)]
        for server, client, to in (
            (container.namespace, kernel, container.v4),
            (container.namespace, kernel, container.v6),
            (kernel, container.namespace, "10.7.0.99"),
            (kernel, container.namespace, "fd07::99"),
        ):
            got, wanted = exchange(server, client, to, [segmented(1000, p) for p in payloads]), cut(1000, payloads)
            order = [wanted.index(datagram) if datagram in wanted else -1 for datagram in got]
            assert order == list(range(len(wanted))), f"to {to}: {order}\n{bench.story()}"
        assert set(host.drops()) <= {"neigh_miss", "fdb_miss", "no_tx_target"}, bench.story()


def test_an_engine_runs_again_after_a_stop(namespaces: Namespaces) -> None:
    with Bench.of(namespaces) as bench:
        one, other = bench.containers
        engine = bench.hosts[0].engine
        assert one.namespace.pings(other.v4), bench.story()
        assert lib.vx_engine_stop(engine) == 0
        assert not one.namespace.pings(other.v4, wait=1), "nobody forwards"
        assert inside(bench.hosts[0].namespace, lambda: lib.vx_engine_start(engine)) == 0
        poll(lambda: one.namespace.pings(other.v4, wait=1), what="forwards again", story=bench.story)
        assert transfer(other.namespace, one.namespace, other.v4, BYTES) == BYTES, bench.story()
