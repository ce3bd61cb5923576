"""Every finding in both of its states, from facts; and how findings are printed and become an exit code."""

from __future__ import annotations

import json
import stat
import struct
from dataclasses import replace

import msgspec
import pytest
from sample_agent import golden

from vxlanu.api import schema
from vxlanu.cli.doctor import draw
from vxlanu.doctor import host, network
from vxlanu.doctor.facts import (
    Clock,
    Conntrack,
    Facts,
    File,
    Firewall,
    Holder,
    Host,
    PluginSocket,
    Settings,
    Tun,
    Workers,
)
from vxlanu.doctor.finding import FAIL, OK, SKIP, WARN, Finding, Report
from vxlanu.doctor.firewall import Chain, Condition, Rule
from vxlanu.doctor.host import LOST_WITHOUT, NEEDED
from vxlanu.doctor.read import CAPABILITIES, TIMEX
from vxlanu.share import shipped

DEVICE = stat.S_IFCHR | 0o666
OFFLOADS = [schema.Offload("tso", True), schema.Offload("rcvbufforce", True)]
STATUS = msgspec.structs.replace(golden(schema.Status), offloads=OFFLOADS, wrong_key=0, keyed=True, pid=77)
REACH = schema.Reach(
    "0f" * 16, "h2", "alive", "192.0.2.2", 7946, "192.0.2.2", 4789, "0.1.0", True,
    *("open",) * 6, data_out_bytes=1500, data_in_bytes=1500, route_mtu=1500,
)  # fmt: skip
NETCHECK = schema.Netcheck("h1", "192.0.2.1", "eth0", 7946, 4789, 1500, 1500, 0.7, "demonet", [REACH])
WELL = Facts(
    settings=Settings(address="192.0.2.1", ifname="eth0", link_mtu=1500),
    host=Host(
        *((6, 12, 0), "6.12.0", 0, frozenset(CAPABILITIES), "the agent", 4 << 20, 10000, 1, 0, 20, 1024)
    ),
    tun=Tun(File("/dev/net/tun", DEVICE, 0, True), lacking={}),
    conntrack=Conntrack(0, 10, 1000),
    workers=Workers(0.5, 0.3, 0.5),
    clock=Clock(True, 1500),
    key=File("/etc/vxlanu/cluster.key", stat.S_IFREG | 0o600, 0, True),
    state_dir=File("/var/lib/vxlanu", stat.S_IFDIR | 0o700, 0, True),
    plugin=PluginSocket("/run/docker/plugins/vxlanu.sock", "agent", 77),
    status=STATUS,
    netcheck=NETCHECK,
)
ALONE = replace(WELL, status=None, plugin=None, netcheck=None, agent_error="agent not running: no socket")
USER = replace(ALONE.host, uid=1000, capabilities=frozenset(), whose="this command")


def found(facts: Facts) -> list[Finding]:
    return [*host.findings(facts), *network.findings(facts)]


def worst(facts: Facts, check: str) -> Finding:
    """The finding of that check that says the worst."""
    of_it = [it for it in found(facts) if it.check == check]
    assert of_it, f"no finding called {check}"
    return min(of_it, key=lambda it: (FAIL, WARN, SKIP, OK).index(it.state))


def test_a_host_in_order_has_only_ok() -> None:
    assert [it for it in found(WELL) if it.state != OK] == []


def test_a_flow_that_conntrack_has_room_for_is_no_reason_to_warn() -> None:
    finding = worst(replace(WELL, conntrack=Conntrack(12, 100, 1000)), "conntrack")
    assert (finding.state, finding.what) == (OK, "tracks UDP 4789, 12 of its 100 entries; there is room for 1000")


def test_every_capability_of_the_unit_is_looked_at() -> None:
    """But CAP_KILL, without which nothing is lost."""
    lines = [line.partition("=") for line in shipped("vxlanu.service").splitlines()]
    granted = {word for name, _, words in lines if name == "CapabilityBoundingSet" for word in words.split()}
    assert granted - {"CAP_KILL"} == {f"CAP_{name.upper()}" for name in (*NEEDED, *LOST_WITHOUT)}
    assert set(CAPABILITIES) == {*NEEDED, *LOST_WITHOUT}


