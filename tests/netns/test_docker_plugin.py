"""Docker's plugin spoken to as dockerd does: the whole life of a container, out of order, broken off, malformed.

    c1-1     c2-1        blue, 192.168.0.0/24
     h1 ───── h2         h1 is Docker's plugin; c2-1 is attached by hand

What dockerd itself makes of the answers is in tests/interop/test_docker_plugin.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface, ip_network

import pytest
from docker_speech import SPACE, Speech, Started
from streams import pings

from vxlanu.lab.topology import Json, Lab, poll

pytestmark = [pytest.mark.netns]

SUBNET, FAR, C0 = "192.168.0.0/24", "192.168.0.200", "192.168.0.100"


@pytest.fixture(scope="module")
def network(make_module_lab: Callable[..., Lab]) -> Lab:
    """The lab with blue in it, and its far end."""
    lab = make_module_lab(hosts=2, containers=1)
    lab.vxlanu("h1", "network", "create", "blue", "--subnet", SUBNET)
    lab.vxlanu("h2", "attach", "blue", "c2-1", "--ip", FAR)
    poll(lambda: names(lab, "h1") == {"c2-1"}, "h1 to hear of it", story=lab.story)
    return lab


@pytest.fixture
def docker(network: Lab) -> Iterator[Speech]:
    """A Docker that has declared blue; nothing of it is left afterwards."""
    speech = Speech(network, "h1")
    if not network.path(speech.socket).exists():
        speech.restart_agent(killed=False)
    speech.create_network(SUBNET)
    yield speech
    poll(lambda: names(network, "h2") == {"c2-1"}, "no endpoint to be left", story=network.story)
    poll(lambda: links(network) == [], "no interface to be left", story=network.story)
    again = speech.take_address(C0)  # whatever had it has given it back
    speech.release(again)
    poll(lambda: not network.vxlanu("h1", "verify")["differences"], "the tables to be right", story=network.story)
    speech.remove_network()


def names(lab: Lab, host: str) -> set[str]:
    return {row["name"] for row in lab.vxlanu(host, "endpoint", "ls")}


def links(lab: Lab) -> list[str]:
    """Interfaces in the host's namespace that wait for Docker."""
    shown = json.loads(lab.exec("h1", ["ip", "-j", "link"]).stdout)
    return [link["ifname"] for link in shown if link["ifname"].startswith(("vx", "v-"))]


def followed(lab: Lab, started: Started) -> bool:
    """Whether the agent has found the interface in the container."""
    detail = lab.vxlanu("h1", "endpoint", "inspect", started.address.partition("/")[0])
    return detail["interface_state"] == "up" and detail["ifname"] == "eth0"


def test_a_container_lives_and_ends(network: Lab, docker: Speech) -> None:
    started = docker.start("c1-1", C0)
    assert started.address == f"{C0}/24"
    shown = network.exec("c1-1", ["ip", "link", "show", "eth0"]).stdout
    assert "mtu 1450" in shown
    assert "02:42:c0:a8:00:64" in shown
    assert pings(network, "c1-1", FAR)
    assert pings(network, "c2-1", C0)
    poll(lambda: names(network, "h2") == {"c2-1", started.endpoint[:12]}, "h2 to hear of it", story=network.story)
    poll(lambda: followed(network, started), "the interface to be followed", story=network.story)
    docker.stop(started)
    assert not pings(network, "c2-1", C0, wait=1)


def test_a_second_life_of_the_same_container_is_like_the_first(network: Lab, docker: Speech) -> None:
    for _ in range(3):
        started = docker.start("c1-1", C0)
        assert pings(network, "c2-1", C0)
        docker.stop(started)


@pytest.mark.parametrize("killed", [True, False], ids=["kill -9", "stop"])
def test_the_interface_of_a_container_is_found_again_where_docker_put_it(
    network: Lab, docker: Speech, killed: bool
) -> None:
    started = docker.start("c1-1", C0)
    poll(lambda: followed(network, started), "the interface to be followed", story=network.story)
    docker.restart_agent(killed=killed)
    poll(lambda: pings(network, "c2-1", C0, wait=1), "a ping to pass", 60, network.story)
    poll(lambda: followed(network, started), "the interface to be followed again", story=network.story)
    docker.stop(started)


def test_an_agent_killed_before_it_followed_finds_the_interface(network: Lab, docker: Speech) -> None:
    started = docker.start("c1-1", C0)
    docker.restart_agent()
    poll(lambda: pings(network, "c2-1", C0, wait=1), "a ping to pass", 60, network.story)
    docker.stop(started)


