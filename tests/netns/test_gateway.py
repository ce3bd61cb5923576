"""The gateway of a network, on every host that has an endpoint of it.

    c1-1 .10.11   c2-1 .20.21      blue: 192.168.10.0/24, 192.168.20.0/24, fd00:10::/64, fd00:20::/64
    c1-2 .20.12   c2-2 .10.22      red:  192.168.30.0/24 (c1-x on h1)
       h1 ────────── h2            each host: a namespace of its own per network, with all gateways
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from streams import pings, watching

from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.netns, pytest.mark.rootless]

SUBNETS = ("192.168.10.0/24", "192.168.20.0/24", "fd00:10::/64", "fd00:20::/64")
GATEWAYS = ("192.168.10.1", "192.168.20.1", "fd00:10::1", "fd00:20::1")
V4 = {"c1-1": "192.168.10.11", "c1-2": "192.168.20.12", "c2-1": "192.168.20.21", "c2-2": "192.168.10.22"}
V6 = {"c1-1": "fd00:10::11", "c1-2": "fd00:20::12", "c2-1": "fd00:20::21", "c2-2": "fd00:10::22"}


def attach(lab: Lab, name: str) -> None:
    lab.vxlanu(f"h{name[1]}", "attach", "blue", name, "--ip", V4[name], "--ip6", V6[name])
    for address, prefix in ((V4[name], "192.168.10.0/24 192.168.20.0/24"), (V6[name], "fd00:10::/64 fd00:20::/64")):
        family = "-6" if ":" in address else "-4"
        gateway = next(it for it in GATEWAYS if it[:-1] == address[: len(it) - 1])
        other = next(it for it in prefix.split() if it[:-4] not in gateway and it.split("/")[0][:-1] not in gateway)
        lab.exec(name, ["ip", family, "route", "del", other])
        lab.exec(name, ["ip", family, "route", "add", "default", "via", gateway])


@pytest.fixture(scope="module")
def blue(make_module_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """Two hosts; containers whose only way, to the other subnet too, is their gateway."""
    lab = make_module_lab(hosts=2, containers=2)
    words = [word for subnet in SUBNETS for word in ("--subnet", subnet)]
    lab.vxlanu("h1", "network", "create", "blue", "--internal", *words)
    for name in V4:
        attach(lab, name)
    for host in ("h1", "h2"):
        poll(lambda: len(lab.vxlanu(host, "endpoint", "ls")) == 4, f"all four on {host}", 60, lab.story)  # noqa: B023
    yield lab


def router_mac(lab: Lab, host: str) -> str:
    return "0a:" + ":".join(re.findall("..", lab.vxlanu(host, "status")["id"][:10]))


def ping_with(lab: Lab, place: str, address: str, tag: bytes) -> bool:
    """Whether an echo comes back of a request that carries `tag` again and again; one of some, as with `pings`."""
    asked = ["ping", "-n", "-q", "-c", "1", "-W", "5", "-p", tag.hex(), address]
    return any(lab.exec(place, asked, check=False).returncode == 0 for _ in range(6))


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_every_gateway_answers_on_every_host_and_nothing_of_it_crosses_the_underlay(blue: Lab, gateway: str) -> None:
    with watching(blue, "underlay", b"a gateway", "h1") as seen:
        for place in V4:
            assert ping_with(blue, place, gateway, b"a gateway"), blue.story()
        assert seen() == 0
        assert ping_with(blue, "c1-1", (V6 if ":" in gateway else V4)["c2-1"], b"a gateway")  # positive control
        poll(lambda: seen() >= 1, "what goes to another host to cross", 60, blue.story)


@pytest.mark.parametrize("addresses", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("other", ["c1-2", "c2-1"], ids=["same host", "other host"])
def test_subnets_reach_each_other_through_the_gateway(blue: Lab, addresses: dict[str, str], other: str) -> None:
    """Across hosts each way is routed where it begins: both are seen with the MAC of that host's router."""
    tag = b"routed for " + other.encode()[:4]
    macs = {host: bytes.fromhex(router_mac(blue, host).replace(":", "")) for host in ("h1", "h2")}
    with watching(blue, other, macs["h1"]) as from_h1, watching(blue, "c1-1", macs[f"h{other[1]}"]) as back:
        assert ping_with(blue, "c1-1", addresses[other], tag), blue.story()
        assert from_h1() >= 1
        assert back() >= 1