def test_without_an_agent_only_what_needs_one_is_unknown() -> None:
    assert [(it.check, it.state) for it in found(ALONE) if it.state != OK] == [("agent", SKIP), ("reach", SKIP)]


def with_host(facts: Facts, **changes: object) -> Facts:
    return replace(facts, host=replace(facts.host, **changes))  # type: ignore[arg-type]  # fields by name


def with_status(**changes: object) -> Facts:
    return replace(WELL, status=msgspec.structs.replace(STATUS, **changes))


def file(path: str, mode: int | None, owner: int = 0, writable: bool = True) -> File:
    return File(path, mode, owner, writable)


PLUGIN = "/run/docker/plugins/vxlanu.sock"
ALL = frozenset(CAPABILITIES)
KEY, STATE = "/etc/vxlanu/cluster.key", "/var/lib/vxlanu"
NO_USO = [schema.Offload("tso", True), schema.Offload("uso", False, "the kernel: Invalid argument")]
SICK: list[tuple[str, Facts, str, str]] = [
    ("neighbors", with_host(WELL, neighbors=900), WARN, "gc_thresh3"),
    ("neighbors", with_status(local_endpoints=600), WARN, "gc_thresh3"),
    ("agent", with_status(wrong_key=3), WARN, "key"),
    ("config", replace(ALONE, config_error="agent.toml: no such setting"), FAIL, "agent --check"),
    ("tun", replace(ALONE, tun=Tun(File("/dev/net/tun"))), FAIL, "modprobe tun"),
    ("tun", replace(ALONE, tun=Tun(file("/dev/net/tun", stat.S_IFREG | 0o644))), FAIL, "mknod"),
    ("tun", replace(ALONE, host=USER, tun=Tun(file("/dev/net/tun", DEVICE), "Permission denied")), FAIL, "chmod 0666"),
    ("tun", replace(ALONE, tun=Tun(file("/dev/net/tun", DEVICE), "Operation not permitted")), FAIL, "NET_ADMIN"),
    ("capabilities", with_host(WELL, capabilities=frozenset({"net_admin"})), FAIL, "CAP_SYS_ADMIN"),
    ("capabilities", replace(ALONE, host=USER), WARN, "rootless"),
    *(("capabilities", with_host(WELL, capabilities=ALL - {name}), WARN, why) for name, why in LOST_WITHOUT.items()),
    ("capabilities", with_host(ALONE, capabilities=ALL - {"net_raw"}), WARN, "--print-unit"),
    ("kernel", with_host(WELL, kernel=(5, 4, 0), release="5.4.0"), WARN, "newer"),
    ("kernel", with_host(WELL, kernel=(7, 1, 4), release="7.1.4"), WARN, "7.1.5"),
    ("offload", with_status(offloads=NO_USO), WARN, "kernel"),
    ("offload", replace(ALONE, tun=Tun(WELL.tun.file, lacking={"uso": "Invalid argument"})), WARN, "kernel"),
    ("offload", replace(ALONE, tun=Tun(WELL.tun.file, "Permission denied")), SKIP, "root"),
    ("receive-buffer", with_status(offloads=[schema.Offload("rcvbufforce", False, "no")]), WARN, "net.core.rmem_max="),
    ("receive-buffer", replace(ALONE, host=replace(USER, rmem_max=212992)), WARN, "net.core.rmem_max="),
    ("receive-buffer", replace(ALONE, host=replace(USER, rmem_max=None)), SKIP, ""),
    ("user-namespaces", replace(ALONE, host=replace(USER, max_user_namespaces=0)), WARN, "max_user_namespaces="),
    ("user-namespaces", replace(ALONE, host=replace(USER, unprivileged_userns_clone=0)), WARN, "userns_clone=1"),
    ("user-namespaces", replace(ALONE, host=replace(USER, apparmor_restricts_userns=1)), WARN, "AppArmor"),
    ("cpu", replace(WELL, workers=Workers(0.5, 0.05, 0.5)), WARN, "CPUWeight=900"),
    ("cpu", replace(WELL, workers=None), SKIP, "root"),
    ("clock", replace(WELL, clock=Clock(False, 16_000_000)), WARN, "set-ntp"),
    ("clock", replace(WELL, clock=None), SKIP, ""),
    ("key", replace(ALONE, key=None), WARN, "key gen"),
    ("key", replace(WELL, key=file(KEY, None)), FAIL, "key gen"),
    ("key", replace(WELL, key=file(KEY, stat.S_IFREG | 0o644)), FAIL, "chmod 0600"),
    ("key", replace(WELL, key=file(KEY, stat.S_IFREG | 0o600, 1000)), WARN, "chown"),
    ("key", replace(with_status(keyed=False), key=WELL.key), WARN, "restart"),
    ("state-dir", replace(WELL, state_dir=file(STATE, None)), FAIL, "restart"),
    ("state-dir", replace(WELL, state_dir=file(STATE, stat.S_IFDIR | 0o755)), WARN, "chmod 0700"),
    ("state-dir", replace(WELL, state_dir=file(STATE, stat.S_IFDIR | 0o700, writable=False)), FAIL, "read-write"),
    ("docker", replace(ALONE, plugin=PluginSocket(PLUGIN, "stand-in", 5)), WARN, "stopped or killed, and Docker has"),
    ("docker", replace(WELL, plugin=PluginSocket(PLUGIN, "stand-in", 5)), WARN, "without --docker"),
    ("docker", replace(ALONE, plugin=PluginSocket(PLUGIN, "nobody")), WARN, f"rm {PLUGIN}"),
    ("docker", replace(WELL, plugin=PluginSocket(PLUGIN, "somebody else")), SKIP, "another agent"),
    ("conntrack", replace(WELL, conntrack=Conntrack(12, 950, 1000)), WARN, "notrack"),
    ("conntrack", replace(WELL, conntrack=Conntrack(0, 950, 1000)), WARN, "nf_conntrack_max=2000"),
    ("conntrack", replace(WELL, conntrack=None), SKIP, ""),
    ("mtu", replace(WELL, settings=replace(WELL.settings, link_mtu=1400)), FAIL, "--mtu 1350"),
    ("mtu", replace(ALONE, settings=replace(WELL.settings, link_mtu=1400)), WARN, "--mtu 1350"),
    ("mtu", replace(WELL, settings=replace(WELL.settings, link_mtu=None)), SKIP, ""),
    ("firewall", replace(WELL, firewall=Firewall(unread="nft: Operation not permitted")), SKIP, "root"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "facts", "state", "advice"), SICK, ids=lambda it: it if isinstance(it, str) else "")
