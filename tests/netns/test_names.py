"""Names at the gateway: asked by glibc (getent, with the files of /etc/netns) and by dig, which nobody here wrote.

    demonet  192.168.0.0/24   c1-1 `C0`, alias web      c2-1 `C1`, alias web
    other    10.9.0.0/24      c1-2 `X`                  c2-2 `Y`
                 h1 ───────────────────── h2
    A resolver answers on each host's 127.0.0.1, which is what the lab's /etc/resolv.conf says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from streams import pings

from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.netns, pytest.mark.interop("dig", "getent")]

RESOLVER = Path(__file__).parents[1] / "dns_resolver.py"
FOREIGN = {"www.example.org A": ["203.0.113.9"], "long.example.org TXT": [f'"{number:0200}"' for number in range(20)]}
WITHIN_S = 60.0  # on a busy machine; how soon a name is gone, `make accept` measures (accept/test_figures.py)
RESOLVER_TRIES = 4  # an agent gives up after 4.5 s (dns/limits.py)


def serve(lab: Lab, host: str, stack: ExitStack) -> None:
    """A resolver of the host, until the stack ends."""
    command = [sys.executable, str(RESOLVER), "127.0.0.1", "53", json.dumps(FOREIGN)]
    process = stack.enter_context(lab.running(host, command))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.fixture(scope="module")
def names(make_module_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_module_lab(hosts=2, containers=2)
    conf = lab.path(Path("/etc/resolv.conf"))
    conf.unlink()  # the lab's own link; the machine's file stays
    conf.write_text("nameserver 127.0.0.1\n")
    with ExitStack() as stack:
        for host in ("h1", "h2"):
            serve(lab, host, stack)
        lab.vxlanu("h1", "network", "create", "demonet", "--subnet", "192.168.0.0/24")
        lab.vxlanu("h1", "network", "create", "other", "--subnet", "10.9.0.0/24")
        lab.vxlanu("h1", "attach", "demonet", "c1-1", "--name", "C0", "--ip", "192.168.0.100", "--alias", "web")
        lab.vxlanu("h2", "attach", "demonet", "c2-1", "--name", "C1", "--ip", "192.168.0.101", "--alias", "web")
        lab.vxlanu("h1", "attach", "other", "c1-2", "--name", "X", "--ip", "10.9.0.7")
        lab.vxlanu("h2", "attach", "other", "c2-2", "--name", "Y", "--ip", "10.9.0.8")
        yield lab


@pytest.fixture
def network(names: Lab) -> Iterator[Callable[..., None]]:
    """`network(name, *options)` makes one; it is removed after the test, with whoever is left in it."""
    made: list[str] = []

    def create(name: str, *options: str) -> None:
        names.vxlanu("h1", "network", "create", name, *options)
        made.append(name)

    yield create
    for name in made:
        for row in names.vxlanu("h1", "endpoint", "ls", name):
            names.exec(str(row["node"]), ["vxlanu", "detach", name, str(row["target"])], check=False)
        poll(partial(removed, names, name), f"{name} to be removed", WITHIN_S, names.story)


def removed(lab: Lab, network: str) -> bool:
    """Whether a network could be removed: not while somebody is in it."""
    return lab.exec("h1", ["vxlanu", "network", "rm", network], check=False).returncode == 0


def getent(lab: Lab, container: str, *words: str) -> str:
    """What glibc finds in a container, as `ip netns exec` runs it there; empty when it finds nothing."""
    host = f"h{container[1]}"
    done = lab.exec(host, ["ip", "netns", "exec", container, "getent", *words], check=False)
    return " ".join(done.stdout.split())


def dig(lab: Lab, container: str, *words: str) -> tuple[str, list[str]]:
    """Status and values of dig's answer; asked again where the host's resolver had no time to answer an agent."""
    asked = ["dig", "+noall", "+comments", "+answer", "+tries=2", "+time=20", *words]
    for _ in range(RESOLVER_TRIES):
        lines = lab.exec(container, asked, check=False).stdout.splitlines()
        status = next((line.split("status: ")[1].split(",")[0] for line in lines if "status: " in line), "none")
        if status != "SERVFAIL":
            break
    return status, [line.split(maxsplit=4)[4] for line in lines if line and not line.startswith(";")]


@pytest.mark.parametrize("name", ["C1", "c1.demonet", "C1.vxlanu.internal", "c1.Demonet.vxlanu.internal"])
def test_a_container_finds_another_hosts_by_name(names: Lab, name: str) -> None:
    assert getent(names, "c1-1", "ahostsv4", name).startswith("192.168.0.101 STREAM")
    assert dig(names, "c1-1", "+search", name) == ("NOERROR", ["192.168.0.101"])
    assert dig(names, "c1-1", "+search", "+tcp", name) == ("NOERROR", ["192.168.0.101"])
    assert dig(names, "c1-1", "+search", name, "AAAA") == ("NOERROR", [])


def test_it_can_be_reached_by_its_name_at_once(names: Lab) -> None:
    assert pings(names, "c1-1", "C1")


def test_an_address_has_its_name(names: Lab) -> None:
    assert getent(names, "c1-1", "hosts", "192.168.0.101") == "192.168.0.101 C1.demonet.vxlanu.internal"
    assert dig(names, "c2-1", "-x", "192.168.0.100") == ("NOERROR", ["C0.demonet.vxlanu.internal."])
    assert dig(names, "c2-1", "-x", "192.168.0.77") == ("NXDOMAIN", [])


def test_an_alias_of_two_is_answered_with_both_in_turn(names: Lab) -> None:
    seen = [dig(names, "c2-1", "web.demonet") for _ in range(4)]
    assert all(sorted(values) == ["192.168.0.100", "192.168.0.101"] for _, values in seen)
    assert [values[0] for _, values in seen[:2]] == [values[0] for _, values in seen[2:]] != []
    assert len({values[0] for _, values in seen}) == 2


def test_a_name_that_nobody_has_is_not_known(names: Lab) -> None:
    """And not `Temporary failure`, which programs take for a reason to try again."""
    done = names.exec("c1-1", ["ping", "-c", "1", "nobody"], check=False)
    assert "Name or service not known" in done.stderr, done.stderr
    assert dig(names, "c1-1", "nobody.vxlanu.internal")[0] == "NXDOMAIN"
    assert dig(names, "c1-1", "nobody")[0] == "REFUSED"


def test_another_networks_names_are_not_seen(names: Lab) -> None:
    assert getent(names, "c1-2", "ahostsv4", "Y").startswith("10.9.0.8"), "the control: its own network has it"
    for name in ("Y", "Y.other", "Y.vxlanu.internal", "Y.other.vxlanu.internal"):
        assert getent(names, "c1-1", "ahostsv4", name) == "", name
        assert dig(names, "c1-1", "+search", name)[1] == [], name
    asked = names.exec("c1-1", ["dig", "+tries=1", "+time=1", "@10.9.0.1", "Y"], check=False)
    assert asked.returncode != 0 and "10.9.0.8" not in asked.stdout


def test_foreign_names_come_from_the_hosts_resolver(names: Lab) -> None:
    assert getent(names, "c1-1", "ahostsv4", "www.example.org").startswith("203.0.113.9")
    assert dig(names, "c2-1", "+tcp", "www.example.org") == ("NOERROR", ["203.0.113.9"])
    assert dig(names, "c1-1", "nobody.example.org")[0] == "NXDOMAIN"
    status, values = dig(names, "c1-1", "long.example.org", "TXT")  # dig comes again by TCP
    assert (status, len(values)) == ("NOERROR", 20)


def test_a_changed_resolv_conf_of_the_host_counts(names: Lab) -> None:
    conf = names.path(Path("/etc/resolv.conf"))
    conf.write_text("nameserver 192.168.0.1\n")  # the gateway itself: asking it would go round in circles
    try:
        poll(lambda: dig(names, "c1-1", "www.example.org")[0] == "SERVFAIL", "no resolver is left", WITHIN_S)
    finally:
        conf.write_text("nameserver 127.0.0.1\n")
    poll(lambda: dig(names, "c1-1", "www.example.org")[0] == "NOERROR", "the resolver is back", WITHIN_S)


def test_an_internal_network_refuses_foreign_names_and_a_second_server_is_asked(
    names: Lab, network: Callable[..., None]
) -> None:
    """c1-1 in two networks: each one's names are found, and what the internal one refuses, the other knows."""
    network("inside", "--subnet", "10.8.0.0/24", "--internal")
    names.vxlanu("h2", "attach", "inside", "c2-2", "--name", "deep", "--ip", "10.8.0.9")
    names.vxlanu("h1", "attach", "inside", "c1-1", "--name", "C0", "--ip", "10.8.0.7")
    assert dig(names, "c1-1", "@10.8.0.1", "deep") == ("NOERROR", ["10.8.0.9"])
    assert dig(names, "c1-1", "@10.8.0.1", "www.example.org")[0] == "REFUSED"
    for name in ("deep", "deep.inside", "deep.inside.vxlanu.internal"):
        assert getent(names, "c1-1", "ahostsv4", name).startswith("10.8.0.9"), name
    assert getent(names, "c1-1", "ahostsv4", "C1").startswith("192.168.0.101")
    assert getent(names, "c1-1", "ahostsv4", "www.example.org").startswith("203.0.113.9")
    names.vxlanu("h1", "detach", "inside", "c1-1")
    assert "inside" not in names.exec("h1", ["cat", "/etc/netns/c1-1/resolv.conf"]).stdout


