"""A kernel vxlan device as a static VTEP: the implementation that every Linux host has.

      c1-1   c1-2      c2-1
        └─ h1 ─┘        h2            two members, and a foreign tunnel end without an agent, set up by
            └──── underlay ────┐      nothing but the commands that `vxlanu vtep add` prints
                             kernel   namespace with a vxlan device; the address of it is inside the network

Run over IPv4 and over IPv6. The veth devices have their default offloads: the kernel hands over what it would leave to
a network card, super-frames of up to 64 KB and partial checksums, and the fast path has to take them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from kernel_peer import INNER, OUTER, KernelPeer
from lab_ns import poll
from sockets import bulk, lengths, packet_socket
from streams import answer_of, datagrams, once, pings, ready

from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("kernel-vxlan", "bridge")]

CONTAINERS = ("c1-1", "c1-2", "c2-1")
FOREIGN = "kernel"
WAYS = [way for name in CONTAINERS for way in ((name, FOREIGN), (FOREIGN, name))]
TRANSFER_BYTES = 8 << 20


class Mixed:
    """The members' network `blue`, with the kernel in it."""

    def __init__(self, lab: Lab, underlay: str) -> None:
        self.lab, self.outer = lab, OUTER[underlay]
        reserved = [f"kernel-{version}={address}" for version, address in INNER.items()]
        body = lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.7.0/24", "--subnet", "fd07::/64",
                          "--aux", reserved[0], "--aux", reserved[1])  # fmt: skip
        self.device, self.mtu = f"vx{body['vni']}", body["mtu"]
        self.addresses: dict[tuple[str, str], str] = {(FOREIGN, version): it for version, it in INNER.items()}
        self.macs: dict[str, str] = {}
        for name in CONTAINERS:
            attached = lab.vxlanu(f"h{name[1]}", "attach", "blue", name)
            self.macs[name] = attached["mac"]
            for text in attached["addresses"]:
                self.addresses[name, "v6" if ":" in text else "v4"] = text.split("/")[0]
        self.kernel = KernelPeer(lab, body, underlay, FOREIGN)
        self.macs[FOREIGN] = self.kernel.mac

    def add(self) -> None:
        """Make the kernel a VTEP of the network again."""
        self.kernel.add()

    def ping(self, sender: str, receiver: str, version: str, wait: int = 60) -> bool:
        return pings(self.lab, sender, self.addresses[receiver, version], wait=wait)

    def lost(self, version: str, wait: int = 60) -> list[tuple[str, str]]:
        """Which container does not reach the kernel, or is not reached by it."""
        return [way for way in WAYS if not self.ping(*way, version, wait)]

    def stats(self, host: str, field: str) -> int:
        rows = self.lab.vxlanu(host, "stats")
        return int(next(row[field] for row in rows if row["scope"] == "network" and row["name"] == "blue"))

    def learned(self, host: str) -> list[dict[str, str]]:
        """The foreign side's MACs, as `host` learned them."""
        rows = self.lab.vxlanu(host, "fdb", "show", "blue")
        return [row for row in rows if row["vtep"] == self.outer]

    def story(self) -> str:
        return self.kernel.story()


@pytest.fixture(scope="module", params=["ipv4", "ipv6"], ids=["over IPv4", "over IPv6"])
def mixed(request: pytest.FixtureRequest, make_module_lab: Callable[..., Lab]) -> Iterator[Mixed]:
    lab = make_module_lab(hosts=2, containers=0, underlay=request.param)
    for name in CONTAINERS:
        lab.create_container(name)
    yield Mixed(lab, request.param)


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_containers_and_the_kernel_ping_each_other_both_ways(mixed: Mixed, version: str) -> None:
    poll(lambda: mixed.ping(FOREIGN, "c1-1", version, 1), what="the first echo", story=mixed.story)
    assert not mixed.lost(version), mixed.story()


@pytest.mark.parametrize("version", ["v4", "v6"])
@pytest.mark.parametrize("way", [("c1-1", FOREIGN), (FOREIGN, "c1-1"), (FOREIGN, "c2-1")], ids=" to ".join)
def test_random_bytes_arrive_intact(mixed: Mixed, way: tuple[str, str], version: str) -> None:
    sender, receiver = way
    address = mixed.addresses[receiver, version]
    with ready(mixed.lab, receiver, "receive", "tcp", address, 5001, 60) as listening:
        sent = once(mixed.lab, sender, "send", "tcp", address, 5001, TRANSFER_BYTES, 7, 0)
        assert answer_of(listening) == sent
    sent, came = datagrams(mixed.lab, sender, receiver, address, 30, 4000)
    assert came == sent, "each in three fragments"


def test_what_the_kernel_sends_arrives_in_super_frames(mixed: Mixed) -> None:
    """That the transfers above are of the kind that the head of this file promises: more than a packet a datagram."""
    with packet_socket(mixed.lab, "h1", "eth0") as heard:
        assert bulk(mixed.lab, FOREIGN, "c1-1", mixed.addresses["c1-1", "v4"], TRANSFER_BYTES).intact
        assert max(lengths(heard, outgoing=False)) > 2 * mixed.mtu


MARKS = """table inet marks {{
    chain arriving {{
        type filter hook prerouting priority mangle
        udp dport 4789 {family} ecn ect0 numgen inc mod 8 0 {family} ecn set ce
    }}
}}"""


SPEAK_ECN = ("net.ipv4.tcp_ecn=1", "net.ipv4.tcp_ecn_fallback=0", "net.ipv4.tcp_congestion_control=reno")
"""Also in a SYN that is sent again, since a busy machine was slow to answer the first."""