def test_what_is_wrong_is_found_and_advice_given(check: str, facts: Facts, state: str, advice: str) -> None:
    finding = worst(facts, check)
    assert finding.state == state, finding
    assert advice in finding.try_ + finding.why, finding
    assert finding.why


MEMBER = replace(WELL.host, uid=1000, capabilities=frozenset(), whose="this command")
"""A user of the group vxlanu, who asks root's agent from another pid namespace."""
AWAY = "Permission denied"


@pytest.mark.parametrize(
    ("check", "facts", "state"),
    [
        ("state-dir", replace(WELL, state_dir=File("/var/lib/vxlanu", stat.S_IFDIR | 0o700, 0, False)), OK),
        ("state-dir", replace(WELL, state_dir=File("/var/lib/vxlanu", error=AWAY)), SKIP),
        ("key", replace(WELL, key=File("/etc/vxlanu/cluster.key", error=AWAY)), SKIP),
        ("capabilities", WELL, SKIP),
    ],
)
def test_what_a_user_may_not_see_is_no_fault_of_roots_agent(check: str, facts: Facts, state: str) -> None:
    said = worst(replace(facts, host=MEMBER), check)
    assert said.state == state, said
    assert "missing" not in said.what
    if state == SKIP:
        assert said.try_.startswith("run it as root")


