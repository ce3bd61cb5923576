"""What `docker network create` and `docker run` can say, on a network of the plugin, with real dockerds.

    containers ── h1 ───── h2 ── containers

The story as a whole is in test_article.py, what dies in test_docker_deaths.py; here is one option after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

import pytest
from docker_hosts import DOCKER, DockerHost
from docker_story import in_order, left_over
from lab_ns import poll

from vxlanu.lab.topology import Json

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]
OURS = ("-d", "vxlanu", "--ipam-driver", "vxlanu")
SUBNET = "192.168.0.0/24"


@pytest.fixture
def pair(docker_pair: Pair) -> Iterator[Pair]:
    """Both hosts; afterwards nothing of ours is left in either host's namespace."""
    yield docker_pair
    for host in docker_pair:
        host.run("sh", "-c", f"{DOCKER} ps -aq | xargs -r {DOCKER} rm -f")
        poll(lambda: not left_over(host), what="none of our interfaces", story=host.story)  # noqa: B023
    in_order(docker_pair)


def links(host: DockerHost, container: str) -> dict[str, Json]:
    return {link["ifname"]: link for link in json.loads(host.inside(container, "ip", "-j", "addr"))}


def addresses(host: DockerHost, container: str, ifname: str) -> set[str]:
    found = links(host, container)[ifname]["addr_info"]
    return {f"{it['local']}/{it['prefixlen']}" for it in found if it["scope"] == "global"}


def create(host: DockerHost, name: str, *options: str) -> None:
    host.docker("network", "create", *OURS, *options, name)


def on_both(pair: Pair, name: str, *options: str) -> None:
    """A new network of vxlanu, of which both hosts know: one that is slow to hear of it would refuse Docker's."""
    pair[0].vxlanu("network", "create", name, *options)
    named = ("network", "ls", "--filter", f"name={name}")
    for host in pair:
        poll(lambda: host.vxlanu(*named), what=f"{host.name} to hear of {name}", story=host.story)  # noqa: B023


def known(host: DockerHost) -> set[str]:
    """The names of all endpoints, as this host has heard of them."""
    return {row["name"] for row in host.vxlanu("endpoint", "ls")}


def listed(host: DockerHost) -> set[str]:
    return set(host.docker("network", "ls", "--format", "{{.Name}}").split())


def test_both_families_with_every_address_chosen(pair: Pair) -> None:
    h1, h2 = pair
    on_both(pair, "dual", "--subnet", SUBNET, "--subnet", "fd00:7::/64")
    for host in pair:
        create(host, "dual", "--ipv6", "--subnet", SUBNET, "--subnet", "fd00:7::/64")
    fixed = ("--ip", "192.168.0.100", "--ip6", "fd00:7::100", "--mac-address", "02:11:22:33:44:55")
    h1.run_container("C0", "--network", "dual", *fixed)
    h2.run_container("C1", "--network", "dual")
    assert addresses(h1, "C0", "eth0") == {"192.168.0.100/24", "fd00:7::100/64"}
    assert links(h1, "C0")["eth0"]["address"] == "02:11:22:33:44:55"
    mine = addresses(h2, "C1", "eth0")
    assert len(mine) == 2
    assert h2.pings("C1", "192.168.0.100")
    assert h2.pings("C1", "fd00:7::100")
    for address in mine:
        assert h1.pings("C0", address.partition("/")[0])
    run = (DOCKER, "run", "--rm", "--network", "dual")
    assert "fd00:7::100 belongs to" in h2.fails(*run, "--ip6", "fd00:7::100", "busybox", "true")
    taken = h2.fails(*run, "--mac-address", "02:11:22:33:44:55", "busybox", "true")
    assert "MAC 02:11:22:33:44:55 belongs to" in taken


def test_an_address_held_elsewhere_is_refused_and_leaves_nothing(pair: Pair) -> None:
    h1, h2 = pair
    on_both(pair, "demonet", "--subnet", SUBNET)
    h1.run("ip", "netns", "add", "plain")
    h1.vxlanu("attach", "demonet", "plain", "--ip", "192.168.0.100")
    create(h2, "demonet", "--subnet", SUBNET)
    poll(lambda: "plain" in known(h2), what="h2 knows the holder", story=h2.story)
    said = h2.fails(DOCKER, "run", "--name", "C0", "--network", "demonet", "--ip", "192.168.0.100", "busybox", "true")
    assert "192.168.0.100 belongs to plain on h1" in said
    h2.docker("rm", "C0")
    h1.vxlanu("detach", "demonet", "plain")
    poll(lambda: not known(h2), what="h2 knows that it has gone", story=h2.story)
    h2.run_container("C0", "--network", "demonet", "--ip", "192.168.0.100")


