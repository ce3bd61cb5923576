"""Looking into a running overlay: what the small commands say is what is there.

    c1-1 c1-2    c2-1 c2-2
       h1 ───────── h2          one network, looked at from both hosts
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
from streams import pings

from vxlanu.api.schema import EndpointDetail as Detail
from vxlanu.api.schema import Items, Link, Overview, Why
from vxlanu.lab.topology import Lab, poll

pytestmark = pytest.mark.netns

Story = list[dict[str, object]]
Links = Items[Link]
PATIENTLY = ("-W", "30")


@pytest.fixture(scope="module")
def pair(make_module_lab: Callable[..., Lab]) -> Lab:
    """Two hosts, and the network `look` with one endpoint on each."""
    lab = make_module_lab(hosts=2, containers=2)
    lab.vxlanu("h1", "network", "create", "look", "--subnet", "192.168.0.0/24")
    lab.vxlanu("h1", "attach", "look", "c1-1", "--name", "A", "--ip", "192.168.0.10")
    lab.vxlanu("h2", "attach", "look", "c2-1", "--name", "B", "--ip", "192.168.0.20")
    for host in ("h1", "h2"):
        poll(lambda: len(lab.vxlanu(host, "endpoint", "ls", "look")) == 2, f"both on {host}", 60)  # noqa: B023
    assert pings(lab, "c1-1", "192.168.0.20")
    return lab


@contextmanager
def listening(lab: Lab, host: str, *arguments: str) -> Iterator[Story]:
    """The events of a host, collected while the block lasts; entered once nothing is missed any more."""
    story: Story = []
    with lab.running(host, ["vxlanu", "events", "--json", *arguments]) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "listening"
        lines = process.stdout
        collecting = threading.Thread(target=lambda: story.extend(json.loads(line) for line in lines), daemon=True)
        collecting.start()
        yield story
    collecting.join(60)


def told(story: Story, name: str, **facts: object) -> bool:
    """Whether an event of that name with these facts has come."""
    return any(one["event"] == name and facts.items() <= one.items() for one in list(story))


def awaited(story: Story, name: str, **facts: object) -> None:
    poll(lambda: told(story, name, **facts), f"{name} {facts}", 60, lambda: str(story))


def test_a_life_of_network_and_endpoint_is_told_on_the_other_host(pair: Lab) -> None:
    with listening(pair, "h2") as story, listening(pair, "h2", "look") as of_look:
        pair.vxlanu("h1", "network", "create", "brief", "--subnet", "192.168.5.0/24", "--vni", "777")
        awaited(story, "network_created", network="brief", state="active", vni=777)
        pair.vxlanu("h1", "attach", "brief", "c1-2", "--name", "C")
        awaited(story, "endpoint_added", network="brief", endpoint="C", node="h1", state="up")
        pair.vxlanu("h1", "detach", "brief", "c1-2")
        awaited(story, "endpoint_removed", network="brief", endpoint="C", node="h1")
        pair.vxlanu("h1", "network", "rm", "brief")
        awaited(story, "network_removed", network="brief", vni=777)
        assert of_look == []


def test_drops_are_told_summed_up_under_their_reason(pair: Lab) -> None:
    with listening(pair, "h1", "--only", "drops") as story:
        pair.exec("c1-1", ["ip", "neigh", "replace", "192.168.0.99", "lladdr", "02:00:00:00:00:99", "dev", "eth0"])
        assert not pings(pair, "c1-1", "192.168.0.99", wait=1)
        awaited(story, "drops", network="look", reason="fdb_miss")
        assert {one["event"] for one in story} == {"drops"}
    counted = [row for row in pair.vxlanu("h1", "drops") if row["reason"] == "fdb_miss" and row["scope"] == "network"]
    assert 0 < sum(int(str(one["frames"])) for one in story if one["reason"] == "fdb_miss") <= counted[0]["frames"]


def overview(lab: Lab, host: str) -> Overview:
    return msgspec.json.decode(lab.exec(host, ["vxlanu", "--json"]).stdout, type=Overview)


def test_vxlanu_alone_shows_networks_and_when_tunnels_were_last_used(pair: Lab) -> None:
    before = overview(pair, "h1").tunnels[0].counters

    def heard() -> bool:
        assert pings(pair, "c1-1", "192.168.0.20")
        tunnel = overview(pair, "h1").tunnels[0]
        now, age_s = tunnel.counters, tunnel.last_traffic_s
        grown = min(now.sent_frames - before.sent_frames, now.received_frames - before.received_frames)
        return grown >= 3 and age_s is not None and age_s < 3

    poll(heard, "traffic of h2's tunnel", 60, lambda: str(overview(pair, "h1")))
    shown = pair.exec("h1", ["vxlanu"]).stdout
    for line in ("network: look", "  endpoints: 2 on 2 hosts; here A", "  node: h2", "  latest traffic: "):
        assert line in shown, shown
    assert "\x1b" not in shown


def networks(lab: Lab, host: str) -> list[str]:
    """Those of the cluster; the bridge to the outside is each host's own."""
    return [row["name"] for row in lab.vxlanu(host, "network", "ls") if row["scope"] == "global"]