def test_a_network_of_ipv6_alone_has_names_too(names: Lab, network: Callable[..., None]) -> None:
    network("six", "--subnet", "fd00:6::/64")
    names.exec("h1", ["ip", "netns", "add", "c1-6"])
    try:
        names.vxlanu("h1", "attach", "six", "c1-6", "--name", "S1", "--ip6", "fd00:6::11")
        names.vxlanu("h2", "attach", "six", "c2-2", "--name", "S2", "--ip6", "fd00:6::12")
        assert getent(names, "c1-6", "ahostsv6", "S2").startswith("fd00:6::12")
        assert dig(names, "c1-6", "S2.six", "AAAA") == ("NOERROR", ["fd00:6::12"])
        assert dig(names, "c1-6", "S2.six", "A") == ("NOERROR", [])
        assert getent(names, "c1-6", "hosts", "fd00:6::12") == "fd00:6::12 S2.six.vxlanu.internal"
        assert dig(names, "c1-6", "+tcp", "www.example.org") == ("NOERROR", ["203.0.113.9"])
    finally:
        names.exec("h1", ["ip", "netns", "del", "c1-6"])


def test_a_name_goes_with_its_endpoint_on_all_hosts(names: Lab) -> None:
    names.exec("h2", ["ip", "netns", "add", "c2-9"])
    names.vxlanu("h2", "attach", "demonet", "c2-9", "--name", "brief")
    status, [address] = dig(names, "c1-1", "brief.demonet")
    assert status == "NOERROR"
    names.exec("h2", ["ip", "netns", "del", "c2-9"])
    for container in ("c1-1", "c2-1"):
        gone = lambda: dig(names, container, "brief.vxlanu.internal")[0] == "NXDOMAIN"  # noqa: B023, E731 - used here
        poll(gone, f"the name to be gone, asked in {container}", WITHIN_S, names.story)
        assert dig(names, container, "-x", address)[0] == "NXDOMAIN"
    assert dig(names, "c1-1", "C1.demonet")[0] == "NOERROR", "the control"


