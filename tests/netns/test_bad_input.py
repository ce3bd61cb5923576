"""What bad input gets: one clear line, the exit code of its class, and nothing left behind.

    c1-1 c1-2    c2-1 c2-2       blue 192.168.0.0/24 --vni 300: C1 (c1-1, .100) on h1
       h1 ────────── h2
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pytest
from asking import client
from lab_ns import poll as value_of

from vxlanu.lab.topology import Completed, Lab, poll

pytestmark = [pytest.mark.netns, pytest.mark.rootless]


@pytest.fixture(scope="module")
def pair(make_module_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_module_lab(hosts=2, containers=2)
    lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24", "--vni", "300")
    lab.vxlanu("h1", "attach", "blue", "c1-1", "--ip", "192.168.0.100", "--name", "C1")
    poll(lambda: [row["name"] for row in lab.vxlanu("h2", "endpoint", "ls")] == ["C1"], "h2 to hear", 60, lab.story)
    for host in ("h1", "h2"):
        poll(lambda: not lab.vxlanu(host, "verify")["differences"], "its tables to be right", 60)  # noqa: B023
    poll(lambda: "fe80::" in (shown := interfaces(lab, "c1-1")) and "DOWN" not in shown, "its interfaces to be ready")
    yield lab


def interfaces(lab: Lab, container: str) -> str:
    return lab.exec(container, ["ip", "-br", "addr"]).stdout


def state(lab: Lab) -> str:
    """Everything that a failed command must leave as it was, while the hosts see each other alive: a slow machine makes
    suspects."""
    return value_of(lambda: seen(lab), what="a calm moment", story=lab.story)


def seen(lab: Lab) -> str:
    """Empty, if a host did not see the other alive just then."""
    shown: list[object] = []
    for host in ("h1", "h2"):
        api = client(lab, host)
        endpoints, vteps = api.endpoints(), api.vteps()
        if {it.state for it in (*vteps.value.items, *endpoints.value.items)} & {"suspect", "dead", "down"}:
            return ""
        shown += [api.networks().body, endpoints.body, vteps.body, api.verify().value.differences]
    return "\n".join(map(str, [*shown, *(interfaces(lab, it) for it in ("c1-1", "c1-2", "c2-1", "c2-2"))]))


def one_line(done: Completed, code: int, *mentioned: str) -> None:
    """The command failed with `code` and one line on stderr that mentions all of these."""
    assert done.returncode == code, (done.args, done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("vxlanu: ") and done.stderr.count("\n") == 1, done.stderr
    for text in mentioned:
        assert text in done.stderr, done.stderr


REFUSED = [
    ("h2", "network create red --subnet 192.168.0.128/25", 5, ["192.168.0", "blue"]),
    ("h2", "network create red --subnet 10.1.0.0/24 --subnet 10.1.0.0/16", 5, ["overlaps"]),
    ("h2", "network create red --subnet 10.1.0.1/24", 2, ["host bits", "10.1.0.0/24"]),
    ("h2", "network create red --subnet nonsense", 2, ["nonsense"]),
    ("h2", "network create blue --subnet 10.1.0.0/24", 5, ["blue"]),
    ("h2", "network create red --vni 300", 5, ["300", "blue"]),
    ("h2", "network create red --vni 16777216", 2, ["16777216"]),
    ("h2", "network create red --subnet 10.1.0.0/24 --gateway 10.2.0.1", 2, ["10.2.0.1"]),
    ("h2", "network create red --subnet 10.1.0.0/24 --gateway 10.1.0.255", 5, ["10.1.0.255"]),
    ("h2", "network create red --subnet 10.1.0.0/24 --aux router=10.1.0.1", 5, ["gateway"]),
    ("h2", "network create red --mtu 100", 2, ["100"]),
    ("h2", "network create -- -red", 2, ["-red"]),
    ("h1", "network rm blue", 5, ["C1"]),
    ("h1", "network rm green", 4, ["green"]),
    ("h2", "attach green c2-1", 4, ["green"]),
    ("h2", "attach blu c2-1", 4, ["blue"]),
    ("h2", "attach blue nowhere", 4, ["nowhere"]),
    ("h2", "attach blue pid:999999", 4, ["999999"]),
    ("h1", "attach blue c1-1", 5, ["c1-1", "already"]),
    ("h2", "attach blue c2-1 --ip 10.9.9.9", 2, ["10.9.9.9"]),
    ("h2", "attach blue c2-1 --ip 192.168.0.100", 5, ["192.168.0.100", "C1", "h1"]),
    ("h2", "attach blue c2-1 --ip 192.168.0.1", 5, ["192.168.0.1"]),
    ("h2", "attach blue c2-1 --ip 192.168.0.255", 5, ["192.168.0.255"]),
    ("h2", "attach blue c2-1 --ip fd00::1", 2, ["fd00::1"]),
    ("h2", "attach blue c2-1 --mac 02:42:c0:a8:00:64", 5, ["C1"]),
    ("h2", "attach blue c2-1 --mac 01:00:5e:00:00:01", 2, ["01:00:5e"]),
    ("h2", "attach blue c2-1 --name C1", 5, ["C1", "h1"]),
    ("h2", "attach blue c2-1 --ifname lo", 5, ["lo"]),
    ("h2", "attach blue c2-1 --ifname a-name-that-is-too-long", 2, ["a-name"]),
    ("h2", "detach blue c2-1", 4, ["c2-1"]),
    ("h2", "endpoint inspect nobody", 4, ["nobody"]),
    ("h2", "member forget nobody", 4, ["nobody"]),
    ("h2", "vtep add blue 10.11.12.13:99999", 2, ["99999"]),
    ("h2", "vtep rm blue 10.11.12.13", 4, ["10.11.12.13"]),
    ("h2", "nonsense", 2, ["nonsense"]),
    ("h2", "network ls --nonsense", 2, ["--nonsense"]),
]


@pytest.mark.parametrize(("host", "command", "code", "mentioned"), REFUSED, ids=[row[1] for row in REFUSED])
def test_bad_input_changes_nothing(pair: Lab, host: str, command: str, code: int, mentioned: list[str]) -> None:
    before = state(pair)
    one_line(pair.exec(host, ["vxlanu", *command.split()], check=False), code, *mentioned)
    assert state(pair) == before


def test_the_same_words_with_good_values_succeed(pair: Lab) -> None:
    before = state(pair)
    pair.vxlanu("h2", "network", "create", "red", "--subnet", "10.1.0.0/24", "--gateway", "10.1.0.254", "--vni", "301")
    body = pair.vxlanu("h2", "attach", "blue", "c2-1", "--ip", "192.168.0.101", "--ifname", "eth7", "--name", "C2")
    assert body["addresses"] == ["192.168.0.101/24"] and body["ifname"] == "eth7"
    pair.vxlanu("h2", "vtep", "add", "blue", "10.11.12.13:8472")
    pair.vxlanu("h2", "vtep", "rm", "blue", "10.11.12.13:8472")
    pair.vxlanu("h2", "detach", "blue", "c2-1")
    pair.vxlanu("h2", "network", "rm", "red")
    poll(lambda: state(pair) == before, "everything to be as before", 60, pair.story)


def test_an_interface_name_that_is_taken_releases_address_and_name(pair: Lab) -> None:
    pair.exec("c2-2", ["ip", "link", "add", "eth3", "type", "veth", "peer", "name", "other"])
    before = state(pair)
    words = ["vxlanu", "attach", "blue", "c2-2", "--ip", "192.168.0.77", "--ifname"]
    one_line(pair.exec("h2", [*words, "eth3"], check=False), 5, "eth3")
    poll(lambda: state(pair) == before, "everything to be as before", 60, pair.story)
    pair.exec("c2-2", ["ip", "link", "del", "eth3"])
    pair.exec("h2", [*words, "eth3"])
    pair.vxlanu("h2", "detach", "blue", "c2-2")


def agent(lab: Lab, host: str, *flags: str) -> Completed:
    """Start one more agent on a host, on a socket and state directory of its own; it is expected to refuse."""
    usual = ["--socket", f"/run/second-{host}.sock", "--state-dir", f"/run/second-{host}", "--profile", "local"]
    return lab.exec(host, ["timeout", "120", "vxlanu", "agent", *usual, *flags], check=False)


def last_line(done: Completed) -> str:
    return done.stderr.splitlines()[-1]


def test_a_second_agent_on_the_same_host_says_who_holds_the_port(pair: Lab) -> None:
    done = agent(pair, "h1", "--name", "other")
    assert done.returncode == 6 and "4789" in last_line(done) and "held by" in last_line(done), done.stderr
    assert "pid" in last_line(done)


def test_a_second_agent_on_the_same_state_directory_refuses(pair: Lab) -> None:
    directory = pair.vxlanu("h1", "status")["state_dir"]
    ports = ["--data-port", "5789", "--control-port", "8946"]
    done = agent(pair, "h1", "--name", "other", "--state-dir", directory, *ports)
    assert done.returncode == 6 and "pid" in last_line(done), done.stderr


def test_a_second_agent_on_the_same_socket_refuses(pair: Lab) -> None:
    socket = pair.vxlanu("h1", "status")["socket"]
    done = agent(pair, "h1", "--name", "other", "--socket", socket, "--data-port", "5789", "--control-port", "8946")
    assert done.returncode == 6 and socket in last_line(done), done.stderr
    assert pair.vxlanu("h1", "status")["name"] == "h1"


def test_a_name_held_by_a_live_node_is_refused_and_the_cluster_is_undisturbed(pair: Lab) -> None:
    peer = pair.vxlanu("h1", "status")["advertise"]
    before = value_of(lambda: found if len(found := members(pair)) == 2 else None, what="both alive", story=pair.story)
    other = ["--data-port", "5789", "--control-port", "8946", "--join", peer]
    key = pair.vxlanu("h1", "status")
    flags = key_flags(pair) if key["keyed"] else []
    done = agent(pair, "h2", "--name", "h1", *other, *flags)
    assert done.returncode == 6 and "h1" in last_line(done) and peer in last_line(done), done.stderr
    poll(lambda: members(pair) == before, "the members to be as before", 60, pair.story)


def members(lab: Lab) -> list[tuple[str, str]]:
    """Who is in the cluster, once all of them are alive: a slow machine makes suspects."""
    rows = lab.vxlanu("h1", "member", "ls")
    return [(row["name"], row["id"]) for row in rows if row["state"] == "alive"]


def key_flags(lab: Lab) -> list[str]:
    """The --key-file of the lab's own agents."""
    words = lab.plan.agent_command("h1", ())
    return words[words.index("--key-file") : words.index("--key-file") + 2]


