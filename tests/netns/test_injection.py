"""Injection: super-frames leave uncut by the uplink TAP, as long as everything about the way is known for certain.

    c1-1        c2-1                 ipv4, ipv6: the underlay
      └ h1 ────── h2 ┐               agents with --offload inject
           underlay ─┴─ kernel       a host with a kernel vxlan device instead of an agent

Proof of injection is the agent's counter together with the TAP's own; proof against it, that both stand still while a
transfer as long goes through.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from kernel_peer import INNER, SUBNETS, KernelPeer
from lab_ns import poll
from needs import require
from streams import answer_of, once, pings, ready

from benchmarks.underlay import UNDERLAYS
from vxlanu.lab.plan import underlay_address
from vxlanu.lab.topology import Lab
from vxlanu.nsopen.tun import TUNSETVNETHDRSZ
from vxlanu.nsopen.uplink import HEADER_BYTES

pytestmark = [pytest.mark.netns, pytest.mark.interop("kernel-vxlan", "ethtool", "injection")]

TCP_BYTES = 4 << 20
DEVICES = "vxlanu_tx"
HARMS = ("ip link del {}", "ip link set {} down", "tc qdisc del dev {} ingress", "another uplink")
FEATURES = ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation")
GOOD = "1"  # tshark's PROTO_CHECKSUM_E_GOOD
PIDFD_GETFD = 438  # of every architecture; os has it from Python 3.14 on
ROW = 16  # native/limits.h: VX_REFUSALS_MAX
TRAIN = 5  # datagrams of a super-frame
LATER_S = 200.0  # tries are 5, 10, 20, 40, 80 s apart, and all that comes before may take a minute
REFUSED = f"""
import errno, fcntl, os
real = fcntl.ioctl
def ioctl(fd, request, *rest):
    if (request, rest) == ({TUNSETVNETHDRSZ}, ({struct.pack("i", HEADER_BYTES)!r},)) and os.path.exists("{{}}"):
        raise OSError(errno.EBUSY, "played")
    return real(fd, request, *rest)
fcntl.ioctl = ioctl
"""
TRAINS = f"""
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.SOL_UDP, 103, 1000)  # UDP_SEGMENT
    for _ in range(int(sys.argv[2])):
        sender.sendto(bytes({TRAIN} * 1000), (sys.argv[1], 9))
