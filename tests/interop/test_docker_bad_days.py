"""What goes wrong between Docker and vxlanu, on real dockerds: what is said, and that nothing is left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from docker_hosts import DOCKER, IMAGE, DockerHost
from docker_story import C0, C1, C2, SUBNET, declare, demonet, start_again, tidy
from lab_ns import poll

from vxlanu.runtimes.docker.absence import standing

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker", "kernel-vxlan")]

Pair = tuple[DockerHost, DockerHost]


def refusal(host: DockerHost, *flags: str) -> str:
    """The last line of an agent that must not start."""
    done = host.call("timeout", "60", "vxlanu", "agent", "--name", host.name, "--advertise", host.address, *flags)
    assert done.returncode == 6, done.stderr
    return done.stderr.splitlines()[-1]


def held(host: DockerHost, port: int) -> bool:
    """Whether anybody has a UDP port on a host, the kernel itself included."""
    rows = host.run("cat", "/proc/net/udp", "/proc/net/udp6").splitlines()
    return any(row.split()[1].endswith(f":{port:04X}") for row in rows)


def test_an_agent_beside_a_swarm_says_whose_the_port_is_and_names_the_ways_out(docker_pair: Pair) -> None:
    """Swarm's overlay is a kernel vxlan device in a namespace of Docker's, whose socket belongs to no process."""
    h1, _ = docker_pair
    usual = h1.agent_flags
    h1.stop("vxlanu")
    h1.docker("swarm", "init", "--advertise-addr", h1.address)
    try:
        poll(lambda: held(h1, 4789) and held(h1, 7946), what="the Swarm's overlay", story=h1.story)
        poll(lambda: "vxlan0" in refusal(h1), what="its device named", story=h1.story)  # in its namespace by now
        said = refusal(h1)
        assert "UDP port 4789" in said and "Docker Swarm's overlay" in said and "vxlan0" in said
        assert "--data-path-port 7789" in said and "--data-port N" in said
        said = refusal(h1, "--data-port", "5789")
        assert "UDP and TCP port 7946" in said and "Docker Swarm's gossip" in said and "--control-port N" in said
        h1.start_agent("--data-port", "5789", "--control-port", "8946")  # the ways out lead somewhere
        h1.stop("vxlanu")
    finally:
        h1.agent_flags = usual
        h1.docker("swarm", "leave", "--force")
    poll(lambda: not held(h1, 4789) and not held(h1, 7946), what="both ports free again", story=h1.story)
    h1.start_agent()


AWAY = "vxlanu: agent: it does not run on this host any more: {why}; try: vxlanu agent --name h2"
GONE, STOPPED = AWAY.format(why="it was killed or has crashed"), AWAY.format(why="it was stopped")
BY_HAND = "it was stopped; try: vxlanu agent --docker"
STOPS_BESIDE = "Docker goes on with networks of ours:"
WAITS = re.compile(r"Unable to (connect to|locate) plugin: .*, retrying in ")


def waits(host: DockerHost) -> int:
    """How often Docker has found nobody who answers, and gone to sleep before it tries again: 1, 2, 4 and 8 s."""
    return len(WAITS.findall(host.log("dockerd")))


@contextmanager
def at_once(host: DockerHost) -> Iterator[None]:
    """Docker does not wait for what will not come. How long a busy machine takes for the rest is no matter."""
    before = waits(host)
    yield
    assert waits(host) == before, host.story()


def refused_at_once(host: DockerHost, *words: str, why: str = GONE) -> None:
    """A command of Docker's fails, says why, and has not waited."""
    with at_once(host):
        done = host.call(DOCKER, *words)
    assert done.returncode != 0
    assert why in done.stderr


def test_docker_is_told_at_once_that_the_agent_was_killed_and_goes_on_with_the_next(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    demonet(docker_pair)
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    run = ("run", "-d", "--init", "--name", "C2", "--network", "demonet", "--ip", C2, IMAGE, "sleep", "36000")
    create = ("network", "create", "-d", "vxlanu", "--ipam-driver", "vxlanu", "--subnet", SUBNET, "again")
    h2.kill("vxlanu")
    refused_at_once(h2, *run)
    refused_at_once(h2, *create)
    refused_at_once(h2, "network", "create", "-d", "vxlanu", "other")
    with at_once(h2):
        h2.docker("rm", "-f", "C1")  # Docker removes what it can, and warns in its own log
        h2.docker("rm", "-f", "C2")
    assert h2.log("dockerd").count(f"NetworkDriver.DeleteEndpoint: {GONE}") == 1
    start_again(docker_pair, h2)
    tidy(docker_pair, {C0})
    h2.docker(*run)
    h2.docker(*create)
    assert h1.pings("C0", C2)
    h2.run_container("C1", "--network", "again", "--ip", C1)
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1, C2})


