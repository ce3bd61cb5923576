"""Containers' way out when something of it failed halfway, and when two agents want the same bridge.

    outside ── underlay ── h1 ── vxlanu_gw ── c1-1, c1-2      second: another agent on h1, with ports of its own
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from egress_scene import AUDIT_S, Scene
from lab_ns import poll
from needs import require
from streams import pings, words

from vxlanu.lab.topology import Completed, Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("nft")]

SECOND = ("--socket", "/run/second.sock")
SECOND_AGENT = (
    *("timeout", "200", "vxlanu", *SECOND, "agent", "--name", "second", "--state-dir", "/run/second"),
    *("--profile", "local", "--data-port", "5789", "--control-port", "8946"),
)


@pytest.fixture(scope="module")
def scene(make_module_lab: Callable[..., Lab]) -> Scene:
    made = Scene(make_module_lab(hosts=1, containers=2))
    made.lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24")
    return made


@pytest.fixture
def attached(scene: Scene) -> Iterator[Scene]:
    """c1-1 with a published port; nothing is attached afterwards."""
    scene.attach("blue", "c1-1", "--publish", "8080:80")
    yield scene
    for row in scene.lab.vxlanu("h1", "endpoint", "ls"):
        scene.lab.exec("h1", ["vxlanu", "detach", "blue", str(row["target"])], check=False)


def naked(scene: Scene) -> None:
    """The veth of c1-1 as a process that died right after making it leaves it, but for its name in the target."""
    tag = next(name for name in scene.traces("h1")[0] if name.startswith("e-"))
    for command in ("link set eth1 down", "addr flush dev eth1", f"link property del dev eth1 altname {tag}",
                    f"link set dev eth1 name {tag}"):  # fmt: skip
        scene.lab.exec("c1-1", ["ip", *command.split()])


def gets_out(scene: Scene) -> None:
    poll(lambda: pings(scene.lab, "c1-1", scene.outside, wait=1), what="the way out", timeout=AUDIT_S)


def test_a_veth_that_was_left_half_made_is_dressed(attached: Scene) -> None:
    address = attached.way_out("c1-1")
    with attached.unmended("h1"):
        assert pings(attached.lab, "c1-1", attached.outside), "the way is there while the agent stands"
        naked(attached)
        assert not pings(attached.lab, "c1-1", attached.outside, wait=1)
    gets_out(attached)
    assert attached.way_out("c1-1") == address
    assert len(attached.traces("h1")[0]) == 2, "the same veth"


def test_a_start_dresses_what_a_crash_left_half_made(attached: Scene) -> None:
    attached.lab.kill_agent("h1")
    naked(attached)
    attached.lab.start_agent("h1")
    gets_out(attached)


@pytest.mark.parametrize(
    "lost",
    [
        "addr del {0}/16 dev eth1",
        "route del default",
        "addr add 10.9.9.9 peer {0} dev eth1; addr del {0}/16 dev eth1",
    ],
    ids=["address", "route", "address, but for a peer of it"],
)
def test_what_a_runtime_undid_inside_of_a_target_is_put_back(attached: Scene, lost: str) -> None:
    address = attached.way_out("c1-1")
    with attached.unmended("h1"):
        assert pings(attached.lab, "c1-1", attached.outside), "the way is there while the agent stands"
        for command in lost.format(address).split(";"):
            attached.lab.exec("c1-1", ["ip", *command.split()])
        assert not pings(attached.lab, "c1-1", attached.outside, wait=1)
    gets_out(attached)


def test_an_interface_that_a_container_calls_otherwise_is_known_by_its_new_name(attached: Scene) -> None:
    lab = attached.lab

    def known() -> str:
        [row] = lab.vxlanu("h1", "endpoint", "ls")
        return str(lab.vxlanu("h1", "endpoint", "inspect", str(row["id"]))["egress"]["ifname"])

    assert known() == "eth1"
    with attached.unmended("h1"):
        for command in ("link set eth1 down", "link set eth1 name way0", "link set way0 up"):
            lab.exec("c1-1", ["ip", *command.split()])
    poll(lambda: known() == "way0", what="the new name", timeout=AUDIT_S)
    assert "default via 172.18.0.1 dev way0" in lab.exec("c1-1", ["ip", "route"]).stdout


def test_a_default_route_that_a_target_was_given_meanwhile_stays_its_own(attached: Scene) -> None:
    inside = attached.lab
    inside.exec("c1-1", ["ip", "route", "replace", "default", "dev", "eth0"])
    inside.exec("c1-1", ["ip", "addr", "flush", "dev", "eth1"])
    poll(lambda: "172.18." in inside.exec("c1-1", ["ip", "addr"]).stdout, what="a look at it", timeout=AUDIT_S)
    assert "default dev eth0" in inside.exec("c1-1", ["ip", "route"]).stdout


def test_a_release_that_failed_is_done_when_it_can_be(attached: Scene) -> None:
    """The helper does not answer: neither veth nor rules can be taken away when the container is detached."""
    lab = attached.lab
    agent = str(lab.vxlanu("h1", "status")["pid"])
    [helper] = lab.exec("h1", ["pgrep", "-P", agent, "-x", "vxlanu-ns"]).stdout.split()
    lab.exec("h1", ["kill", "-STOP", helper])
    try:
        lab.exec("h1", ["vxlanu", "detach", "blue", "c1-1"], check=False)
        poll(lambda: not lab.vxlanu("h1", "endpoint", "ls"), what="the endpoint to go", timeout=AUDIT_S)
        assert attached.traces("h1")[1], "the rules could not go"
    finally:
        lab.exec("h1", ["kill", "-CONT", helper])
    poll(lambda: attached.traces("h1") == ([], False), what="nothing left", timeout=AUDIT_S)
    attached.attach("blue", "c1-2", "--publish", "8080:80")


def test_the_doctor_names_who_switched_forwarding_on_also_when_nobody_needs_it_any_more(attached: Scene) -> None:
    lab = attached.lab

    def said() -> list[str]:
        findings = json.loads(lab.exec("h1", ["vxlanu", "doctor", "--json"], check=False).stdout)["findings"]
        return [it["what"] for it in findings if it["check"] == "ip-forward"]

    lab.vxlanu("h1", "detach", "blue", "c1-1")
    lab.exec("h1", ["sysctl", "-qw", "net.ipv4.ip_forward=0"])  # no audit is due that would switch it on
    assert said() == []
    attached.attach("blue", "c1-1")
    lab.vxlanu("h1", "detach", "blue", "c1-1")
    lab.stop_agent("h1")
    lab.start_agent("h1")
    [what] = said()
    assert "by this agent since 20" in what
    assert lab.exec("h1", ["sysctl", "-n", "net.ipv4.ip_forward"]).stdout.strip() == "1", "others may need it by now"


CLAIMS = """
import os, socket
from vxlanu.gateway.claim import ADDRESS, Claim
first, second = Claim(), Claim()
holder = f"another agent in this network namespace has it (pid {os.getpid()})"
print([first.take(), first.take(), second.take() == holder])
first.release()
print([second.take(), first.take() == holder])
second.release()
told, tell = os.pipe()
wait, go = os.pipe()
if os.fork() == 0:
    os.close(go)
    os.setuid(65534)
    own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    own.bind(ADDRESS)
    own.listen()
    os.write(tell, b"!")
    os.read(wait, 1)
    os._exit(0)
