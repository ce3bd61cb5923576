"""A container that was attached by `docker:NAME` comes back as what it was, on two real dockerds.

    C0 (--network none) ── h1 ───── h2 ── C1 (--network none)
"""

from __future__ import annotations

import json

import pytest
from docker_hosts import DOCKER, DockerHost
from docker_story import in_order
from lab_ns import poll

from vxlanu.lab.topology import Json

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker")]

Pair = tuple[DockerHost, DockerHost]
TARGET = ("demonet", "docker:C0")


@pytest.fixture
def attached(docker_pair: Pair) -> Pair:
    """C0 with an address that it did not ask for, a name and an alias of its own; C1 to talk with."""
    h1, h2 = docker_pair
    h1.vxlanu("network", "create", "demonet", "--subnet", "192.168.0.0/24")
    h1.run_container("C0", "--network", "none")
    h2.run_container("C1", "--network", "none")
    h1.vxlanu("attach", *TARGET, "--name", "web", "--alias", "www", "--mac", "02:00:00:00:00:17", "--ifname", "ov0")
    h2.vxlanu("attach", "demonet", "docker:C1", "--ip", "192.168.0.101")
    return docker_pair


def seen(host: DockerHost, name: str = "web") -> Json:
    """An endpoint as a host shows it, without what belongs to one life of its container; None where it shows none."""
    found = [it for it in host.vxlanu("endpoint", "ls") if it["name"] == name]
    return {key: found[0][key] for key in ("id", "addresses", "mac", "aliases", "target", "state")} if found else None


def state(host: DockerHost, name: str = "web") -> str:
    return str((seen(host, name) or {"state": "none"})["state"])


def has_link(host: DockerHost, container: str, ifname: str) -> bool:
    """Whether a container has an interface: one that has been restarted has it once it is attached again."""
    return host.call(DOCKER, "exec", container, "ip", "link", "show", ifname).returncode == 0


@pytest.mark.parametrize("how", ["restart", "stop and start", "kill and start", "dockerd"])
def test_a_container_that_runs_again_has_its_name_address_and_mac(attached: Pair, how: str) -> None:
    h1, h2 = attached
    before = seen(h1)
    poll(lambda: seen(h2) == before, what="h2 knows it", story=h1.story)
    assert h2.pings("C1", before["addresses"][0].split("/")[0])
    if how == "restart":
        h1.docker("restart", "-t", "1", "C0")
    elif how == "dockerd":
        h1.stop("dockerd")
        poll(lambda: state(h1) == "waiting", what="C0 waits", story=h1.story)
        poll(lambda: seen(h2) is None, what="gone for h2", story=h2.story)
        h1.start_dockerd()
        h1.docker("start", "C0")
    else:
        h1.docker(how.split()[0], "C0")
        poll(lambda: state(h1) == "waiting", what="C0 waits", story=h1.story)
        poll(lambda: seen(h2) is None, what="gone for h2", story=h2.story)
        assert {**seen(h1), "state": "up"} == before, "what waits is shown as what it will be"
        h1.docker("start", "C0")
    poll(lambda: has_link(h1, "C0", "ov0"), what="C0 is attached again", story=h1.story)
    poll(lambda: seen(h1) == before and seen(h2) == before, what="C0 is back", story=h1.story)
    link = json.loads(h1.inside("C0", "ip", "-j", "link", "show", "ov0"))[0]
    assert link["address"] == "02:00:00:00:00:17"
    poll(lambda: h2.pings("C1", before["addresses"][0].split("/")[0], wait=1), what="C0 answers", story=h1.story)
    in_order(attached)