def test_a_container_that_went_while_the_agent_was_down_is_dropped(network: Lab, docker: Speech) -> None:
    network.create_container("c1-gone")
    started = docker.start("c1-gone", C0)
    poll(lambda: followed(network, started), "the interface to be followed", story=network.story)
    network.kill_agent("h1")
    network.delete_container("c1-gone")
    docker.restart_agent()
    poll(lambda: names(network, "h2") == {"c2-1"}, "the endpoint to be dropped everywhere", story=network.story)
    docker.release(docker.take_address(C0))
    docker.leave(started.endpoint)
    docker.delete_endpoint(started.endpoint)
    docker.release(started.address)


def test_a_namespace_that_goes_takes_its_endpoint_with_it(network: Lab, docker: Speech) -> None:
    network.create_container("c1-gone")
    started = docker.start("c1-gone", C0)
    poll(lambda: followed(network, started), "the interface to be followed", story=network.story)
    network.delete_container("c1-gone")
    poll(lambda: names(network, "h2") == {"c2-1"}, "the endpoint to be dropped everywhere", story=network.story)
    taken = docker.ask("IpamDriver.RequestAddress", PoolID=docker.pool, Address=C0, Options=None)
    assert "given to another endpoint here" in str(taken["Error"]), "Docker has not given it back"
    docker.leave(started.endpoint)
    docker.delete_endpoint(started.endpoint)
    docker.release(started.address)


@pytest.mark.parametrize("step", ["address", "endpoint", "join"])
def test_what_a_crash_cut_short_can_be_taken_back(network: Lab, docker: Speech, step: str) -> None:
    address, endpoint = docker.take_address(C0), ""
    if step != "address":
        endpoint = docker.create_endpoint(address)
    if step == "join":
        docker.join(endpoint, "c1-1")
        assert links(network)
    docker.restart_agent()
    poll(lambda: links(network) == [], "what nobody would ever move to go", story=network.story)
    if endpoint:
        docker.leave(endpoint)
        docker.delete_endpoint(endpoint)
    docker.release(address)


def test_ends_are_told_twice_and_of_strangers(network: Lab, docker: Speech) -> None:
    started = docker.start("c1-1", C0)
    docker.stop(started)
    docker.leave(started.endpoint)
    docker.delete_endpoint(started.endpoint)
    docker.release(started.address)
    docker.leave("f" * 64)
    docker.delete_endpoint("f" * 64)
    docker.must("NetworkDriver.DeleteNetwork", NetworkID="f" * 64)
    docker.must("IpamDriver.ReleasePool", PoolID="somebody's")


def test_a_late_release_does_not_take_the_address_of_the_next(network: Lab, docker: Speech) -> None:
    """After a crash dockerd gives back what it believes to hold, and somebody else may have got it meanwhile."""
    started = docker.start("c1-1", C0)
    docker.release(C0)
    taken = docker.ask("IpamDriver.RequestAddress", PoolID=docker.pool, Address=C0, Options=None)
    assert taken["Error"]
    assert pings(network, "c2-1", C0)
    docker.stop(started)


def test_join_said_twice_answers_twice(network: Lab, docker: Speech) -> None:
    address = docker.take_address(C0)
    endpoint = docker.create_endpoint(address)
    assert docker.join(endpoint, "c1-1") == docker.join(endpoint, "c1-1")
    docker.leave(endpoint)
    docker.delete_endpoint(endpoint)
    docker.release(address)


def test_two_docker_networks_may_stand_for_one_of_ours_but_a_container_is_in_it_once(
    network: Lab, docker: Speech
) -> None:
    started = docker.start("c1-1", C0)
    second = Speech(network, "h1")
    second.create_network("", "blue")
    address = second.take_address()
    assert address.startswith("192.168.0.")
    endpoint = second.create_endpoint(address)
    key = {"NetworkID": second.network, "EndpointID": endpoint, "SandboxKey": "/run/netns/c1-1"}
    refused = second.ask("NetworkDriver.Join", **key)
    assert "the container has an interface in it already" in str(refused["Err"])
    second.delete_endpoint(endpoint)
    second.release(address)
    second.remove_network()
    docker.stop(started)