def test_what_is_routed_has_lost_one_hop(blue: Lab) -> None:
    said = [""]

    def says(target: str, hops: str, wanted: str) -> bool:
        """Whether ping does; asked again, for a kernel sends so many ICMP errors a second and no more."""
        asked = ["ping", "-n", "-c", "1", "-W", "5", "-t", hops, target]
        said.append(blue.exec("c1-1", asked, check=False).stdout)
        return bool(re.search(wanted, said[-1]))

    for target, router in ((V4["c2-1"], r"192\.168\.10\.1 .*Time to live exceeded"),
                           (V6["c2-1"], r"fd00:10::1 .*Hop limit")):  # fmt: skip
        poll(lambda: says(target, "1", router), "the router's error", 60, lambda: said[-1])  # noqa: B023
        poll(lambda: says(target, "2", "(ttl|hop limit)=63"), "one hop less", 60, lambda: said[-1])  # noqa: B023


def test_the_gateway_answers_as_a_router(blue: Lab) -> None:
    assert pings(blue, "c1-1", "fd00:10::1")
    shown = blue.exec("c1-1", ["ip", "-6", "neigh", "show", "fd00:10::1"]).stdout
    assert "router" in shown and router_mac(blue, "h1") in shown, shown
    assert pings(blue, "c1-1", V6["c2-2"])
    assert "router" not in blue.exec("c1-1", ["ip", "-6", "neigh", "show", V6["c2-2"]]).stdout  # positive control


def test_two_networks_never_route_to_each_other(blue: Lab) -> None:
    blue.vxlanu("h2", "network", "create", "red", "--internal", "--subnet", "192.168.30.0/24")
    blue.create_container("c1-x")
    blue.vxlanu("h1", "attach", "red", "c1-x", "--ip", "192.168.30.13")
    blue.exec("c1-x", ["ip", "route", "add", "default", "via", "192.168.30.1"])
    assert pings(blue, "c1-x", "192.168.30.1")
    assert not [address for address in (V4["c1-1"], *GATEWAYS[:2]) if pings(blue, "c1-x", address, wait=1)]
    assert not [address for address in ("192.168.30.13", "192.168.30.1") if pings(blue, "c1-1", address, wait=1)]

    def refused() -> bool:  # the kernel says so at most once a second
        said = blue.exec("c1-x", ["ping", "-n", "-c", "1", "-W", "1", V4["c1-1"]], check=False).stdout
        return "From 192.168.30.1" in said and "Unreachable" in said

    poll(refused, "red's gateway to say that it has no way", 60, blue.story)


def test_whoever_looks_in_finds_the_gateway_by_name(blue: Lab) -> None:
    own, other = router_mac(blue, "h1"), router_mac(blue, "h2")
    fdb = {row["mac"]: row for row in blue.vxlanu("h1", "fdb", "show", "blue")}
    assert (fdb[own]["endpoint"], fdb[own]["node"], fdb[own]["local"]) == ("gateway", "h1", True)
    assert (fdb[other]["endpoint"], fdb[other]["node"], fdb[other]["local"]) == ("gateway", "h2", False)
    neighbors = {row["address"]: row for row in blue.vxlanu("h1", "neighbor", "show", "blue")}
    for gateway in GATEWAYS:
        row = neighbors[gateway]
        assert (row["mac"], row["endpoint"], row["node"]) == (own, "gateway", "h1")
    assert neighbors[V4["c1-1"]]["endpoint"] == "c1-1"  # positive control
    ports = {port["endpoint"]: port for port in blue.vxlanu("h1", "link", "show", "blue")[0]["ports"]}
    assert (ports["gateway"]["state"], ports["gateway"]["mac"], ports["gateway"]["mtu"]) == ("up", own, 1450)
    assert set(ports) == {"c1-1", "c1-2", "gateway"}
    counted = [row for row in blue.vxlanu("h1", "stats") if row["scope"] == "gateway" and row["network"] == "blue"]
    assert [row["name"] for row in counted] == ["gateway"] and counted[0]["received_frames"] > 0, counted


@pytest.mark.parametrize("source", [(), ("--from", "c1-1")], ids=["anybody", "from c1-1"])
def test_why_says_that_the_gateway_is_here(blue: Lab, source: tuple[str, ...]) -> None:
    for gateway in GATEWAYS:
        said = blue.vxlanu("h2" if not source else "h1", "why", gateway, *source)
        assert (said["endpoint"], said["network"], said["local"]) == ("gateway", "blue", True), said
        assert all(step["ok"] for step in said["steps"]) and len(said["steps"]) >= 3, said


