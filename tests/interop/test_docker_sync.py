"""What vxlanu learns from Docker and tells it: names of containers, and networks that were created elsewhere.

h1 (dockerd, agent --docker --docker-sync) ───── h2 (the same)
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from docker_hosts import DockerHost, DockerHosts
from lab_ns import poll
from needs import DOCKER_NEEDS, require

from vxlanu.lab.topology import Json

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]


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
    """Driver by name, of what vxlanu may have made."""
    lines = host.docker("network", "ls", "--format", "{{.Name}} {{.Driver}}").splitlines()
    return {name: driver for name, driver in map(str.split, lines) if name not in ("bridge", "host", "none")}


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
    assert h1.vxlanu("verify")["differences"] == h2.vxlanu("verify")["differences"] == []


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
