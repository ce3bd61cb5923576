"""Kernel vxlan as the peer, over every underlay that the data plane may meet.

      c1-1                       offload: veth as it is: super-frames and unfinished checksums arrive
        └─ h1                    nic:     a card that can cut UDP and TCP, but not inside a tunnel
            └── underlay ──┐     plain:   a card that can do nothing
                        kernel   x IPv4, IPv6 outside x MTU 1500, 9000 x both directions, IPv4 and IPv6 inside

The sockets are the test's own, made inside the namespaces (tests/sockets.py). Datagrams with a wrong inner checksum are
put on the wire by hand: no sender's stack makes them, and a good one of the same kind goes beside each.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from kernel_peer import INNER, KernelPeer
from lab_ns import poll
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from sockets import (
    SOL_UDP,
    UDP_SEGMENT,
    WAIT_S,
    Bulk,
    bulk,
    family_of,
    inside,
    lengths,
    packet_socket,
    segmented,
    sizes,
    udp_socket,
)
from streams import pings

from benchmarks.underlay import set_underlay
from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("kernel-vxlan", "bridge", "ethtool")]

KERNEL, OURS = "kernel", "c1-1"
WAYS = [(KERNEL, OURS), (OURS, KERNEL)]
VERSIONS = ("v4", "v6")
BULK_BYTES = {"v4": 96 << 20, "v6": 24 << 20}
TRAIN = 16
OUTSIDE = {f"{family} {mtu}": (family, mtu) for family in ("ipv4", "ipv6") for mtu in (1500, 9000)}
RETRANSMITTED = 0.05 if os.environ.get("VXLANU_TEST_OFFLOAD") else 0.01
"""Of the segments. Without TSO a slot of the TAP's queue holds one segment, not forty: slow start overshoots once."""
HALF_A_SECOND = 0.5
"""The longest time in which nothing of a bulk transfer may arrive."""
UNSTEADY_MAX = 5
"""A busy machine pauses, too, but not in most transfers (of 48 beside three busy loops: in none). Where it has no time
for a while, it pauses in several one after the other: behind each there is a rest, twice as long as the last."""


@dataclass
class Pair:
    """A container of ours and a host of the kernel's in one network."""

    lab: Lab
    peer: KernelPeer
    mac: dict[str, str]
    addresses: dict[tuple[str, str], str]
    vni: int
    kind: str = ""

    def story(self) -> str:
        return self.peer.story()

    def ends(self, way: tuple[str, str], version: str) -> tuple[str, str]:
        """Source and destination address inside."""
        return self.addresses[way[0], version], self.addresses[way[1], version]


@pytest.fixture(scope="module", params=list(OUTSIDE))
def pair(request: pytest.FixtureRequest, make_module_lab: Callable[..., Lab]) -> Iterator[Pair]:
    family, mtu = OUTSIDE[request.param]
    lab = make_module_lab(hosts=1, containers=1, underlay=family, mtu=mtu)
    reserved = [word for version, it in INNER.items() for word in ("--aux", f"kernel-{version}={it}")]
    network = lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.7.0/24", "--subnet", "fd07::/64",
                         "--mtu", str(mtu - (50 if family == "ipv4" else 70)), *reserved)  # fmt: skip
    attached = lab.vxlanu("h1", "attach", "blue", OURS)
    addresses = {(KERNEL, version): address for version, address in INNER.items()}
    for text in attached["addresses"]:
        addresses[OURS, "v6" if ":" in text else "v4"] = text.split("/")[0]
    peer = KernelPeer(lab, network, family, KERNEL)
    made = Pair(lab, peer, {OURS: attached["mac"], KERNEL: peer.mac}, addresses, network["vni"])
    for version in VERSIONS:
        poll(lambda: pings(lab, KERNEL, addresses[OURS, version], wait=1),  # noqa: B023
             what="the first echo", story=made.story)  # fmt: skip
    yield made


@pytest.fixture(scope="module", params=["offload", "nic", "plain"])
def over(request: pytest.FixtureRequest, pair: Pair) -> Pair:
    """The pair, over one of the underlays; tests are sorted by it, for a change of it takes a dozen processes."""
    set_underlay(pair.lab, request.param, ("h1", KERNEL))
    pair.kind = request.param
    return pair


each_way = pytest.mark.parametrize("way", WAYS, ids=["from the kernel", "to the kernel"])


def test_each_pings_the_other(over: Pair) -> None:
    lost = [(way, version) for way in WAYS for version in VERSIONS
            if not pings(over.lab, way[0], over.addresses[way[1], version])]  # fmt: skip
    assert not lost, over.story()