def test_prune_removes_what_nobody_uses_and_nothing_else(pair: Lab) -> None:
    pair.vxlanu("h2", "network", "create", "idle", "--subnet", "192.168.6.0/24")
    poll(lambda: len(networks(pair, "h1")) == 2, "the network on h1", 60)
    assert [gone["name"] for gone in pair.vxlanu("h1", "network", "prune", "--yes")] == ["idle"]
    assert networks(pair, "h1") == ["look"]
    assert pair.vxlanu("h1", "network", "prune", "--yes") == []


def steps(lab: Lab, host: str, *arguments: str, code: int = 0) -> Why:
    done = lab.exec(host, ["vxlanu", "why", *arguments, "--json"], check=False)
    assert done.returncode == code, done
    return msgspec.json.decode(done.stdout, type=Why)


@pytest.mark.parametrize("said", ["B", "look/B", "192.168.0.20", "02:42:c0:a8:00:14"])
def test_why_follows_a_frame_through_every_table(pair: Lab, said: str) -> None:
    told = steps(pair, "h1", said)
    by_mac = said.startswith("02:")
    assert [step.step for step in told.steps] == ["neighbor", "fdb", "vtep", "route", "switch"][by_mac:]
    assert all(step.ok for step in told.steps)
    assert (told.endpoint, told.node, told.local) == ("B", "h2", False)
    members = {row["name"]: row["address"] for row in pair.vxlanu("h1", "member", "ls")}
    assert told.vtep == f"{members['h2']}:4789"
    assert told.steps[-2].what.startswith(f"{members['h2']} dev ")
    assert told.steps[-1].what == "from A passes, up to 1450 bytes"
    here = steps(pair, "h2", said)
    assert here.local and here.vtep == "" and here.steps[-1].step == "fdb"


def test_why_says_what_the_fast_path_would_do_where_tables_say_nothing_of_it(pair: Lab) -> None:
    """A path MTU is in no table of `why`; the fast path is asked with a packet of the network's size."""
    dev = pair.vxlanu("h1", "link", "show", "look")[0]["dev"]
    pair.exec("h1", ["ip", "link", "set", str(dev), "mtu", "1400"])
    try:
        def narrow() -> bool:
            last = steps(pair, "h1", "B").steps[-1]
            return last.what == "from A passes, not 1450 bytes: pkt_too_big, its sender is told"

        poll(narrow, "the narrow path", 60, lambda: str(steps(pair, "h1", "B")))
        before = pair.vxlanu("h1", "drops")
        steps(pair, "h1", "B")
        assert pair.vxlanu("h1", "drops") == before, "a trial is counted nowhere"
    finally:
        pair.exec("h1", ["ip", "link", "set", str(dev), "mtu", "1500"])
    poll(lambda: steps(pair, "h1", "B").steps[-1].what.endswith("up to 1450 bytes"), "the wide path again", 60)


