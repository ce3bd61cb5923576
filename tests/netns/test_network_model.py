"""The network model on real hosts: families, subnets, ranges, reservations, labels, and what is shown of them.

    c1-1 c1-2    c2-1 c2-2
       h1 ────────── h2          each test has a network of its own
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Callable, Iterator

import pytest
from asking import client as api
from streams import pings

from vxlanu.lab.topology import Completed, Lab, poll

pytestmark = [pytest.mark.netns]

Row = dict[str, object]


@pytest.fixture(scope="module")
def shared(make_module_lab: Callable[..., Lab]) -> Lab:
    return make_module_lab(hosts=2, containers=2)


@pytest.fixture
def pair(shared: Lab) -> Iterator[Lab]:
    """The two hosts; what a test attached and created is gone after it."""
    yield shared
    one, two = api(shared, "h1"), api(shared, "h2")
    for host in (one, two):
        for row in host.endpoints().value.items:
            if row.local:
                host.detach(row.network, row.target)
    poll(lambda: not one.endpoints().value.items, "h1 to hear of the detaches", 60)
    one.network_prune()
    poll(lambda: not two.networks().value.items, "h2 to hear of the removals", 60)


def attach(lab: Lab, container: str, network: str, *flags: str) -> Row:
    body: Row = lab.vxlanu(f"h{container[1]}", "attach", network, container, *flags)
    return body


def addresses(body: Row) -> list[str]:
    """Without prefix lengths."""
    found = body["addresses"]
    assert isinstance(found, list)
    return [str(address).split("/")[0] for address in found]


def settled(lab: Lab, endpoints: int) -> None:
    """Both hosts know all endpoints, and their tables say nothing else."""
    for host in ("h1", "h2"):
        asked = api(lab, host)
        poll(lambda: len(asked.endpoints().value.items) == endpoints, f"{host} to know all", 60)  # noqa: B023
        poll(lambda: not asked.verify().value.differences, "its tables to be right", 60)  # noqa: B023


def refused(lab: Lab, host: str, line: str) -> Completed:
    done = lab.exec(host, ["vxlanu", *line.split()], check=False)
    assert done.returncode != 0 and done.stderr.startswith("vxlanu: ") and done.stderr.count("\n") == 1, done
    return done


def test_a_dual_stack_network_reaches_by_both_families(pair: Lab) -> None:
    pair.vxlanu("h1", "network", "create", "dual", "--subnet", "192.168.10.0/24", "--subnet", "fd00:10::/64")
    one, two = attach(pair, "c1-1", "dual"), attach(pair, "c2-1", "dual", "--ip6", "fd00:10::c2")
    settled(pair, 2)
    v4, v6 = addresses(two)
    assert v6 == "fd00:10::c2" and two["mac"] == "02:42:" + ":".join(f"{int(it):02x}" for it in v4.split("."))
    for address in (v4, v6):
        assert pings(pair, "c1-1", address), pair.story()
    for address in addresses(one):
        assert pings(pair, "c2-1", address), pair.story()
    neighbor = {row["address"] for row in pair.vxlanu("h1", "neighbor", "show", "dual")}
    assert {v4, v6, *addresses(one)} <= neighbor


def test_a_network_without_ipv4_has_macs_of_its_own_rule_and_answers_nd(pair: Lab) -> None:
    pair.vxlanu("h1", "network", "create", "six", "--subnet", "fd00:6::/64")
    one, two = attach(pair, "c1-1", "six"), attach(pair, "c2-1", "six")
    settled(pair, 2)
    for body in (one, two):
        [address] = addresses(body)
        tail = hashlib.sha256(ipaddress.ip_address(address).packed).digest()[:4]
        assert body["mac"] == "02:42:" + tail.hex(":")
    assert pings(pair, "c1-1", addresses(two)[0]) and pings(pair, "c2-1", addresses(one)[0]), pair.story()
    rows = pair.vxlanu("h1", "stats") + pair.vxlanu("h2", "stats")
    assert sum(row["nd_answered"] for row in rows) > 0 and sum(row["arp_nd_underlay"] for row in rows) == 0
    assert "inet " not in pair.exec("c1-1", ["ip", "addr", "show", "dev", str(one["ifname"])]).stdout
    assert "IPv4" in refused(pair, "h1", "attach six c1-2 --ip 192.168.0.2").stderr


def test_a_network_must_fit_the_underlay_as_it_is_now(pair: Lab) -> None:
    pair.vxlanu("h1", "network", "create", "wide", "--subnet", "10.77.0.0/24")
    pair.exec("h1", ["ip", "link", "set", "eth0", "mtu", "1400"])
    try:
        done = refused(pair, "h1", "attach wide c1-1")
        assert done.returncode == 5 and "eth0 here carries 1350" in done.stderr, done.stderr
    finally:
        pair.exec("h1", ["ip", "link", "set", "eth0", "mtu", "1500"])
    pair.vxlanu("h1", "attach", "wide", "c1-1")
    pair.vxlanu("h1", "detach", "wide", "c1-1")
    pair.vxlanu("h1", "network", "rm", "wide")


def test_ipv6_needs_its_least_mtu(pair: Lab) -> None:
    done = refused(pair, "h1", "network create small --subnet fd00:7::/64 --mtu 1279")
    assert done.returncode == 2 and "1280" in done.stderr
    pair.vxlanu("h1", "network", "create", "small", "--subnet", "fd00:7::/64", "--mtu", "1280")
    attach(pair, "c1-1", "small")
    assert "mtu 1280 " in pair.exec("c1-1", ["ip", "link", "show", "eth0"]).stdout


def test_several_subnets_are_one_segment(pair: Lab) -> None:
    subnets = ("10.61.0.0/29", "10.62.0.0/24")
    pair.vxlanu("h1", "network", "create", "many", *(part for it in subnets for part in ("--subnet", it)))
    poll(lambda: pair.vxlanu("h2", "network", "ls"), "h2 to know the network", 60, pair.story)
    [row] = pair.vxlanu("h2", "network", "ls")
    assert row["subnets"] == list(subnets)
    assert pair.vxlanu("h2", "network", "inspect", "many")["gateways"] == ["10.61.0.1", "10.62.0.1"]
    one, two = attach(pair, "c1-1", "many"), attach(pair, "c2-1", "many", "--ip", "10.62.0.77")
    settled(pair, 2)
    assert ipaddress.ip_address(addresses(one)[0]) in ipaddress.ip_network(subnets[0]), "the first is used first"
    assert two["addresses"] == ["10.62.0.77/24"]
    assert pings(pair, "c1-1", "10.62.0.77") and pings(pair, "c2-1", addresses(one)[0]), pair.story()
    routes = pair.exec("c1-1", ["ip", "route"]).stdout
    assert "10.62.0.0/24 dev eth0 proto static scope link" in routes, routes


def test_a_full_subnet_is_followed_by_the_next(pair: Lab) -> None:
    pair.vxlanu("h1", "network", "create", "next", "--subnet", "10.63.0.0/30", "--subnet", "10.64.0.0/30")
    given = [addresses(attach(pair, container, "next"))[0] for container in ("c1-1", "c2-1")]
    assert sorted(given) == ["10.63.0.2", "10.64.0.2"]
    done = refused(pair, "h1", "attach next c1-2")
    assert done.returncode in (5, 75), done.stderr


def test_a_range_and_reservations_bound_what_is_given(pair: Lab) -> None:
    ranges = ("--ip-range", "10.65.9.4/30", "--ip-range", "fd00:65::ab00/126")
    subnets = ("--subnet", "10.65.0.0/16", "--subnet", "fd00:65::/64")
    aux = ("--aux", "router=10.65.9.5", "--aux", "printer=fd00:65::ab01")
    pair.vxlanu("h1", "network", "create", "part", *subnets, *ranges, *aux)
    bodies = [attach(pair, container, "part") for container in ("c1-1", "c2-1", "c2-2")]
    assert sorted(addresses(body)[0] for body in bodies) == ["10.65.9.4", "10.65.9.6", "10.65.9.7"]
    assert sorted(addresses(body)[1] for body in bodies) == ["fd00:65::ab00", "fd00:65::ab02", "fd00:65::ab03"]
    shown = pair.vxlanu("h2", "network", "inspect", "part")
    assert shown["ip_range"] == "10.65.9.4/30, fd00:65::ab00/126"
    assert shown["aux"] == {"router": "10.65.9.5", "printer": "fd00:65::ab01"}
    assert refused(pair, "h1", "attach part c1-2").returncode in (5, 75)
    for said in ("--ip 10.65.9.5", "--ip6 fd00:65::ab01 --ip 10.65.1.1", "--ip6 fd00:65::1 --ip 10.65.1.1"):
        done = refused(pair, "h1", f"attach part c1-2 {said}")
        assert done.returncode == 5 and "auxiliary" in done.stderr, done.stderr
    outside = attach(pair, "c1-2", "part", "--ip", "10.65.200.1", "--ip6", "fd00:65::5")
    assert addresses(outside) == ["10.65.200.1", "fd00:65::5"], "asked for by name, the rest of the subnet is there"


def test_one_ipv6_address_is_refused_to_a_second_with_its_holders_name(pair: Lab) -> None:
    pair.vxlanu("h1", "network", "create", "six", "--subnet", "fd00:6::/64")
    attach(pair, "c1-1", "six", "--ip6", "fd00:6::77", "--name", "C0")
    done = refused(pair, "h2", "attach six c2-1 --ip6 fd00:6::77")
    assert done.returncode == 5 and "C0" in done.stderr and "h1" in done.stderr
    assert attach(pair, "c2-1", "six", "--ip6", "fd00:6::78")["addresses"] == ["fd00:6::78/64"]
    pair.vxlanu("h1", "detach", "six", "c1-1")

    def had_again() -> bool:
        line = ["vxlanu", "attach", "six", "c2-2", "--ip6", "fd00:6::77"]
        return pair.exec("h2", line, check=False).returncode == 0

    poll(had_again, "the address to be free on the other host", 60, pair.story)


def test_labels_choose_what_is_listed_and_pruned(pair: Lab) -> None:
    for name, *labels in (("blue", "team=db", "ci=1"), ("green", "team=web"), ("red",)):
        pair.vxlanu("h1", "network", "create", name, *(part for it in labels for part in ("--label", it)))
    attach(pair, "c1-1", "green")
    poll(lambda: len(pair.vxlanu("h2", "network", "ls")) == 3, "h2 to know all three", 60)

    def names(*filters: str) -> list[str]:
        said = [part for it in filters for part in ("--filter", it)]
        return [row["name"] for row in pair.vxlanu("h2", "network", "ls", *said)]

    assert names("label=team") == ["blue", "green"] and names("label=team=db") == ["blue"]
    assert names("name=re") == ["green", "red"] and names("label!=team") == ["red"]
    poll(lambda: names("dangling=true") == ["blue", "red"], "h2 to know the endpoint", 60)
    printed = pair.exec("h2", ["vxlanu", "network", "ls", "--filter", "label=ci", "--format", "name,labels"]).stdout
    assert printed == "blue\tteam=db,ci=1\n"
    assert refused(pair, "h2", "network ls --filter lable=x").returncode == 2
    assert refused(pair, "h2", "network prune --filter label=team").returncode == 2, "nobody to ask"
    assert [row["name"] for row in pair.vxlanu("h2", "network", "prune", "-f", "--filter", "label=team")] == ["blue"]
    assert names() == ["green", "red"]


def lent_by(lab: Lab, host: str, block: str) -> list[dict[str, str]]:
    """What the holder of a block has lent of it, as `host` has it."""
    return [it["lent"] for pool in lab.vxlanu(host, "ipam", "show", "blue") for it in pool["blocks"]
            if it["prefix"] == block]  # fmt: skip


def test_ipam_shows_blocks_holders_and_loans(pair: Lab) -> None:
    pair.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24", "--aux", "router=192.168.0.9")
    first = ipaddress.ip_address(addresses(attach(pair, "c1-1", "blue"))[0])
    block = ipaddress.ip_network(f"{first}/26", strict=False)
    lent = str(block[40])
    attach(pair, "c2-1", "blue", "--ip", lent)
    settled(pair, 2)
    for host in ("h1", "h2"):
        poll(lambda: {lent: "h2"} in lent_by(pair, host, str(block)), f"{host} to hear of the loan", 60)  # noqa: B023
        [pool] = pair.vxlanu(host, "ipam", "show", "blue")
        assert (pool["used"], pool["usable"]) == (2, 252)
        assert pool["reserved"] == {"gateway": "192.168.0.1", "aux router": "192.168.0.9"}
        [held] = [it for it in pool["blocks"] if it["prefix"] == str(block)]
        assert (held["holder"], held["state"], held["used"]) == ("h1", "held", 2)
        assert held["lent"] == {lent: "h2"} and held["local"] is (host == "h1")
        assert pool["unclaimed"] == 252 - sum(it["usable"] for it in pool["blocks"])
    shown = pair.exec("h2", ["vxlanu", "ipam", "show"]).stdout
    assert shown.startswith("blue 192.168.0.0/24: [#") and f"{lent} to h2" in shown
    assert refused(pair, "h2", "ipam show nonsense").returncode == 4


def test_a_huge_subnet_is_shown_at_once(pair: Lab) -> None:
    pair.vxlanu("h1", "network", "create", "huge", "--subnet", "10.0.0.0/8", "--subnet", "fd00::/48")
    attach(pair, "c1-1", "huge")
    four, six = pair.vxlanu("h1", "ipam", "show", "huge")
    assert (four["used"], four["usable"], six["used"], six["usable"]) == (1, (1 << 24) - 3, 1, None)


def test_why_says_that_nobody_has_an_address(pair: Lab) -> None:
    pair.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24")
    attach(pair, "c1-1", "blue", "--ip", "192.168.0.10")
    done = pair.exec("h1", ["vxlanu", "why", "192.168.0.99", "--json"], check=False)
    told = json.loads(done.stdout)
    assert done.returncode == 1 and told["network"] == "blue"
    assert told["steps"][-1]["step"] == "neighbor" and "no neighbour has this address" in told["steps"][-1]["why"]
    assert pair.exec("h1", ["vxlanu", "why", "10.99.0.1"], check=False).returncode == 4, "of no network"


REFUSED = [
    ("--subnet 10.1.0.0/24 --ip-range 10.2.0.0/25", 2, "10.2.0.0"),
    ("--subnet 10.1.0.0/24 --ip-range 10.1.0.0/23", 2, "10.1.0.0/23"),
    ("--subnet 10.1.0.0/24 --ip-range 10.1.0.7/29", 2, "host bits"),
    ("--subnet 10.1.0.0/24 --ip-range 10.1.0.0/25 --ip-range 10.1.0.0/26", 2, "overlaps"),
    ("--subnet 10.1.0.0/24 --ip-range x", 2, "x"),
    ("--subnet fd00::/64 --gateway fd01::1", 2, "fd01::1"),
    ("--subnet fd00::/64 --gateway fd00::", 5, "host address"),
    ("--subnet fd00::/64 --aux a=fd00::1", 5, "gateway"),
    ("--subnet fd00::/64 --aux a=fd01::1", 2, "fd01::1"),
    ("--subnet fd00::/64 --aux a=fd00::9%lo", 2, "not an address"),
    ("--subnet fd00::/64 --gateway fd00::9%lo", 2, "not an address"),
    ("--subnet fd00::/127", 2, "/127"),
    ("--subnet fe80::/64", 2, "fe80::/64"),
    ("--subnet ff02::/64", 2, "ff02::/64"),
    ("--subnet fd00::1/64", 2, "host bits"),
    ("--subnet fd00::/64 --subnet fd00::/48", 5, "overlaps"),
    (f"--label big={'x' * 20000}", 2, "at most"),
    ("--label team=a --label team=b", 2, "twice"),
    ("--label =x", 2, "K=V"),
]


@pytest.mark.parametrize(("flags", "code", "mentioned"), REFUSED, ids=[row[0][:60] for row in REFUSED])
def test_a_network_that_cannot_be_is_one_line(shared: Lab, flags: str, code: int, mentioned: str) -> None:
    done = refused(shared, "h2", f"network create red {flags}")
    assert done.returncode == code and mentioned in done.stderr, done.stderr
    assert api(shared, "h1").networks().value.items == []
