"""What vxlanu learns from Docker and tells it: names of containers, and networks that were created elsewhere.

h1 (dockerd, agent --docker --docker-sync) ───── h2 (the same)
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest
from docker_hosts import DockerHost, DockerHosts
from docker_story import in_order
from lab_ns import poll
from needs import DOCKER_NEEDS, require

from vxlanu.lab.topology import Json
from vxlanu.runtimes.docker.client import ANSWER_S_MAX

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]
DOCKERS_OWN = ("bridge", "host", "none", "docker_gwbridge")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerHosts]:
    require(*DOCKER_NEEDS)
    made = DockerHosts(tmp_path_factory.mktemp("docker"), "--docker", "--docker-sync")
    with made:
        yield made


@pytest.fixture
def pair(hosts: DockerHosts) -> Pair:
    """h1 and h2 with nothing in them."""
    hosts.clean()
    return hosts.each[0], hosts.each[1]


def docker_networks(host: DockerHost) -> dict[str, str]:
    """Driver by name, of what is not Docker's own."""
    lines = host.docker("network", "ls", "--format", "{{.Name}} {{.Driver}}").splitlines()
    return {name: driver for name, driver in map(str.split, lines) if name not in DOCKERS_OWN}


def names(host: DockerHost) -> dict[str, list[str]]:
    """Aliases by name, of all endpoints."""
    return {it["name"]: it["aliases"] for it in host.vxlanu("endpoint", "ls")}


def created(pair: Pair, *options: str) -> None:
    """demonet, known to both dockerds."""
    pair[0].vxlanu("network", "create", "demonet", "--subnet", "192.168.0.0/24", *options)
    for host in pair:
        poll(lambda: "demonet" in docker_networks(host), what="demonet in Docker", story=host.story)  # noqa: B023


def test_a_network_that_is_created_anywhere_is_in_dockers_list_everywhere(pair: Pair) -> None:
    h1, h2 = pair
    created(pair, "--internal")
    for host in pair:
        shown: Json = json.loads(host.docker("network", "inspect", "demonet"))[0]
        assert (shown["Driver"], shown["IPAM"]["Driver"], shown["Internal"]) == ("vxlanu", "vxlanu", True)
        assert shown["IPAM"]["Config"] == [{"Subnet": "192.168.0.0/24", "Gateway": "192.168.0.1"}]
    h2.stop("vxlanu")
    h1.vxlanu("network", "create", "othernet", "--subnet", "192.168.1.0/24")
    h1.vxlanu("network", "rm", "demonet")
    poll(lambda: docker_networks(h1) == {"othernet": "vxlanu"}, what="h1 has the new one alone", story=h1.story)
    h2.start_agent()
    poll(lambda: docker_networks(h2) == {"othernet": "vxlanu"}, what="and so has h2", story=h2.story)
    h1.stop("dockerd")
    h2.vxlanu("network", "create", "latenet", "--subnet", "192.168.2.0/24")
    h1.start_dockerd()
    poll(lambda: "latenet" in docker_networks(h1), what="what came while Docker was down", story=h1.story)


KINDS: dict[str, tuple[tuple[str, ...], Json]] = {
    "several subnets": (
        ("--subnet", "192.168.0.0/24", "--subnet", "192.168.4.0/23", "--gateway", "192.168.4.254"),
        {"Config": [
            {"Subnet": "192.168.0.0/24", "Gateway": "192.168.0.1"},
            {"Subnet": "192.168.4.0/23", "Gateway": "192.168.4.254"},
        ]},
    ),
    "dual-stack": (
        ("--subnet", "192.168.8.0/24", "--subnet", "fd00:8::/64"),
        {"EnableIPv6": True, "Config": [
            {"Subnet": "192.168.8.0/24", "Gateway": "192.168.8.1"},
            {"Subnet": "fd00:8::/64", "Gateway": "fd00:8::1"},
        ]},
    ),
    "range and aux": (
        ("--subnet", "192.168.9.0/24", "--ip-range", "192.168.9.128/25", "--aux", "printer=192.168.9.200"),
        {"Config": [{
            "Subnet": "192.168.9.0/24", "Gateway": "192.168.9.1", "IPRange": "192.168.9.128/25",
            "AuxiliaryAddresses": {"printer": "192.168.9.200"},
        }]},
    ),
    "labels": (
        ("--subnet", "192.168.10.0/24", "--internal", "--label", "team=db", "--label", "tier="),
        {
            "Internal": True, "Labels": {"team": "db", "tier": ""},
            "Config": [{"Subnet": "192.168.10.0/24", "Gateway": "192.168.10.1"}],
        },
    ),
}  # fmt: skip


