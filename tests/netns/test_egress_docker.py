"""Containers' way out beside a dockerd: its firewall drops what it does not know, and keeps what it knows apart.

          outside (on the underlay, no member)
             |
            h1 ──── vxlanu_gw ── c1-1, c1-2      ours, in blue
             |
             ├── docker0 172.17.0.1 ── c1-3      as Docker's containers are: here without a dockerd, with the rules
             └── inner0  172.30.0.1 ── c1-4      that it makes (20.10) for its bridge and for a network with --internal
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from egress_scene import AUDIT_S, Scene
from lab_ns import poll
from needs import require
from streams import pings

from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("nft", "iptables")]

DOCKERS = """*filter
:FORWARD DROP
:DOCKER -
:DOCKER-ISOLATION-STAGE-1 -
:DOCKER-ISOLATION-STAGE-2 -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 ! -s 172.30.0.0/16 -o inner0 -j DROP
-A DOCKER-ISOLATION-STAGE-1 ! -d 172.30.0.0/16 -i inner0 -j DROP
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""
GONE = "*filter\n:FORWARD ACCEPT\n-F\n-X\nCOMMIT\n"
TYPED = "-i vxlanu_gw -j ACCEPT"  # what a person might type, and what would open Docker's networks
DOCKER_CONTAINER, INNER_CONTAINER = "172.17.0.2", "172.30.0.2"


class Beside(Scene):
    """The lab, and the firewall of its host."""

    tool = "iptables-nft"

    def iptables(self, *words: str, text: str = "") -> str:
        program = f"{self.tool}-restore" if text else self.tool
        command = f"{program} -w 20 {' '.join(words)}"
        said: str = self.lab.exec("h1", ["sh", "-c", f"printf %s '{text}' | {command}"]).stdout
        return said

    def chain(self) -> list[str]:
        """DOCKER-USER's rules."""
        return [it.removeprefix("-A DOCKER-USER ") for it in self.iptables("-S", "DOCKER-USER").splitlines()[1:]]

    def ours(self) -> list[str]:
        return [rule for rule in self.chain() if "--comment vxlanu " in rule]

    def bridge(self, name: str, gateway: str, container: str, address: str) -> None:
        """A bridge of Docker's with one container on it."""
        self.lab.create_container(container)
        for command in (
            f"link add {name} type bridge",
            f"addr add {gateway}/16 dev {name}",
            f"link set {name} up",
            f"link add v-{name} type veth peer name eth0 netns {container}",
            f"link set v-{name} master {name} up",
        ):
            self.lab.exec("h1", ["ip", *command.split()])
        for command in (f"addr add {address}/16 dev eth0", "link set eth0 up", f"route add default via {gateway}"):
            self.lab.exec(container, ["ip", *command.split()])


@pytest.fixture(scope="module")
def beside(make_module_lab: Callable[..., Lab]) -> Beside:
    made = Beside(make_module_lab(hosts=1, containers=2))
    made.lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24")
    made.bridge("docker0", "172.17.0.1", "c1-3", DOCKER_CONTAINER)
    made.bridge("inner0", "172.30.0.1", "c1-4", INNER_CONTAINER)
    return made


@pytest.fixture(params=["iptables-nft", "iptables-legacy"])
def docker(request: pytest.FixtureRequest, beside: Beside) -> Iterator[Beside]:
    """Docker's rules, in one of the two kinds; nothing is attached afterwards."""
    if request.param == "iptables-legacy":
        require("legacy-tables")
    beside.tool = request.param
    beside.iptables(text=DOCKERS)
    yield beside
    for row in beside.lab.vxlanu("h1", "endpoint", "ls"):
        beside.lab.exec("h1", ["vxlanu", "detach", "blue", str(row["target"])], check=False)
    beside.iptables(text=GONE)


def test_a_container_gets_out_past_dockers_policy_and_its_rules_go_with_it(docker: Beside) -> None:
    lab = docker.lab
    before = docker.chain()
    docker.attach("blue", "c1-1")
    assert pings(lab, "c1-1", docker.outside)
    assert docker.ours() and docker.chain()[-1] == "-j RETURN"
    findings = json.loads(lab.exec("h1", ["vxlanu", "doctor", "--json"], check=False).stdout)["findings"]
    assert [it["state"] for it in findings if it["check"] == "egress"] == ["ok"], findings
    assert not any("drops" in it for it in lab.vxlanu("h1", "status")["warnings"])
    lab.vxlanu("h1", "detach", "blue", "c1-1")
    assert docker.chain() == before == ["-j RETURN"]


