"""Docker's requests as they are sent are read, and our answers are what Docker reads (libnetwork's remote drivers).

The literal requests are of dockerd 20.10, 28 and 29. Where the recorded traffic of a real dockerd is at hand beside the
repository, all of it is read as well.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from vxlanu.runtimes.docker import shapes as s

RECORDED = Path(__file__).parents[3] / "shared" / "research" / "docker-plugin-requests.jsonl"
KINDS: dict[str, type[msgspec.Struct]] = {
    "CreateNetwork": s.CreateNetwork,
    "DeleteNetwork": s.NetworkAsked,
    "FreeNetwork": s.NetworkAsked,
    "AllocateNetwork": s.AllocateNetwork,
    "CreateEndpoint": s.CreateEndpoint,
    "DeleteEndpoint": s.EndpointAsked,
    "EndpointOperInfo": s.EndpointAsked,
    "ProgramExternalConnectivity": s.EndpointAsked,
    "RevokeExternalConnectivity": s.EndpointAsked,
    "Join": s.Join,
    "Leave": s.EndpointAsked,
    "RequestPool": s.RequestPool,
    "ReleasePool": s.ReleasePool,
    "RequestAddress": s.RequestAddress,
    "ReleaseAddress": s.ReleaseAddress,
}


def encoded(value: msgspec.Struct) -> object:
    return json.loads(msgspec.json.encode(value))


def test_answers_have_the_names_that_docker_reads() -> None:
    assert encoded(s.Activated()) == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert encoded(s.DriverCapabilities()) == {"Scope": "local", "ConnectivityScope": "global"}
    assert encoded(s.IpamCapabilities()) == {"RequiresMACAddress": False, "RequiresRequestReplay": False}
    assert encoded(s.AddressSpaces("a", "b")) == {"LocalDefaultAddressSpace": "a", "GlobalDefaultAddressSpace": "b"}
    assert encoded(s.PoolGranted("p", "10.0.0.0/24")) == {"PoolID": "p", "Pool": "10.0.0.0/24", "Data": {}}
    assert encoded(s.AddressGranted("10.0.0.2/24")) == {"Address": "10.0.0.2/24", "Data": {}}
    assert encoded(s.Failed("no", "no")) == {"Err": "no", "Error": "no"}
    assert encoded(s.Joined(s.InterfaceName("vx0"), static_routes=[s.StaticRoute("10.1.0.0/24")])) == {
        "InterfaceName": {"SrcName": "vx0", "DstPrefix": "eth"},
        "Gateway": "",
        "GatewayIPv6": "",
        "StaticRoutes": [{"Destination": "10.1.0.0/24", "RouteType": 1}],
        "DisableGatewayService": False,
    }


def test_an_answer_says_only_what_docker_left_open() -> None:
    """A field that Docker had filled in and we answer again makes it roll the endpoint back."""
    assert encoded(s.EndpointCreated(s.Interface(mac_address="02:42:0a:00:00:02"))) == {
        "Interface": {"MacAddress": "02:42:0a:00:00:02"}
    }
    assert encoded(s.EndpointCreated(s.Interface())) == {"Interface": {}}


@pytest.mark.parametrize("absent", ["null", "[]", None])
def test_null_and_absent_lists_are_empty(absent: str | None) -> None:
    tail = f',"IPv6Data":{absent}' if absent else ""
    asked = msgspec.json.decode(f'{{"NetworkID":"n","Options":null,"IPv4Data":null{tail}}}', type=s.CreateNetwork)
    assert (asked.ipv4_data or [], asked.ipv6_data or [], asked.options or {}) == ([], [], {})


def test_what_a_newer_docker_adds_is_ignored() -> None:
    text = '{"NetworkID":"n","EndpointID":"e","SandboxKey":"/k","Options":{"a":[1,{"b":null}]},"New":{"x":1}}'
    asked = msgspec.json.decode(text, type=s.Join)
    assert (asked.network_id, asked.endpoint_id, asked.sandbox_key) == ("n", "e", "/k")


def test_a_request_without_its_id_is_refused_in_words() -> None:
    with pytest.raises(msgspec.ValidationError, match="EndpointID"):
        msgspec.json.decode('{"NetworkID":"n"}', type=s.EndpointAsked)


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded requests are not beside the repository")
def test_every_recorded_request_is_read() -> None:
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    asked = [(line["path"].rpartition(".")[2], line["req"]) for line in lines if line.get("path")]
    read = [name for name, body in asked if name in KINDS and msgspec.json.decode(json.dumps(body), type=KINDS[name])]
    assert len(read) > 300
    assert set(read) == set(KINDS)