def test_a_dockerd_that_starts_when_the_agent_was_killed_starts_at_once(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    demonet(docker_pair)
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    h2.stop("dockerd")
    h2.kill("vxlanu")
    with at_once(h2):
        h2.start_dockerd()  # with a dead socket it waits, three times over
    refused_at_once(h2, "start", "C1")
    start_again(docker_pair, h2)
    h2.docker("start", "C1")
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1})


def test_a_network_that_was_removed_while_the_agent_was_killed_can_be_declared_again(docker_pair: Pair) -> None:
    """Docker does not ask: it takes a driver's error at the removal of a network for a warning."""
    h1, h2 = docker_pair
    demonet(docker_pair)
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.kill("vxlanu")
    with at_once(h2):
        h2.docker("network", "rm", "demonet")
    assert f"NetworkDriver.DeleteNetwork: {GONE}" in h2.log("dockerd")
    start_again(docker_pair, h2)
    declare(h2, "demonet", SUBNET)
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1})


STAND_INS = ("pgrep", "-fc", "stand_in.py .*/run/docker/plugins/vxlanu.sock")
SOCKET = "/run/docker/plugins/vxlanu.sock"


def test_docker_is_told_at_once_that_the_agent_was_stopped_and_goes_on_with_the_next(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    demonet(docker_pair)
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    h2.stop("vxlanu")
    assert f"{STOPS_BESIDE} demonet" in h2.log("vxlanu")
    refused_at_once(h2, "run", "--network", "demonet", IMAGE, "true", why=STOPPED)
    h2.stop("dockerd")
    with at_once(h2):
        h2.start_dockerd()
    refused_at_once(h2, "start", "C1", why=STOPPED)
    start_again(docker_pair, h2)
    poll(lambda: h2.call(*STAND_INS).stdout.strip() == "1", what="only the new agent's is left", story=h2.story)
    h2.docker("start", "C1")
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1})


def test_a_stand_in_that_is_started_by_hand_answers_as_well_and_gives_way_to_the_agent(docker_pair: Pair) -> None:
    """As vxlanu-stand-in.service starts it after the stop of an agent that has left none."""
    h1, h2 = docker_pair
    demonet(docker_pair)
    h1.run_container("C0", "--network", "demonet", "--ip", C0)
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    h2.stop("vxlanu")
    h2.run("pkill", "-f", STAND_INS[2])
    poll(lambda: not h2.path(SOCKET).exists(), what="nobody stays", story=h2.story)
    before = waits(h2)
    with ThreadPoolExecutor() as beside:
        waiting = beside.submit(h2.call, DOCKER, "restart", "C1")
        poll(lambda: waits(h2) > before, what="the control: Docker waits where nobody answers", story=h2.story)
        process = h2.start("vxlanu", "agent", "--stand-in", "--docker", log="stand-in")
        poll(lambda: standing(h2.path(SOCKET)), what="an answer", story=lambda: h2.log("stand-in"))
        assert waiting.result().returncode != 0
    refused_at_once(h2, "run", "--network", "demonet", IMAGE, "true", why=BY_HAND)
    refused_at_once(h2, "restart", "C1", why=BY_HAND)
    assert process.poll() is None
    start_again(docker_pair, h2)
    assert process.wait(60) == 0
    h2.docker("start", "C1")
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1})


def test_nothing_stays_after_a_clean_stop_where_docker_has_no_network_of_ours(docker_pair: Pair) -> None:
    _, h2 = docker_pair
    poll(lambda: h2.call(*STAND_INS).stdout.strip() == "1", what="the control: the agent's", story=h2.story)
    h2.stop("vxlanu")
    assert h2.call(*STAND_INS).stdout.strip() == "0"
    assert not h2.path(SOCKET).exists()


def test_who_answers_for_a_stopped_agent_ends_with_the_last_network_that_docker_removes(docker_pair: Pair) -> None:
    """And the next agent has heard of it, so that it leaves nobody behind in its turn."""
    _, h2 = docker_pair
    demonet(docker_pair)
    h2.stop("vxlanu")
    assert h2.call(*STAND_INS).stdout.strip() == "1"
    with at_once(h2):
        h2.docker("network", "rm", "demonet")
    h2.start_agent()
    h2.stop("vxlanu")
    assert not h2.path(SOCKET).exists()
    h2.start_agent()
    declare(h2, "demonet", SUBNET)
    h2.stop("vxlanu")
    h2.docker("network", "rm", "demonet")
    poll(lambda: h2.call(*STAND_INS).stdout.strip() == "0", timeout=60, what="its end", story=h2.story)
    assert not h2.path(SOCKET).exists()
