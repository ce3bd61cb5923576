"""Every drop reason, provoked by real traffic, bears one name in `drops`, capture, events and log.

    blue     A c1-1 and C c1-2 on h1, B c2-1 on h2
    green    D c1-3 on h1, E c2-2 on h2, and a foreign VTEP that has a MAC by record
    lone     c1-4 on h1, and nobody else
       h1 ──────── h2                  h1 is what is looked at; a stranger on the underlay is no member

Frames leave containers through packet sockets; what the tunnel brings is sent to h1's data port from h2 or by the
stranger. One capture, one stream of events and one log of h1 see all of it. A provocation is repeated until it is
counted: that each frame is counted once is shown in test_conservation.

What cannot be provoked, or is not seen everywhere, and why, stands in NOT_PROVOKED and NOT_SEEN.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from subprocess import DEVNULL, PIPE, Popen

import pytest
from asking import client
from lab_ns import poll
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet
from sockets import inside

from vxlanu.dataplane.reading import REASONS
from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("nft", "tc")]

DATA_PORT = 4789
BLUE, GREEN, LONE, CLASHING = 100, 200, 300, 400  # VNIs
VNIS = {"blue": BLUE, "green": GREEN, "lone": LONE}
NOBODY, UNRECORDED, FOREIGN = "02:00:00:00:00:99", "02:00:00:00:00:77", "02:00:00:00:00:51"
EVERYBODY = "ff:ff:ff:ff:ff:ff"
EXPERIMENTAL = 253  # protocol and, as ETHERTYPE, 0x88b5 (RFC 3692, IEEE 802)
ETHERTYPE = 0x88B5
SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM = 1
CE = 3
STORM = 1500  # more than the burst of storm control, at two copies each

NOT_PROVOKED = {
    "shutdown": "a frame must be in hand at the very moment in which its port goes: microseconds, and after the end of "
    "a worker nobody can ask; tests/native/unit_deliver.c and unit_switch.c provoke it",
}
NOT_SEEN = {
    "ring_full": {"capture", "events", "log"},
    "rx_overflow": {"capture"},
}
"""The kernel drops these before the agent has the frame, so no capture can. Of the ring of a TAP it also tells only who
asks in the container's namespace, which `drops` does and a look once a second must not."""


