"""The doctor against a real kernel: who holds the ports, which rules drop, what is tracked, which ways are shut.

Findings about one host are made in a namespace of its own, without an agent. Findings about ways take two agents:

     h1 ══════ underlay bridge ══════ h2        rules by nft on h2, a cable of 1400 bytes towards h2
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab_ns import Namespace, Namespaces, Underlay, poll
from needs import require

from vxlanu.doctor.facts import Conntrack, Facts
from vxlanu.doctor.finding import FAIL, OK, SKIP, WARN
from vxlanu.doctor.network import conntrack
from vxlanu.lab.topology import Lab

pytestmark = pytest.mark.netns

VXLANU = [sys.executable, "-m", "vxlanu.cli.main"]
Found = list[dict[str, str]]


@pytest.fixture
def host(namespaces: Namespaces) -> Namespace:
    return Underlay.build(namespaces, 1).hosts[0]


def examined(host: Namespace, command: str = "netcheck", **settings: str) -> Found:
    """What the doctor finds in a namespace, with nobody's agent in reach."""
    said = [f"VXLANU_{key.upper()}={value}" for key, value in {"socket": "/nonexistent", **settings}.items()]
    body = host.run("env", *said, *VXLANU, command, "--json", check=False)
    found: Found = json.loads(body)["findings"]
    return found


def states(found: Found, check: str) -> list[str]:
    return [it["state"] for it in found if it["check"] == check]


def one(found: Found, check: str, words: str = "") -> dict[str, str]:
    """The only finding of a check that says `words`."""
    those = [it for it in found if it["check"] == check and words in it["what"]]
    assert len(those) == 1, found
    return those[0]


# -- who holds the ports -----------------------------------------------------------------------------------------------


def test_a_kernel_vxlan_device_is_named_as_the_holder_of_the_data_port(host: Namespace, require: Callable) -> None:
    require("kernel-vxlan")
    assert states(examined(host), "data-port") == [OK]
    host.ip("link", "add", "flannel.7", "type", "vxlan", "id", "7", "dstport", "4789", "dev", "u0")
    host.ip("link", "set", "flannel.7", "up")
    found = one(examined(host), "data-port")
    assert found["state"] == FAIL
    assert "flannel.7" in found["what"] and "flannel's" in found["what"]
    assert states(examined(host, data_port="4790"), "data-port") == [OK]


def test_a_vxlan_device_that_went_to_another_namespace_is_found_there(
    host: Namespace, namespaces: Namespaces, require: Callable
) -> None:
    """Not one that another namespace has for itself, though that is looked into first: in the order of names."""
    require("kernel-vxlan")
    strangers, other = sorted((namespaces.make("a"), namespaces.make("b")), key=lambda it: it.name)
    strangers.ip("link", "add", "own9", "type", "vxlan", "id", "9", "dstport", "4789")
    strangers.ip("link", "set", "own9", "up")
    host.ip("link", "add", "vx9", "type", "vxlan", "id", "9", "dstport", "4789", "dev", "u0")
    host.ip("link", "set", "vx9", "netns", other.name)
    other.ip("link", "set", "vx9", "up")
    found = one(examined(host), "data-port")
    assert found["state"] == FAIL
    assert "vx9" in found["what"] and other.name in found["what"], found


@contextmanager
def serf(host: Namespace) -> Iterator[None]:
    """Serf as its users start it: gossip on 7946, UDP and TCP."""
    agent = host.start("serf", "agent", "-node=s1", "-bind=10.89.0.1", "-rpc-addr=127.0.0.1:7373")
    try:
        poll(lambda: host.run("ss", "-Hlntu").count("10.89.0.1:7946") == 2, what="serf listens to both")
        yield
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait()


def test_serf_on_the_control_port_is_named_with_its_process(host: Namespace, require: Callable) -> None:
    require("serf", "ss")
    assert states(examined(host), "control-port") == [OK]
    with serf(host):
        found = one(examined(host, advertise="10.89.0.1"), "control-port")
        assert found["state"] == FAIL
        assert "UDP and TCP 7946" in found["what"] and "serf (pid " in found["what"]
    assert states(examined(host), "control-port") == [OK]