def test_an_address_is_kept_for_a_container_that_does_not_run(attached: Pair) -> None:
    h1, h2 = attached
    before = seen(h1)
    address = before["addresses"][0].split("/")[0]
    h1.docker("stop", "C0")
    poll(lambda: state(h1) == "waiting", what="C0 waits", story=h1.story)
    poll(lambda: seen(h2) is None, what="gone for h2", story=h2.story)
    for host, why in ((h1, f"{address} is kept for web (docker:C0)"), (h2, f"(held by {before['id'][:12]})")):
        host.run_container("CX", "--network", "none")
        assert why in host.fails("vxlanu", "attach", "demonet", "docker:CX", "--ip", address)
    assert "docker:C0" in h1.fails("vxlanu", "network", "rm", "demonet")
    h1.docker("start", "C0")
    poll(lambda: seen(h2) == before, what="C0 is back", story=h1.story)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_agent_that_was_away_attaches_what_was_started_meanwhile(attached: Pair, end: str) -> None:
    h1, h2 = attached
    before = seen(h1)
    getattr(h1, end)("vxlanu")
    h1.docker("restart", "-t", "1", "C0")
    h1.start_agent()
    poll(lambda: has_link(h1, "C0", "ov0"), what="C0 is attached again", story=h1.story)
    poll(lambda: seen(h1) == before and seen(h2) == before, what="C0 is back", story=h1.story)
    h1.docker("stop", "C0")
    poll(lambda: state(h1) == "waiting", what="C0 waits", story=h1.story)
    getattr(h1, end)("vxlanu")
    h1.start_agent()
    poll(lambda: state(h1) == "waiting", what="it is not forgotten", story=h1.story)
    h1.docker("start", "C0")
    poll(lambda: seen(h1) == before and seen(h2) == before, what="C0 is back", story=h1.story)


def test_who_is_detached_is_not_attached_again(attached: Pair) -> None:
    h1, h2 = attached
    h1.vxlanu("detach", *TARGET)
    h1.docker("restart", "-t", "1", "C0")
    h2.docker("stop", "C1")
    poll(lambda: state(h2, "C1") == "waiting", what="C1 waits", story=h2.story)
    gone = h2.vxlanu("detach", "demonet", "docker:C1")
    assert (gone["name"], gone["addresses"]) == ("C1", ["192.168.0.101/24"])
    h2.docker("start", "C1")
    # Positive control: a third one, attached and stopped later, comes back; whatever was to happen has by then.
    for host in attached:
        host.run_container("CX", "--network", "none")
        host.vxlanu("attach", "demonet", "docker:CX", "--name", f"x{host.number}")
        host.docker("restart", "-t", "1", "CX")
    poll(lambda: all(has_link(host, "CX", "eth0") for host in attached), what="both CX are attached", story=h1.story)
    poll(lambda: state(h1, "x1") == state(h2, "x2") == "up", what="both CX are back", story=h1.story)

    def names() -> set[str]:
        return {it["name"] for it in h1.vxlanu("endpoint", "ls")}

    # The name at h2 is heard after a moment; one that came back by mistake would be there before it.
    poll(lambda: state(h1, "x2") == "up", what="x2 is heard at h1", story=h1.story)
    assert names() == {"x1", "x2"}
    assert h1.vxlanu("attach", *TARGET, "--ip", "192.168.0.101")["addresses"] == ["192.168.0.101/24"], "it was let go"


def test_a_renamed_container_is_itself_and_a_new_one_of_its_name_takes_its_place(attached: Pair) -> None:
    h1, h2 = attached
    before = seen(h1)
    h1.docker("rename", "C0", "C9")
    h1.docker("restart", "-t", "1", "C9")
    renamed = {**before, "target": "docker:C9"}
    poll(lambda: seen(h2) == renamed, what="C9 is C0", story=h1.story)
    h1.docker("rm", "-f", "C9")
    poll(lambda: seen(h1) is None, what="nobody waits for it to run", story=h1.story)
    h1.run_container("C9", "--network", "none")
    poll(lambda: seen(h1) == seen(h2) == renamed, what="the new C9", story=h1.story)


def test_attaching_by_hand_what_waits_gives_it_what_was_kept(attached: Pair) -> None:
    h1, h2 = attached
    before = seen(h1)
    h1.docker("stop", "C0")
    poll(lambda: state(h1) == "waiting", what="C0 waits", story=h1.story)
    assert "is not running" in h1.fails("vxlanu", "attach", *TARGET)
    h1.kill("dockerd")  # nobody says that it runs again
    h1.start_dockerd()
    h1.docker("start", "C0")
    done = h1.call("vxlanu", "attach", *TARGET, "--name", "web", "--alias", "www", "--mac", "02:00:00:00:00:17")
    assert done.returncode == 0 or "already" in done.stderr  # whoever of the two was first
    poll(lambda: seen(h2) == before, what="C0 is back", story=h1.story)