def test_rules_that_no_tool_can_read_name_the_tool_that_is_missing() -> None:
    said = worst(replace(WELL, firewall=Firewall(unread="nft is not installed")), "firewall")
    assert said.state == SKIP and said.try_.startswith("apt-get install nftables")
    said = worst(replace(WELL, firewall=Firewall(unread="nft: Operation not permitted")), "firewall")
    assert said.try_ == "run it as root"


def test_the_kernel_copies_no_more_of_the_clock_than_there_is_room_for() -> None:
    """adjtimex(2) copies the whole of struct timex (linux/timex.h) back, its reserved tail too."""
    assert struct.calcsize("l") == 8 and TIMEX.size == 208


def test_root_needs_no_user_namespaces() -> None:
    assert worst(with_host(WELL, apparmor_restricts_userns=1), "user-namespaces").state == OK


# -- ports -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        (Holder("udp", 4789, "vxlan", "vxlan0"), ("vxlan0", "ip link del vxlan0")),
        (Holder("udp", 4789, "vxlan", "flannel.1"), ("flannel's", "--data-port N")),
        (Holder("udp", 4789, "vxlan", "vxlan0", namespace="/run/docker/netns/1-abc"), ("Swarm", "--data-path-port")),
        (Holder("udp", 4789, "kernel"), ("Swarm", "--data-port N")),
        (Holder("udp", 4789, "process", "ovs-vswitchd", 12), ("ovs-vswitchd (pid 12)", "--data-port N")),
        (Holder("tcp", 7946, "process", "dockerd", 13), ("Docker Swarm's gossip", "--control-port N")),
        (Holder("udp", 7946, "process", "serf", 14), ("Serf's gossip", "stop serf")),
    ],
)
def test_a_held_port_names_its_holder_and_how_to_part(holder: Holder, words: tuple[str, str]) -> None:
    check = "data-port" if holder.port == 4789 else "control-port"
    finding = worst(replace(ALONE, holders=(holder,)), check)
    assert finding.state == FAIL
    assert words[0] in finding.what and words[1] in finding.try_


def test_a_holder_on_another_address_or_the_agent_itself_is_not_in_the_way() -> None:
    elsewhere = Holder("udp", 4789, "process", "x", 5, address="198.51.100.1")
    assert worst(replace(ALONE, holders=(elsewhere,)), "data-port").state == OK
    assert worst(replace(ALONE, holders=(replace(elsewhere, address="0.0.0.0"),)), "data-port").state == FAIL
    assert worst(replace(WELL, holders=(replace(elsewhere, pid=77, address="192.0.2.1"),)), "data-port").state == OK


# -- firewall ----------------------------------------------------------------------------------------------------------

DROPS = Chain("nft", "inet", "filter", "input", (Rule((Condition("dport", (4789,)),), "drop"),), "input")
DOUBT = Chain("nft", "inet", "filter", "input", (Rule((Condition("unknown"),), "drop"),), "input")
OUTPUT = Chain("iptables", "ip", "filter", "OUTPUT", (), "output", "drop")


@pytest.mark.parametrize(
    ("chain", "front_end", "command"),
    [
        (DROPS, "", "nft insert rule inet filter input udp dport 4789 accept"),
        (DROPS, "ufw", "ufw allow 4789/udp"),
        (DROPS, "firewalld", "firewall-cmd --permanent --add-port=4789/udp && firewall-cmd --reload"),
        (OUTPUT, "", "iptables -t filter -I OUTPUT -p udp --dport 4789 -j ACCEPT"),
        (replace(OUTPUT, tool="ip6tables-legacy"), "", "ip6tables-legacy -t filter -I OUTPUT -p udp --dport 4789"),
    ],
)
def test_a_rule_that_drops_is_named_with_the_command_that_opens(chain: Chain, front_end: str, command: str) -> None:
    facts = replace(ALONE, firewall=Firewall((chain,), front_end=front_end))
    finding = next(it for it in found(facts) if it.check == "firewall" and "4789" in it.what)
    assert finding.state == FAIL
    assert finding.try_.startswith(command)
    assert chain.place in finding.why


