"""Containers' way to the outside: eth1, its bridge, its rules, and the ports that lead in.

          outside (on the underlay, no member)
             |
    h1 ────── underlay ────── h2          blue: every container; closed: --internal
   c1-1 c1-2                c2-1 c2-2     vxlanu_gw on each host that has containers
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from egress_scene import AUDIT_S, Scene
from lab_ns import poll
from streams import pings, ready, words

from vxlanu.lab.topology import Json as Body
from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("nft")]


@pytest.fixture(scope="module")
def scene(make_module_lab: Callable[..., Lab]) -> Iterator[Scene]:
    made = Scene(make_module_lab(hosts=2, containers=2))
    made.lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24")
    made.lab.vxlanu("h1", "network", "create", "closed", "--subnet", "192.168.9.0/24", "--internal")
    yield made


@pytest.fixture
def attached(scene: Scene) -> Iterator[Callable[..., dict[str, Body]]]:
    """`attached(container, *options)` to blue; detached afterwards."""
    made: list[tuple[str, str]] = []

    def attach(container: str, *options: str, network: str = "blue") -> dict[str, Body]:
        body = scene.attach(network, container, *options)
        made.append((network, container))
        return body

    yield attach
    for network, container in made:
        scene.lab.exec(f"h{container[1]}", ["vxlanu", "detach", network, container], check=False)


Attached = Callable[..., dict[str, Body]]


def test_a_container_reaches_the_outside_under_its_hosts_address(scene: Scene, attached: Attached) -> None:
    assert scene.asked("c2-1", scene.outside, 7001, wait=1) == "", "nobody is there yet"
    with scene.serving("underlay", 7001) as server:
        assert server.stdout and server.stdout.readline()
        attached("c2-1")
        link = scene.links("c2-1")["eth1"]
        assert isinstance(link, dict) and (link["mtu"], str(link["address"])[:11]) == (1500, "02:42:ac:12")
        assert scene.asked("c2-1", scene.outside, 7001) == scene.host["h2"]
    routes = scene.lab.exec("c2-1", ["ip", "route"]).stdout
    assert "default via 172.18.0.1 dev eth1" in routes


def test_containers_cannot_talk_over_eth1_but_over_the_overlay(scene: Scene, attached: Attached) -> None:
    attached("c1-1")
    attached("c1-2", "--ip", "192.168.0.12")
    other = scene.way_out("c1-2")
    assert not pings(scene.lab, "c1-1", other, wait=1), "on the bridge the ports are isolated"
    scene.lab.exec("c1-1", ["ip", "route", "add", f"{other}/32", "via", "172.18.0.1", "dev", "eth1"])
    assert not pings(scene.lab, "c1-1", other, wait=1), "nor does the host route between them"
    assert pings(scene.lab, "h1", other), "the host has a way, as Docker's has"
    assert pings(scene.lab, "c1-1", "192.168.0.12")
    assert not pings(scene.lab, "h1", "192.168.0.12", wait=1), "the overlay is closed to the host"


def test_an_outsider_cannot_route_into_the_bridge(scene: Scene, attached: Attached) -> None:
    attached("c1-1")
    inside = scene.way_out("c1-1")

    def unguarded() -> bool:
        scene.lab.exec("h1", ["nft", "delete", "table", "inet", "vxlanu"], check=False)
        return pings(scene.lab, "underlay", inside, wait=1)  # the audit may have put it back already

    scene.lab.exec("underlay", ["ip", "route", "replace", f"{inside}/32", "via", scene.host["h1"]])
    try:
        assert not pings(scene.lab, "underlay", inside, wait=1)
        poll(unguarded, what="the host to let it in without our rules")
    finally:
        scene.lab.exec("underlay", ["ip", "route", "del", f"{inside}/32"])
    poll(lambda: scene.traces("h1")[1], what="the rules to be put back", timeout=AUDIT_S)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_answers_outside_and_on_the_host_until_detach(
    scene: Scene, attached: Attached, protocol: str
) -> None:
    attached("c1-2")
    body = attached("c1-1", "--publish", f"8080:80/{protocol}", "--publish", f"{scene.host['h1']}:8081:80/{protocol}")
    way = body["egress"]
    assert isinstance(way, dict) and way["ifname"] == "eth1" and len(way["published"]) == 2
    with scene.serving("c1-1", 80, protocol) as server:
        assert server.stdout and server.stdout.readline()
        assert scene.asked("underlay", scene.host["h1"], 8080, protocol) == scene.outside, "the client's own address"
        assert scene.asked("underlay", scene.host["h1"], 8081, protocol) == scene.outside
        assert scene.asked("h1", scene.host["h1"], 8080, protocol), "from the host"
        assert scene.asked("h1", "127.0.0.1", 8080, protocol), "from its loopback"
        assert not scene.asked("h1", "127.0.0.1", 8081, protocol, wait=1), "published at another address only"
        assert not scene.asked("c1-2", scene.host["h1"], 8080, protocol, wait=1), "the containers here have the network"
        shown = scene.lab.vxlanu("h1", "network", "inspect", "vxlanu_gw")
        assert isinstance(shown, dict) and (shown["scope"], shown["subnets"]) == ("local", ["172.18.0.0/16"])
        assert shown["options"] == {"icc": "false", "masquerade": "true", "ip_forward": "true"}
        assert f"0.0.0.0:8080 -> {way['address'][:-3]}:80/{protocol} (c1-1)" in shown["ports"]
        scene.lab.vxlanu("h1", "detach", "blue", "c1-1")
        assert not scene.asked("underlay", scene.host["h1"], 8080, protocol, wait=1)
    attached("c1-1", "--publish", f"8080:80/{protocol}")


def test_containers_cannot_use_the_way_that_published_ports_open_to_loopback(scene: Scene, attached: Attached) -> None:
    attached("c1-1", "--publish", "8080:80")

    def unguarded() -> bool:
        scene.lab.exec("h1", ["nft", "delete", "chain", "inet", "vxlanu", "raw"], check=False)
        return bool(scene.asked("c1-1", "127.0.0.1", 7002, wait=1))  # the audit may have put it back already

    scene.lab.exec("c1-1", ["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"])
    scene.lab.exec("c1-1", ["sysctl", "-qw", "net.ipv4.conf.eth1.route_localnet=1"])
    scene.lab.exec("c1-1", ["ip", "route", "add", "127.0.0.1/32", "via", "172.18.0.1", "dev", "eth1"])
    try:
        with scene.serving("h1", 7002) as server:
            assert server.stdout and server.stdout.readline()
            assert scene.asked("h1", "127.0.0.1", 7002)
            assert not scene.asked("c1-1", "127.0.0.1", 7002, wait=1)
            poll(unguarded, what="a container to reach the host's loopback without our chain")
    finally:
        scene.lab.exec("c1-1", ["ip", "addr", "add", "127.0.0.1/8", "dev", "lo"])


SPEAKER = """
import socket, struct, sys
datagram = struct.pack("!4H2s", 5, 7005, 10, 0, b"me")
for source in sys.argv[2:]:
    both = socket.inet_aton(source) + socket.inet_aton("172.18.0.1")
    header = struct.pack("!BBHHHBBH", 0x45, 0, 30, 1, 0, 64, 17, 0) + both
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xffff) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xffff) + both
    own = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    own.sendto(header + datagram, ("eth1", 0x0800, 0, 0, bytes.fromhex(sys.argv[1].replace(":", ""))))