def test_why_and_ping_know_that_unknown_ones_are_asked_of_foreign_vteps(pair: Lab) -> None:
    pair.vxlanu("h1", "vtep", "add", "look", "10.255.0.7")
    try:
        asked = steps(pair, "h1", "192.168.0.78", "--from", "A")
        assert [(it.step, it.ok, it.source) for it in asked.steps] == [("neighbor", True, "flood")]
        assert asked.steps[0].what == "192.168.0.78 asked of 1 foreign VTEP"
        by_mac = steps(pair, "h1", "02:00:00:00:00:78", "--from", "A")
        assert by_mac.steps[-1].what == "02:00:00:00:00:78 unknown: sent to 1 foreign VTEP"
        silent = pair.exec("h1", ["vxlanu", "ping", "192.168.0.78", "--from", "A", "-W", "0.3"], check=False)
        assert silent.returncode == 1 and "no reply from 192.168.0.78" in silent.stdout, silent
    finally:
        pair.vxlanu("h1", "vtep", "rm", "look", "10.255.0.7")


def test_link_show_says_of_network_and_tap_what_the_kernel_says(pair: Lab) -> None:
    body = pair.exec("h1", ["vxlanu", "link", "show", "look", "--json"]).stdout
    [whole] = msgspec.json.decode(body, type=Links).items
    assert (whole.network, whole.state, whole.mtu, whole.vteps, whole.learning) == ("look", "up", 1450, 1, False)
    assert whole.local == next(row["address"] for row in pair.vxlanu("h1", "member", "ls") if row["name"] == "h1")
    [port] = [port for port in whole.ports if port.endpoint != "gateway"]
    kernel = json.loads(pair.exec("c1-1", ["ip", "-d", "-j", "link", "show", "eth0"]).stdout)[0]
    assert (port.ifname, port.ifindex, port.mac) == ("eth0", kernel["ifindex"], kernel["address"])
    assert (port.queue_length, port.gso_max_bytes) == (kernel["txqlen"], kernel["gso_max_size"])
    assert port.queue_length == 1000, "of super-frames"
    assert (port.mtu, port.queues, port.state) == (kernel["mtu"], kernel["num_tx_queues"], "up")
    shown = pair.exec("h1", ["vxlanu", "link", "show", "A"]).stdout.splitlines()
    assert len(shown) == 5 and shown[0] == "look: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 state UP", shown
    place = f"vxlan id {whole.vni} local {whole.local} dev {whole.dev}"
    assert shown[1].startswith(f"    {place} srcport 49152 65535 dstport 4789 ttl auto"), shown
    assert shown[3].startswith(f"  A: eth0@{port.port_index}: <UP,LOWER_UP> mtu 1450 qlen {port.queue_length} state UP")
    pair.exec("c1-1", ["ip", "link", "set", "eth0", "down"])
    down = pair.vxlanu("h1", "link", "show", "A")[0]["ports"][0]["state"]
    pair.exec("c1-1", ["ip", "link", "set", "eth0", "up"])
    assert down == "down"
    idle = pair.vxlanu("h2", "network", "create", "empty", "--subnet", "192.168.7.0/24")
    poll(lambda: len(networks(pair, "h1")) == 2, "the network on h1", 60)
    [row] = pair.vxlanu("h1", "link", "show", "empty")
    assert (row["state"], row["ports"]) == ("down", []), idle
    pair.vxlanu("h1", "network", "rm", "empty")
    poll(lambda: len(networks(pair, "h2")) == 1, "the network gone from h2", 60)


def test_a_name_is_an_endpoint_before_it_is_the_beginning_of_a_networks_id(pair: Lab) -> None:
    network = next(row for row in pair.vxlanu("h1", "network", "ls") if row["name"] == "look")
    begins = network["id"][:4]
    assert pair.vxlanu("h1", "link", "show", begins)[0]["network"] == "look", "a beginning of its id means the network"
    pair.vxlanu("h1", "attach", "look", "c1-2", "--name", begins)
    try:
        [link] = pair.vxlanu("h1", "link", "show", begins)
        assert [port["endpoint"] for port in link["ports"]] == [begins]
    finally:
        pair.vxlanu("h1", "detach", "look", "c1-2")