def test_a_doubt_is_no_failure_and_what_got_through_settles_it() -> None:
    assert worst(replace(ALONE, firewall=Firewall((DOUBT,))), "firewall").state == SKIP
    assert worst(replace(WELL, firewall=Firewall((DOUBT,))), "firewall").state == OK
    assert worst(replace(WELL, firewall=Firewall((DROPS,))), "firewall").state == OK
    shut = replace(WELL, netcheck=reached(data_in="silent"), firewall=Firewall((DROPS,)))
    assert worst(shut, "firewall").state == FAIL


# -- members -----------------------------------------------------------------------------------------------------------


def reached(**changes: object) -> schema.Netcheck:
    return msgspec.structs.replace(NETCHECK, members=[msgspec.structs.replace(REACH, **changes)])


WAYS = {
    "data_out": "UDP 4789 from here does not arrive there",
    "data_in": "UDP 4789 from there does not arrive here",
    "control_udp_out": "UDP 7946 from here does not arrive there",
    "control_udp_in": "UDP 7946 from there does not arrive here",
    "control_tcp_out": "TCP 7946 from here does not arrive there",
    "control_tcp_in": "TCP 7946 from there does not arrive here",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["silent", "refused", "No route to host"])
def test_each_way_that_is_shut_is_one_failure(way: str, how: str) -> None:
    failures = [it for it in found(replace(WELL, netcheck=reached(**{way: how}))) if it.state != OK]
    assert [it.what for it in failures] == [f"h2: {WAYS[way]}"]
    assert failures[0].state == FAIL and failures[0].try_


def test_a_member_that_cannot_be_asked_fails_once_and_the_rest_is_unknown() -> None:
    unknown = dict.fromkeys(WAYS, "unknown") | {"control_tcp_out": "silent"}
    mute = replace(WELL, netcheck=reached(answered=False, data_out_bytes=0, data_in_bytes=0, **unknown))
    failures = [it for it in found(mute) if it.state != OK]
    assert [(it.check, it.state) for it in failures] == [("reach", FAIL), ("reach", SKIP)]
    assert "does not answer on the control port" in failures[0].what


def test_a_member_that_accepts_and_does_not_understand_is_no_failure() -> None:
    unknown = dict.fromkeys(WAYS, "unknown") | {"control_tcp_out": "open", "data_out": "open", "data_in": "open"}
    older = replace(WELL, netcheck=reached(answered=False, data_out_bytes=0, data_in_bytes=0, **unknown))
    assert worst(older, "reach").state == SKIP


def test_a_path_that_loses_long_packets_is_told_apart_from_a_closed_port() -> None:
    facts = replace(WELL, netcheck=reached(data_out_bytes=1400))
    failures = [it for it in found(facts) if it.state != OK]
    assert [(it.check, it.state) for it in failures] == [("path-mtu", FAIL)]
    assert "more than 1400" in failures[0].what and "--mtu 1350" in failures[0].try_
    narrow_here = replace(WELL, netcheck=reached(route_mtu=1400, data_out_bytes=1400, data_in_bytes=1400))
    assert [it.check for it in found(narrow_here) if it.state == FAIL] == ["mtu"]


def test_a_host_alone_has_nobody_to_ask() -> None:
    assert worst(replace(WELL, netcheck=msgspec.structs.replace(NETCHECK, members=[])), "reach").state == SKIP


# -- form --------------------------------------------------------------------------------------------------------------


def test_findings_are_aligned_and_advice_stands_under_what_is_not_ok() -> None:
    lines = list(draw([Finding("a", OK, "well"), Finding("longer", FAIL, "broken", "since", "mend it")]))
    assert lines == [
        "ok    a       well",
        "FAIL  longer  broken",
        "              since",
        "              try: mend it",
        "1 failed, 1 ok",
    ]


def test_json_calls_the_advice_try() -> None:
    body = json.loads(msgspec.json.encode(Report(FAIL, [Finding("a", FAIL, "b", "c", "d")])))
    assert body == {
        "state": "fail",
        "findings": [{"check": "a", "state": "fail", "what": "b", "why": "c", "try": "d"}],
    }