@each_way
def test_bulk_arrives_intact_and_without_a_pause(over: Pair, way: tuple[str, str]) -> None:
    for version, octets in BULK_BYTES.items():
        tried: list[Bulk] = []
        unsteady = 0
        while len(tried) <= 2 * unsteady:  # until most are steady
            done = bulk(over.lab, *way, over.addresses[way[1], version], octets)
            tried.append(done)
            unsteady += not steady(done)
            assert done.intact and unsteady <= UNSTEADY_MAX, (version, tried, over.story())
            if not steady(done):
                time.sleep(2 ** (unsteady - 1))
        print(version, tried)


def steady(done: Bulk) -> bool:
    return done.longest_pause_s < HALF_A_SECOND and done.retransmitted_share <= RETRANSMITTED


@each_way
def test_a_datagram_of_every_size_arrives_as_it_was_sent(over: Pair, way: tuple[str, str]) -> None:
    for version in VERSIONS:
        wanted = sorted({*range(1, 8001), *around_the_mtu(over, version)})
        missing, surplus = sizes(over.lab, *way, *over.ends(way, version), wanted)
        assert (missing, surplus) == ([], []), (version, over.story())


def around_the_mtu(pair: Pair, version: str) -> range:
    """The sizes about the largest that goes in one packet."""
    largest = pair.lab.plan.mtu - (70 if ":" in pair.peer.outer else 50) - (28 if version == "v4" else 48)
    return range(largest - 2, largest + 3)


@each_way
def test_what_a_udp_segment_sender_sends_arrives_datagram_by_datagram(over: Pair, way: tuple[str, str]) -> None:
    for version in VERSIONS:
        for segment, octets in ((1200, 60_000), (1200, 60_001), (733, 40_000), (1, 60), (1200, 1201)):
            assert segmented(over.lab, *way, *over.ends(way, version), segment, octets) == [], (version, over.story())


# -- a wrong inner checksum --------------------------------------------------------------------------------------------


def spoil(frame: bytes) -> bytes:
    """The frame with one bit of its last octet the other way."""
    return frame[:-1] + bytes([frame[-1] ^ 0x10])


def udp_frame(pair: Pair, way: tuple[str, str], version: str, port: int, payload: bytes) -> bytes:
    """A frame from one to the other, checksums in order."""
    source, destination = pair.ends(way, version)
    network = network_header(version, source, destination)
    return bytes(Ether(src=pair.mac[way[0]], dst=pair.mac[way[1]]) / network / UDP(sport=4000, dport=port) / payload)


def network_header(version: str, source: str, destination: str) -> Packet:
    return IP(src=source, dst=destination, flags="DF") if version == "v4" else IPv6(src=source, dst=destination)


class Wire:
    """Puts frames into the sender's side: below the kernel's vxlan as datagrams, or into our container's device."""

    def __init__(self, pair: Pair, way: tuple[str, str]) -> None:
        self.pair, self.ours = pair, way[0] == OURS
        if self.ours:
            self.socket = packet_socket(pair.lab, OURS, "eth0")
        else:
            self.socket = udp_socket(pair.lab, KERNEL, pair.peer.outer)
            self.socket.connect((pair.lab.plan.advertise("h1"), 4789))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def train(self, frames: list[bytes]) -> None:
        """All at once: in one UDP_SEGMENT send, or one after the other as fast as it goes."""
        if self.ours:
            for frame in frames:
                self.socket.send(frame)
            return
        datagrams = [bytes(VXLAN(flags=0x08, vni=self.pair.vni)) + frame for frame in frames]
        self.socket.setsockopt(SOL_UDP, UDP_SEGMENT, len(datagrams[0]) if len(datagrams) > 1 else 0)
        self.socket.send(b"".join(datagrams))


@each_way
def test_a_corrupted_datagram_is_not_delivered_and_the_others_are(over: Pair, way: tuple[str, str]) -> None:
    for version in VERSIONS:
        with udp_socket(over.lab, way[1], over.addresses[way[1], version]) as receiving, Wire(over, way) as wire:
            port = receiving.getsockname()[1]
            payloads = [bytes([number]) * 1000 for number in range(TRAIN)]
            frames, end = [udp_frame(over, way, version, port, it) for it in payloads], b"the end"
            mark = udp_frame(over, way, version, port, end)
            for train, expected in (
                ([spoil(frames[0])], []),
                ([frames[0]], payloads[:1]),
                ([spoil(it) if number == 5 else it for number, it in enumerate(frames)], payloads[:5] + payloads[6:]),
                (frames, payloads),
            ):
                wire.train(train)
                wire.train([mark])  # of the same flow, so it comes behind all of the train
                assert until(receiving, end) == expected, (version, over.story())


def until(receiving: socket.socket, end: bytes) -> list[bytes]:
    """The datagrams up to the one that says `end`."""
    came = []
    while (data := receiving.recv(1 << 16)) != end:
        came.append(data)
    return came


