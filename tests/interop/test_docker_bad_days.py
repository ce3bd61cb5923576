"""What goes wrong between Docker and vxlanu, on real dockerds: what is said, and that nothing is left behind."""

from __future__ import annotations

import pytest
from docker_hosts import DockerHost

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker", "kernel-vxlan")]

Pair = tuple[DockerHost, DockerHost]


def refusal(host: DockerHost, *flags: str) -> str:
    """The last line of an agent that must not start."""
    done = host.call("timeout", "60", "vxlanu", "agent", "--name", host.name, "--advertise", host.address, *flags)
    assert done.returncode == 6, done.stderr
    return done.stderr.splitlines()[-1]


def test_an_agent_beside_a_swarm_says_whose_the_port_is_and_names_the_ways_out(docker_pair: Pair) -> None:
    """Swarm's overlay is a kernel vxlan device in a namespace of Docker's, whose socket belongs to no process."""
    h1, _ = docker_pair
    usual = h1.agent_flags
    h1.stop("vxlanu")
    h1.docker("swarm", "init", "--advertise-addr", h1.address)
    try:
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
    h1.start_agent()
