"""Looking into the keys: scripts that once asked Docker's Consul see the containers, and so does `vxlanu kv`.

    c1-1 c1-2    c2-1 c2-2       demonet 192.168.0.0/24: C0 (c1-1, .100) on h1, C1 (c2-1, .200) on h2
       h1 ────────── h2          agents with --http 0.0.0.0:8500
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from inside import inside

from vxlanu.lab.topology import Lab, poll

pytestmark = pytest.mark.netns

PORT = 8500
SCRIPT = Path(__file__).parents[1] / "dump_endpoints.py"
TREE = "/v1/kv/docker/network/v1.0"


class Answer(NamedTuple):
    """What an HTTP request got."""

    status: int
    index: int
    body: bytes

    def values(self) -> list[dict[str, object]]:
        """The values of a list of keys, decoded."""
        return [json.loads(base64.b64decode(one["Value"])) for one in json.loads(self.body)]


@pytest.fixture(scope="module")
def pair(make_module_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_module_lab(hosts=2, containers=2, agent_flags=("--http", f"0.0.0.0:{PORT}"))
    lab.vxlanu("h1", "network", "create", "demonet", "--subnet", "192.168.0.0/24", "--vni", "256", "--label", "a=b")
    lab.vxlanu("h1", "attach", "demonet", "c1-1", "--ip", "192.168.0.100", "--name", "C0")
    lab.vxlanu("h2", "attach", "demonet", "c2-1", "--ip", "192.168.0.200", "--name", "C1", "--alias", "web")
    for host in ("h1", "h2"):
        poll(lambda: len(lab.vxlanu(host, "endpoint", "ls")) == 2, f"both on {host}", 60, lab.story)  # noqa: B023
    yield lab


def fetch(lab: Lab, path: str, method: str = "GET", **headers: str) -> Answer:
    """Ask h1's agent from h2, as `headers` say it."""

    def ask() -> Answer:
        connection = http.client.HTTPConnection(lab.plan.advertise("h1"), PORT, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            got = connection.getresponse()
            return Answer(got.status, int(got.headers.get("X-Consul-Index", 0)), got.read())
        finally:
            connection.close()

    return inside(lab.path(Path("/run/netns/h2")), ask)


def followed(lab: Lab, path: str, last: Answer) -> Answer:
    """The next different answer, as clients of Consul look for it: they may be woken for nothing."""
    after = last
    while after.body == last.body:
        after = fetch(lab, f"{path}&index={after.index}&wait=10m")
    return after


def test_a_script_for_consul_prints_all_containers(pair: Lab) -> None:
    printed = pair.exec("h2", [sys.executable, str(SCRIPT), pair.plan.advertise("h1"), str(PORT)]).stdout
    assert sorted(printed.strip().split("\n\n")) == [
        "Endpoint Name: C0\nIP address: 192.168.0.100/24\nMAC address: 02:42:c0:a8:00:64\nLocator: 10.97.0.1",
        "Endpoint Name: C1\nIP address: 192.168.0.200/24\nMAC address: 02:42:c0:a8:00:c8\nLocator: 10.97.0.2",
    ]


def test_the_network_is_found_by_its_id_as_libnetwork_wrote_it(pair: Lab) -> None:
    [row] = (it for it in pair.vxlanu("h2", "network", "ls") if it["scope"] == "global")
    answer = fetch(pair, f"{TREE}/network/{row['id']}/")
    [network] = answer.values()
    assert answer.status == 200
    assert (network["name"], network["id"], network["scope"]) == ("demonet", row["id"], "global")
    assert network["labels"] == {"a": "b"} and network["internal"] is False
    [config] = json.loads(str(network["ipamV4Config"]))
    [info] = json.loads(str(network["ipamV4Info"]))
    assert config["PreferredPool"] == "192.168.0.0/24"
    assert json.loads(info["IPAMData"])["Gateway"] == "192.168.0.1/24"
    [overlay] = fetch(pair, f"{TREE}/overlay/network/{row['id']}/").values()
    assert overlay["subnets"] == [{"SubnetIP": "192.168.0.0/24", "GwIP": "192.168.0.1/24", "Vni": 256}]
    assert fetch(pair, f"{TREE}/endpoint_count/{row['id']}/").values() == [{"Count": 2}]
    assert fetch(pair, f"{TREE}/network/{row['id']}").status == 200, "a slash that was forgotten"


def test_names_are_listed_up_to_a_separator_and_a_value_comes_raw(pair: Lab) -> None:
    listed = json.loads(fetch(pair, f"{TREE}/?keys&separator=/").body)
    assert listed == [f"docker/network/v1.0/{it}/" for it in ("endpoint", "endpoint_count", "network", "overlay")]
    nodes = json.loads(fetch(pair, "/v1/kv/docker/nodes?keys").body)
    assert nodes == ["docker/nodes/10.97.0.1:7946", "docker/nodes/10.97.0.2:7946"]
    assert fetch(pair, "/v1/kv/vxlanu/network/demonet/arp/192.168.0.100?raw").body == b"02:42:c0:a8:00:64"
    assert fetch(pair, "/v1/kv/vxlanu/network/demonet/fib/02:42:c0:a8:00:c8?raw").body == b"10.97.0.2"


def test_a_query_with_an_index_waits_for_the_next_difference(pair: Lab) -> None:
    path = "/v1/kv/vxlanu/network/demonet/endpoint/?keys"
    before = fetch(pair, path)
    assert json.loads(before.body) == [f"vxlanu/network/demonet/endpoint/{name}" for name in ("C0", "C1")]
    same = fetch(pair, f"{path}&index={before.index}&wait=50ms")
    assert same.body == before.body, "nothing happened, so the wait must end by itself"
    with pair.running("h2", ["vxlanu", "attach", "demonet", "c2-2", "--name", "C2"]):
        after = followed(pair, path, same)
    assert after.index > before.index and len(json.loads(after.body)) == 3
    poll(lambda: pair.exec("h2", ["vxlanu", "detach", "demonet", "c2-2"], check=False).returncode == 0, "a detach", 60)
    gone = followed(pair, path, after)
    assert gone.body == before.body and gone.index > after.index


def test_what_is_not_there_is_404_with_an_index(pair: Lab) -> None:
    answer = fetch(pair, f"{TREE}/network/nonsense/")
    assert answer.status == 404 and answer.index > 0
    assert json.loads(answer.body)["error"]["name"] == "no_key"


def test_nothing_can_be_written_and_nothing_else_is_read(pair: Lab) -> None:
    before = fetch(pair, "/v1/kv/?keys").body
    for method in ("PUT", "DELETE", "POST"):
        assert fetch(pair, f"{TREE}/network/x/", method).status == 405
    for path in ("/v1/status", "/v1/networks", "/v1/captures"):
        assert fetch(pair, path).status == 404
    assert fetch(pair, "/v1/kv/?index=x").status == 400 and fetch(pair, "/v1/kv/?wait=soon").status == 400
    assert fetch(pair, "/v1/kv/?keys").body == before


def test_a_name_that_was_made_to_point_here_is_refused(pair: Lab) -> None:
    for name in ("evil.example", "evil.example:8500", "", "h1.evil.example"):
        assert fetch(pair, "/v1/kv/?keys", Host=name).status == 403, name
    for name in ("h1", "H2:8500", "localhost:8500", "10.97.0.1", "[::1]:8500"):
        assert fetch(pair, "/v1/kv/?keys", Host=name).status == 200, name


def test_a_door_to_everybody_is_said(pair: Lab) -> None:
    assert any("0.0.0.0:8500" in it for it in pair.vxlanu("h1", "status")["warnings"])
    assert "http_open" in pair.log("h1") or "answers whoever reaches it" in pair.log("h1")


def test_a_port_that_is_held_is_refused(pair: Lab) -> None:
    usual = ["--socket", "/run/third.sock", "--state-dir", "/run/third", "--profile", "local", "--name", "third"]
    ports = ["--data-port", "5789", "--control-port", "8946", "--http", f"0.0.0.0:{PORT}"]
    done = pair.exec("h1", ["timeout", "60", "vxlanu", "agent", *usual, *ports], check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 6 and f"0.0.0.0:{PORT}" in last and "in use" in last, done.stderr


def test_the_command_line_looks_in_too(pair: Lab) -> None:
    listed = pair.exec("h2", ["vxlanu", "kv", "ls", "vxlanu/network/demonet/"]).stdout.split()
    assert "vxlanu/network/demonet/endpoint/C0" in listed
    assert [it for it in listed if "/block/" in it], "somebody holds the addresses"
    assert pair.exec("h2", ["vxlanu", "kv", "ls", "vxlanu/", "--separator", "/"]).stdout.split() == [
        "vxlanu/member/",
        "vxlanu/network/",
    ]
    shown = json.loads(pair.exec("h2", ["vxlanu", "kv", "get", "vxlanu/network/demonet"]).stdout)
    assert (shown["name"], shown["vni"], shown["created_by"]) == ("demonet", 256, "h1")
    whole = pair.exec("h2", ["vxlanu", "kv", "get", "vxlanu/network/demonet/arp/", "--recurse"]).stdout
    assert "vxlanu/network/demonet/arp/192.168.0.200 02:42:c0:a8:00:c8\n" in whole
    missing = pair.exec("h2", ["vxlanu", "kv", "get", "nonsense"], check=False)
    assert missing.returncode == 4 and missing.stderr.count("\n") == 1 and "nonsense" in missing.stderr


def test_watch_shows_what_is_there_and_then_what_changes(pair: Lab) -> None:
    with pair.running("h1", ["vxlanu", "kv", "watch", "vxlanu/network/demonet/arp/"]) as watching:
        assert watching.stdout is not None
        said = {watching.stdout.readline() for _ in range(2)}
        assert said == {
            "set vxlanu/network/demonet/arp/192.168.0.100 02:42:c0:a8:00:64\n",
            "set vxlanu/network/demonet/arp/192.168.0.200 02:42:c0:a8:00:c8\n",
        }
        pair.vxlanu("h2", "attach", "demonet", "c2-2", "--ip", "192.168.0.77", "--name", "C2")
        assert watching.stdout.readline() == "set vxlanu/network/demonet/arp/192.168.0.77 02:42:c0:a8:00:4d\n"
        pair.vxlanu("h2", "detach", "demonet", "c2-2")
        assert watching.stdout.readline() == "gone vxlanu/network/demonet/arp/192.168.0.77\n"