def test_nothing_is_left_open_by_gateways_that_come_and_go(names: Lab) -> None:
    def opened() -> int:
        pid = json.loads(names.exec("h1", ["vxlanu", "status", "--json"]).stdout)["pid"]
        return len(names.exec("h1", ["ls", f"/proc/{pid}/fd"]).stdout.split())

    names.vxlanu("h1", "network", "create", "cycle", "--subnet", "10.7.0.0/24")
    before = opened()
    for _ in range(3):
        names.vxlanu("h1", "attach", "cycle", "c1-2", "--name", "Z")
        assert dig(names, "c1-2", "@10.7.0.1", "Z")[0] == "NOERROR"
        names.vxlanu("h1", "detach", "cycle", "c1-2")
        poll(lambda: opened() <= before, "descriptors to be closed", 60, names.story)
    names.vxlanu("h1", "network", "rm", "cycle")


def test_the_command_says_who_answers(names: Lab) -> None:
    shown = names.exec("h1", ["vxlanu", "dns", "query", "C1"]).stdout
    assert "192.168.0.101" in shown and "record of C1 on h2" in shown
    assert "alias of C0 on h1" in names.exec("h1", ["vxlanu", "dns", "query", "web.demonet"]).stdout
    assert "reverse of C0 on h1" in names.exec("h2", ["vxlanu", "dns", "query", "192.168.0.100"]).stdout
    foreign = names.exec("h1", ["vxlanu", "dns", "query", "www.example.org", "--type", "a"]).stdout
    assert "203.0.113.9" in foreign and "forwarded to 127.0.0.1" in foreign
    for words, status, why in (
        ("nobody.vxlanu.internal --network demonet", 1, "NXDOMAIN: nobody in demonet has this name"),
        ("nobody.example.org", 1, "127.0.0.1 says NXDOMAIN"),
        ("C1 --type AAAA", 1, "it has no AAAA"),
        ("C1 --type NONSENSE", 2, "there is none of that name"),
        ("a..b", 2, "label is empty"),
        ("C1 --network nowhere", 4, "there is none of that name"),
    ):
        done = names.exec("h1", ["vxlanu", "dns", "query", *words.split()], check=False)
        assert (done.returncode, why in done.stderr) == (status, True), done
    counted = json.loads(names.exec("h1", ["vxlanu", "status", "--json"]).stdout)["names"]
    assert counted["networks"] == 2 and min(counted[it] for it in ("answered", "forwarded", "refused")) > 0