"""


class Device(NamedTuple):
    """An uplink TAP, and how many super-frames it has taken."""

    name: str
    index: int
    taken: int


class Way:
    """From c1-1 to c2-1 and to the kernel, and what of it is injected."""

    def __init__(self, lab: Lab, underlay: str) -> None:
        self.lab, self.underlay = lab, underlay
        reserved = [f"kernel-{version}={address}" for version, address in INNER.items()]
        subnets = [word for subnet in SUBNETS for word in ("--subnet", subnet)]
        made = lab.vxlanu("h1", "network", "create", "blue", *subnets, "--aux", reserved[0], "--aux", reserved[1])
        self.addresses = {"kernel": INNER["v4"]}
        for name in ("c1-1", "c2-1"):
            body = lab.vxlanu(f"h{name[1]}", "attach", "blue", name)
            self.addresses[name] = body["addresses"][0].split("/")[0]
        KernelPeer(lab, made, underlay)

    def transfer(self, receiver: str = "c2-1", sender: str = "c1-1") -> None:
        """TCP, checked at its end."""
        address = self.addresses[receiver]
        poll(lambda: pings(self.lab, sender, address, wait=1), what=f"{sender} reaches {receiver}")
        with ready(self.lab, receiver, "receive", "tcp", address, 5001, 60) as listening:
            sent = once(self.lab, sender, "send", "tcp", address, 5001, TCP_BYTES, 1, 0)
            assert answer_of(listening) == sent, f"{sender} to {receiver}"

    def trains(self, count: int) -> None:
        """So many super-frames of UDP to c2-1, which does not listen; until they have left."""
        before, address = self.encapsulated(), self.addresses["c2-1"]
        self.lab.exec("c1-1", [sys.executable, "-c", TRAINS, address, str(count)])
        poll(lambda: self.encapsulated() >= before + count * TRAIN, what="they have left", story=self.story)

    def encapsulated(self) -> int:
        rows = cast("list[dict[str, int]]", self.lab.vxlanu("h1", "stats"))
        return rows[0]["encapsulated_frames"]

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Have the kernel take another header than ours: EINVAL for each frame."""
        pid = self.lab.agent_pids()["h1"]
        numbers = []
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            with suppress(OSError):  # it was closed while we looked
                numbers += [int(info.name)] if f"iff:\t{DEVICES}" in info.read_text() else []
        (number,) = numbers
        process = os.pidfd_open(pid)
        fd = ctypes.CDLL(None).syscall(PIDFD_GETFD, process, number, 0)
        assert fd >= 0
        try:
            fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", HEADER_BYTES // 2))
            yield
            fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", HEADER_BYTES))
        finally:
            os.close(fd)
            os.close(process)

    def devices(self, host: str = "h1") -> list[Device]:
        """The uplink TAPs: one, or none for a while."""
        shown = json.loads(self.lab.exec(host, ["ip", "-j", "-s", "link"]).stdout)
        ours = [it for it in shown if it["ifname"].startswith(DEVICES)]
        return [Device(it["ifname"], it["ifindex"], it["stats64"]["rx"]["packets"]) for it in ours]

    def injected(self, host: str = "h1") -> tuple[int, int]:
        """Frames by the agent's counter, super-frames by the TAP's."""
        rows = cast("list[dict[str, int]]", self.lab.vxlanu(host, "stats"))
        return rows[0]["injected_frames"], sum(it.taken for it in self.devices(host))

    def is_injected(self, receiver: str = "c2-1") -> bool:
        """Whether a transfer is; one that is so in part is an error, but while the way changes.

        To be asked again: where the kernel drops a neighbour, as it may at any time (a table of all namespaces is
        full), injection rests until it knows the next hop again.
        """
        before = self.injected()
        self.transfer(receiver)
        after = self.injected()
        assert (after[0] > before[0]) is (after[1] > before[1]), f"{before} {after}"
        return after[0] - before[0] > TCP_BYTES // 1450 // 2

    def stands_still(self) -> bool:
        """Whether nothing of a transfer is injected."""
        before = self.injected()
        self.transfer()
        return self.injected() == before

    def why(self, host: str = "h1") -> str:
        """What `status` says of it; empty: it is in use."""
        rows = {row["name"]: row for row in self.lab.vxlanu(host, "status")["offloads"]}
        assert rows["inject"]["in_use"] is not bool(rows["inject"]["why"])
        return str(rows["inject"]["why"])

    def switch(self, features: dict[str, str]) -> None:
        """Of the underlay's own end of the cable to h2."""
        self.lab.exec("underlay", ["ethtool", "-K", "h2", *(word for pair in features.items() for word in pair)])

    def new_cable(self) -> None:
        """Another one in place of the first between h1 and the underlay: another interface that is called eth0."""
        commands = [
            "ip link del h1",
            f"ip link add h1 mtu {self.lab.plan.mtu} type veth peer name eth0 mtu {self.lab.plan.mtu} netns h1",
            "ip link set h1 master underlay addrgenmode none up",
            "ip -n h1 link set eth0 up",
            f"ip -n h1 address add {underlay_address('h1', 'ipv4')}/24 dev eth0",
            f"ip -n h1 address add {underlay_address('h1', 'ipv6')}/64 dev eth0 nodad",
        ]
        for command in commands:
            self.lab.exec("underlay", command.split())

    def second_cable(self) -> None:
        """Another one between h1 and h2, past the underlay: x0 at both ends."""
        cable = "ip link add x0 netns h1 type veth peer name x0 netns h2"
        self.lab.exec("underlay", cable.split())
        for host in ("h1", "h2"):
            self.lab.exec(host, ["ip", "link", "set", "x0", "up"])
            self.lab.exec(host, ["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.x0.rp_filter=0"])
        far = json.loads(self.lab.exec("h2", ["ip", "-j", "link", "show", "x0"]).stdout)[0]["address"]
        other = self.lab.plan.advertise("h2")
        self.lab.exec("h1", ["ip", "neigh", "replace", other, "dev", "x0", "lladdr", far, "nud", "permanent"])

    def story(self) -> str:
        filters = [f"tc -s filter show dev {it.name} ingress" for it in self.devices()]
        asked = ("ip neigh", "ip route", "ip -s link", *filters)
        return "\n".join(self.lab.exec("h1", it.split(), check=False).stdout for it in asked) + self.lab.story()


