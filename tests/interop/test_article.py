"""The story that the users know, with vxlanu in the place of Docker's overlay driver, on two real dockerds.

    C0 192.168.0.100 ── h1 ───── h2 ── C1 192.168.0.101        demonet
    C2 192.168.0.102 ──┘         └── D1 192.168.1.101          other: a second network
    N0 192.168.0.103 ──┘              plain namespace, in demonet too

The README's chapters are its transcript: they are run here word for word. The containers of the other tests are made
once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_hosts import DOCKER, IMAGE, DockerHost, DockerHosts
from docker_story import C0, C1, C2, demonet, links, on_each
from lab_ns import poll
from transcript import chapter, play

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]
README = Path(__file__).parents[2] / "README.md"
IN_N0 = ("nsenter", "--net=/run/netns/n0")
TRIES = 5  # of a container that pings as it starts, and may end before a busy host has heard of it
D0, D1, N0 = "192.168.1.100", "192.168.1.101", "192.168.0.103"


@pytest.mark.parametrize("title", ["With Docker", "With plain namespaces"])
def test_the_readmes_chapter_says_what_happens(docker_pair: Pair, title: str) -> None:
    hosts = {host.name: host for host in docker_pair}

    def known(host: DockerHost) -> set[str]:
        rows = (*host.vxlanu("endpoint", "ls"), *host.vxlanu("network", "ls", "--filter", "scope=global"))
        return {row["id"] for row in rows}

    def agreed() -> bool:
        """Who types the next command does it later than this test could."""
        return known(docker_pair[0]) == known(docker_pair[1])

    def run(name: str, command: str) -> tuple[int, str]:
        poll(agreed, what="both hosts know the same networks and endpoints", story=hosts[name].story)
        for _ in range(TRIES):
            done = hosts[name].call_again("sh", "-c", command, timeout=120)
            if "100% packet loss" not in done.stdout:
                break
        return done.returncode, done.stdout + done.stderr

    play(chapter(README, title), run, {"one": "h1", "two": "h2"})


@pytest.fixture(scope="module")
def story(docker_hosts: DockerHosts) -> Iterator[Pair]:
    """Everything above; the addresses are chosen."""
    docker_hosts.clean()
    h1, h2 = docker_hosts.each
    demonet((h1, h2))
    on_each((h1, h2), "other", "192.168.1.0/24")
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    h1.run_container("C2", "--network", "demonet", "--ip", C2)
    h1.run_container("D0", "--network", "other", "--ip", D0)
    h2.run_container("D1", "--network", "other", "--ip", D1)
    h1.run("ip", "netns", "add", "n0")
    h1.vxlanu("attach", "demonet", "n0", "--ip", N0, "--name", "N0")
    yield h1, h2
    docker_hosts.clean()


def until_answered(host: DockerHost, address: str, *within: str) -> None:
    """Ping from the host, or from what `within` enters, until an echo comes back."""
    ask = (*within, "ping", "-c", "1", "-W", "5", address)
    poll(lambda: host.call(*ask).returncode == 0, what=f"{address} answers {within}", story=host.story)


def test_a_network_is_the_same_on_both_hosts(story: Pair) -> None:
    rows = [{row["name"]: (row["id"], row["vni"]) for row in host.vxlanu("network", "ls")} for host in story]
    assert rows[0]["demonet"] == rows[1]["demonet"] and rows[0]["other"] == rows[1]["other"]
    for host in story:
        form = "{{.Name}} {{.Driver}} {{.Scope}}"
        shown = host.docker("network", "ls", "--filter", "driver=vxlanu", "--format", form)
        assert set(shown.splitlines()) == {"demonet vxlanu local", "other vxlanu local"}


def test_containers_of_both_hosts_reach_each_other(story: Pair) -> None:
    h1, h2 = story
    assert h1.pings("C0", C1) and h2.pings("C1", C0)
    assert h1.pings("C0", C2) and h1.pings("C2", C0)


def test_the_first_interface_is_in_the_network_and_the_second_leads_out(story: Pair) -> None:
    """The values of Docker's overlay: MTU, MAC of the address, bridge of its own, default route."""
    h1, _ = story
    shown = links(h1, "C0")
    assert set(shown) == {"lo", "eth0", "eth1"}
    assert (shown["eth0"]["mtu"], shown["eth0"]["address"]) == (1450, "02:42:c0:a8:00:64")
    assert [f"{it['local']}/{it['prefixlen']}" for it in _v4(shown["eth0"])] == ["192.168.0.100/24"]
    assert shown["eth1"]["mtu"] == 1500
    (default,) = json.loads(h1.inside("C0", "ip", "-j", "route", "show", "default"))
    gateway = h1.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "docker_gwbridge")
    assert (default["gateway"], default["dev"]) == (gateway, "eth1")


def _v4(link: dict[str, object]) -> list[dict[str, object]]:
    found = link["addr_info"]
    assert isinstance(found, list)
    return [it for it in found if it["family"] == "inet"]


def test_a_container_reaches_the_outside_under_its_hosts_address(story: Pair) -> None:
    for host, name in zip(story, ("C0", "C1"), strict=True):
        assert host.pings(name, host.outside_address)  # which has no route to a container: it answers the host
    h1, _ = story
    assert "192.168" not in h1.outside.run("ip", "route")


def test_the_hosts_cannot_reach_the_containers(story: Pair) -> None:
    h1, h2 = story
    for host in story:
        for address in (C0, C1):
            assert host.call("ping", "-c", "1", "-W", "1", address).returncode != 0
    assert h1.pings("C0", C1), "who is in the network can"
    until_answered(h2, h1.address)  # a host can ping at all