def inspected(host: DockerHost, name: str) -> Json:
    """What Docker shows of a network, of what vxlanu told it; None where it has none."""
    if name not in docker_networks(host):
        return None
    shown = json.loads(host.docker("network", "inspect", name))[0]
    labels = {key: value for key, value in shown["Labels"].items() if not key.startswith("vxlanu.")}
    kept = {key: shown[key] for key in ("Internal", "EnableIPv6")}
    return {**kept, "Labels": labels, "Config": shown["IPAM"]["Config"]}


@pytest.mark.parametrize("kind", KINDS)
def test_docker_shows_a_network_of_any_kind_as_it_is(pair: Pair, kind: str) -> None:
    h1, h2 = pair
    options, expected = KINDS[kind]
    h1.vxlanu("network", "create", "demonet", *options)
    for host in pair:
        poll(lambda: inspected(host, "demonet"), what="demonet in Docker", story=host.story)  # noqa: B023
        plain = {"Internal": False, "EnableIPv6": False, "Labels": {}}
        assert inspected(host, "demonet") == {**plain, **expected}
    for host, name in ((h1, "C0"), (h2, "C1")):
        host.run_container(name, "--network", "demonet")
    for host in pair:
        poll(lambda: set(names(host)) == {"C0", "C1"}, what="both are known", story=host.story)  # noqa: B023
    rows = {it["name"]: it["addresses"] for it in h1.vxlanu("endpoint", "ls")}
    assert [len(rows[name]) for name in ("C0", "C1")] == [len(expected["Config"]) if kind == "dual-stack" else 1] * 2
    for address in (text.partition("/")[0] for text in rows["C1"]):
        poll(lambda: h1.pings("C0", address, wait=1), what=f"{address} answers", story=h2.story)  # noqa: B023
    for host, name in ((h1, "C0"), (h2, "C1")):
        host.docker("rm", "-f", name)
    poll(lambda: not names(h1) and not names(h2), what="no endpoint", story=h2.story)
    h2.vxlanu("network", "rm", "demonet")
    for host in pair:
        poll(lambda: not docker_networks(host).get("demonet"), what="demonet is gone", story=host.story)  # noqa: B023


def settled(host: DockerHost, name: str) -> bool:
    """Whether a network is in Docker, or the agent has said why it cannot be."""
    return name in docker_networks(host) or f"network {name} cannot be in Docker" in host.log("vxlanu")


def test_a_network_without_ipv4_is_in_docker_or_it_is_said_why_not(pair: Pair) -> None:
    """Docker before 28 has IPv4 in every network."""
    h1, h2 = pair
    h1.vxlanu("network", "create", "six", "--subnet", "fd00:6::/64")
    h1.vxlanu("network", "create", "demonet", "--subnet", "192.168.0.0/24")
    for host in pair:
        poll(lambda: "demonet" in docker_networks(host), what="demonet comes after it", story=host.story)  # noqa: B023
        poll(lambda: settled(host, "six"), what="six is there, or why not", story=host.story)  # noqa: B023
    h2.vxlanu("network", "rm", "six")


def test_what_docker_has_is_not_fought_for(pair: Pair) -> None:
    h1, h2 = pair
    h2.docker("network", "create", "demonet")
    h1.vxlanu("network", "create", "mine", "--subnet", "192.168.3.0/24")
    poll(lambda: "mine" in docker_networks(h2), what="mine on h2", story=h2.story)
    before = h2.log("vxlanu").count("cannot be in Docker")
    h1.vxlanu("network", "create", "demonet", "--subnet", "192.168.0.0/24")
    poll(lambda: docker_networks(h1).get("demonet") == "vxlanu", what="demonet on h1", story=h1.story)
    poll(lambda: h2.log("vxlanu").count("cannot be in Docker") > before, what="h2 says why not", story=h2.story)
    assert docker_networks(h2)["demonet"] == "bridge"
    h2.docker("network", "rm", "mine")  # by hand: not made again
    own = ("--driver", "vxlanu", "--ipam-driver", "vxlanu", "--ipam-opt", "vxlanu.network=mine")
    h2.docker("network", "create", *own, "-o", "vxlanu.network=mine", "--subnet", "192.168.3.0/24", "chosen")
    h2.docker("network", "rm", "demonet")  # the name is free: taken at the next try, and the list compared once more
    poll(lambda: docker_networks(h2).get("demonet") == "vxlanu", what="demonet on h2", story=h2.story)
    assert docker_networks(h2) == {"demonet": "vxlanu", "chosen": "vxlanu"}
    assert h2.log("vxlanu").count("cannot be in Docker") == before + 1, "said once"


