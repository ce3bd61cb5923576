"""What a network of the plugin costs a `docker run`, beside Docker's bridge; and a hundred containers at once.

    containers ── h1 ───── h2 ── containers

The comparison is with a network of Docker's bridge driver, which, as every network but the default one, has Docker's
resolver in the container. That of the plugin has two interfaces: the second is Docker's, on docker_gwbridge.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from docker_hosts import DockerHost
from lab_ns import poll

pytestmark = [pytest.mark.accept, pytest.mark.netns, pytest.mark.interop("docker"), pytest.mark.timeout(900)]

Pair = tuple[DockerHost, DockerHost]
ROUNDS = 9
LONGER_MS = 150
CONTAINERS = 50  # on each host
AT_ONCE = 4  # `docker run` at a time on a host
SUBNET = "192.168.0.0/24"


def declare(pair: Pair) -> None:
    pair[0].vxlanu("network", "create", "demonet", "--subnet", SUBNET)
    for host in pair:
        host.docker("network", "create", "-d", "vxlanu", "--ipam-driver", "vxlanu", "--subnet", SUBNET, "demonet")


def test_docker_run_is_hardly_longer_than_on_a_bridge(docker_pair: Pair) -> None:
    declare(docker_pair)
    host = docker_pair[0]
    host.docker("network", "create", "plain")
    took: dict[str, list[float]] = {"demonet": [], "plain": [], "bridge": []}
    for number in range(ROUNDS):
        for network, times in took.items():
            begun = time.monotonic()
            host.run_container(f"{network}-{number}", "--network", network)
            times.append(1000 * (time.monotonic() - begun))
            host.docker("rm", "-f", f"{network}-{number}")
    medians = {network: statistics.median(times) for network, times in took.items()}
    longer = [ours - plain for ours, plain in zip(took["demonet"], took["plain"], strict=True)]
    print(f"\ndocker run: {medians['demonet']:.0f} ms on ours, {medians['plain']:.0f} on the bridge driver's, "
          f"{medians['bridge']:.0f} on the default bridge, which has no resolver; {statistics.median(longer):.0f} ms "
          f"longer (of {ROUNDS}: {min(longer):.0f} to {max(longer):.0f}), promised {LONGER_MS}")  # fmt: skip
    host.docker("network", "rm", "plain")
    assert statistics.median(longer) <= LONGER_MS


def test_a_hundred_containers_as_fast_as_docker_starts_them(docker_pair: Pair) -> None:
    """No address twice, everybody there, and each can be reached from both ends."""
    declare(docker_pair)

    def run(host: DockerHost, number: int) -> None:
        host.run_container(f"{host.name}-{number}", "--network", "demonet", "--dns", "192.168.0.1")

    begun = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as first, ThreadPoolExecutor(AT_ONCE) as second:
        jobs = [pool.submit(run, host, number) for number in range(CONTAINERS)
                for pool, host in zip((first, second), docker_pair, strict=True)]  # fmt: skip
    for job in jobs:
        job.result()
    took = time.monotonic() - begun
    h1, h2 = docker_pair
    rows = h1.vxlanu("endpoint", "ls", "demonet")
    given = Counter(text.partition("/")[0] for row in rows for text in row["addresses"])
    assert len(rows) == len(given) == 2 * CONTAINERS
    assert set(given.values()) == {1}
    for host, name in ((h1, "h1-0"), (h2, "h2-0")):
        script = "for a; do ping -q -c 1 -W 10 $a >/dev/null || echo $a; done"
        missed = host.inside(name, "sh", "-c", script, "sh", *given, timeout=600)
        assert missed == "", f"not reached from {name}"
    wanted = {f"{host.name}-{number}" for host in docker_pair for number in range(CONTAINERS)}
    poll(lambda: named(h1) == wanted, what="the names of all containers are known", story=h1.story)
    for host, name in ((h1, "h1-0"), (h2, "h2-0")):
        script = "for n; do getent hosts $n >/dev/null || nslookup $n >/dev/null || echo $n; done"
        unknown = host.inside(name, "sh", "-c", script, "sh", *sorted(wanted), timeout=600)
        assert unknown == "", f"no address by name from {name}"
    print(f"\n{2 * CONTAINERS} containers on two hosts, {AT_ONCE} at a time on each: {took:.1f} s")
    for host in docker_pair:
        assert host.call("vxlanu", "verify").returncode == 0


def named(host: DockerHost) -> set[str]:
    return {row["name"] for row in host.vxlanu("endpoint", "ls", "demonet")}
