"""Bulk TCP between two Docker containers, beside Docker's own overlay network of a Swarm, in one run.

    c1, s1 ── h1 ───── h2 ── c2, s2       c: on a network of the plugin, s: on the Swarm's

The Swarm holds UDP 4789 by kernel vxlan, and 7946, on both hosts, so vxlanu has other ports: they stand beside each
other, as on a host that moves from one to the other. No bar: the ratio is against the kernel's own datapath.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable

import pytest
from docker_hosts import DockerHost, DockerHosts
from docker_story import C0, C1, demonet
from lab_ns import poll

pytestmark = [pytest.mark.accept, pytest.mark.netns, pytest.mark.interop("docker"), pytest.mark.timeout(600)]

ROUNDS = 5
SECONDS = 2
JOIN = ("--join", "192.0.2.1:7947", "--join", "192.0.2.2:7947")
OTHER_PORTS = ("--data-port", "4790", "--control-port", "7947", *JOIN)
SWARM_SUBNET, S1, S2 = "192.168.66.0/24", "192.168.66.101", "192.168.66.102"

Pair = tuple[DockerHost, DockerHost]


def swarm(pair: Pair) -> None:
    """One Swarm of both, and an overlay network that plain containers may join."""
    h1, h2 = pair
    h1.docker("swarm", "init", "--advertise-addr", h1.address)
    token = h1.docker("swarm", "join-token", "-q", "worker")
    h2.docker("swarm", "join", "--token", token, "--advertise-addr", h2.address, f"{h1.address}:2377")
    h1.docker("network", "create", "-d", "overlay", "--attachable", "--subnet", SWARM_SUBNET, "swarmnet")


def gigabits(sender: DockerHost, container: str, address: str, streams: int) -> float:
    """What iperf3's receiver at `address` got, in Gbit/s."""
    words = ("iperf3", "-c", address, "-t", str(SECONDS), "-P", str(streams), "-J")
    return float(json.loads(sender.inside(container, *words))["end"]["sum_received"]["bits_per_second"]) / 1e9


def test_bulk_tcp_beside_the_overlay_of_a_swarm(make_docker_hosts: Callable[..., DockerHosts]) -> None:
    h1, h2 = make_docker_hosts("--docker", *OTHER_PORTS).each
    swarm((h1, h2))
    demonet((h1, h2))
    server = ("iperf3", "-s")
    h1.run_container("c1", "--network", "demonet", "--ip", C0)
    h2.run_container("c2", "--network", "demonet", "--ip", C1, words=server)
    h1.run_container("s1", "--network", "swarmnet", "--ip", S1)
    h2.run_container("s2", "--network", "swarmnet", "--ip", S2, words=server)
    paths = {"vxlanu": ("c1", C1), "overlay of a Swarm": ("s1", S2)}
    for container, address in paths.values():
        poll(lambda: h1.pings(container, address, wait=1), what=f"{address} answers", story=h1.story)  # noqa: B023
    for streams in (1, 4):
        measured: dict[str, list[float]] = {name: [] for name in paths}
        for _ in range(ROUNDS):
            for name, (container, address) in paths.items():
                measured[name].append(gigabits(h1, container, address, streams))
        ours, theirs = (statistics.median(values) for values in measured.values())
        spread = {name: f"{min(values):.2f} to {max(values):.2f}" for name, values in measured.items()}
        print(f"\n{streams} stream{'s' * (streams > 1)}: vxlanu {ours:.2f} Gbit/s, overlay of a Swarm {theirs:.2f}, "
              f"ratio {ours / theirs:.2f} (of {ROUNDS}: {spread})")  # fmt: skip
        assert ours > 0
    for host in (h1, h2):
        assert host.call("vxlanu", "verify").returncode == 0
