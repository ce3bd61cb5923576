"""Docker asks for something while its plugin is away: what it says, and what is left when the agent is back.

Slow, and not by us: Docker 20.10 tries a missing socket for 15 s before it gives up, with each request, and a command
makes up to three. (README and `vxlanu help docker` say so.) So every command here ends, with an error or without, and
has PATIENCE_S for it.
"""

from __future__ import annotations

import pytest
from docker_hosts import DOCKER, IMAGE, DockerHost
from docker_story import C0, C1, SUBNET, demonet, tidy
from lab_ns import poll

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]
PATIENCE_S = 180.0  # 3 x 15 s, on a machine that is busy


def both(pair: Pair) -> None:
    demonet(pair)
    pair[0].run_container("C0", "--network", "demonet", "--ip", C0)
    pair[1].run_container("C1", "--network", "demonet", "--ip", C1)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_container_removed_while_the_agent_is_away_is_forgotten_at_its_start(docker_pair: Pair, how: str) -> None:
    h1, h2 = docker_pair
    both(docker_pair)
    getattr(h2, how)("vxlanu")
    h2.call(DOCKER, "rm", "-f", "C1", timeout=PATIENCE_S)  # with an error or without: the container goes
    assert not h2.docker("ps", "-aq", "--filter", "name=C1")
    h2.start_agent()
    tidy(docker_pair, {C0})
    h2.run_container("C1", "--network", "demonet", "--ip", C1)
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1})


def test_a_container_started_while_the_agent_is_away_leaves_nothing(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    both(docker_pair)
    h2.stop("vxlanu")
    run = ("run", "-d", "--init", "--name", "C2", "--network", "demonet", IMAGE, "sleep", "600")
    said = h2.fails(DOCKER, *run, timeout=PATIENCE_S)
    assert "vxlanu" in said
    h2.start_agent()
    tidy(docker_pair, {C0, C1})
    h2.docker("start", "C2")
    poll(lambda: h1.pings("C0", h2.docker("inspect", "-f", "{{.NetworkSettings.Networks.demonet.IPAddress}}", "C2")),
         what="C2 answers", story=h2.story)  # fmt: skip


def test_a_dockerd_that_starts_before_its_plugin_waits_and_then_goes_on(docker_pair: Pair) -> None:
    """A container that restarts always is given up (test_docker_deaths.py has the other order): hence Before=docker."""
    h1, h2 = docker_pair
    both(docker_pair)
    h2.docker("update", "--restart", "always", "C1")
    h2.stop("dockerd")
    h2.stop("vxlanu")
    h2.start_dockerd()
    h2.start_agent()
    tidy(docker_pair, {C0})
    h2.docker("start", "C1")
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1})


def test_a_network_removed_while_the_agent_is_away_can_be_declared_again(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    both(docker_pair)
    h2.docker("rm", "-f", "C1")
    h2.stop("vxlanu")
    h2.call(DOCKER, "network", "rm", "demonet", timeout=PATIENCE_S)
    h2.start_agent()
    h2.stop("dockerd")  # Docker itself needs a start to see its half of it gone
    h2.start_dockerd()
    h2.docker("network", "create", "-d", "vxlanu", "--ipam-driver", "vxlanu", "--subnet", SUBNET, "again")
    h2.run_container("C1", "--network", "again", "--ip", C1)
    assert h1.pings("C0", C1)
    tidy(docker_pair, {C0, C1})