def test_a_network_is_named_or_known_by_its_subnet(pair: Pair) -> None:
    h1, _ = pair
    h1.vxlanu("network", "create", "demonet", "--subnet", SUBNET)
    create(h1, "by-subnet", "--subnet", SUBNET)
    create(h1, "by-name", "--ipam-opt", "vxlanu.network=demonet")
    create(h1, "by-both", "--ipam-opt", "vxlanu.network=demonet", "-o", "vxlanu.network=demonet", "--subnet", SUBNET)
    for number, name in enumerate(("by-subnet", "by-name", "by-both")):
        [config] = json.loads(h1.docker("network", "inspect", name))[0]["IPAM"]["Config"]
        assert config["Subnet"] == SUBNET
        h1.run_container(f"C{number}", "--network", name)
    place = h1.docker("inspect", "-f", '{{(index .NetworkSettings.Networks "by-both").IPAddress}}', "C2")
    assert h1.pings("C0", place), "one network under three names"


NAMED = ("--ipam-opt", "vxlanu.network=demonet")
REFUSED: dict[tuple[str, ...], str] = {
    ("-d", "vxlanu", "--subnet", SUBNET): f"docker network create -d vxlanu --ipam-driver vxlanu --subnet {SUBNET}",
    (*OURS, "--subnet", "10.77.0.0/24"): "vxlanu network create NAME --subnet 10.77.0.0/24",
    OURS: "--ipam-opt vxlanu.network=NAME",
    (*OURS, "--ipam-opt", "vxlanu.network=demnet"): "try: demonet",
    (*OURS, "--subnet", SUBNET, "-o", "vxlanu.nework=x"): "no such option; try: vxlanu.network",
    (*OURS, "--subnet", SUBNET, "--gateway", "192.168.0.9"): "the gateway of 192.168.0.0/24 is 192.168.0.1",
    (*OURS, "--subnet", SUBNET, "--ip-range", "192.168.0.64/26"): "the range is the vxlanu network's",
    (*OURS, "--subnet", SUBNET, "--aux-address", "r=192.168.0.9"): "auxiliary addresses are the vxlanu network's",
    (*OURS, *NAMED, "--ipv6", "--subnet", "fd00::/64"): "it has no IPv6 subnet",
}


def test_a_network_that_cannot_be_is_refused_with_what_to_type(pair: Pair) -> None:
    h1, _ = pair
    h1.vxlanu("network", "create", "demonet", "--subnet", SUBNET)
    before = listed(h1)
    for options, words in REFUSED.items():
        assert words in h1.fails(DOCKER, "network", "create", *options, "wrong"), options
    assert listed(h1) == before
    create(h1, "right", "--subnet", SUBNET)
    h1.run_container("C0", "--network", "right", "--ip", "192.168.0.9")


def test_an_auxiliary_address_is_no_container_s(pair: Pair) -> None:
    h1, _ = pair
    h1.vxlanu("network", "create", "demonet", "--subnet", SUBNET, "--aux", "router=192.168.0.9")
    create(h1, "demonet", "--subnet", SUBNET, "--aux-address", "router=192.168.0.9")
    said = h1.fails(DOCKER, "run", "--rm", "--network", "demonet", "--ip", "192.168.0.9", "busybox", "true")
    assert "an auxiliary address of the network" in said
    h1.run_container("C0", "--network", "demonet", "--ip", "192.168.0.10")


def test_a_container_comes_into_networks_and_leaves_them_while_it_runs(pair: Pair) -> None:
    h1, h2 = pair
    for name, subnet in (("one", "192.168.1.0/24"), ("two", "192.168.2.0/24")):
        on_both(pair, name, "--subnet", subnet)
        for host in pair:
            create(host, name, "--subnet", subnet)
    h2.run_container("A1", "--network", "one", "--ip", "192.168.1.9")
    h2.run_container("A2", "--network", "two", "--ip", "192.168.2.9")
    h1.run_container("C0", "--network", "one")
    assert h1.pings("C0", "192.168.1.9")
    h1.docker("network", "connect", "--ip", "192.168.2.50", "two", "C0")
    assert h1.pings("C0", "192.168.2.9")
    assert h2.pings("A2", "192.168.2.50")
    assert not h2.pings("A1", "192.168.2.50", wait=1), "two networks are two segments"
    h1.docker("network", "disconnect", "two", "C0")
    assert not h2.pings("A2", "192.168.2.50", wait=1)
    assert h1.pings("C0", "192.168.1.9")
    assert "eth0" in links(h1, "C0")
    refused = h1.call("vxlanu", "detach", "one", h1.vxlanu("endpoint", "inspect", "192.168.1.9")["target"])
    assert refused.returncode == 4
    refused = h1.call("vxlanu", "detach", "one", target_of(h1, "C0"))
    assert refused.returncode == 5
    assert "docker network disconnect NETWORK C0" in refused.stderr