def test_names_are_back_after_a_crash_and_what_it_left_is_gone(names: Lab) -> None:
    """Last: it kills. c1-9 ends while the agent is away, so its file is left; c1-8 has a file of its own."""
    etc = names.path(Path("/etc/netns"))
    for container in ("c1-8", "c1-9"):
        names.exec("h1", ["ip", "netns", "add", container])
    (etc / "c1-8").mkdir()
    (etc / "c1-8" / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    for container in ("c1-8", "c1-9"):
        names.vxlanu("h1", "attach", "demonet", container)
    names.vxlanu("h1", "attach", "other", "/run/netns/c1-9", "--name", "by-path")
    assert (etc / "c1-8" / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert "192.168.0.1\n" in (etc / "c1-9" / "resolv.conf").read_text()
    assert "c1-8/resolv.conf is not ours" in names.log("h1")
    names.kill_agent("h1")
    assert dig(names, "c1-1", "+time=1", "C1.demonet")[0] == "none"
    names.exec("h1", ["ip", "netns", "del", "c1-9"])
    assert (etc / "c1-9" / "resolv.conf").exists()
    names.start_agent("h1")
    poll(lambda: not (etc / "c1-9").exists(), "the file of the ended one to go", WITHIN_S, names.story)
    assert (etc / "c1-1" / "resolv.conf").exists() and (etc / "c2-1" / "resolv.conf").exists()
    poll(lambda: dig(names, "c1-1", "C1.demonet")[1] == ["192.168.0.101"], "names to be back", WITHIN_S, names.story)
    poll(lambda: dig(names, "c2-1", "c1-9.demonet")[1] == [], "the ended one to be gone", WITHIN_S, names.story)
    names.kill_agent("h2")
    poll(lambda: dig(names, "c1-1", "C1.vxlanu.internal")[0] == "NXDOMAIN", "a dead host's names to hide", 60)
    assert dig(names, "c1-1", "C0.demonet")[1] == ["192.168.0.100"], "the control"
    names.start_agent("h2")
    poll(lambda: dig(names, "c1-1", "C1.demonet")[1] == ["192.168.0.101"], "... and to come back", 60, names.story)
    names.vxlanu("h1", "detach", "demonet", "c1-8")
    names.exec("h1", ["ip", "netns", "del", "c1-8"])
    assert (etc / "c1-8" / "resolv.conf").exists(), "not ours to remove"