os.close(tell)
print([os.read(told, 1), first.take()])
"""


def test_an_ordinary_user_who_binds_the_agents_address_stops_nobody(scene: Scene) -> None:
    require("root")
    said = scene.lab.exec("c1-2", [words()[0], "-c", CLAIMS]).stdout.splitlines()
    assert said == ["['', '', True]", "['', True]", "[b'!', '']"], said


class Second:
    """The other agent on h1."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def run(self, *words: str) -> Completed:
        return self.lab.exec("h1", ["vxlanu", *SECOND, *words], check=False)

    def answers(self) -> bool:
        return self.run("status").returncode == 0

    def warnings(self) -> list[str]:
        found: list[str] = json.loads(self.run("status", "--json").stdout)["warnings"]
        return found


@pytest.fixture
def second(attached: Scene) -> Iterator[Second]:
    made = Second(attached.lab)
    with ExitStack() as stack:
        address = attached.host["h1"]
        stack.enter_context(attached.lab.running("h1", [*SECOND_AGENT, "--advertise", address]))
        poll(made.answers, what="the second agent", timeout=60)
        stack.callback(end, made)
        yield made


def end(second: Second) -> None:
    pid = json.loads(second.run("status", "--json").stdout)["pid"]
    second.lab.exec("h1", ["kill", str(pid)])
    poll(lambda: not second.answers(), what="the second agent to end", timeout=60)


def test_a_second_agent_in_a_namespace_does_without_and_says_who_has_it(attached: Scene, second: Second) -> None:
    lab = attached.lab
    rules = lab.exec("h1", ["nft", "list", "table", "inet", "vxlanu"]).stdout
    assert second.run("network", "create", "green", "--subnet", "192.168.5.0/24").returncode == 0
    no = second.run("attach", "green", "c1-2", "--publish", "8081:80")
    holder = f"another agent in this network namespace has it (pid {lab.vxlanu('h1', 'status')['pid']})"
    assert no.returncode == 6 and holder in no.stderr
    assert second.run("attach", "green", "c1-2").returncode == 0
    assert sorted(attached.links("c1-2")) == ["eth0", "lo"]
    assert second.warnings()[-1:] == [f"containers get no way out: {holder}"]
    assert lab.exec("h1", ["nft", "list", "table", "inet", "vxlanu"]).stdout == rules
    assert pings(lab, "c1-1", attached.outside), "the first is undisturbed"
    assert second.run("detach", "green", "c1-2").returncode == 0
    lab.vxlanu("h1", "detach", "blue", "c1-1")
    assert second.run("attach", "green", "c1-2").returncode == 0
    assert "eth1" in attached.links("c1-2"), "whoever comes when it is free has it"
    assert pings(lab, "c1-2", attached.outside)
    assert not any("no way out" in it for it in second.warnings())
    assert second.run("detach", "green", "c1-2").returncode == 0
    assert attached.traces("h1") == ([], False)
