"""Docker asks for something while its plugin is away: what it says, and what is left when the agent is back.

The stand-in answers at once (test_docker_bad_days.py); where there is none, Docker 20.10 tries for 15 s before it gives
up, with each request, and a command makes up to three. So every command here ends, with an error or without, has
PATIENCE_S for it, and waits beside the others.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from docker_hosts import DOCKER, IMAGE, DockerHost
from docker_story import C0, C1, C2, declare, demonet, on_docker, start_again, tidy
from lab_ns import poll

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]
PATIENCE_S = 180.0  # 3 x 15 s, on a machine that is busy
OTHER = "192.168.1.0/24"


def both(pair: Pair) -> None:
    demonet(pair)
    pair[0].run_container("C0", "--network", "demonet", "--ip", C0)
    pair[1].run_container("C1", "--network", "demonet", "--ip", C1)


def test_a_container_removed_after_a_crash_of_the_agent_is_forgotten_at_its_start(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    both(docker_pair)
    h2.kill("vxlanu")
    h2.call(DOCKER, "rm", "-f", "C1", timeout=PATIENCE_S)  # with an error or without: the container goes
    assert not h2.docker("ps", "-aq", "--filter", "name=C1")
    start_again(docker_pair, h2)
    tidy(docker_pair, {C0})
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1})


def ask_while_away(host: DockerHost) -> str:
    """All at once, without an agent: C1 removed, C2 started, the network `other` removed. What is said of C2."""
    run = ("run", "-d", "--init", "--name", "C2", "--network", "demonet", "--ip", C2, IMAGE, "sleep", "36000")
    with ThreadPoolExecutor() as beside:
        removed = beside.submit(host.call, DOCKER, "rm", "-f", "C1", timeout=PATIENCE_S)
        other = beside.submit(host.call, DOCKER, "network", "rm", "other", timeout=PATIENCE_S)
        said = host.fails(DOCKER, *run, timeout=PATIENCE_S)
        removed.result()  # with an error or without: the container goes
        other.result()
    assert not host.docker("ps", "-aq", "--filter", "name=C1")
    return said


def test_what_docker_is_asked_while_the_agent_is_stopped_leaves_nothing_and_can_be_done_again(
    docker_pair: Pair,
) -> None:
    """On h1 dockerd itself starts meanwhile, and goes on. A container that restarts always is given up then
    (test_docker_deaths.py has the other order): hence Before=docker."""
    h1, h2 = docker_pair
    both(docker_pair)
    on_docker(h2, "other", OTHER)
    h1.docker("update", "--restart", "always", "C0")
    h1.stop("dockerd")
    for host in docker_pair:
        host.stop("vxlanu")
    with ThreadPoolExecutor() as beside:
        started = beside.submit(h1.start_dockerd)
        assert "vxlanu" in ask_while_away(h2)
        started.result()
    h1.start_agent()
    start_again(docker_pair, h2)
    tidy(docker_pair, set())

    h2.stop("dockerd")  # Docker itself needs a start to see its half of the removed network gone
    h2.start_dockerd()
    declare(h2, "other", OTHER)
    h1.docker("start", "C0")
    h2.docker("start", "C2")
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    for address in (C1, C2):
        poll(lambda: h1.pings("C0", address, wait=1), what=f"{address} answers", story=h2.story)  # noqa: B023
    tidy(docker_pair, {C0, C1, C2})