# -- firewall and conntrack --------------------------------------------------------------------------------------------


def follow(host: Namespace, advice: str) -> None:
    """Do what the doctor says."""
    host.run("sh", "-c", f"PATH=$PATH:/usr/sbin:/sbin; {advice}")


def test_a_rule_of_nft_is_seen_and_the_advice_opens_the_port(host: Namespace, require: Callable) -> None:
    require("nft")
    assert states(examined(host), "firewall") == [OK]
    host.run(
        "nft", "-f", "-",
        stdin="table inet filter {\n chain input {\n type filter hook input priority 0; policy drop;\n"
        "  ct state vmap { established : accept, related : accept, invalid : drop }\n  iif lo accept\n"
        "  tcp dport { 22, 7900-8000 } accept\n }\n}\n",
    )  # fmt: skip
    shut = [it for it in examined(host) if it["check"] == "firewall" and it["state"] == FAIL]
    assert [it["what"].split()[3:5] for it in shut] == [["UDP", "4789"], ["UDP", "7946"]]
    for it in shut:
        follow(host, it["try"])
    assert states(examined(host), "firewall") == [OK]


@pytest.mark.parametrize(
    ("program", "need"), [("iptables-nft", "iptables-nft"), ("iptables-legacy", "legacy-tables")], ids=["nft", "legacy"]
)
def test_rules_of_iptables_are_seen_too_and_the_advice_opens(
    host: Namespace, require: Callable, program: str, need: str
) -> None:
    require(need)
    dropping = ["-p", "udp", "-m", "multiport", "--dports", "4789,7946", "-j", "DROP"]
    host.run(program, "-A", "INPUT", *dropping)
    shut = [it for it in examined(host) if it["check"] == "firewall" and it["state"] == FAIL]
    assert len(shut) == 2
    for it in shut:
        follow(host, it["try"])
    assert states(examined(host), "firewall") == [OK]


def test_a_rule_that_cannot_be_told_is_a_doubt_and_no_failure(host: Namespace, require: Callable) -> None:
    require("nft")
    host.run(
        "nft", "-f", "-",
        stdin="table inet f {\n chain i {\n type filter hook input priority 0;\n  limit rate 5/second drop\n }\n}\n",
    )  # fmt: skip
    assert set(states(examined(host), "firewall")) == {SKIP}


def test_conntrack_on_the_data_port_is_seen_and_the_advice_for_a_full_table_ends_it(
    namespaces: Namespaces, require: Callable
) -> None:
    require("nft")
    underlay = Underlay.build(namespaces, 2)
    here, there = underlay.hosts
    tracking = "table inet t {\n chain i {\n type filter hook input priority 0;\n  ct state new accept\n }\n}\n"
    here.run("nft", "-f", "-", stdin=tracking)
    assert "does not track" in one(examined(here), "conntrack")["what"]
    send = "import socket;s=socket.socket(2, 2);s.bind(('', 40000));s.sendto(b'x', ('10.89.0.1', 4789))"

    def tracked() -> bool:
        there.run(sys.executable, "-c", send)
        return "tracks UDP 4789, 1 of" in one(examined(here), "conntrack")["what"]

    poll(tracked, what="the flow is tracked")
    assert states(examined(here), "conntrack") == [OK], "as on every host with a firewall: nothing is lost by it"
    [full] = conntrack(Facts(conntrack=Conntrack(1, 95, 100)))
    follow(here, full.try_.partition("; and ")[2])
    here.run("sh", "-c", "command -v conntrack && conntrack -D -p udp || true")
    assert "notrack" in here.run("nft", "list", "ruleset")


# -- the host ----------------------------------------------------------------------------------------------------------


def test_key_and_state_directory_are_looked_at(host: Namespace, tmp_path: Path) -> None:
    key, state = tmp_path / "cluster.key", tmp_path / "state"
    settings = {"key_file": str(key), "state_dir": str(state)}
    assert states(examined(host, "doctor", **settings), "key") == [FAIL]
    key.write_text("x")
    state.mkdir()
    for mode, wanted in ((0o644, FAIL), (0o600, OK)):
        key.chmod(mode)
        assert states(examined(host, "doctor", **settings), "key") == [wanted]
    for mode, wanted in ((0o755, WARN), (0o700, OK)):
        state.chmod(mode)
        assert states(examined(host, "doctor", **settings), "state-dir") == [wanted]