@pytest.fixture(scope="module", params=["ipv4", "ipv6"])
def way(request: pytest.FixtureRequest, make_module_lab: Callable[..., Lab]) -> Way:
    lab = make_module_lab(hosts=2, containers=1, underlay=request.param, agent_flags=("--offload", "inject"))
    made = Way(lab, request.param)
    poll(lambda: made.is_injected("c2-1"), what="c1-1 to c2-1 is injected", story=made.story)
    return made


def test_super_frames_to_an_agent_and_to_kernel_vxlan_leave_uncut(way: Way) -> None:
    assert way.why() == ""
    for receiver in ("c2-1", "kernel"):
        poll(lambda: way.is_injected(receiver), what=f"the way to {receiver} is known", story=way.story)  # noqa: B023
    way.transfer("c1-1", "kernel")
    for host in ("h1", "h2"):
        lost = {row["reason"] for row in way.lab.vxlanu(host, "drops")} - {"no_tx_target", "vtep_unknown"}
        assert not lost, f"{host}: {lost}"  # those two while the networks were made


def injected_rows(way: Way) -> list[list[str]]:
    """What h2 gets of a transfer, by tshark, a row a packet; nothing if it was not injected."""
    checks = [f"-o{it}.check_checksum:TRUE" for it in ("ip", "udp", "tcp")]
    fields = ["frame.len", "ipv6.flow", "ip.checksum.status", "udp.checksum.status", "tcp.checksum.status"]
    sent = f"udp dst port 4789 and src host {way.lab.plan.advertise('h1')}"
    watching = ["tshark", "-lni", "eth0", *checks, f"-f{sent}", "-c200", "-Tfields"]
    with way.lab.running("h2", [*watching, *(f"-e{field}" for field in fields)]) as tshark:
        assert tshark.stderr and tshark.stdout
        while "Capturing" not in tshark.stderr.readline():
            assert tshark.poll() is None
        injected = way.is_injected()
        rows = [line.rstrip("\n").split("\t") for line in tshark.stdout]
    return rows if injected else []


def test_cut_by_the_kernel_they_are_whole_packets_with_right_checksums(way: Way, tmp_path: Path) -> None:
    """The underlay's own device to h2 cannot do anything for them, so what h2 gets is as it would be on copper."""
    require("tshark")
    features = UNDERLAYS["wire"] | dict.fromkeys(FEATURES, "off")
    way.switch(features)
    try:
        rows = poll(lambda: injected_rows(way), what="what was captured is injected", story=way.story)
    finally:
        way.switch(UNDERLAYS["offload"])
    longest = max(int(row[0]) for row in rows)
    assert longest == way.lab.plan.mtu + 14
    for _, flows, *each in rows:
        outer = flows.split(",")[0] or "0"  # behind it that of the packet inside, if that is IPv6 too
        assert int(outer, 0) == 0, "one way for all of a flow, injected or not"
        assert {status for field in each for status in field.split(",") if status} == {GOOD}, rows


