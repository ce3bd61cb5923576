"""Three hosts, two containers each, one segment; and a second network that must stay apart.

    c1-1 c1-2     c2-1 c2-2     c3-1 c3-2        blue: all six       red: x1 on h1, x2 on h2
       h1 ───────── h2 ───────── h3              a forger: the underlay itself, no member
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from streams import answer_of, echoes, exactly, once, pairs, pings, ready, watching

from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.netns, pytest.mark.rootless]

SIX = ("c1-1", "c1-2", "c2-1", "c2-2", "c3-1", "c3-2")


class Segment:
    """The two networks and who is where."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.blue = lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24", "--ipv6")
        self.red = lab.vxlanu("h2", "network", "create", "red", "--subnet", "192.168.77.0/24")
        self.v4: dict[str, str] = {}
        self.v6: dict[str, str] = {}
        self.mac: dict[str, str] = {}
        for name in SIX:
            self._attach("blue", name)
        for name in ("c1-x", "c2-x"):
            lab.create_container(name)
            self._attach("red", name)

    def _attach(self, network: str, name: str) -> None:
        body = self.lab.vxlanu(f"h{name[1]}", "attach", network, name)
        addresses = [text.split("/")[0] for text in body["addresses"]]
        self.mac[name] = body["mac"]
        for address in addresses:
            (self.v6 if ":" in address else self.v4)[name] = address


@pytest.fixture(scope="module")
def segment(lab: Lab) -> Iterator[Segment]:
    yield Segment(lab)


def drops(lab: Lab, host: str, reason: str, network: str = "") -> int:
    """Frames that `host` counted under a reason, in one network or (network "") as a whole."""
    rows = lab.vxlanu(host, "drops")
    scope = "network" if network else "host"
    return sum(r["frames"] for r in rows if r["reason"] == reason and r["scope"] == scope and r["network"] == network)


def dropped(lab: Lab, host: str, reason: str, network: str, count: int) -> None:
    """That `host` counts so many frames under a reason: soon, and then no more."""
    poll(lambda: drops(lab, host, reason, network) >= count, f"{count} {reason}", 60, lab.story)
    assert drops(lab, host, reason, network) == count


def test_every_host_shows_the_network_under_the_same_id(segment: Segment) -> None:
    seen = [segment.lab.vxlanu(host, "network", "ls") for host in ("h1", "h2", "h3")]
    ids = [{row["name"]: (row["id"], row["vni"]) for row in rows if row["scope"] == "global"} for rows in seen]
    assert ids[0] == ids[1] == ids[2]
    assert ids[0]["blue"][0] == segment.blue["id"]


def test_a_container_sees_what_the_design_promises(segment: Segment) -> None:
    shown = segment.lab.exec("c1-1", ["ip", "addr", "show", "eth0"]).stdout
    address = segment.v4["c1-1"]
    expected = "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))
    assert "mtu 1450" in shown and expected in shown and f"inet {address}/24" in shown, shown
    assert "tentative" not in shown, shown


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_all_pairs_ping(segment: Segment, version: str) -> None:
    addresses: dict[str, str] = getattr(segment, version)
    lost = [pair for pair in pairs(SIX) if not pings(segment.lab, pair[0], addresses[pair[1]])]
    assert not lost


@pytest.mark.parametrize("version", ["v4", "v6"])
@pytest.mark.parametrize("places", [("c1-1", "c2-1"), ("c1-1", "c1-2")], ids=["other host", "same host"])
def test_random_bytes_arrive_intact(segment: Segment, places: tuple[str, str], version: str) -> None:
    sender, receiver = places
    address = getattr(segment, version)[receiver]
    with ready(segment.lab, receiver, "receive", "tcp", address, 5001, 60) as listening:
        sent = once(segment.lab, sender, "send", "tcp", address, 5001, 8 << 20, 1, 0)
        assert answer_of(listening) == sent
    for size in (9, 1400, 4000):  # below, at and above the MTU: the last one in fragments
        with ready(segment.lab, receiver, "receive", "udp", address, 5002, 60) as listening:
            sent = once(segment.lab, sender, "send", "udp", address, 5002, 50, size, size)
            assert answer_of(listening) == sent


def test_the_proxy_answers_and_nothing_of_arp_or_nd_crosses_the_underlay(segment: Segment) -> None:
    lab = segment.lab

    def counted() -> tuple[int, int]:
        rows = [row for host in ("h1", "h2", "h3") for row in lab.vxlanu(host, "stats") if row["name"] == "blue"]
        answered = sum(row["arp_answered"] + row["nd_answered"] for row in rows)
        return answered, sum(row["arp_nd_underlay"] for row in rows)

    before = counted()
    for name in SIX:
        lab.exec(name, ["ip", "neigh", "flush", "dev", "eth0"])
    everyone = pairs(SIX)
    for addresses in (segment.v4, segment.v6):
        lost = [(one, other) for one, other in everyone if not echoes(lab, one, addresses[other], 1)]
        assert len(lost) <= 1, f"the first packet to a new neighbor: {lost}"
    after = counted()
    assert after[0] - before[0] >= 2 * len(everyone)
    assert after[1] - before[1] == 0


def frame_to(segment: Segment, destination: str, sender: str, tag: bytes) -> str:
    """An IPv4 frame of an experimental protocol from `sender`'s own MAC and address, carrying `tag`."""
    from scapy.layers.inet import IP
    from scapy.layers.l2 import Ether

    target = segment.mac.get(destination, "ff:ff:ff:ff:ff:ff")
    address = segment.v4.get(destination, "255.255.255.255")
    packet = Ether(dst=target, src=segment.mac[sender]) / IP(src=segment.v4[sender], dst=address, proto=253) / tag
    return bytes(packet).hex()