def test_why_ends_at_the_step_that_fails(pair: Lab) -> None:
    unknown = steps(pair, "h1", "192.168.0.77", "--from", "A", code=1)
    assert [(step.step, step.ok) for step in unknown.steps] == [("neighbor", False)]
    nobody = steps(pair, "h1", "02:00:00:00:00:77", "--from", "A", code=1)
    assert [(step.step, step.ok) for step in nobody.steps] == [("fdb", False)]
    pair.exec("h1", ["ip", "route", "add", "blackhole", "10.255.0.0/16"])
    pair.vxlanu("h1", "vtep", "add", "look", "10.255.0.9", "--mac", "02:00:00:00:00:09")
    far = steps(pair, "h1", "02:00:00:00:00:09", "--from", "A", code=1)
    assert [(step.step, step.ok) for step in far.steps] == [("fdb", True), ("vtep", True), ("route", False)]
    pair.vxlanu("h1", "vtep", "rm", "look", "10.255.0.9")
    missing = pair.exec("h1", ["vxlanu", "why", "nobody"], check=False)
    assert missing.returncode == 4, missing


def answers(lab: Lab) -> None:
    """B answers A: a link that was down has its carrier a second after it is up again."""
    poll(lambda: pings(lab, "c1-1", "192.168.0.20", wait=1), "B to answer A", 60, lab.story)


def test_ping_names_the_way_and_a_broken_one(pair: Lab) -> None:
    answers(pair)
    far = pair.exec("h1", ["vxlanu", "ping", "B", "-c", "2", *PATIENTLY]).stdout.splitlines()
    assert len(far) == 2 and all(line.startswith("pong from B (192.168.0.20) on h2 via ") for line in far), far
    assert ":4789 vni " in far[0] and far[0].endswith(" ms")
    near = pair.exec("h2", ["vxlanu", "ping", "look/B", "--from", "B", *PATIENTLY]).stdout
    assert "via this host's switch in" in near
    pair.exec("c2-1", ["ip", "link", "set", "eth0", "down"])
    silent = pair.exec("h1", ["vxlanu", "ping", "B", "-W", "0.3"], check=False)
    pair.exec("c2-1", ["ip", "link", "set", "eth0", "up"])
    answers(pair)
    assert silent.returncode == 1 and "no reply from 192.168.0.20" in silent.stdout, silent
    nowhere = pair.exec("h1", ["vxlanu", "ping", "192.168.0.77", "--from", "A"], check=False)
    assert nowhere.returncode == 1 and "neighbor 192.168.0.77" in nowhere.stderr, nowhere


def test_exec_runs_where_the_container_is_and_gives_its_exit_code(pair: Lab) -> None:
    inode = ["readlink", "/proc/self/ns/net"]
    inside = pair.exec("h1", ["vxlanu", "exec", "A", "--", *inode]).stdout
    assert inside == pair.exec("c1-1", inode).stdout != pair.exec("h1", inode).stdout
    assert pair.exec("h1", ["vxlanu", "exec", "A", "--", "sh", "-c", "exit 7"], check=False).returncode == 7
    for line, code in ((["B", "--", "true"], 4), (["A", "--", "no-such-command"], 4), (["A"], 2)):
        assert pair.exec("h1", ["vxlanu", "exec", *line], check=False).returncode == code, line


def test_exec_leaves_the_signals_as_a_program_expects_them(pair: Lab) -> None:
    """Python ignores SIGPIPE; with that inherited, `yes` would complain about its pipe instead of ending."""
    done = pair.exec("h1", ["vxlanu", "exec", "A", "--", "sh", "-c", "yes | head -n 1"])
    assert (done.stdout, done.stderr) == ("y\n", "")


def test_ping_with_json_is_an_object_a_line(pair: Lab) -> None:
    lines = pair.exec("h1", ["vxlanu", "ping", "B", "-c", "2", "--json", *PATIENTLY]).stdout.splitlines()
    first, second = map(json.loads, lines)
    assert (first["endpoint"], first["node"], first["address"]) == ("B", "h2", "192.168.0.20")
    assert (first["number"], second["number"]) == (1, 2) and first["rtt_ms"] > 0