def test_a_host_without_tun_device_is_told_how_to_get_one(host: Namespace) -> None:
    assert states(examined(host, "doctor"), "tun") == [OK]
    hidden = 'mkdir -p /dev/net && mount -t tmpfs none /dev/net && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hidden, "sh", "env", "VXLANU_SOCKET=/nonexistent", *VXLANU]
    found = json.loads(host.run(*command, "doctor", "--json", check=False))["findings"]
    assert one(found, "tun")["state"] == FAIL


def test_an_ordinary_user_is_told_what_is_missing(host: Namespace) -> None:
    """Nobody's uid in a user namespace that maps nothing: no capability, but this interpreter can be read."""
    command = ["unshare", "--user", "env", "VXLANU_SOCKET=/nonexistent", *VXLANU]
    body = host.run(*command, "doctor", "--json", check=False)
    found = json.loads(body)["findings"]
    assert one(found, "capabilities")["state"] == WARN
    assert states(found, "firewall") == [SKIP]


def test_the_exit_code_is_1_only_when_something_fails(host: Namespace) -> None:
    quiet = ["env", "VXLANU_SOCKET=/nonexistent", "VXLANU_ADVERTISE=u0", *VXLANU, "netcheck"]
    host.run(*quiet)
    holder = host.start(
        sys.executable, "-c", "import socket;s=socket.socket(2,2);s.bind(('',4789));__import__('signal').pause()"
    )
    poll(lambda: ":12B5" in host.run("cat", "/proc/net/udp"), what="the port is held")
    with pytest.raises(AssertionError, match="exit 1"):
        host.run(*quiet)
    holder.kill()
    holder.wait()


# -- ways between hosts ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(make_module_lab: Callable[..., Lab]) -> Lab:
    return make_module_lab(hosts=2, containers=1)


@contextmanager
def dropping(lab: Lab, host: str, *rules: str) -> Iterator[None]:
    """Rules on a host's way in, inside the block."""
    body = "\n".join(rules)
    table = f"table inet shut {{\n chain i {{\n type filter hook input priority 0;\n{body}\n }}\n}}\n"
    lab.exec(host, ["nft", "-f", "-"], text=table)
    try:
        yield
    finally:
        lab.exec(host, ["nft", "delete", "table", "inet", "shut"])


def failures(lab: Lab, host: str, check: str = "reach") -> list[str]:
    """What `netcheck` on a host says fails, about members."""
    done = lab.exec(host, ["vxlanu", "netcheck", "--json"], check=False)
    found = json.loads(done.stdout)["findings"]
    failed = [it["what"] for it in found if it["check"] == check and it["state"] == FAIL]
    assert done.returncode == any(it["state"] == FAIL for it in found)
    return failed


def fails(lab: Lab, host: str, expected: list[str], check: str = "reach") -> bool:
    """That `netcheck` comes to say just this. It gives a probe 0.6 s, which a busy machine may miss now and then."""
    said: list[list[str]] = []

    def look() -> bool:
        said.append(failures(lab, host, check))
        return said[-1] == expected

    return poll(look, what=f"{host}: {check} {expected}", story=lambda: f"{said[-3:]}\n{lab.story()}")


def alive(lab: Lab) -> bool:
    return all(row["state"] == "alive" for host in lab.hosts() for row in lab.vxlanu(host, "member", "ls"))


THERE, HERE = "from here does not arrive there", "from there does not arrive here"