def test_two_containers_of_a_host_cannot_talk_by_way_of_the_second_interface(story: Pair) -> None:
    h1, _ = story
    (outward,) = _v4(links(h1, "C2")["eth1"])
    assert not h1.pings("C0", str(outward["local"]), wait=1)
    until_answered(h1, str(outward["local"]))  # there it is
    assert h1.pings("C0", C2)


def test_a_second_network_is_another_world(story: Pair) -> None:
    h1, h2 = story
    assert h1.pings("D0", D1) and h2.pings("D1", D0)
    assert not h1.pings("D0", C0, wait=1) and not h1.pings("D0", C1, wait=1)
    assert not h1.pings("C0", D0, wait=1)


def test_a_plain_namespace_and_a_docker_container_share_a_network(story: Pair) -> None:
    h1, h2 = story
    assert h2.pings("C1", N0) and h1.pings("C0", N0)
    for address in (C0, C1):
        until_answered(h1, address, *IN_N0)


def test_beside_docker_a_plain_namespace_has_a_way_out_and_no_more(story: Pair) -> None:
    """Docker's policy for what is forwarded is to drop it. What it keeps apart, its own containers, stays apart."""
    h1, _ = story
    until_answered(h1, h1.outside_address, *IN_N0)
    (outward,) = _v4(links(h1, "C0")["eth1"])
    until_answered(h1, str(outward["local"]))  # the host reaches it
    assert h1.call(*IN_N0, "ping", "-c", "1", "-W", "1", str(outward["local"])).returncode != 0
    own, _, _ = h1.vxlanu("endpoint", "inspect", "N0")["egress"]["address"].partition("/")
    until_answered(h1, own)  # the host reaches it
    assert not h1.pings("C0", own, wait=1)


def test_an_internal_network_has_no_way_out(story: Pair) -> None:
    h1, h2 = story
    on_each(story, "inner", "192.168.2.0/24", "--internal")
    h1.run_container("E0", "--network", "inner", "--ip", "192.168.2.100")
    h2.run_container("E1", "--network", "inner", "--ip", "192.168.2.101")
    assert set(links(h1, "E0")) == {"lo", "eth0"}
    assert h1.inside("E0", "ip", "route", "show", "default") == ""
    assert h1.pings("E0", "192.168.2.101")
    assert not h1.pings("E0", h1.outside_address, wait=1)
    assert h1.pings("C0", h1.outside_address)


def test_a_published_port_answers_the_outside(story: Pair) -> None:
    h1, _ = story
    serve = ("sh", "-c", "echo hello from web >/tmp/index.html; httpd -f -p 80 -h /tmp")
    h1.run_container("web", "--network", "demonet", "-p", "8080:80", words=serve)
    ask = ["python3", "-c", f"import urllib.request as u; print(u.urlopen('http://{h1.outer_address}:8080').read())"]

    def answered() -> bool:
        return "hello from web" in h1.outside.run(*ask, check=False)

    poll(answered, what="the published port answers", story=h1.story)
    h1.docker("rm", "-f", "web")
    assert not answered()


def test_an_address_that_another_host_holds_is_refused_with_the_holders_name(story: Pair) -> None:
    _, h2 = story
    said = h2.fails(DOCKER, "run", "--rm", "--network", "demonet", "--ip", C0, IMAGE, "true")
    assert C0 in said and "h1" in said, said
    h2.docker("run", "--rm", "--network", "demonet", "--ip", "192.168.0.110", IMAGE, "true")


def test_containers_find_each_other_by_name_across_hosts(story: Pair) -> None:
    """With Docker's own resolver in between, which asks from inside of the container, by eth0."""
    h1, h2 = story
    ask = ("--dns", "192.168.0.1", "--dns-search", "vxlanu.internal")
    h1.run_container("asker", "--network", "demonet", *ask)
    h2.run_container("www", "--network", "demonet", "--network-alias", "site", *ask)
    for host, container, names in ((h1, "asker", ("www", "site", "www.demonet", "C1", "N0")), (h2, "www", ("C0",))):
        for name in names:
            poll(lambda: host.pings(container, name), what=f"{name} answers", story=host.story)  # noqa: B023
    assert h2.pings("D1", D0), "D0 is there"
    assert not h1.pings("asker", "D0", wait=1), "and has no name in this network"
    h2.docker("rm", "-f", "www")
    poll(lambda: not h1.pings("asker", "www", wait=1), what="the name is gone", story=h1.story)
    assert h1.pings("asker", "C1"), "names are still answered"
    h1.docker("rm", "-f", "asker")


ARTICLES_SCRIPT = """
import base64, json, urllib.request
url = "http://127.0.0.1:8500/v1/kv/docker/network/v1.0/endpoint/?recurse"
for row in json.loads(urllib.request.urlopen(url).read()):
    value = json.loads(base64.b64decode(row["Value"]))
    print(value["ep_iface"]["addr"], value["ep_iface"]["mac"], value["locator"])
"""


def test_the_keys_show_every_container(story: Pair) -> None:
    """As a script that was written for the article's store reads them, on either host."""
    h1, h2 = story
    for host in story:
        found = host.run("python3", "-c", ARTICLES_SCRIPT).splitlines()
        assert f"{C0}/24 02:42:c0:a8:00:64 {h1.address}" in found
        assert f"{C1}/24 02:42:c0:a8:00:65 {h2.address}" in found