def target_of(host: DockerHost, name: str) -> str:
    """The target in `endpoint inspect`: the container's name, once Docker's events have told it."""
    wanted = f"docker:{name}"

    def shown() -> bool:
        rows = host.vxlanu("endpoint", "ls")
        return any(row["name"] == name and row["target"] == wanted for row in rows)

    poll(shown, what=f"{wanted} is a target", story=host.story)
    return wanted


def test_an_internal_network_has_no_second_interface(pair: Pair) -> None:
    """Also where Docker was not told: what the cluster has decided holds on every host."""
    h1, _ = pair
    h1.vxlanu("network", "create", "inner", "--subnet", SUBNET, "--internal")
    h1.vxlanu("network", "create", "outer", "--subnet", "192.168.1.0/24")
    create(h1, "inner", "--subnet", SUBNET)
    create(h1, "told", "--subnet", "192.168.1.0/24", "--internal")
    create(h1, "outer", "--subnet", "192.168.1.0/24")
    for name in ("inner", "told", "outer"):
        h1.run_container(name, "--network", name)
    assert set(links(h1, "inner")) == {"lo", "eth0"}
    assert set(links(h1, "told")) == {"lo", "eth0"}
    assert set(links(h1, "outer")) == {"lo", "eth0", "eth1"}
    assert "default" not in h1.inside("inner", "ip", "route")
    assert "default via" in h1.inside("outer", "ip", "route")


def test_a_published_port_answers(pair: Pair) -> None:
    h1, _ = pair
    h1.vxlanu("network", "create", "demonet", "--subnet", SUBNET)
    create(h1, "demonet", "--subnet", SUBNET)
    serve = ("sh", "-c", "echo hello >/index.html; exec httpd -f -p 80 -h /")
    h1.run_container("web", "--network", "demonet", "-p", "18080:80", words=serve)
    ask = ("busybox", "wget", "-q", "-O", "-", f"http://{h1.outer_address}:18080/index.html")
    poll(lambda: "hello" in h1.outside.run(*ask, check=False), what="the port answers", story=h1.story)


def test_two_subnets_of_one_network_reach_each_other(pair: Pair) -> None:
    h1, h2 = pair
    on_both(pair, "wide", "--subnet", "192.168.1.0/24", "--subnet", "192.168.2.0/24")
    create(h1, "wide", "--ipam-opt", "vxlanu.network=wide", "--subnet", "192.168.1.0/24")
    create(h2, "wide", "--ipam-opt", "vxlanu.network=wide", "--subnet", "192.168.2.0/24")
    h1.run_container("C0", "--network", "wide", "--ip", "192.168.1.9")
    h2.run_container("C1", "--network", "wide", "--ip", "192.168.2.9")
    assert "192.168.2.0/24 dev eth0" in h1.inside("C0", "ip", "route")
    assert h1.pings("C0", "192.168.2.9")
    assert h2.pings("C1", "192.168.1.9")
    for name in ("C2", "C3", "C4"):
        h2.run_container(name, "--network", "wide")
        [address] = addresses(h2, name, "eth0")
        assert address.startswith("192.168.2."), "the one that Docker knows here"


def test_one_docker_network_may_have_several_subnets(pair: Pair) -> None:
    h1, h2 = pair
    subnets = ("--subnet", "192.168.1.0/24", "--subnet", "192.168.2.0/24")
    on_both(pair, "wide", *subnets)
    for host in pair:
        create(host, "wide", *subnets)
    h1.run_container("C0", "--network", "wide")
    h2.run_container("C1", "--network", "wide", "--ip", "192.168.2.9")
    first = json.loads(h1.docker("network", "inspect", "wide"))[0]["IPAM"]["Config"][0]["Subnet"]
    [address] = addresses(h1, "C0", "eth0")
    assert ip_interface(address).network == ip_network(first), "the first in Docker's order, which is any (a map in Go)"
    assert h1.pings("C0", "192.168.2.9")


def test_the_interface_can_be_looked_into_after_docker_has_moved_it(pair: Pair) -> None:
    h1, _ = pair
    h1.vxlanu("network", "create", "demonet", "--subnet", SUBNET)
    create(h1, "demonet", "--subnet", SUBNET)
    h1.run_container("C0", "--network", "demonet", "--ip", "192.168.0.100")

    def detail() -> Json:
        return h1.vxlanu("endpoint", "inspect", "192.168.0.100")

    poll(lambda: detail()["interface_state"] == "up", what="it is found there", story=h1.story)
    assert detail()["ifname"] == "eth0"
    assert detail()["interface_addresses"] == ["192.168.0.100/24"]
    assert detail()["interface_mtu"] == 1450