@pytest.mark.parametrize(
    ("rule", "port"),
    [
        ("udp dport 4789 drop", "UDP 4789"),
        ("udp dport 7946 drop", "UDP 7946"),
        ("tcp dport 7946 drop", "TCP 7946"),
        ("tcp dport 7946 reject with tcp reset", "TCP 7946"),
    ],
)
def test_a_port_shut_on_one_side_is_named_from_both(two: Lab, require: Callable, rule: str, port: str) -> None:
    require("nft")
    poll(lambda: alive(two), what="both members alive", story=two.story)
    assert fails(two, "h1", []) and fails(two, "h2", [])
    with dropping(two, "h2", rule):
        assert fails(two, "h1", [f"h2: {port} {THERE}"])
        assert fails(two, "h2", [f"h1: {port} {HERE}"])
        assert f"{port} from other hosts" in failures(two, "h2", "firewall")[0]
    assert fails(two, "h1", [])


def test_with_the_control_port_shut_an_open_data_port_still_shows(two: Lab, require: Callable) -> None:
    require("nft")
    with dropping(two, "h2", "udp dport 7946 drop", "tcp dport 7946 drop"):

        def reach() -> list[tuple[str, str]]:
            report = two.exec("h1", ["vxlanu", "netcheck", "--json"], check=False)
            return [(it["state"], it["what"]) for it in json.loads(report.stdout)["findings"] if it["check"] == "reach"]

        poll(lambda: reach() == [(FAIL, "h2 does not answer on the control port")], what="this alone")
        with dropping_too(two, "udp dport 4789 drop"):
            poll(lambda: (SKIP, "h2: UDP 4789 is not known") in reach(), what="the other port in doubt")
    poll(lambda: alive(two), what="both members alive again", story=two.story)


@contextmanager
def dropping_too(lab: Lab, rule: str) -> Iterator[None]:
    """One more rule on h2, in the table that `dropping` made and takes away."""
    lab.exec("h2", ["nft", "add", "rule", "inet", "shut", "i", *rule.split()])
    yield


def test_a_narrow_cable_in_the_middle_is_measured_both_ways(two: Lab) -> None:
    poll(lambda: alive(two), what="both members alive", story=two.story)
    assert fails(two, "h1", [], "path-mtu")
    two.exec("underlay", ["ip", "link", "set", "h2", "mtu", "1400"])
    try:
        lost = [f"h2: packets {way} it of more than 1400 bytes are lost" for way in ("to", "from")]
        assert fails(two, "h1", lost, "path-mtu")
        assert fails(two, "h1", [])
    finally:
        two.exec("underlay", ["ip", "link", "set", "h2", "mtu", "1500"])
    assert fails(two, "h1", [], "path-mtu")


def test_probing_shows_up_nowhere_in_the_drops(two: Lab) -> None:
    before = two.vxlanu("h2", "drops")
    assert fails(two, "h1", [])
    assert two.vxlanu("h2", "drops") == before


def test_how_long_the_workers_wait_for_a_cpu_is_seen(two: Lab) -> None:
    """Ok or a warning, as busy as this machine is."""
    require("schedstat")
    done = two.exec("h1", ["vxlanu", "doctor", "--json"], check=False)
    found = one(json.loads(done.stdout)["findings"], "cpu")
    assert found["state"] in (OK, WARN)
    assert re.fullmatch(r"the workers ran on \d+\.\d\d CPUs and waited for \d+\.\d\d more", found["what"]), found


def test_a_host_whose_own_address_is_gone_says_so(make_lab: Callable[..., Lab]) -> None:
    """When a netcheck is needed most: every way says what the kernel says, and none of it is an internal error."""
    lab = make_lab(hosts=2, containers=1)
    [own] = [row for row in json.loads(lab.exec("h1", ["ip", "-j", "-4", "addr", "show", "scope", "global"]).stdout)
             if row.get("addr_info")]  # fmt: skip
    address = own["addr_info"][0]
    lab.exec("h1", ["ip", "addr", "del", f"{address['local']}/{address['prefixlen']}", "dev", own["ifname"]])
    done = lab.exec("h1", ["vxlanu", "netcheck", "--json"], check=False)
    assert done.returncode == 1, done
    found = [it for it in json.loads(done.stdout)["findings"] if it["state"] == FAIL and it["check"] == "reach"]
    assert any("Cannot assign requested address" in it["why"] for it in found), found
    assert "a task failed" not in lab.log("h1") and "Traceback" not in lab.log("h1"), lab.log("h1")
