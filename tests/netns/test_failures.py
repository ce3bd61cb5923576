"""What breaks: agents and namespaces, and hosts that leave. Connections must not notice more than they have to.

    c1-1     c2-1     c3-1        blue
     h1 ───── h2 ───── h3
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from streams import pings
from trio import HOSTS, THREE, agree, attach, differences, joined, member_state, transfer

from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.netns, pytest.mark.rootless]


@pytest.fixture(scope="module")
def where(lab: Lab) -> Iterator[dict[str, str]]:
    """The address of each container in blue."""
    yield joined(lab)


@pytest.mark.parametrize("host", ["h1", "h2"], ids=["the sender's", "the receiver's"])
def test_a_connection_survives_kill_9_of_an_agent(lab: Lab, where: dict[str, str], host: str) -> None:
    def disturb() -> None:
        lab.kill_agent(host)
        lab.start_agent(host)

    transfer(lab, "c1-1", "c2-1", where["c2-1"], disturb)
    poll(lambda: {row["name"] for row in lab.vxlanu(host, "endpoint", "ls")} == set(THREE), "all three", 60, lab.story)
    poll(lambda: agree(lab), "all hosts to agree", 60, lab.story)


def test_a_stop_and_a_start_keep_the_endpoint_and_its_address(lab: Lab, where: dict[str, str]) -> None:
    before = lab.vxlanu("h3", "endpoint", "inspect", "c3-1")
    lab.stop_agent("h3")
    shown = lab.exec("c3-1", ["ip", "addr", "show", "eth0"]).stdout
    assert where["c3-1"] in shown
    lab.start_agent("h3")
    after = lab.vxlanu("h3", "endpoint", "inspect", "c3-1")
    for field in ("id", "addresses", "mac", "ifname", "ifindex", "netns_inode"):
        assert before[field] == after[field]
    poll(lambda: pings(lab, "c1-1", where["c3-1"], wait=1), "a ping to pass", 60, lab.story)


@pytest.mark.parametrize("crash", [False, True], ids=["same agent", "after kill -9"])
def test_a_namespace_that_disappears_takes_its_endpoint_with_it_everywhere(
    lab: Lab, where: dict[str, str], crash: bool
) -> None:
    name = "c2-gone"
    lab.create_container(name)
    inode = lab.exec(name, ["readlink", "/proc/self/ns/net"]).stdout.strip()
    address = attach(lab, name)
    assert pings(lab, "c1-1", address)
    if crash:
        lab.kill_agent("h2")
        lab.start_agent("h2")
    lab.delete_container(name)
    begun = time.monotonic()
    poll(lambda: not known(lab, "h2", name), "h2 to notice", 60, lab.story)
    noticed = time.monotonic() - begun
    for host in HOSTS:
        poll(lambda: not known(lab, host, name), f"{host} to forget the endpoint", 60, lab.story)  # noqa: B023
    assert time.monotonic() - begun < 40, "twenty times what is promised"
    assert noticed < 30, "thirty times what is promised"
    poll(lambda: inode not in all_namespaces(lab), "the namespace to be freed", 60, lab.story)
    poll(lambda: not differences(lab), "the tables to be right", 60, lab.story)


def test_kill_9_in_the_middle_of_an_attach_leaves_all_of_it_or_nothing(lab: Lab, where: dict[str, str]) -> None:
    name, address = "c2-cut", "192.168.0.222"
    lab.create_container(name)
    words = ["vxlanu", "attach", "blue", name, "--ip", address]
    for number in range(10):
        if number < 9:
            kill_in_attach(lab, words, 0.012 * number)  # an attach takes some 60 ms
        else:  # the positive control: just after its answer
            attach_when_free(lab, words)
            lab.kill_agent("h2")
        lab.start_agent("h2")
        poll(lambda: not differences(lab), "the tables to be right", 60, lab.story)
        poll(lambda: known(lab, "h2", name) == has_interface(lab, name), "all of it, or nothing", 60, lab.story)
        assert known(lab, "h2", name) or number < 9, "what was answered is there"
        if known(lab, "h2", name):
            assert pings(lab, "c1-1", address)
            lab.vxlanu("h2", "detach", "blue", name)
    attach_when_free(lab, words)  # neither the address nor the name is lost
    assert pings(lab, "c1-1", address)
    lab.vxlanu("h2", "detach", "blue", name)
    lab.delete_container(name)


def kill_in_attach(lab: Lab, words: list[str], after_s: float) -> None:
    """Kill h2's agent so long after it took the request that `words` make."""
    before = requests(lab)
    with lab.running("h2", words) as attaching:
        poll(lambda: requests(lab) > before or attaching.poll() is not None, "the request to arrive", 60)
        time.sleep(after_s)  # a moment in it, not a wait for something
        lab.kill_agent("h2")
        attaching.wait(60)


def attach_when_free(lab: Lab, words: list[str]) -> None:
    """An address that a crash left on loan, or whose return was lost on its way, is given back within seconds."""
    poll(lambda: lab.exec("h2", words, check=False).returncode == 0, "the address to be free", 60, lab.story)


def requests(lab: Lab) -> int:
    """How many attaches h2's agents have begun so far."""
    return lab.log("h2").count("POST /v1/endpoints by")


def has_interface(lab: Lab, name: str) -> bool:
    return "eth0" in lab.exec(name, ["ip", "-br", "link"]).stdout


def known(lab: Lab, host: str, name: str) -> bool:
    return any(row["name"] == name for row in lab.vxlanu(host, "endpoint", "ls"))


def all_namespaces(lab: Lab) -> set[str]:
    """Network namespaces that processes or mounts of the machine hold, as readlink shows them."""
    shown = lab.exec("underlay", ["lsns", "-t", "net", "-n", "-o", "NS"], check=False).stdout
    return {f"net:[{word}]" for word in shown.split()}


def test_a_host_that_leaves_is_gone_and_may_come_back(lab: Lab, where: dict[str, str]) -> None:
    refused = lab.exec("h3", ["vxlanu", "member", "leave"], check=False)
    assert refused.returncode == 5 and "c3-1" in refused.stderr
    lab.vxlanu("h3", "detach", "blue", "c3-1")
    lab.exec("h3", ["vxlanu", "member", "leave"])
    poll(lambda: member_state(lab, "h1", "h3") == "left", "h1 to hear the good-bye", 60, lab.story)
    poll(lambda: lab.agents()["h3"] == 0, "the agent to end by itself", 60, lab.story)
    lab.start_agent("h3")
    poll(lambda: member_state(lab, "h1", "h3") == "alive", "h3 to be back", 60, lab.story)
    where["c3-1"] = attach(lab, "c3-1")
    poll(lambda: pings(lab, "c1-1", where["c3-1"], wait=1), "a ping to pass", 60, lab.story)


def test_a_dead_host_can_be_forgotten_and_a_living_one_cannot(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(hosts=3, containers=0)
    refused = lab.exec("h1", ["vxlanu", "member", "forget", "h3"], check=False)
    assert refused.returncode == 5 and "alive" in refused.stderr
    lab.kill_agent("h3")
    poll(lambda: member_state(lab, "h1", "h3") == "dead", "h3 to be declared dead", 60, lab.story)
    lab.exec("h1", ["vxlanu", "member", "forget", "h3"])
    for host in ("h1", "h2"):
        names = lambda: [row["name"] for row in lab.vxlanu(host, "member", "ls")]  # noqa: E731, B023
        poll(lambda: "h3" not in names(), f"{host} to forget h3", 60, lab.story)  # noqa: B023