def test_a_wrong_cluster_key_never_joins_and_both_sides_say_so(pair: Lab) -> None:
    peer = pair.vxlanu("h1", "status")["advertise"]
    pair.exec("h2", ["vxlanu", "key", "gen", "/run/wrong.key"])
    socket = "/run/wrong.sock"
    flags = ["--socket", socket, "--state-dir", "/run/wrong", "--name", "stranger", "--key-file", "/run/wrong.key"]
    ports = ["--data-port", "5789", "--control-port", "8946", "--join", peer, "--profile", "local"]
    with pair.running("h2", ["vxlanu", "agent", *flags, *ports]):
        asked = ["vxlanu", "status", "--json", "--socket", socket]

        def refused() -> bool:
            done = pair.exec("h2", asked, check=False)
            return done.returncode == 0 and json.loads(done.stdout)["wrong_key"] > 0

        poll(refused, "the stranger to notice the wrong key", 60, pair.story)
        listed = pair.exec("h2", ["vxlanu", "member", "ls", "--json", "--socket", socket]).stdout
        assert [row["name"] for row in json.loads(listed)["items"]] == ["stranger"]
        assert "stranger" not in [row["name"] for row in pair.vxlanu("h1", "member", "ls")]
        poll(lambda: pair.vxlanu("h1", "status")["wrong_key"] > 0, "h1 to notice it, too", 60, pair.story)