def answered_while_one_waits(host: DockerHost) -> subprocess.Popen[bytes] | None:
    """Have the agent ask a Docker that hangs; who waits for that, or None if the agent answered us only afterwards."""
    asked = host.log("vxlanu").count("POST /v1/endpoints")
    waiting = host.start("vxlanu", "attach", "demonet", "docker:C0", log="waiting")
    poll(lambda: host.log("vxlanu").count("POST /v1/endpoints") > asked, what="it is asked", story=host.story)
    begin = time.monotonic()
    answered = all(host.agent_answers() for _ in range(50))  # it begins to wait a moment after it was asked
    in_time = time.monotonic() - begin < ANSWER_S_MAX / 2
    return waiting if answered and in_time and waiting.poll() is None else None


def test_nothing_but_who_asks_it_waits_for_a_docker_that_hangs(pair: Pair) -> None:
    h1, h2 = pair
    created(pair)
    h1.run("ip", "netns", "add", "n1")
    compared = h1.log("vxlanu").count("cannot be compared")
    with h1.frozen("dockerd"):
        waiting = poll(lambda: answered_while_one_waits(h1), what="an answer meanwhile", story=h1.story)
        h1.vxlanu("attach", "demonet", "n1", "--ip", "192.168.0.50")
        h2.vxlanu("network", "create", "latenet", "--subnet", "192.168.2.0/24")
        known = ("demonet", "latenet")
        poll(lambda: {it["name"] for it in h1.vxlanu("network", "ls")}.issuperset(known), what="both", story=h1.story)
        assert waiting.wait(60) == 4
        assert "docker does not answer at /run/docker.sock: no answer within 10 s" in h1.log("waiting")
        poll(lambda: h1.log("vxlanu").count("cannot be compared") > compared, what="sync gave up", story=h1.story)
    poll(lambda: "latenet" in docker_networks(h1), what="latenet in Docker", story=h1.story)
    h1.run_container("C0", "--network", "latenet")
    poll(lambda: "C0" in names(h2), what="h2 knows C0", story=h1.story)


def test_an_agent_starts_beside_a_docker_that_hangs(pair: Pair) -> None:
    h1, h2 = pair
    created(pair)
    said = "docker sends no events: no answer within 10 s"
    silent = h1.log("vxlanu").count(said)
    with h1.frozen("dockerd"):
        h1.stop("vxlanu")
        h1.start_agent()
        h2.vxlanu("network", "create", "latenet", "--subnet", "192.168.2.0/24")
        poll(lambda: h1.log("vxlanu").count(said) > silent, what="the agent says so", story=h1.story)
    poll(lambda: "latenet" in docker_networks(h1), what="latenet in Docker", story=h1.story)


def test_an_endpoint_has_the_names_of_its_container(pair: Pair) -> None:
    h1, h2 = pair
    created(pair)
    short = h1.run_container("C0", "--network", "demonet", "--network-alias", "web", "--hostname", "host0")[:12]
    poll(lambda: "C0" in names(h2), what="h2 knows C0", story=h1.story)
    assert sorted(names(h2)["C0"]) == sorted(["web", short, "host0"])
    h1.docker("rename", "C0", "C9")
    poll(lambda: "C9" in names(h2) and "C0" not in names(h2), what="h2 knows C9", story=h1.story)
    h1.stop("vxlanu")
    h1.docker("rename", "C9", "C8")
    h1.start_agent()
    poll(lambda: "C8" in names(h2), what="h2 knows C8", story=h1.story)
    h2.run_container("D1")
    h2.docker("network", "connect", "--alias", "late", "demonet", "D1")
    poll(lambda: "late" in names(h1).get("D1", []), what="h1 knows D1", story=h2.story)
    h2.docker("network", "disconnect", "demonet", "D1")
    poll(lambda: set(names(h1)) == {"C8"}, what="D1 has gone", story=h2.story)
    in_order(pair)


def test_the_later_of_two_with_one_name_keeps_an_id_until_the_name_is_free(pair: Pair) -> None:
    h1, h2 = pair
    created(pair)
    h1.run_container("twin", "--network", "demonet")
    poll(lambda: "twin" in names(h2), what="h2 knows the first", story=h1.story)
    h2.run_container("twin", "--network", "demonet", "--network-alias", "second")
    identity = json.loads(h2.docker("inspect", "twin"))[0]["NetworkSettings"]["Networks"]["demonet"]["EndpointID"]
    poll(lambda: "second" in names(h1).get(identity[:12], []), what="the later has its alias", story=h2.story)
    assert set(names(h1)) == {"twin", identity[:12]}
    assert "twin" not in names(h1)[identity[:12]]
    assert f"{identity[:12]} keeps its name: demonet has an endpoint twin on h1" in h2.log("vxlanu")
    h1.docker("rm", "-f", "twin")
    poll(lambda: set(names(h1)) == {"twin"}, what="the name is the other's now", story=h2.story)