"""
HEARER = """
import socket
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(("0.0.0.0", 7005))
own.settimeout(5)
print("{}", flush=True)
while True:
    print(own.recvfrom(100)[1][0], flush=True)
"""


def test_a_container_does_not_pass_for_the_host_itself(scene: Scene, attached: Attached) -> None:
    """From an address of the loopback, while route_localnet is on for the bridge."""
    attached("c1-1", "--publish", "8080:80")
    own, bridge = scene.way_out("c1-1"), scene.links("h1")["vxlanu_gw"]
    assert isinstance(bridge, dict)
    speak = [words()[0], "-c", SPEAKER, str(bridge["address"]), "127.0.0.2", own]

    def heard() -> str:
        """The first of the two; empty if neither came."""
        with scene.lab.running("h1", [words()[0], "-c", HEARER]) as hearer:
            assert hearer.stdout and hearer.stdout.readline()
            scene.lab.exec("c1-1", speak)
            return hearer.stdout.readline().strip()

    def unguarded() -> bool:
        scene.lab.exec("h1", ["nft", "delete", "chain", "inet", "vxlanu", "raw"], check=False)
        return heard() == "127.0.0.2"  # the audit may have put it back already

    assert pings(scene.lab, "h1", own), "the bridge lets pass"
    assert poll(heard, what="one of the two") == own
    poll(unguarded, what="a container to pass for the host without our chain")


def test_the_bridge_believes_no_router_among_the_containers(scene: Scene, attached: Attached) -> None:
    """A router advertisement from eth1 would otherwise give the host a default route into that container."""
    attached("c1-1")

    def forbidden() -> bool:
        return scene.lab.exec("h1", ["sysctl", "-n", "net.ipv6.conf.vxlanu_gw.disable_ipv6"]).stdout.strip() == "1"

    assert forbidden()
    scene.lab.exec("h1", ["sysctl", "-qw", "net.ipv6.conf.vxlanu_gw.disable_ipv6=0"])
    poll(forbidden, timeout=AUDIT_S, what="the audit to forbid it again")


def test_an_internal_network_has_one_interface_and_no_route(scene: Scene, attached: Attached) -> None:
    attached("c1-1", network="closed")
    assert sorted(scene.links("c1-1")) == ["eth0", "lo"]
    assert "default" not in scene.lab.exec("c1-1", ["ip", "route"]).stdout
    no = scene.refused("h1", "attach", "closed", "c1-2", "--publish", "8080:80")
    assert no.returncode == 6 and "internal" in no.stderr
    attached("c1-2")
    assert "eth1" in scene.links("c1-2")


def test_one_way_out_serves_all_networks_and_goes_with_the_last(scene: Scene, attached: Attached) -> None:
    scene.lab.vxlanu("h1", "network", "create", "red", "--subnet", "192.168.77.0/24")
    attached("c1-1")
    address = scene.way_out("c1-1")
    assert attached("c1-1", network="red")["ifname"] == "eth2"
    assert sorted(scene.links("c1-1")) == ["eth0", "eth1", "eth2", "lo"]
    scene.lab.vxlanu("h1", "detach", "blue", "c1-1")
    assert scene.way_out("c1-1") == address and pings(scene.lab, "c1-1", scene.outside)
    rows = {row["name"]: row for row in scene.lab.vxlanu("h1", "network", "ls")}
    assert rows["vxlanu_gw"]["scope"] == "local" and rows["vxlanu_gw"]["endpoints"] == 1
    scene.lab.vxlanu("h1", "detach", "red", "c1-1")
    assert sorted(scene.links("c1-1")) == ["lo"]
    assert scene.traces("h1") == ([], False)
    scene.lab.vxlanu("h1", "network", "rm", "red")


def test_what_a_firewall_or_an_administrator_removed_is_put_back(scene: Scene, attached: Attached) -> None:
    lab = scene.lab
    attached("c1-1", "--publish", "8080:80")
    before = scene.way_out("c1-1")
    with scene.unmended("h1"):
        assert pings(lab, "c1-1", scene.outside), "the way is there while the agent stands"
        lab.exec("h1", ["nft", "flush", "ruleset"])
        assert not pings(lab, "c1-1", scene.outside, wait=1), "nothing is masqueraded"
    poll(lambda: pings(lab, "c1-1", scene.outside, wait=1), what="the rules to be put back", timeout=AUDIT_S)
    lab.exec("h1", ["ip", "link", "del", "vxlanu_gw"])
    poll(lambda: pings(lab, "c1-1", scene.outside, wait=1), what="the bridge to be made again", timeout=AUDIT_S)
    lab.exec("c1-1", ["ip", "link", "del", "eth1"])
    poll(lambda: pings(lab, "c1-1", scene.outside, wait=1), what="eth1 to be made again", timeout=AUDIT_S)
    assert scene.way_out("c1-1") == before
    lab.exec("h1", ["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    poll(lambda: pings(lab, "c1-1", scene.outside, wait=1), what="forwarding to be on again", timeout=AUDIT_S)
    port = next(name for name in scene.traces("h1")[0] if name.startswith("e-"))
    lab.exec("h1", ["bridge", "link", "set", "dev", port, "isolated", "off"])

    def isolated() -> bool:
        [link] = json.loads(lab.exec("h1", ["ip", "-d", "-j", "link", "show", port]).stdout)
        return bool(link["linkinfo"]["info_slave_data"]["isolated"])

    poll(isolated, what="the port to be isolated again", timeout=AUDIT_S)


def test_a_firewall_that_drops_what_it_forwards_is_named(scene: Scene, attached: Attached) -> None:
    """Docker's and ufw's way: no table of ours can let pass what a base chain of theirs drops."""
    lab = scene.lab
    policy = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"
    lab.exec("h1", ["nft", policy])
    attached("c1-1")
    assert not pings(lab, "c1-1", scene.outside, wait=1)
    poll(lambda: any("ip filter FORWARD drops" in it for it in lab.vxlanu("h1", "status")["warnings"]),
         what="the warning", timeout=AUDIT_S)  # fmt: skip
    findings = json.loads(lab.exec("h1", ["vxlanu", "doctor", "--json"], check=False).stdout)["findings"]
    [finding] = [it for it in findings if it["check"] == "egress"]
    assert finding["state"] == "fail" and "ip filter FORWARD" in finding["what"], finding
    lab.exec("h1", ["nft", "insert rule ip filter FORWARD iifname vxlanu_gw accept"])
    lab.exec("h1", ["nft", "insert rule ip filter FORWARD oifname vxlanu_gw accept"])
    assert pings(lab, "c1-1", scene.outside), "what the doctor says is what helps"
    findings = json.loads(lab.exec("h1", ["vxlanu", "doctor", "--json"], check=False).stdout)["findings"]
    assert [it["state"] for it in findings if it["check"] == "egress"] == ["ok"]
    lab.exec("h1", ["nft", "delete", "table", "ip", "filter"])
    poll(lambda: not any("FORWARD" in it for it in lab.vxlanu("h1", "status")["warnings"]), what="the warning to go",
         timeout=AUDIT_S)  # fmt: skip


def test_a_crash_of_the_agent_is_not_noticed_and_what_ended_meanwhile_is_cleared(
    scene: Scene, attached: Attached
) -> None:
    lab = scene.lab
    attached("c1-1", "--publish", "8080:80")
    lab.create_container("c1-9")
    attached("c1-9")
    address = scene.way_out("c1-1")
    with scene.serving("c1-1", 80) as server:
        assert server.stdout and server.stdout.readline()
        lab.kill_agent("h1")
        assert pings(lab, "c1-1", scene.outside) and scene.asked("underlay", scene.host["h1"], 8080)
        lab.delete_container("c1-9")
        lab.exec("h1", ["ip", "link", "add", "e-0123456789ab", "type", "veth", "peer", "name", "nobody"])
        lab.exec("h1", ["nft", "flush", "ruleset"])
        lab.start_agent("h1")
        poll(lambda: len(scene.traces("h1")[0]) == 2, what="one bridge and one port", timeout=AUDIT_S)
        assert scene.way_out("c1-1") == address and pings(lab, "c1-1", scene.outside)
        assert scene.asked("underlay", scene.host["h1"], 8080) == scene.outside
    no = scene.refused("h1", "attach", "blue", "c1-2", "--publish", "8080:80")
    assert no.returncode == 6 and "leads to c1-1" in no.stderr, "the port is held again"


def test_a_crash_after_the_last_container_leaves_nothing(scene: Scene) -> None:
    lab = scene.lab
    lab.create_container("c1-8")
    scene.attach("blue", "c1-8")
    lab.kill_agent("h1")
    lab.delete_container("c1-8")
    lab.start_agent("h1")
    poll(lambda: scene.traces("h1") == ([], False), what="nothing left", timeout=AUDIT_S)


def test_a_container_that_ends_takes_its_way_out_along(scene: Scene) -> None:
    scene.lab.create_container("c2-8")
    scene.attach("blue", "c2-8", "--publish", "8080:80")
    assert len(scene.traces("h2")[0]) == 2
    scene.lab.delete_container("c2-8")
    poll(lambda: scene.traces("h2") == ([], False), what="nothing left", timeout=AUDIT_S)


def test_a_target_with_a_default_route_keeps_it(scene: Scene) -> None:
    lab = scene.lab
    lab.create_container("c2-7")
    for command in ("link add w0 type veth peer name w1", "addr add 10.77.0.2/24 dev w0", "link set w0 up",
                    "link set w1 up", "route add default via 10.77.0.1"):  # fmt: skip
        lab.exec("c2-7", ["ip", *command.split()])
    no = scene.refused("h2", "attach", "blue", "c2-7", "--publish", "8080:80")
    assert no.returncode == 6 and "default route of its own" in no.stderr
    scene.attach("blue", "c2-7")
    assert sorted(scene.links("c2-7")) == ["eth0", "lo", "w0", "w1"]
    assert "default via 10.77.0.1" in lab.exec("c2-7", ["ip", "route"]).stdout
    assert scene.traces("h2") == ([], False)
    lab.delete_container("c2-7")


@pytest.mark.parametrize(
    ("said", "code", "why"),
    [
        ("80", 2, "not of the form"),
        ("8080:80/sctp", 2, "there are tcp and udp"),
        ("0:80", 2, "0 is not a port"),
        ("8080:70000", 2, "70000 is not a port"),
        ("[::1]:8080:80", 2, "IPv4 only"),
        ("198.51.100.1:8080:80", 2, "no address of this host"),
    ],
)
def test_a_wrong_publish_is_refused_and_leaves_nothing(scene: Scene, said: str, code: int, why: str) -> None:
    no = scene.refused("h1", "attach", "blue", "c1-1", "--publish", said)
    assert (no.returncode, why in no.stderr) == (code, True), no
    assert sorted(scene.links("c1-1")) == ["lo"] and scene.traces("h1") == ([], False)


def test_a_port_that_is_held_is_refused_with_its_holder(scene: Scene, attached: Attached) -> None:
    with scene.serving("h1", 7003) as server:
        assert server.stdout and server.stdout.readline()
        no = scene.refused("h1", "attach", "blue", "c1-1", "--publish", "7003:80")
        held_by = r"TCP port 7003 of the host is held by python\S* \(pid \d+\)"
        assert no.returncode == 6 and re.search(held_by, no.stderr)
        attached("c1-1", "--publish", "7003:80/udp")
    no = scene.refused("h1", "attach", "blue", "c1-2", "--publish", "127.0.0.1:7003:53/udp")
    assert no.returncode == 6 and "UDP port 7003 leads to c1-1" in no.stderr
    assert scene.refused("h1", "network", "rm", "vxlanu_gw").returncode == 5
    with ready(scene.lab, "h1", "receive", "udp", "127.0.0.1", 7004, 60):
        held = scene.refused("h1", "attach", "blue", "c1-2", "--publish", "7004:53/udp")
        assert held.returncode == 6 and "UDP port 7004" in held.stderr


def test_a_bridge_of_somebody_elses_is_left_alone(scene: Scene) -> None:
    scene.lab.exec("h2", ["ip", "link", "add", "vxlanu_gw", "type", "bridge"])
    try:
        no = scene.refused("h2", "attach", "blue", "c2-1")
        assert no.returncode == 5 and "not this agent's" in no.stderr
        again = scene.refused("h2", "attach", "blue", "c2-1")
        assert again.returncode == 5 and "not this agent's" in again.stderr, "and no port of it is made the second time"
        assert "eth0" not in scene.links("c2-1")
        assert scene.traces("h2") == (["vxlanu_gw"], False), "nor do rules of ours stand in its way"
    finally:
        scene.lab.exec("h2", ["ip", "link", "del", "vxlanu_gw"])
    scene.attach("blue", "c2-1")
    scene.lab.vxlanu("h2", "detach", "blue", "c2-1")


def test_the_subnet_is_the_first_that_nothing_has(scene: Scene) -> None:
    lab = scene.lab
    lab.vxlanu("h1", "network", "create", "like-docker", "--subnet", "172.18.4.0/24")
    poll(lambda: "like-docker" in {row["name"] for row in lab.vxlanu("h2", "network", "ls")}, what="h2 to hear of it")
    lab.exec("h2", ["ip", "route", "add", "172.19.0.0/16", "via", scene.host["h1"]])
    scene.attach("blue", "c2-1")
    assert "inet 172.20.0.1/16" in lab.exec("h2", ["ip", "addr", "show", "vxlanu_gw"]).stdout
    lab.vxlanu("h2", "detach", "blue", "c2-1")
    lab.exec("h2", ["ip", "route", "del", "172.19.0.0/16"])
    lab.vxlanu("h1", "network", "rm", "like-docker")


def test_a_subnet_that_was_said_is_used_or_refused(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(hosts=1, containers=2, agent_flags=("--gateway-subnet", "10.200.0.0/24"))
    lab.vxlanu("h1", "network", "create", "over", "--subnet", "10.200.0.0/25")
    no = lab.exec("h1", ["vxlanu", "attach", "over", "c1-1"], check=False)
    assert no.returncode == 5 and "overlaps 10.200.0.0/25" in no.stderr
    lab.vxlanu("h1", "network", "rm", "over")
    lab.vxlanu("h1", "network", "create", "clear", "--subnet", "192.168.0.0/24")
    lab.vxlanu("h1", "attach", "clear", "c1-1")
    assert "inet 10.200.0.2/24" in lab.exec("c1-1", ["ip", "addr", "show", "eth1"]).stdout
    lab.stop_agent("h1")
    lab.start_agent("h1", "--gateway-subnet", "none")
    lab.vxlanu("h1", "attach", "clear", "c1-2")
    assert "eth1" not in lab.exec("c1-2", ["ip", "link"]).stdout
    wrong = lab.exec("h1", ["vxlanu", "agent", "--check", "--gateway-subnet", "10.0.0.0/33"], check=False)
    assert wrong.returncode == 2 and "gateway-subnet" in wrong.stderr