def test_a_neighbour_with_another_mac_is_noticed(way: Way) -> None:
    for switch in ("net.ipv4.conf.eth0.arp_notify=1", "net.ipv6.conf.eth0.ndisc_notify=1"):
        way.lab.exec("h2", ["sysctl", "-qw", switch])
    before = way.injected()
    way.lab.exec("h2", ["ip", "link", "set", "eth0", "address", "02:00:00:00:99:02"])
    poll(way.is_injected, what="injection goes on", story=way.story)
    assert "02:00:00:00:99:02" in way.lab.exec("h1", ["ip", "neigh"]).stdout
    assert way.injected() > before


def test_another_way_than_by_the_uplink_is_left_to_the_sockets(way: Way) -> None:
    lab, other = way.lab, way.lab.plan.advertise("h2")
    route = [f"{other}/{128 if ':' in other else 32}", "dev", "x0"]
    way.second_cable()
    poll(way.is_injected, what="positive control", story=way.story)
    lab.exec("h1", ["ip", "route", "add", *route, "src", lab.plan.advertise("h1")])
    poll(way.stands_still, what="the other way is noticed", story=way.story)
    assert way.why() == "", "the uplink itself is as it was"
    lab.exec("h1", ["ip", "route", "del", *route])
    poll(way.is_injected, what="the way by the uplink is taken again", story=way.story)
    lab.exec("h1", ["ip", "route", "add", *route, "src", lab.plan.advertise("h1"), "table", "100"])
    rule = ["-6" if ":" in other else "-4", "rule", "{}", "to", other, "lookup", "100"]
    poll(way.is_injected, what="nothing leads to that table yet", story=way.story)
    lab.exec("h1", ["ip", *(word.format("add") for word in rule)])
    poll(way.stands_still, what="a rule is noticed", story=way.story)
    lab.exec("h1", ["ip", *(word.format("del") for word in rule)])
    poll(way.is_injected, what="the way by the uplink is taken again", story=way.story)


