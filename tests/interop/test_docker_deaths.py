"""Whatever dies beneath a network of the Docker plugin: what is left is what should be.

    C0 ── h1 ───── h2 ── C1        demonet, a network of vxlanu on two dockerds

Every row ends in `tidy`: no interface of ours in a host's namespace, no endpoint without a container, tables as the
records say, and Docker can start the same container again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from docker_hosts import DockerHost, DockerHosts
from docker_story import C0, C1, C2, addresses, demonet, on_docker, tidy
from lab_ns import poll

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]


@pytest.fixture
def pair(docker_pair: Pair) -> Iterator[Pair]:
    """Both containers run, and reach each other."""
    h1, h2 = docker_pair
    demonet(docker_pair)
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    assert h1.pings("C0", C1)
    assert h2.pings("C1", C0)
    yield docker_pair


def ends(host: DockerHost, how: str) -> None:
    """End C1 in one of the ways in which a container ends."""
    if how == "process":
        host.kill_container("C1")
    elif how == "shim":
        host.kill_shim("C1")
    else:
        host.docker(*how.split(), "C1")


@pytest.mark.parametrize("how", ["stop", "kill", "rm -f", "process", "shim"])
def test_a_container_ends(pair: Pair, how: str) -> None:
    h1, h2 = pair
    ends(h2, how)
    poll(lambda: addresses(h1) == {C0}, what="C1 is gone on the other host", story=h2.story)
    assert not h1.pings("C0", C1, wait=1)
    tidy(pair, {C0})
    h2.docker("rm", "-f", "C1")
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    assert h1.pings("C0", C1)
    tidy(pair, {C0, C1})


@pytest.mark.parametrize("how", ["restart", "stop start", "pause unpause"])
def test_a_container_comes_back_with_its_address(pair: Pair, how: str) -> None:
    h1, h2 = pair
    for word in how.split():
        h2.docker(word, "C1")
    assert h1.pings("C0", C1)
    assert h2.pings("C1", C0)
    tidy(pair, {C0, C1})


def test_a_container_that_restarts_by_itself_comes_back(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    demonet(docker_pair)
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.run_container("C1", "--network", "demonet", "--ip", C1, "--restart", "always")
    assert h1.pings("C0", C1)
    h2.kill_container("C1")
    state = ("inspect", "-f", "{{.RestartCount}} {{.State.Running}}", "C1")
    # More than once where the other host has not been told yet that the address has come back.
    poll(lambda: re.fullmatch(r"[1-9]\d* true", h2.docker(*state)), what="it restarts", story=h2.story)
    poll(lambda: h1.pings("C0", C1, wait=1), what="it answers again", story=h2.story)
    tidy(docker_pair, {C0, C1})


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_agent_dies_and_comes_back(pair: Pair, how: str) -> None:
    h1, h2 = pair
    before = h2.inside("C1", "ip", "addr", "show", "eth0")
    getattr(h2, how)("vxlanu")
    assert "192.168.0.101/24" in h2.inside("C1", "ip", "addr", "show", "eth0"), "the interface stays"
    h2.start_agent()
    poll(lambda: h1.pings("C0", C1, wait=1), what="C1 answers again", story=h2.story)
    assert h2.inside("C1", "ip", "-o", "link", "show", "eth0").split()[1] == before.split()[1]
    tidy(pair, {C0, C1})
    h2.docker("rm", "-f", "C1")  # Docker goes on with the agent that it has never seen start
    tidy(pair, {C0})
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    assert h1.pings("C0", C1)
    h2.docker("rm", "-f", "C1")
    h2.docker("network", "rm", "demonet")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_dockerd_dies_and_comes_back_with_what_restarts_always(docker_pair: Pair, how: str) -> None:
    """Docker replays neither networks nor pools: the plugin knows them of old."""
    h1, h2 = docker_pair
    demonet(docker_pair)
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.run_container("C1", "--network", "demonet", "--ip", C1, "--restart", "always")
    h2.run_container("C2", "--network", "demonet", "--ip", C2)
    assert h1.pings("C0", C1)
    getattr(h2, how)("dockerd")
    if how == "kill":
        assert h1.pings("C0", C1), "containers live on, and so does the data path"
    h2.start_dockerd()
    poll(lambda: h1.pings("C0", C1, wait=1), what="C1 answers again", story=h2.story)
    tidy(docker_pair, {C0, C1})
    h2.docker("start", "C2")
    tidy(docker_pair, {C0, C1, C2})


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_containers_do_not_notice_a_dockerd_with_live_restore(pair: Pair, how: str) -> None:
    h1, h2 = pair
    h2.run("sh", "-c", "mkdir -p /etc/docker && echo '{\"live-restore\": true}' >/etc/docker/daemon.json")
    h2.run("sh", "-c", "kill -HUP $(cat /run/docker.pid)")
    poll(lambda: h2.docker("info", "-f", "{{.LiveRestoreEnabled}}") == "true", what="live-restore is on")
    started = h2.docker("inspect", "-f", "{{.State.StartedAt}}", "C1")
    try:
        getattr(h2, how)("dockerd")
        assert h1.pings("C0", C1)
        h2.start_dockerd()
        assert h1.pings("C0", C1)
        assert h2.docker("inspect", "-f", "{{.State.StartedAt}}", "C1") == started
        tidy(pair, {C0, C1})
        h2.docker("rm", "-f", "C1")
        tidy(pair, {C0})
    finally:
        h2.run("rm", "/etc/docker/daemon.json")
        h2.run("sh", "-c", "kill -HUP $(cat /run/docker.pid)")


def test_everything_on_a_host_dies_at_once(docker_hosts: DockerHosts, pair: Pair) -> None:
    h1, h2 = pair
    h2.kill("vxlanu")
    h2.kill("dockerd")
    h2.start_agent()
    docker_hosts.wait_joined()
    h2.start_dockerd()  # and ends the containers of the dead one
    tidy(pair, {C0})
    h2.docker("start", "C1")
    assert h1.pings("C0", C1)
    tidy(pair, {C0, C1})


def test_networks_come_and_go_on_a_running_container(pair: Pair) -> None:
    h1, h2 = pair
    h2.docker("network", "disconnect", "demonet", "C1")
    tidy(pair, {C0})
    assert "eth0" not in h2.inside("C1", "ip", "-o", "link")
    h2.docker("network", "connect", "--ip", C1, "demonet", "C1")
    assert h1.pings("C0", C1)
    tidy(pair, {C0, C1})
    on_docker(h2, "second", "192.168.1.0/24")
    h2.docker("network", "connect", "second", "C1")
    assert "192.168.1." in h2.inside("C1", "ip", "-o", "-4", "addr")
    h2.docker("rm", "-f", "C1")
    tidy(pair, {C0})
