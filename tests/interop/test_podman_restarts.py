"""`podman:NAME` as a target: a container that was attached comes back as what it was.

    P0 (podman, --network none) ── h1 ───── h2 ── C1 (docker, --network none)

Each by podman's command line alone, and with podman's API on its socket.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from docker_hosts import DockerHost
from docker_story import in_order
from lab_ns import poll
from podman_host import PodmanHost

from vxlanu.lab.topology import Json

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker", "podman")]

Pair = tuple[DockerHost, DockerHost]
ADDRESS = "192.168.0.100"


@pytest.fixture
def podman(docker_pair: Pair) -> Iterator[PodmanHost]:
    """Podman on h1; demonet, with C1 of h2 in it."""
    made = PodmanHost(docker_pair[0])
    _, h2 = docker_pair
    h2.vxlanu("network", "create", "demonet", "--subnet", "192.168.0.0/24")
    h2.run_container("C1", "--network", "none")
    h2.vxlanu("attach", "demonet", "docker:C1", "--name", "C1")
    yield made
    made.close()


@pytest.fixture(params=["command", "socket"])
def attached(request: pytest.FixtureRequest, podman: PodmanHost) -> PodmanHost:
    """With P0, by one way to ask podman or the other."""
    if request.param == "socket":
        podman.listen()
    podman.run_container("P0")
    podman.host.vxlanu("attach", "demonet", "podman:P0", "--ip", ADDRESS, "--alias", "www")
    return podman


def seen(host: DockerHost, name: str = "P0") -> Json:
    """An endpoint without what belongs to one life of it; None where the host shows none."""
    found = [it for it in host.vxlanu("endpoint", "ls") if it["name"] == name]
    return {key: found[0][key] for key in ("id", "addresses", "mac", "aliases", "state")} if found else None


def has_link(podman: PodmanHost, name: str) -> bool:
    """Whether a container has an eth0: one that has been restarted has it once it is attached again."""
    return podman.call("exec", name, "ip", "link", "show", "eth0").returncode == 0


def interface(podman: PodmanHost) -> tuple[str, list[str]]:
    """MAC and addresses of P0's eth0, as P0 has it."""
    link = json.loads(podman("exec", "P0", "ip", "-j", "addr", "show", "eth0"))[0]
    return link["address"], [f"{it['local']}/{it['prefixlen']}" for it in link["addr_info"] if it["scope"] == "global"]


def reached(pair: Pair) -> bool:
    return pair[1].pings("C1", ADDRESS, wait=1)


def test_a_container_of_podman_that_runs_again_has_its_name_address_and_mac(
    attached: PodmanHost, docker_pair: Pair
) -> None:
    podman, (h1, h2) = attached, docker_pair
    before = seen(h1)
    assert interface(podman) == (before["mac"], before["addresses"]) == ("02:42:c0:a8:00:64", [f"{ADDRESS}/24"])
    poll(lambda: reached(docker_pair), what="P0 answers", story=podman.story)
    for end in (("restart", "-t", "1"), ("stop", "-t", "1"), ("kill",)):
        podman(*end, "P0")
        if end[0] != "restart":
            poll(lambda: seen(h1) == {**before, "state": "waiting"}, what="P0 waits", story=podman.story)
            poll(lambda: seen(h2) is None, what="gone for h2", story=podman.story)
            podman("start", "P0")
        poll(lambda: has_link(podman, "P0"), what="P0 is attached again", story=podman.story)
        poll(lambda: seen(h1) == before == seen(h2), what="P0 is back", story=podman.story)
        assert interface(podman) == (before["mac"], before["addresses"])
        poll(lambda: reached(docker_pair), what="P0 answers", story=podman.story)
    podman("rm", "-f", "-t", "1", "P0")
    poll(lambda: seen(h1) is None and seen(h2) is None, what="P0 is gone", story=podman.story)
    in_order(docker_pair)


def test_a_container_whose_first_process_is_killed_waits_to_be_started(attached: PodmanHost, docker_pair: Pair) -> None:
    podman, (h1, h2) = attached, docker_pair
    before = seen(h1)
    podman.host.run("kill", "-9", podman.inspect("P0", "{{.State.Pid}}"))
    poll(lambda: seen(h1) == {**before, "state": "waiting"}, what="P0 waits", story=podman.story)
    podman("start", "P0")
    poll(lambda: seen(h1) == before == seen(h2), what="P0 is back", story=podman.story)
    poll(lambda: reached(docker_pair), what="P0 answers", story=podman.story)


def test_a_container_that_lost_its_conmon_runs_on_until_it_is_removed(attached: PodmanHost, docker_pair: Pair) -> None:
    podman, (h1, h2) = attached, docker_pair
    before = seen(h1)
    conmon = podman.host.path(podman.inspect("P0", "{{.ConmonPidFile}}")).read_text()
    podman.host.run("kill", "-9", conmon)
    poll(lambda: not podman.host.path(f"/proc/{conmon}").exists(), what="conmon is gone", story=podman.story)
    podman("ps")  # podman has looked at it since
    poll(lambda: reached(docker_pair), what="P0 answers still", story=podman.story)
    assert seen(h1) == before == seen(h2)
    podman("rm", "-f", "-t", "1", "P0")
    poll(lambda: seen(h1) is None and seen(h2) is None, what="P0 is gone", story=podman.story)
    podman.run_container("P0")  # made anew within the minute: it takes the place
    poll(lambda: seen(h1) == before == seen(h2), what="the new P0", story=podman.story)


def test_podman_is_asked_by_its_command_where_its_socket_leads_to_nobody(podman: PodmanHost, docker_pair: Pair) -> None:
    h1, h2 = docker_pair
    podman.listen()
    podman.run_container("P0")
    h1.vxlanu("attach", "demonet", "podman:P0", "--ip", ADDRESS)
    before = seen(h1)
    podman.stop_listening(leave_socket=True)
    podman("restart", "-t", "1", "P0")
    poll(lambda: has_link(podman, "P0"), what="P0 is attached again", story=podman.story)
    poll(lambda: seen(h1) == before == seen(h2), what="P0 is back", story=podman.story)
    podman.run_container("P1")
    h1.vxlanu("attach", "demonet", "podman:P1")
    assert "no such container" in h1.fails("vxlanu", "attach", "demonet", "podman:P9")
    podman.stop_listening()
    podman("restart", "-t", "1", "P1")
    poll(lambda: has_link(podman, "P1"), what="P1 is attached again", story=podman.story)
    poll(lambda: seen(h2, "P1"), what="P1 is back", story=podman.story)