def test_a_refused_frame_goes_by_its_socket_and_only_many_in_a_row_end_injection(way: Way) -> None:
    poll(way.is_injected, what="positive control", story=way.story)
    for _ in range(3):
        before = way.injected()[0]
        with way.refusing():
            way.trains(ROW // 2 + 1)
        assert way.injected()[0] == before
        way.trains(1)
        poll(lambda: way.injected()[0] == before + TRAIN, what="the next one is", story=way.story)  # noqa: B023
    assert way.why() == ""
    with way.refusing():
        way.trains(ROW)
        poll(lambda: "refused" in way.why(), what="status says so", story=way.story)
    assert way.stands_still()
    said = [line for line in way.lab.log("h1").splitlines() if "refused frame after frame" in line]
    assert len(said) == 1, said
    way.lab.exec("h2", ["ip", "link", "set", "eth0", "address", "02:00:00:00:99:03"])
    poll(way.is_injected, what="another next hop is tried", story=way.story)
    assert way.why() == ""


def test_a_route_with_several_next_hops_is_left_to_the_sockets(way: Way) -> None:
    lab, other = way.lab, way.lab.plan.advertise("h2")
    bits, second = (128, "fd97::77") if ":" in other else (32, "10.97.0.77")
    lab.exec("h2", ["ip", "address", "add", f"{second}/{bits}", "dev", "eth0"])
    route = f"ip route replace {other}/{bits} src {lab.plan.advertise('h1')}"
    hops = [f"nexthop via {address} dev eth0 onlink" for address in (other, second)]
    lab.exec("h1", f"{route} {hops[0]}".split())
    poll(way.is_injected, what="one next hop is enough", story=way.story)
    lab.exec("h1", f"{route} {hops[0]} {hops[1]}".split())
    poll(way.stands_still, what="the second next hop is noticed", story=way.story)
    lab.exec("h1", ["ip", "route", "del", f"{other}/{bits}"])
    poll(way.is_injected, what="the only way is taken again", story=way.story)
    lab.exec("h1", ["sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0"])  # routes do not tell what is in a group
    for number, address in enumerate((other, second), 1):
        lab.exec("h1", f"ip nexthop add id {number} via {address} dev eth0 onlink".split())
    lab.exec("h1", ["ip", "nexthop", "add", "id", "3", "group", "1/2"])
    lab.exec("h1", f"ip route add {other}/{bits} src {lab.plan.advertise('h1')} nhid 3".split())
    poll(way.stands_still, what="the group is noticed", story=way.story)
    lab.exec("h1", ["ip", "route", "del", f"{other}/{bits}"])
    poll(way.is_injected, what="the only way is taken again", story=way.story)


def test_an_uplink_that_cannot_cut_gets_segments(way: Way) -> None:
    for feature in FEATURES:
        poll(way.is_injected, what="positive control", story=way.story)
        way.lab.exec("h1", ["ethtool", "-K", "eth0", feature, "off"])
        poll(lambda: feature in way.why(), what="status says so", story=way.story)  # noqa: B023
        assert way.stands_still()
        way.lab.exec("h1", ["ethtool", "-K", "eth0", feature, "on"])
        poll(lambda: not way.why(), what="it is possible again", story=way.story)
        poll(way.is_injected, what="it is done again", story=way.story)


def test_where_ipsec_is_asked_for_nothing_goes_past_it(way: Way) -> None:
    policy, template = "src 192.0.2.0/24 dst 198.51.100.0/24 dir out", "tmpl src 192.0.2.1 dst 198.51.100.1 proto esp"
    poll(way.is_injected, what="positive control", story=way.story)
    way.lab.exec("h1", f"ip xfrm policy add {policy} {template} mode tunnel".split())
    poll(lambda: "IPsec" in way.why(), what="status says so", story=way.story)
    assert way.stands_still()
    way.lab.exec("h1", f"ip xfrm policy delete {policy}".split())
    poll(way.is_injected, what="it is done again", story=way.story)


@pytest.mark.parametrize("harm", HARMS)
def test_a_device_that_leads_nowhere_is_made_anew(way: Way, harm: str) -> None:
    poll(way.is_injected, what="positive control", story=way.story)
    (old,) = way.devices()
    if "{}" in harm:
        way.lab.exec("h1", harm.format(old.name).split())
    else:
        way.new_cable()
    way.transfer()

    def another() -> bool:
        return [it.index != old.index for it in way.devices()] == [True]

    poll(another, what="there is another one, and only that", story=way.story)
    poll(lambda: not way.why(), what="status says that it is possible", story=way.story)
    poll(way.is_injected, what="it is done again", story=way.story)


def test_beside_no_offload_that_makes_super_frames_status_says_that_it_is_not_in_use(way: Way) -> None:
    way.lab.stop_agent("h2")
    way.lab.start_agent("h2", "--offload", "inject,no-tso,no-uso")
    try:
        assert "no super-frames" in way.why("h2")
    finally:
        way.lab.stop_agent("h2")
        way.lab.start_agent("h2")
    assert way.why("h2") == "", "positive control"


@pytest.mark.parametrize("end", ["stop_agent", "kill_agent"])
def test_the_device_ends_with_the_agent_and_the_next_one_makes_its_own(way: Way, end: str) -> None:
    assert way.devices(), "positive control"
    getattr(way.lab, end)("h1")
    poll(lambda: not way.devices(), what="the device is gone", story=way.story)
    way.lab.start_agent("h1")
    poll(way.devices, what="there is one again", story=way.story)
    poll(way.is_injected, what="it is done again", story=way.story)


def test_a_device_that_was_not_to_be_had_at_the_start_is_made_later(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel has no such bad day at our wish, so Python says in its name that a setting of the device fails."""
    harm = tmp_path / "harm"
    harm.touch()
    (tmp_path / "sitecustomize.py").write_text(REFUSED.format(harm))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    way = Way(make_lab(hosts=2, containers=1, agent_flags=("--offload", "inject")), "ipv4")
    assert "there is no uplink TAP; a new one: prepare the uplink TAP" in way.why()
    assert way.stands_still()
    harm.unlink()
    poll(lambda: not way.why(), timeout=LATER_S, what="status says that it is possible", story=way.story)
    poll(way.is_injected, what="it is done", story=way.story)