def test_an_address_is_of_the_subnet_that_docker_asked_of_several(network: Lab, docker: Speech) -> None:
    """The first has five to give, the second many."""
    subnets = ("192.168.7.0/29", "192.168.8.0/24")
    flags = [word for subnet in subnets for word in ("--subnet", subnet)]
    network.vxlanu("h1", "network", "create", "wide", *flags)
    speeches = [Speech(network, "h1") for _ in subnets]
    for speech, subnet in zip(speeches, subnets, strict=True):
        speech.create_network(subnet)
    for _ in range(5):
        for speech, subnet in zip(speeches, subnets, strict=True):
            given = speech.take_address()
            assert ip_interface(given).network == ip_network(subnet), given
    full = speeches[0].ask("IpamDriver.RequestAddress", PoolID=speeches[0].pool, Address="", Options=None)
    assert full["Err"], "the other one must not help out"
    assert ip_interface(speeches[1].take_address()).network == ip_network(subnets[1])
    for speech in speeches:
        speech.remove_network()


def test_an_address_held_elsewhere_names_its_holder(network: Lab, docker: Speech) -> None:
    taken = docker.ask("IpamDriver.RequestAddress", PoolID=docker.pool, Address=FAR, Options=None)
    assert f"{FAR} belongs to c2-1 on h2" in str(taken["Error"])
    assert taken["Err"] == taken["Error"]