@pytest.mark.parametrize("destination", ["c2-1", "broadcast"])
def test_frames_of_another_network_never_arrive_and_those_of_the_network_do(
    segment: Segment, destination: str
) -> None:
    lab, tag = segment.lab, b"isolation of networks"
    before = drops(lab, "h1", "fdb_miss", "red")
    with watching(lab, "c2-1", tag) as seen:
        once(lab, "c1-x", "frame", "eth0", frame_to(segment, destination, "c1-x", tag), 20)
        if destination != "broadcast":  # the MAC of the other network is unknown in this one
            dropped(lab, "h1", "fdb_miss", "red", before + 20)
        assert seen() == 0
        once(lab, "c1-1", "frame", "eth0", frame_to(segment, destination, "c1-1", tag), 20)
        assert exactly(20, seen)


def test_an_endpoint_cannot_speak_as_another(segment: Segment) -> None:
    lab, tag = segment.lab, b"somebody else's MAC"
    stolen = frame_to(segment, "c2-1", "c1-2", tag)
    before = drops(lab, "h1", "src_mac_spoof", "blue")
    with watching(lab, "c2-1", tag) as seen:
        once(lab, "c1-1", "frame", "eth0", stolen, 10)
        dropped(lab, "h1", "src_mac_spoof", "blue", before + 10)
        assert seen() == 0
        once(lab, "c1-2", "frame", "eth0", stolen, 10)
        assert exactly(10, seen)


def test_forged_vxlan_from_a_host_that_is_no_member_is_counted_and_dropped(segment: Segment) -> None:
    lab, tag = segment.lab, b"forged by a stranger"
    header = bytes.fromhex("08000000") + (segment.blue["vni"] << 8).to_bytes(4, "big")
    forged = header.hex() + frame_to(segment, "c2-1", "c1-1", tag)
    members = {row["name"]: row["address"] for row in lab.vxlanu("h1", "member", "ls")}
    stranger = members["h2"].rpartition(".")[0] + ".250/24"
    lab.exec("underlay", ["ip", "addr", "replace", stranger, "dev", "underlay"])
    before = drops(lab, "h2", "vtep_unknown", "blue")
    with watching(lab, "c2-1", tag) as seen:
        once(lab, "underlay", "forge", members["h2"], 4789, forged, 20)
        dropped(lab, "h2", "vtep_unknown", "blue", before + 20)
        assert seen() == 0
        once(lab, "h1", "forge", members["h2"], 4789, forged, 20)  # the same bytes from a member arrive
        assert exactly(20, seen)


def test_hosts_and_other_containers_have_no_way_in(segment: Segment) -> None:
    target = segment.v4["c2-1"]
    assert not [place for place in ("h1", "h2", "h3", "c1-x", "c2-x") if pings(segment.lab, place, target, wait=1)]
    assert pings(segment.lab, "c1-1", target)
    assert pings(segment.lab, "c1-x", segment.v4["c2-x"])


def test_malformed_datagrams_on_the_data_port_are_counted(segment: Segment) -> None:
    lab = segment.lab
    address = next(row["address"] for row in lab.vxlanu("h1", "member", "ls") if row["name"] == "h3")
    before = {reason: drops(lab, "h3", reason) for reason in ("hdr_trunc", "vxlan_invalid_hdr", "vxlan_vni_not_found")}
    once(lab, "h1", "forge", address, 4789, "0800", 5)
    once(lab, "h1", "forge", address, 4789, "00" * 60, 5)
    once(lab, "h1", "forge", address, 4789, "08000000" + "fffffe00" + "00" * 60, 5)
    for reason, count in before.items():
        dropped(lab, "h3", reason, "", count + 5)
    once(lab, "h1", "forge", address, 7946, "ff" * 30, 5)
    poll(lambda: lab.vxlanu("h3", "status")["malformed_control"] >= 5, "what is malformed", 60, lab.story)
    assert pings(lab, "c1-1", segment.v4["c3-1"])


def test_frames_that_the_kernel_loses_before_the_agent_sees_them_are_counted_too(segment: Segment) -> None:
    lab, sent = segment.lab, 4000
    before = lab.vxlanu("h3", "endpoint", "inspect", "c3-2")["counters"]["sent_frames"]
    frame = frame_to(segment, "c1-1", "c3-2", b"a burst")
    lab.signal_agent("h3", signal.SIGSTOP)
    try:
        once(lab, "c3-2", "burst", "eth0", frame, sent)
    finally:
        lab.signal_agent("h3", signal.SIGCONT)

    def accounted() -> bool:
        passed = lab.vxlanu("h3", "endpoint", "inspect", "c3-2")["counters"]["sent_frames"] - before
        rows = [row for row in lab.vxlanu("h3", "drops") if row["scope"] == "endpoint" and row["name"] == "c3-2"]
        lost = sum(row["frames"] for row in rows if row["reason"] == "ring_full")
        return lost > 0 and passed + lost >= sent

    poll(accounted, "every frame to be passed or counted", 60, lab.story)


def test_verify_prints_nothing_anywhere(segment: Segment) -> None:
    for host in ("h1", "h2", "h3"):
        done = segment.lab.exec(host, ["vxlanu", "verify"])
        assert segment.lab.vxlanu(host, "verify")["differences"] == [], done.stdout