def test_a_published_port_answers_and_the_rest_stays_shut(docker: Beside) -> None:
    docker.attach("blue", "c1-1", "--publish", "8080:80")
    inside = docker.way_out("c1-1")
    docker.lab.exec("underlay", ["ip", "route", "replace", f"{inside}/32", "via", docker.host["h1"]])
    with docker.serving("c1-1", 80) as server:
        assert server.stdout and server.stdout.readline()
        assert docker.asked("underlay", docker.host["h1"], 8080) == docker.outside
        assert docker.asked("h1", inside, 80), "it is there"
        assert not docker.asked("underlay", inside, 80, wait=1), "an outsider who routes into the bridge"
        assert not docker.asked("c1-3", inside, 80, wait=1), "a container of Docker's"
        assert docker.asked("c1-3", "172.17.0.1", 8080) == DOCKER_CONTAINER, "Docker lets its containers out"
        assert not docker.asked("c1-4", "172.30.0.1", 8080, wait=1), "but for those of internal networks"
    docker.lab.exec("underlay", ["ip", "route", "del", f"{inside}/32"])


def test_what_docker_keeps_apart_stays_apart(docker: Beside) -> None:
    """An ACCEPT in DOCKER-USER is the last word: one for all that a container of ours sends would open both."""
    lab = docker.lab
    docker.attach("blue", "c1-1")
    docker.attach("blue", "c1-2")
    for address in (DOCKER_CONTAINER, INNER_CONTAINER):
        assert pings(lab, "h1", address), "there it is"
        assert not pings(lab, "c1-1", address, wait=1)
        docker.iptables("-I", "DOCKER-USER", TYPED)
        assert pings(lab, "c1-1", address), "so it is Docker's rules that stop it"
        docker.iptables("-D", "DOCKER-USER", TYPED)
    other = docker.way_out("c1-2")
    lab.exec("c1-1", ["ip", "route", "add", f"{other}/32", "via", "172.18.0.1", "dev", "eth1"])
    assert not pings(lab, "c1-1", other, wait=1)
    assert pings(lab, "c1-1", docker.outside)


def test_the_administrators_rules_come_first_and_are_left(docker: Beside) -> None:
    lab = docker.lab
    theirs = f"-d {docker.outside}/32 -m comment --comment not-there -j DROP"
    docker.iptables("-I", "DOCKER-USER", theirs)
    docker.attach("blue", "c1-1")
    assert docker.chain() == [theirs, *docker.ours(), "-j RETURN"]
    assert not pings(lab, "c1-1", docker.outside, wait=1), "their drop is one"
    docker.iptables("-D", "DOCKER-USER", theirs)
    assert pings(lab, "c1-1", docker.outside)
    docker.iptables("-I", "DOCKER-USER", theirs)
    lab.vxlanu("h1", "detach", "blue", "c1-1")
    assert docker.chain() == [theirs, "-j RETURN"]


def test_what_a_restart_of_docker_or_of_the_firewall_lost_is_put_back(docker: Beside) -> None:
    lab = docker.lab
    docker.attach("blue", "c1-1")
    expected = docker.ours()
    docker.iptables(text=GONE)
    assert pings(lab, "c1-1", docker.outside), "nobody drops it now"
    docker.iptables(text=DOCKERS)  # a dockerd that comes after the container
    poll(lambda: docker.ours() == expected, what="our rules", timeout=AUDIT_S)
    assert pings(lab, "c1-1", docker.outside)
    docker.iptables("-D", "DOCKER-USER", expected[0])
    docker.iptables("-A", "DOCKER-USER", expected[0])  # behind the RETURN, where nothing comes
    poll(lambda: docker.chain() == [*expected, "-j RETURN"], what="our rules, in their place", timeout=AUDIT_S)


def test_a_way_that_leads_out_and_comes_later_is_let_pass(docker: Beside) -> None:
    docker.attach("blue", "c1-1")
    assert not any("wg0" in rule for rule in docker.ours())
    docker.lab.exec("h1", ["ip", "tuntap", "add", "wg0", "mode", "tun"])
    try:
        docker.lab.exec("h1", ["ip", "addr", "add", "10.99.0.1/24", "dev", "wg0"])
        poll(lambda: any("-o wg0 " in rule for rule in docker.ours()), what="a rule for it", timeout=AUDIT_S)
    finally:
        docker.lab.exec("h1", ["ip", "link", "del", "wg0"])
    poll(lambda: not any("wg0" in rule for rule in docker.ours()), what="the rule to go", timeout=AUDIT_S)


def test_a_crash_leaves_the_rules_and_a_start_without_containers_takes_them_away(docker: Beside) -> None:
    lab = docker.lab
    lab.create_container("c1-8")
    docker.attach("blue", "c1-8")
    lab.kill_agent("h1")
    assert docker.ours() and pings(lab, "c1-8", docker.outside)
    lab.delete_container("c1-8")
    lab.start_agent("h1")
    poll(lambda: docker.chain() == ["-j RETURN"], what="nothing of ours left", timeout=AUDIT_S)