@pytest.mark.parametrize(
    ("method", "body", "words"),
    [
        ("IpamDriver.RequestPool", {"Pool": "10.99.0.0/24"}, "vxlanu network create NAME --subnet 10.99.0.0/24"),
        ("IpamDriver.RequestPool", {"Pool": "192.168.0.0/16"}, "but blue has 192.168.0.0/24"),
        ("IpamDriver.RequestPool", {}, "--ipam-opt vxlanu.network=NAME"),
        ("IpamDriver.RequestPool", {"Options": {"vxlanu.network": "bleu"}}, "try: blue"),
        ("IpamDriver.RequestPool", {"Options": {"vxlanu.netwrok": "blue"}}, "no such option; try: vxlanu.network"),
        ("IpamDriver.RequestPool", {"Pool": "10.9.0.0/24", "Options": {"vxlanu.network": "blue"}}, "not 10.9.0.0/24"),
        ("IpamDriver.RequestPool", {"Options": {"vxlanu.network": "blue"}, "V6": True}, "it has no IPv6 subnet"),
        ("IpamDriver.RequestPool", {"Pool": SUBNET, "SubPool": "192.168.0.64/26"}, "--ip-range 192.168.0.64/26"),
        ("IpamDriver.RequestPool", {"Pool": "nonsense"}, "not a prefix"),
        ("IpamDriver.RequestAddress", {"PoolID": "nonsense"}, "not one that vxlanu gave out"),
        ("IpamDriver.RequestAddress", {"PoolID": f"{SPACE}/x/ffffffffffff/10.9.0.0/24"}, "it was removed"),
        ("NetworkDriver.CreateNetwork", {"NetworkID": "n"}, "--ipam-driver vxlanu"),
        ("NetworkDriver.CreateNetwork", {"NetworkID": "n", "IPv4Data": [{"AddressSpace": "LocalDefault",
          "Pool": SUBNET}]}, f"docker network create -d vxlanu --ipam-driver vxlanu --subnet {SUBNET} NAME"),
        ("NetworkDriver.CreateNetwork", {"NetworkID": "n", "IPv4Data": [{"AddressSpace": SPACE, "Pool": SUBNET,
          "AuxAddresses": {"router": "192.168.0.9/24"}}]}, "vxlanu network create blue --aux router=192.168.0.9"),
        ("NetworkDriver.CreateNetwork", {"NetworkID": "n", "IPv4Data": [{"AddressSpace": SPACE}]}, "not a prefix"),
        ("NetworkDriver.CreateEndpoint", {"NetworkID": "unknown", "EndpointID": "e"}, "the agent does not know it"),
        ("NetworkDriver.Join", {"NetworkID": "unknown", "EndpointID": "e"}, "Docker has not created it"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_type(docker: Speech, method: str, body: dict[str, Json], words: str) -> None:
    answer = docker.ask(method, **body)
    assert words in str(answer["Err"]), answer
    assert str(answer["Err"]).startswith("vxlanu: ")


def test_a_gateway_of_docker_s_own_is_refused_and_ours_is_given(docker: Speech) -> None:
    purpose: Json = {"RequestAddressType": "com.docker.network.gateway"}
    for wanted in ("", "192.168.0.1"):
        given = docker.must("IpamDriver.RequestAddress", PoolID=docker.pool, Address=wanted, Options=purpose)
        assert given["Address"] == "192.168.0.1/24"
    refused = docker.ask("IpamDriver.RequestAddress", PoolID=docker.pool, Address="192.168.0.7", Options=purpose)
    assert "the gateway of 192.168.0.0/24 is 192.168.0.1" in str(refused["Error"])


def test_what_is_no_request_is_answered_in_one_sentence(network: Lab, docker: Speech) -> None:
    for text in (b"{", b"[]", b'{"NetworkID":7}', b"\xff\xfe", b'"' + b"x" * 1000):
        status, answer = docker.raw("NetworkDriver.Leave", text)
        assert status == 400
        assert str(answer["Err"]).startswith("vxlanu: NetworkDriver.Leave: ")
        assert "\n" not in str(answer["Err"])
    for verb, method in (("POST", "NetworkDriver.Fly"), ("POST", ""), ("GET", "NetworkDriver.Leave")):
        assert docker.raw(method, b"{}", verb)[0] == 404
    assert docker.raw("Plugin.Activate", b"") == (200, {"Implements": ["NetworkDriver", "IpamDriver"]})


def test_a_body_of_16_megabytes_is_refused_in_bounded_memory(network: Lab, docker: Speech) -> None:
    def memory_kib() -> int:
        pid = network.vxlanu("h1", "status")["pid"]
        status = network.exec("h1", ["cat", f"/proc/{pid}/status"]).stdout
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    before = memory_kib()
    for _ in range(3):
        body = b'{"NetworkID":"' + b"x" * (16 << 20) + b'"}'
        try:
            status, answer = docker.raw("NetworkDriver.Leave", body)
        except (BrokenPipeError, ConnectionResetError):
            continue  # refused before all of it was sent
        assert status == 413
        assert "longer than" in str(answer["Err"])
    assert memory_kib() - before < 8 << 10
    assert docker.must("NetworkDriver.GetCapabilities")["Scope"] == "local"


def test_every_answer_comes_in_time(network: Lab, docker: Speech) -> None:
    begun = time.monotonic()
    started = docker.start("c1-1", C0)
    docker.stop(started)
    assert time.monotonic() - begun < 9 * 10, "nine requests, ten times what is promised for each"


def test_a_stopped_agent_leaves_its_socket_as_long_as_docker_has_networks(network: Lab, docker: Speech) -> None:
    file = network.path(docker.socket)
    network.stop_agent("h1")
    status, answer = docker.raw("Plugin.Activate", b"")
    assert status == 503
    assert "any more: it was stopped; try: " in str(answer["Err"])
    removal = json.dumps({"NetworkID": docker.network}).encode()
    assert docker.raw("NetworkDriver.DeleteNetwork", removal)[0] == 503
    poll(lambda: not file.exists(), "the last of them to be over", story=network.story)
    poll(lambda: stand_ins(network, docker) == set(), "its process to end, too", story=network.story)
    docker.restart_agent()
    network.stop_agent("h1")
    assert not file.exists(), "this one has heard that they are gone"
    docker.restart_agent()
    docker.create_network(SUBNET)


def stand_ins(lab: Lab, docker: Speech) -> set[str]:
    find = f"pgrep -f '[s]tand_in.py .*{docker.socket}' || true"  # a shell that finds no other must not find itself
    return set(lab.exec("h1", ["sh", "-c", find]).stdout.split())


def test_a_killed_stand_in_has_a_successor_which_answers_for_a_killed_agent(network: Lab, docker: Speech) -> None:
    poll(lambda: len(stand_ins(network, docker)) == 1, "one stand-in, and no earlier one", story=network.story)
    [first] = stand_ins(network, docker)
    network.exec("h1", ["kill", "-9", first])
    poll(lambda: len(stand_ins(network, docker) - {first}) == 1, "another stand-in", story=network.story)
    assert docker.raw("Plugin.Activate", b"")[0] == 200, "the agent answers for itself"
    network.kill_agent("h1")
    status, answer = docker.raw("Plugin.Activate", b"")
    assert status == 503
    assert str(answer["Err"]).startswith("vxlanu: agent: it does not run on this host any more")
    docker.restart_agent()
    poll(lambda: len(stand_ins(network, docker)) == 1, "the old one to end", story=network.story)
    assert docker.raw("Plugin.Activate", b"")[0] == 200
