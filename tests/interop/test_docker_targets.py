"""`docker:NAME` as a target: containers that Docker runs and vxlanu attaches, on two real dockerds.

C0 (--network none) ── h1 ───── h2 ── C1 (--network none)
"""

from __future__ import annotations

import json
import sys

import pytest
from docker_hosts import DockerHost
from docker_story import in_order
from lab_ns import poll

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]
# Who may read this tree wherever it is, and write what others may.
READS = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
USER = ("setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups", *READS)
ASK = """
import asyncio, logging
from vxlanu.runtimes.containers import RuntimeAway, find
from vxlanu.runtimes.docker.events import Follower
async def ask():
    try:
        print("found", (await find("docker", "C0")).name)
    except RuntimeAway as why:
        print("find:", why)
    said = asyncio.Event()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("vxlanu.runtimes").addFilter(lambda _: said.set() or True)
    following = asyncio.create_task(Follower("docker").run())
    await said.wait()
    following.cancel()
asyncio.run(ask())
"""


def links(host: DockerHost, container: str) -> dict[str, dict[str, object]]:
    """The interfaces of a container by name."""
    shown = json.loads(host.inside(container, "ip", "-j", "addr"))
    return {link["ifname"]: link for link in shown}


def known(host: DockerHost) -> set[str]:
    """The names of all endpoints, as this host has heard of them."""
    return {it["name"] for it in host.vxlanu("endpoint", "ls")}


def two_attached(pair: Pair) -> None:
    h1, h2 = pair
    h1.vxlanu("network", "create", "demonet", "--subnet", "192.168.0.0/24")
    h1.run_container("C0", "--network", "none")
    h2.run_container("C1", "--network", "none")
    h1.vxlanu("attach", "demonet", "docker:C0", "--ip", "192.168.0.100", "--name", "C0")
    h2.vxlanu("attach", "demonet", "docker:C1", "--ip", "192.168.0.101", "--name", "C1")


def test_containers_of_two_dockerds_reach_each_other(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    two_attached(docker_pair)
    assert h1.pings("C0", "192.168.0.101")
    assert h2.pings("C1", "192.168.0.100")
    eth0 = links(h1, "C0")["eth0"]
    assert (eth0["address"], eth0["mtu"]) == ("02:42:c0:a8:00:64", 1450)


@pytest.mark.parametrize("how", ["stop", "kill", "rm", "process", "shim"])
def test_an_endpoint_ends_with_its_container(docker_pair: Pair, how: str) -> None:
    h1, h2 = docker_pair
    two_attached(docker_pair)
    poll(lambda: known(h1) == {"C0", "C1"}, what="h1 knows both", story=h2.story)
    if how == "process":
        h2.kill_container("C1")
    elif how == "shim":
        h2.kill_shim("C1")
    else:
        h2.docker(how, *(("-f",) if how == "rm" else ()), "C1")
    poll(lambda: known(h1) == {"C0"}, what="C1 is gone", story=h2.story)
    in_order(docker_pair)


def test_a_container_that_does_not_run_is_told_apart_from_one_that_is_not_there(docker_pair: Pair) -> None:
    h1, _ = docker_pair
    h1.vxlanu("network", "create", "demonet", "--subnet", "192.168.0.0/24")
    h1.run_container("C0", "--network", "none")
    h1.docker("stop", "C0")
    assert "is not running" in h1.fails("vxlanu", "attach", "demonet", "docker:C0")
    assert "No such container" in h1.fails("vxlanu", "attach", "demonet", "docker:C9")
    h1.docker("start", "C0")
    h1.vxlanu("attach", "demonet", "docker:C0")


def test_a_user_who_may_not_ask_docker_is_told_so_in_one_line(docker_pair: Pair) -> None:
    h1, _ = docker_pair
    h1.run_container("C0", "--network", "none")
    ask = (sys.executable, "-c", ASK)
    by_root = h1.call(*ask)
    assert "found C0" in by_root.stdout, by_root.stderr
    assert "following the events of docker" in by_root.stderr
    refused = h1.call(*USER, *ask)
    why = "/run/docker.sock may not be opened by user 1001, only by its group (docker)"
    assert refused.stdout.splitlines() == [f"find: {why}"], refused.stderr
    assert f"docker sends no events: {why}" in refused.stderr.splitlines()


def test_containers_talk_on_while_dockerd_is_dead_and_the_agent_is_killed(docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    two_attached(docker_pair)
    h2.kill("dockerd")
    assert h1.pings("C0", "192.168.0.101")
    h2.kill("vxlanu")
    h2.start_agent()
    poll(lambda: h1.pings("C0", "192.168.0.101", wait=1), what="C1 answers again", story=h2.story)
    h2.start_dockerd()  # without live-restore: it ends what ran under the dead one
    poll(lambda: known(h1) == {"C0"}, what="C1 is gone", story=h2.story)