def test_a_kernel_vxlan_device_that_holds_the_port_is_named(pair: Lab, require: Callable[..., None]) -> None:
    require("kernel-vxlan")
    pair.create_container("c2-vx")
    pair.exec("c2-vx", ["ip", "link", "add", "vx9", "type", "vxlan", "id", "9", "dstport", "4789"])
    pair.exec("c2-vx", ["ip", "link", "set", "vx9", "up"])
    pair.exec("c2-vx", ["ip", "link", "set", "lo", "up"])
    done = pair.exec(
        "c2-vx",
        ["timeout", "120", "vxlanu", "agent", "--name", "vx", "--advertise", "127.0.0.1", "--state-dir", "/run/vx",
         "--socket", "/run/vx.sock"],
        check=False,
    )  # fmt: skip
    assert done.returncode == 6 and "vx9" in last_line(done), done.stderr
    assert pair.exec("c2-vx", ["ls", "/run/vx.sock"], check=False).returncode != 0


def test_a_database_of_a_newer_version_is_refused(pair: Lab) -> None:
    directory = "/run/newer"
    pair.exec("h2", ["mkdir", "-p", directory])
    newer = f"import sqlite3; sqlite3.connect('{directory}/vxlanu.db').execute('PRAGMA user_version = 99')"
    pair.exec("h2", [sys.executable, "-c", newer])
    done = agent(pair, "h2", "--name", "n", "--state-dir", directory, "--data-port", "5789", "--control-port", "8946")
    assert done.returncode == 6 and "newer" in last_line(done), done.stderr


def test_no_agent_is_one_line_and_exit_3(pair: Lab) -> None:
    one_line(pair.exec("h1", ["vxlanu", "member", "ls", "--socket", "/run/nobody.sock"], check=False), 3, "nobody.sock")