class Stream:
    """The lines of a command on h1 that runs for as long as the module: `lines` grows."""

    def __init__(self, lab: Lab, *words: str) -> None:
        self.lines: list[dict[str, object]] = []
        command = lab.command("h1", ["vxlanu", *words])
        self._process = Popen(command, env=lab.environment("h1"), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
        self._reading = threading.Thread(target=self._read)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(json.loads(line))

    def __enter__(self) -> Stream:
        self._reading.start()
        return self

    def begun(self) -> str:
        """The first line on stderr, which `capture` writes once it runs."""
        assert self._process.stderr
        return self._process.stderr.readline()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._reading.join()
        self._process.communicate()


def packets_of(lab: Lab, container: str) -> socket.socket:
    """What sends whole frames out of a container's eth0."""
    made = inside(lab, container, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    made.bind(("eth0", 0))
    return made


class Scene:
    """The lab with its networks, who can send in it, and all that h1 says."""

    def __init__(self, lab: Lab, capture: Stream, events: Stream, sockets: contextlib.ExitStack) -> None:
        self.lab, self.capture, self.events, self._sockets = lab, capture, events, sockets
        self.api = client(lab, "h1")
        members = {row["name"]: str(row["address"]) for row in lab.vxlanu("h1", "member", "ls")}
        self.h1 = members["h1"]
        self.mac: dict[str, str] = {}
        self._raw: dict[str, socket.socket] = {}
        for name, network, container in (
            ("A", "blue", "c1-1"), ("C", "blue", "c1-2"), ("B", "blue", "c2-1"),
            ("D", "green", "c1-3"), ("E", "green", "c2-2"), ("alone", "lone", "c1-4"),
        ):  # fmt: skip
            self.attach(name, network, container)
        lab.vxlanu("h1", "vtep", "add", "green", members["h2"].rpartition(".")[0] + ".251", "--mac", FOREIGN)
        stranger = members["h2"].rpartition(".")[0] + ".250/24"
        lab.exec("underlay", ["ip", "addr", "add", stranger, "dev", "underlay"])
        self._udp = {place: sockets.enter_context(self._socket(place)) for place in ("h2", "underlay")}
        poll(lambda: all(map(self.knows, ("B", "E", FOREIGN))), what="h1 to know all", story=lab.story)

    def attach(self, name: str, network: str, container: str) -> None:
        """An endpoint whose kernel says nothing by itself."""
        self.lab.exec(container, ["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
        body = self.lab.vxlanu(f"h{container[1]}", "attach", network, container, "--name", name)
        self.mac[name] = body["mac"]
        self._raw[name] = self._sockets.enter_context(packets_of(self.lab, container))

    def _socket(self, place: str) -> socket.socket:
        return inside(self.lab, place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def knows(self, who: str) -> bool:
        """Whether h1 forwards to a MAC, or to that of an endpoint."""
        return self.mac.get(who, who) in {row.mac for row in self.api.fdb().value.items}

    def address(self, name: str) -> str:
        return ".".join(str(part) for part in bytes.fromhex(self.mac[name].replace(":", ""))[2:])

    def send(self, name: str, frame: Packet | bytes, times: int = 1) -> None:
        """Out of an endpoint's container. A full ring is as good as any other loss here."""
        data = bytes(frame)
        for _ in range(times):
            with contextlib.suppress(OSError):
                self._raw[name].send(data)

    def tunnel(self, frame: Packet | bytes, vni: int = BLUE, *, place: str = "h2", tos: int = 0) -> None:
        """A VXLAN datagram to h1."""
        self.datagram(struct.pack(">II", 0x08000000, vni << 8) + bytes(frame), place=place, tos=tos)

    def datagram(self, data: bytes, *, place: str = "h2", tos: int = 0) -> None:
        self._udp[place].setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        self._udp[place].sendto(data, (self.h1, DATA_PORT))

    def frame(self, source: str, target: str) -> Packet:
        """An IPv4 frame as `source` may send it: of names, or to a MAC."""
        ends = Ether(src=self.mac[source], dst=self.mac.get(target, target))
        return ends / IP(src=self.address(source), dst="192.0.2.1", proto=EXPERIMENTAL) / b"provoked"

    # what h1 says

    def counted(self, network: str, reason: str) -> int:
        scope = "network" if network else "host"
        return sum(row.frames for row in self.api.drops().value.items
                   if (row.scope, row.network, row.reason) == (scope, network, reason))  # fmt: skip

    def captured(self, network: str, reason: str) -> bool:
        vni = self.vni(network)
        return any(line.get("drop") == reason and line.get("vni", 0) == vni for line in list(self.capture.lines))

    def vni(self, network: str) -> int:
        return VNIS.get(network, CLASHING) if network else 0

    def told(self, network: str, reason: str) -> bool:
        wanted = ("drops", network, reason)
        return any((e["event"], e.get("network", ""), e.get("reason")) == wanted for e in list(self.events.lines))

    def logged(self, network: str, reason: str) -> bool:
        where = f"dropped in {network}" if network else "dropped"
        return f"{where}: {reason}, " in self.lab.log("h1")

    def seen(self, network: str, reason: str) -> set[str]:
        """Where the reason of a drop shows."""
        places = {"capture": self.captured, "events": self.told, "log": self.logged}
        return {name for name, look in places.items() if look(network, reason)}

    def story(self) -> str:
        last = [json.dumps(line) for line in [*self.capture.lines[-5:], *self.events.lines[-10:]]]
        return "\n".join([*map(str, self.api.drops().value.items), *last, self.lab.story()])


@pytest.fixture(scope="module")
def scene(make_module_lab: Callable[..., Lab]) -> Iterator[Scene]:
    lab = make_module_lab(hosts=2, containers=5, agent_flags=("--offload", "auto"))
    for number, (name, vni) in enumerate(VNIS.items()):
        lab.vxlanu("h1", "network", "create", name, "--subnet", f"192.168.{number}.0/24", "--vni", str(vni))
    with (
        Stream(lab, "capture", "--drops", "--snaplen", "200", "--json") as capture,
        Stream(lab, "events", "--json") as events,
        contextlib.ExitStack() as sockets,
    ):
        assert capture.begun().startswith("capturing on ")
        poll(lambda: events.lines, what="the events to be listened to", story=lab.story)
        made = Scene(lab, capture, events, sockets)
        mac_pending(made)  # its grace of 5 s begins
        yield made


# -- what the tunnel brings --------------------------------------------------------------------------------------------


def vxlan_invalid_hdr(scene: Scene) -> None:
    scene.datagram(bytes(8) + bytes(scene.frame("B", "A")))


def vxlan_vni_not_found(scene: Scene) -> None:
    scene.tunnel(scene.frame("B", "A"), 0xFFFFFE)


def vtep_unknown(scene: Scene) -> None:
    scene.tunnel(scene.frame("B", "A"), place="underlay")


def vtep_mac(scene: Scene) -> None:
    scene.tunnel(Ether(src=FOREIGN, dst=scene.mac["D"], type=ETHERTYPE), GREEN)


def local_mac(scene: Scene) -> None:
    scene.tunnel(scene.frame("A", "C"))


def mac_pending(scene: Scene) -> None:
    scene.tunnel(Ether(src=UNRECORDED, dst=scene.mac["A"], type=ETHERTYPE))


def split_horizon(scene: Scene) -> None:
    scene.tunnel(scene.frame("B", "B"))


def ip_tunnel_ecn(scene: Scene) -> None:
    scene.tunnel(scene.frame("B", "A"), tos=CE)


def pkt_too_big(scene: Scene) -> None:
    scene.tunnel(Ether(src=scene.mac["B"], dst=scene.mac["A"], type=ETHERTYPE) / bytes(1600))


# -- what an endpoint sends --------------------------------------------------------------------------------------------


def hdr_trunc(scene: Scene) -> None:
    whole = bytes(scene.frame("A", "B"))
    scene.send("A", whole[:16] + struct.pack(">H", 400) + whole[18:])  # IPv4's total length


def mac_invalid_source(scene: Scene) -> None:
    scene.send("A", Ether(src="00:00:00:00:00:00", dst=scene.mac["B"], type=ETHERTYPE))


def src_mac_spoof(scene: Scene) -> None:
    scene.send("A", scene.frame("C", "B"))


def src_ip_spoof(scene: Scene) -> None:
    ends = Ether(src=scene.mac["A"], dst=scene.mac["B"])
    scene.send("A", ends / IP(src=scene.address("C"), dst=scene.address("B"), proto=EXPERIMENTAL))


def arp(scene: Scene, sender: str, target: str, op: int) -> Packet:
    ends = Ether(src=scene.mac["A"], dst=EVERYBODY)
    return ends / ARP(op=op, hwsrc=scene.mac["A"], psrc=sender, pdst=target)


def arp_spoof(scene: Scene) -> None:
    scene.send("A", arp(scene, scene.address("C"), scene.address("B"), 2))


def neigh_miss(scene: Scene) -> None:
    scene.send("A", arp(scene, scene.address("A"), "192.168.0.199", 1))


def rogue_server(scene: Scene) -> None:
    ends = Ether(src=scene.mac["A"], dst=EVERYBODY) / IP(src=scene.address("A"), dst="255.255.255.255")
    scene.send("A", ends / UDP(sport=67, dport=68) / b"offer")


def fdb_miss(scene: Scene) -> None:
    scene.send("A", scene.frame("A", NOBODY))


def no_tx_target(scene: Scene) -> None:
    scene.send("alone", scene.frame("alone", EVERYBODY))


def storm_limit(scene: Scene) -> None:
    scene.send("A", scene.frame("A", EVERYBODY), STORM)


def vlan(scene: Scene) -> None:
    scene.send("A", Ether(src=scene.mac["A"], dst=scene.mac["B"]) / Dot1Q(vlan=7, type=ETHERTYPE) / b"tagged")


def csum(scene: Scene) -> None:
    mac = bytes.fromhex(scene.mac["A"].replace(":", ""))
    own = "fe80::" + (bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]).hex(":", 2)
    damaged = ICMPv6ND_NA(tgt=own, S=0, cksum=0xBAD)
    scene.send("A", Ether(src=scene.mac["A"], dst="33:33:00:00:00:01") / IPv6(src=own, dst="ff02::1") / damaged)


def gso_invalid(scene: Scene) -> None:
    """A checksum that is to be finished where the ports of the packet are."""
    frame = Ether(src=scene.mac["A"], dst=scene.mac["B"]) / IP(src=scene.address("A"), dst=scene.address("B")) / UDP()
    header = struct.pack("<BBHHHH", NEEDS_CSUM, 0, 0, 0, 34, 0)
    with packets_of(scene.lab, "c1-1") as sending:
        sending.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sending.send(header + bytes(frame / bytes(32)))


# -- what stands in the way --------------------------------------------------------------------------------------------


def to_b(scene: Scene) -> None:
    scene.send("A", scene.frame("A", "B"))


def to_c(scene: Scene) -> None:
    scene.send("A", scene.frame("A", "C"))


@contextmanager
def changed(scene: Scene, place: str, do: str, undo: str) -> Iterator[None]:
    """Between two commands."""
    scene.lab.exec(place, do.split())
    try:
        yield
    finally:
        scene.lab.exec(place, undo.split())


def interface_down(scene: Scene) -> AbstractContextManager[None]:
    return changed(scene, "c1-2", "ip link set eth0 down", "ip link set eth0 up")


def queue_without_room(scene: Scene) -> AbstractContextManager[None]:
    return changed(scene, "h1", "tc qdisc replace dev eth0 root pfifo limit 0", "tc qdisc del dev eth0 root")


def no_route(scene: Scene) -> AbstractContextManager[None]:
    rule = f"pref 1 ipproto udp dport {DATA_PORT} unreachable"
    return changed(scene, "h1", f"ip rule add {rule}", f"ip rule del {rule}")


def firewall(scene: Scene) -> AbstractContextManager[None]:
    chain = "{ type filter hook output priority 0 ; }"
    scene.lab.exec("h1", ["nft", f"add table inet shut; add chain inet shut out {chain}"])
    return changed(scene, "h1", f"nft add rule inet shut out udp dport {DATA_PORT} drop", "nft delete table inet shut")


@contextmanager
def stopped(scene: Scene, until: Callable[[], bool]) -> Iterator[None]:
    """The agent of h1 does nothing until something has happened."""
    scene.lab.signal_agent("h1", signal.SIGSTOP)
    try:
        poll(until, what="a loss in the kernel", story=scene.lab.story)
    finally:
        scene.lab.signal_agent("h1", signal.SIGCONT)
    yield


def full_ring(scene: Scene) -> AbstractContextManager[None]:
    def overflows() -> bool:
        scene.send("A", scene.frame("A", "C"), 2000)
        shown = scene.lab.exec("c1-1", ["ip", "-j", "-s", "link", "show", "eth0"]).stdout
        return int(json.loads(shown)[0]["stats64"]["tx"]["dropped"]) > 0

    return stopped(scene, overflows)


def full_socket(scene: Scene) -> AbstractContextManager[None]:
    def overflows() -> bool:
        for _ in range(1000):
            scene.tunnel(bytes(1400), 0xFFFFFE)
        rows = [line.split() for line in scene.lab.exec("h1", ["cat", "/proc/net/udp"]).stdout.splitlines()[1:]]
        return any(int(row[-1]) > 0 for row in rows if row[1].endswith(f":{DATA_PORT:04X}"))

    return stopped(scene, overflows)


Provoke = Callable[[Scene], None]
Around = Callable[[Scene], AbstractContextManager[None]]


def nothing(_scene: Scene) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


PROVOKED: dict[str, tuple[Provoke, str, Around]] = {
    "vxlan_invalid_hdr": (vxlan_invalid_hdr, "", nothing),
    "vxlan_vni_not_found": (vxlan_vni_not_found, "", nothing),
    "hdr_trunc": (hdr_trunc, "blue", nothing),
    "vtep_unknown": (vtep_unknown, "blue", nothing),
    "vtep_mac": (vtep_mac, "green", nothing),
    "mac_invalid_source": (mac_invalid_source, "blue", nothing),
    "local_mac": (local_mac, "blue", nothing),
    "src_mac_spoof": (src_mac_spoof, "blue", nothing),
    "src_ip_spoof": (src_ip_spoof, "blue", nothing),
    "arp_spoof": (arp_spoof, "blue", nothing),
    "rogue_server": (rogue_server, "blue", nothing),
    "fdb_miss": (fdb_miss, "blue", nothing),
    "neigh_miss": (neigh_miss, "blue", nothing),
    "no_tx_target": (no_tx_target, "lone", nothing),
    "split_horizon": (split_horizon, "blue", nothing),
    "vlan": (vlan, "blue", nothing),
    "ip_tunnel_ecn": (ip_tunnel_ecn, "blue", nothing),
    "pkt_too_big": (pkt_too_big, "blue", nothing),
    "csum": (csum, "blue", nothing),
    "gso_invalid": (gso_invalid, "blue", nothing),
    "mac_pending": (mac_pending, "blue", nothing),
    "tap_down": (to_c, "blue", interface_down),
    "sock_error": (to_b, "blue", firewall),
    "unreachable": (to_b, "blue", no_route),
    "sock_full": (to_b, "blue", queue_without_room),
    "storm_limit": (storm_limit, "blue", nothing),
    "ring_full": (to_c, "blue", full_ring),
    "rx_overflow": (vxlan_vni_not_found, "", full_socket),
}
"""Reason: what provokes it, the network that counts it (none: the host alone), and what must be so meanwhile. Those
that stop the agent come last."""


def test_every_reason_is_provoked_or_named_with_why_not() -> None:
    assert {*PROVOKED, *NOT_PROVOKED, "network_conflict"} == {*REASONS[1:]}
    assert not PROVOKED.keys() & NOT_PROVOKED.keys()


def shows(scene: Scene, network: str, reason: str, provoke: Provoke, around: Around = nothing) -> None:
    """Provoke a drop until it is counted, and find its reason wherever it has to be."""
    before, counted = scene.seen(network, reason), scene.counted(network, reason)
    assert counted or not before, f"{before} say what nobody counts"

    def provoked() -> bool:
        provoke(scene)
        return scene.counted(network, reason) > counted

    with around(scene):
        poll(provoked, what=f"a drop as {reason} in {network or 'no network'}", story=scene.story)
    assert (network, reason) in {(row["network"], row["reason"]) for row in scene.lab.vxlanu("h1", "drops")}
    wanted = {"capture", "events", "log"} - NOT_SEEN.get(reason, set())
    poll(lambda: scene.seen(network, reason) >= wanted, what=f"{reason} in {sorted(wanted)}", story=scene.story)


@pytest.mark.parametrize("reason", PROVOKED)
def test_a_drop_has_the_same_name_in_drops_capture_events_and_log(scene: Scene, reason: str) -> None:
    provoke, network, around = PROVOKED[reason]
    shows(scene, network, reason, provoke, around)


def test_two_networks_of_one_vni_that_meet_drop_as_network_conflict(scene: Scene) -> None:
    """Each host makes one while it cannot hear the other."""
    lab = scene.lab
    lab.block_control_port("h2")
    try:
        for number, host in enumerate(("h1", "h2")):
            subnet = f"192.168.{40 + number}.0/24"
            lab.vxlanu(host, "network", "create", f"of-{host}", "--subnet", subnet, "--vni", str(CLASHING))
    finally:
        lab.unblock_control_port("h2")

    def in_conflict() -> list[str]:
        return [row.name for row in scene.api.networks().value.items if row.state == "conflict"]

    (loser,) = poll(in_conflict, what="the networks to meet", story=scene.story)
    poll(lambda: not lab.unready(), what="the hosts to see each other again", story=scene.story)
    scene.attach("loser", loser, "c1-5")
    shows(scene, loser, "network_conflict", lambda it: it.send("loser", it.frame("loser", EVERYBODY)))