def kernel_counters(lab: Lab, name: str) -> dict[str, int]:
    """/proc/net/netstat and snmp6 of a place."""
    shown = lab.exec(name, ["cat", "/proc/net/netstat", "/proc/net/snmp6"]).stdout.splitlines()
    rows = [line.split() for line in shown]
    pairs = [
        pair for names, values in pairwise(rows) if names[0] == values[0] for pair in zip(names, values, strict=True)
    ]
    return {name: int(value) for name, value in (*pairs, *(row for row in rows if len(row) == 2)) if value.isdigit()}


@pytest.mark.interop("nft")
@pytest.mark.parametrize("version", ["v4", "v6"])
@pytest.mark.parametrize("way", [("c1-1", FOREIGN), (FOREIGN, "c1-1")], ids=" to ".join)
def test_a_congestion_mark_of_the_underlay_reaches_both_ends_of_a_stream(
    mixed: Mixed, way: tuple[str, str], version: str
) -> None:
    """The tunnel's end marks what is inside, TCP echoes the mark, the sender slows down: RFC 6040 and RFC 3168."""
    lab, (sender, receiver) = mixed.lab, way
    arrived = "h1" if receiver == "c1-1" else FOREIGN
    for name in way:
        lab.exec(name, ["sysctl", "-qw", *SPEAK_ECN])
    marked, capable = {"v4": ("InCEPkts", "InECT0Pkts"), "v6": ("Ip6InCEPkts", "Ip6InECT0Pkts")}[version]
    family = "ip6" if ":" in mixed.outer else "ip"

    def transfer() -> tuple[int, int, int]:
        """New packets with the mark and with the other one, and marks that the sender has heard of."""
        before = [kernel_counters(lab, name) for name in (sender, receiver)]
        assert bulk(lab, sender, receiver, mixed.addresses[receiver, version], TRANSFER_BYTES).intact
        after = [kernel_counters(lab, name) for name in (sender, receiver)]
        heard = after[0]["TCPDeliveredCE"] - before[0]["TCPDeliveredCE"]
        return after[1][marked] - before[1][marked], after[1][capable] - before[1][capable], heard

    unmarked, others, heard = transfer()
    assert (unmarked, heard) == (0, 0) and others > 0, "the control: ECN is spoken, and nobody marks"
    lab.exec(arrived, ["nft", "-f", "-"], text=MARKS.format(family=family))
    try:
        marks, others, heard = transfer()
    finally:
        lab.exec(arrived, ["nft", "delete", "table", "inet", "marks"])
    assert marks > 0 and others > 0 and heard > 0, (marks, others, heard, mixed.story())


def test_arp_and_nd_for_what_only_the_kernel_knows_cross_the_underlay(mixed: Mixed) -> None:
    """The positive control of `nothing of ARP or ND crosses the underlay` (tests/netns/test_overlay.py)."""
    for version, name in (("v4", "c1-1"), ("v6", "c1-2")):
        before = mixed.stats("h1", "arp_nd_underlay")
        mixed.lab.exec(name, ["ip", "neigh", "flush", "dev", "eth0"])
        assert mixed.ping(name, FOREIGN, version), mixed.story()
        poll(lambda: mixed.stats("h1", "arp_nd_underlay") > before, what="a count", story=mixed.story)  # noqa: B023


def test_only_the_foreign_mac_is_learned(mixed: Mixed) -> None:
    assert not mixed.lost("v4"), mixed.story()
    for host in ("h1", "h2"):
        seen = [(row["mac"], row["origin"]) for row in mixed.learned(host)]
        assert seen == [(mixed.macs[FOREIGN], "learned")], mixed.story()
        assert mixed.lab.vxlanu(host, "verify")["differences"] == []


def test_each_container_is_learned_by_the_kernel_behind_its_own_host(mixed: Mixed) -> None:
    """Both members hear the kernel's ARP request; only the host of the answer's owner may answer it."""
    mixed.lab.exec(FOREIGN, ["ip", "neigh", "flush", "dev", mixed.device])
    assert not mixed.lost("v4"), mixed.story()
    outer = {row["name"]: row["address"] for row in mixed.lab.vxlanu("h1", "member", "ls")}
    table = mixed.lab.exec(FOREIGN, ["bridge", "fdb", "show", "dev", mixed.device]).stdout
    for name in CONTAINERS:
        assert f"{mixed.macs[name]} dst {outer[f'h{name[1]}']} " in table, mixed.story()


def drops(lab: Lab, host: str, reason: str) -> int:
    """Frames of all networks that `host` counted under a reason."""
    rows = lab.vxlanu(host, "drops")
    return sum(row["frames"] for row in rows if row["reason"] == reason and row["scope"] == "network")


def test_without_its_record_the_foreign_vtep_is_a_stranger_again(mixed: Mixed) -> None:
    lab = mixed.lab
    assert not mixed.lost("v4"), mixed.story()
    lab.vxlanu("h1", "vtep", "rm", "blue", mixed.outer)

    def forgotten(host: str) -> bool:
        known = [row["address"] for row in lab.vxlanu(host, "vtep", "ls")]
        return mixed.outer not in known and not mixed.learned(host)

    for host in ("h1", "h2"):
        poll(lambda: forgotten(host), what=f"{host} forgets it", story=mixed.story)  # noqa: B023
    before = {host: drops(lab, host, "vtep_unknown") for host in ("h1", "h2")}
    assert mixed.lost("v4", 1) == WAYS
    for host, count in before.items():
        poll(lambda: drops(lab, host, "vtep_unknown") > count, what=f"{host} counts", story=mixed.story)  # noqa: B023
    assert mixed.ping("c1-1", "c2-1", "v4")
    mixed.add()
    poll(lambda: not mixed.lost("v4", 1), what="all of it again", story=mixed.story)
    assert all(lab.vxlanu(host, "verify")["differences"] == [] for host in ("h1", "h2"))