def test_a_capture_of_the_network_has_an_interface_for_it(blue: Lab) -> None:
    with blue.running("h1", ["vxlanu", "capture", "blue", "--count", "1", "--write", "-"]) as process:
        poll(lambda: pings(blue, "c1-1", GATEWAYS[0]) and process.poll() is not None, "a frame", 60, blue.story)
        assert process.stdout is not None
        assert b"vxlanu:gateway.blue" in process.stdout.buffer.read()


def test_verify_is_silent(blue: Lab) -> None:
    for host in ("h1", "h2"):
        poll(lambda: not blue.vxlanu(host, "verify")["differences"], "silence", 60, blue.story)  # noqa: B023


def test_the_gateway_is_there_again_after_kill_9_of_the_agent(blue: Lab) -> None:
    assert pings(blue, "c1-1", GATEWAYS[0])
    blue.kill_agent("h1")
    assert not pings(blue, "c1-1", GATEWAYS[0], wait=1)  # it is the agent's
    blue.start_agent("h1")
    for place, gateway in (("c1-1", "192.168.10.1"), ("c1-1", "fd00:10::1"), ("c1-2", "fd00:20::1")):
        assert pings(blue, place, gateway), blue.story()
    poll(lambda: pings(blue, "c1-1", V4["c2-1"], wait=1), "routing across hosts", 60, blue.story)
    test_verify_is_silent(blue)


class Held:
    """What the agent of h1 has open."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.pid = lab.vxlanu("h1", "status")["pid"]

    def kinds(self) -> Counter[str]:
        """How many of each kind: files, sockets, eventfds, ...; `net` are network namespaces."""
        found: Counter[str] = Counter()
        for entry in self.lab.path(Path(f"/proc/{self.pid}/fd")).iterdir():
            with suppress(FileNotFoundError):
                found[str(entry.readlink()).split(":")[0]] += 1
        return found

    def namespace(self) -> str:
        """The way to the gateway's, in the lab."""
        places = [f"/proc/{self.pid}/fd/{number}" for number in range(1024)]
        return next(it for it in places if is_net(self.lab.path(Path(it))))


def is_net(entry: Path) -> bool:
    with suppress(FileNotFoundError):
        return str(entry.readlink()).startswith("net:")
    return False


@pytest.fixture
def one(make_lab: Callable[..., Lab]) -> Lab:
    """A host with blue and a container that is not in it yet."""
    lab = make_lab(hosts=1, containers=1)
    lab.vxlanu("h1", "network", "create", "blue", "--internal", "--subnet", "192.168.0.0/24")
    return lab


def test_nothing_of_it_is_left_when_the_last_endpoint_has_gone(one: Lab) -> None:
    """The TAPs' descriptors are closed by the fast path's reaper, so what is left is looked at until it fits."""
    held = Held(one)

    def cycle() -> None:
        one.vxlanu("h1", "attach", "blue", "c1-1")
        assert pings(one, "c1-1", "192.168.0.1")
        poll(lambda: held.kinds()["net"] == 1, "one namespace to be held", 60, one.story)
        one.vxlanu("h1", "detach", "blue", "c1-1")
        poll(lambda: not held.kinds()["net"], "the namespace to be let go", 60, one.story)

    cycle()
    taps = held.kinds()["/dev/net/tun"]
    poll(lambda: not held.kinds()["/dev/net/tun"], f"{taps} queues to be closed", 60, one.story)
    before = held.kinds()
    for _ in range(5):
        cycle()
    # A connection of ours that was just being closed is among what there was before.
    poll(lambda: held.kinds() <= before, f"no more descriptors than {before}", 60, lambda: str(held.kinds()))


def test_a_gateway_whose_device_was_taken_away_is_made_again(one: Lab) -> None:
    one.vxlanu("h1", "attach", "blue", "c1-1")
    assert pings(one, "c1-1", "192.168.0.1")
    one.exec("h1", ["nsenter", f"--net={Held(one).namespace()}", "--", "ip", "link", "del", "eth0"])
    poll(lambda: "making another" in one.log("h1"), "the agent to notice", 60, one.story)
    poll(lambda: pings(one, "c1-1", "192.168.0.1", wait=1), "the gateway to answer again", 60, one.story)
    poll(lambda: not one.vxlanu("h1", "verify")["differences"], "the tables to be right", 60, one.story)