STRANGER = {"v4": "192.168.7.77", "v6": "fd07::77"}
STRANGERS_MAC = "02:00:00:00:00:77"
NO_RESET = "table inet quiet { chain out { type filter hook output priority filter; tcp flags rst drop; }; }"


class Client:
    """A TCP client without a stack: what it sends is put on the wire segment by segment.

    Behind the kernel's VTEP it has a MAC and an address of its own; in our container it has the container's, since
    guards let no others out, and the container's stack must not reset what it knows nothing of.
    """

    def __init__(self, pair: Pair, wire: Wire, way: tuple[str, str], version: str, server: tuple[str, int]) -> None:
        self.pair, self.wire, self.way, self.version, self.server = pair, wire, way, version, server
        ours = way[0] == OURS
        self.mac = pair.mac[OURS] if ours else STRANGERS_MAC
        self.address = pair.addresses[OURS, version] if ours else STRANGER[version]
        self.device = "eth0" if ours else pair.peer.device
        self.sequence, self.acknowledged = 1000, 0

    def segment(self, payload: bytes, flags: str = "A", at: int = 0) -> bytes:
        """A frame of the connection, `at` octets into what is not yet acknowledged."""
        network = network_header(self.version, self.address, self.server[0])
        tcp = TCP(sport=4000, dport=self.server[1], flags=flags, seq=self.sequence + at, ack=self.acknowledged)
        return bytes(Ether(src=self.mac, dst=self.pair.mac[self.way[1]]) / network / tcp / payload)

    def connect(self) -> None:
        """The three steps; the answer is read where it comes out of the tunnel."""
        with packet_socket(self.pair.lab, self.way[0], self.device) as heard:
            self.wire.train([self.segment(b"", "S")])
            while True:
                frame = Ether(heard.recv(1 << 16))
                if frame.dst == self.mac and TCP in frame and frame[TCP].flags == "SA":
                    break
        self.sequence += 1
        self.acknowledged = frame[TCP].seq + 1
        self.wire.train([self.segment(b"")])


@contextmanager
def alone(lab: Lab, way: tuple[str, str], version: str, require: Callable[..., None]) -> Iterator[None]:
    """What a Client needs around it: to be known, or to be left in peace."""
    if way[0] == KERNEL:
        lab.exec(OURS, ["ip", "neigh", "replace", STRANGER[version], "lladdr", STRANGERS_MAC, "dev", "eth0"])
        yield
        return
    require("nft")
    lab.exec(OURS, ["nft", NO_RESET])
    try:
        yield
    finally:
        lab.exec(OURS, ["nft", "delete", "table", "inet", "quiet"])


@each_way
@pytest.mark.parametrize("version", VERSIONS)
def test_a_corrupted_segment_of_a_tcp_train_is_not_delivered(
    over: Pair, way: tuple[str, str], version: str, require: Callable[..., None]
) -> None:
    lab = over.lab
    with (
        alone(lab, way, version, require),
        listening(lab, way[1], over.addresses[way[1], version]) as server,
        Wire(over, way) as wire,
    ):
        client = Client(over, wire, way, version, server.getsockname()[:2])
        client.connect()
        connection, _ = server.accept()
        with connection:
            connection.settimeout(WAIT_S)
            payload = [bytes([number]) * 1000 for number in range(TRAIN)]
            frames = [client.segment(part, at=1000 * number) for number, part in enumerate(payload)]
            wire.train([spoil(frame) if number == 5 else frame for number, frame in enumerate(frames)])
            came = exactly(connection, 5000)
            wire.train(frames[5:6])  # as it should have been; with it comes what waited behind the gap
            came += exactly(connection, 1000 * (TRAIN - 5))
            assert came == b"".join(payload), over.story()


def exactly(connection: socket.socket, octets: int) -> bytes:
    came = b""
    while len(came) < octets and (part := connection.recv(octets - len(came))):
        came += part
    return came


def listening(lab: Lab, place: str, address: str) -> socket.socket:
    """A TCP server in a place."""
    made = inside(lab, place, lambda: socket.create_server((address, 0), family=family_of(address)))
    made.settimeout(WAIT_S)
    return made


def test_an_underlay_is_what_it_is_called(over: Pair) -> None:
    """Where a card cannot cut inside a tunnel, frames of the MTU leave the kernel's host; else super-frames."""
    with packet_socket(over.lab, KERNEL, "eth0") as heard:
        assert bulk(over.lab, KERNEL, OURS, over.addresses[OURS, "v4"], 4 << 20).intact
        longest = max(lengths(heard, outgoing=True))
    assert (longest > 2 * over.lab.plan.mtu) == (over.kind == "offload"), longest
    assert over.kind == "offload" or longest == over.lab.plan.mtu + 14