def test_inspect_shows_the_interface_as_the_kernel_has_it(pair: Lab) -> None:
    pair.exec("c1-1", ["ip", "route", "add", "10.9.0.0/16", "via", "192.168.0.20", "metric", "77"])
    pair.exec("c1-1", ["ip", "addr", "add", "192.168.0.44/24", "dev", "eth0"])
    seen = msgspec.json.decode(pair.exec("h1", ["vxlanu", "endpoint", "inspect", "A", "--json"]).stdout, type=Detail)
    link = json.loads(pair.exec("c1-1", ["ip", "-j", "link", "show", "eth0"]).stdout)[0]
    inode = pair.exec("c1-1", ["readlink", "/proc/self/ns/net"]).stdout.strip()
    assert (seen.ifname, seen.ifindex, seen.interface_mtu) == (link["ifname"], link["ifindex"], link["mtu"])
    assert f"net:[{seen.netns_inode}]" == inode and seen.port_index is not None and seen.interface_state == "up"
    assert {"192.168.0.10/24", "192.168.0.44/24"} <= set(seen.interface_addresses)
    assert ("10.9.0.0/16", "192.168.0.20", 77) in [(it.destination, it.gateway, it.metric) for it in seen.routes]
    shown = pair.exec("h1", ["vxlanu", "endpoint", "inspect", "A"]).stdout
    assert "interface has: 192.168.0.44/24 (not of the record)" in shown, shown
    pair.exec("c1-1", ["ip", "addr", "del", "192.168.0.44/24", "dev", "eth0"])
    far = msgspec.json.decode(pair.exec("h2", ["vxlanu", "endpoint", "inspect", "A", "--json"]).stdout, type=Detail)
    assert (far.port_index, far.routes, far.local) == (None, [], False)


def test_netns_ls_shows_what_can_be_attached_and_what_is(pair: Lab) -> None:
    rows = {row["inode"]: row for row in pair.vxlanu("h1", "netns", "ls")}

    def row_of(name: str) -> dict[str, object]:
        return rows[int(pair.exec(name, ["readlink", "/proc/self/ns/net"]).stdout.strip()[5:-1])]

    assert row_of("c1-1")["target"] == "c1-1" and row_of("c1-1")["endpoints"] == ["A.look"]
    assert row_of("c1-2")["endpoints"] == []
    own = int(pair.exec("h1", ["readlink", "/proc/self/ns/net"]).stdout.strip()[5:-1])
    assert own not in rows


def helper_of(lab: Lab, host: str) -> int:
    """Process id of the agent's namespace helper; 0: it has none."""
    agent = lab.vxlanu(host, "status")["pid"]
    found = lab.exec(host, ["pgrep", "-P", str(agent), "-x", "vxlanu-ns"], check=False).stdout.split()
    return int(found[0]) if found else 0


def test_a_dead_helper_is_told_replaced_and_shown(pair: Lab) -> None:
    first = helper_of(pair, "h1")
    assert first and not pair.vxlanu("h1", "status")["warnings"][1:]
    with listening(pair, "h1", "--only", "helper") as story:
        pair.exec("h1", ["kill", "-9", str(first)])
        awaited(story, "helper", state="restarted")
    poll(lambda: helper_of(pair, "h1") not in (0, first), "another helper", 60)
    made = pair.vxlanu("h1", "attach", "look", "c1-2", "--name", "D")
    assert made["ifindex"] and pings(pair, "c1-2", "192.168.0.20")
    pair.vxlanu("h1", "detach", "look", "c1-2")
    assert "the namespace helper ended once" in pair.exec("h1", ["vxlanu"]).stdout
    second = helper_of(pair, "h1")
    pair.exec("h1", ["kill", "-9", str(second)])  # the one that was started as a program is watched too
    poll(lambda: helper_of(pair, "h1") not in (0, second), "a third helper", 60)


def test_a_member_that_dies_and_returns_is_told_with_its_endpoints(pair: Lab) -> None:
    with listening(pair, "h1") as story:
        pair.kill_agent("h2")
        awaited(story, "member", node="h2", state="dead")
        awaited(story, "endpoint_changed", endpoint="B", state="down", was="up")
        pair.start_agent("h2")
        awaited(story, "member", node="h2", state="alive")
        awaited(story, "endpoint_changed", endpoint="B", state="up", was="down")


def test_the_agent_ends_its_streams_when_it_stops(pair: Lab) -> None:
    with pair.running("h2", ["vxlanu", "events", "--json"]) as process:
        assert process.stdout is not None and "listening" in process.stdout.readline()
        pair.stop_agent("h2")
        assert process.wait(60) == 3
        assert process.stderr is not None and "agent went away" in process.stderr.read()
    pair.start_agent("h2")
