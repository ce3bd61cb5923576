"""The records as keys: a pure function of the view, with indices that rise with what changes."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from sample_agent import SampleAgent

from vxlanu.agent.keys import Entry, Stamps, found, tree
from vxlanu.cli.main import main
from vxlanu.control.core.config import PROFILES
from vxlanu.control.core.effects import State
from vxlanu.control.core.index import Index
from vxlanu.control.core.members import Member, MemberTable
from vxlanu.control.core.out import Outbox
from vxlanu.control.core.records import (
    Block,
    Body,
    Endpoint,
    Kind,
    Network,
    NetworkId,
    Node,
    NodeId,
    Record,
    Vtep,
    encode_body,
)
from vxlanu.control.core.view import EndpointView, View
from vxlanu.control.core.wire import Wire

H1, H2 = NodeId(b"1" * 16), NodeId(b"2" * 16)
NET, A, B = b"n" * 16, b"a" * 16, b"b" * 16
SUBNETS = ("192.168.0.0/24", "fd00:a8::/64")


class Cluster:
    """Two hosts, and records that a test adds."""

    def __init__(self) -> None:
        out = Outbox(Wire(None, random.Random(1)))
        self._table, self.index = MemberTable(H1, PROFILES["lan"], out), Index(out)
        self.view = View(self.index, self._table)
        for number, node in enumerate((H1, H2), 1):
            host, name = f"10.97.0.{number}", f"h{number}"
            self._table.by_id[node] = Member(node, name, (host, 7946), (1, 1), 1, State.ALIVE, 0.0)
            body = Node(name=name, control_host=host, control_port=7946, data_host=host)
            self.add(node, Kind.NODE, node, body)
        gateways = ("192.168.0.1", "fd00:a8::1")
        self.add(H1, Kind.NETWORK, NET, Network(id=NET, name="demo", vni=9, subnets=SUBNETS, gateways=gateways))

    def add(self, writer: NodeId, kind: Kind, key: bytes, body: Body) -> None:
        self.index.add(Record(writer, 1, 1, kind, key, encode_body(body)))

    def endpoint(self, owner: NodeId, key: bytes, name: str, *addresses: str) -> None:
        mac = f"02:42:00:00:00:{key[0]:02x}"
        self.add(owner, Kind.ENDPOINT, key, Endpoint(id=key, network=NET, name=name, mac=mac, addresses=addresses))

    def value(self, key: str) -> dict[str, object]:
        [entry] = [it for it in tree(self.view, key) if it.key == key]
        body: dict[str, object] = json.loads(entry.value)
        return body


def names(entries: list[Entry]) -> list[str]:
    return sorted(it.key for it in entries)


def test_a_container_without_ipv4_has_an_address_for_scripts_all_the_same() -> None:
    cluster = Cluster()
    cluster.endpoint(H2, A, "C0", "192.168.0.2/24", "fd00:a8::2/64")
    cluster.endpoint(H2, B, "C1", "fd00:a8::3/64")
    place = f"docker/network/v1.0/endpoint/{NET.hex()}"
    both, six = cluster.value(f"{place}/{A.hex()}/"), cluster.value(f"{place}/{B.hex()}/")
    assert both["ep_iface"] == {
        "addr": "192.168.0.2/24",
        "addrv6": "fd00:a8::2/64",
        "mac": "02:42:00:00:00:61",
        "dstPrefix": "eth",
        "v4PoolID": "vxlanu/192.168.0.0/24",
        "v6PoolID": "vxlanu/fd00:a8::/64",
    }
    assert isinstance(six["ep_iface"], dict) and six["ep_iface"]["addr"] == "fd00:a8::3/64"
    assert six["locator"] == "10.97.0.2"


def test_of_two_endpoints_with_one_name_both_have_a_key() -> None:
    cluster = Cluster()
    cluster.endpoint(H1, A, "C0", "192.168.0.2/24")
    cluster.endpoint(H2, B, "C0", "192.168.0.3/24")
    keys = names(list(tree(cluster.view, "vxlanu/network/demo/endpoint/")))
    assert keys == ["vxlanu/network/demo/endpoint/C0", "vxlanu/network/demo/endpoint/C0~6262"]


def test_an_address_that_two_claim_is_shown_once_with_the_one_that_has_it() -> None:
    cluster = Cluster()
    cluster.endpoint(H1, A, "C0", "192.168.0.2/24")
    cluster.endpoint(H2, B, "C1", "192.168.0.2/24")
    winner = cluster.view.winner(cluster.view.networks()[0].id, "192.168.0.2")
    assert winner is not None
    [entry] = tree(cluster.view, "vxlanu/network/demo/arp/")
    assert entry.value.decode() == winner.body.mac


def test_a_host_that_was_reset_has_its_name_once() -> None:
    """As it was it has left; as it is, under a new id, it is there. An id that sorts first has no right to the name."""
    cluster = Cluster()
    for number, state in ((0, State.LEFT), (9, State.DEAD)):
        old = NodeId(bytes([number]) * 16)
        cluster._table.by_id[old] = Member(old, "h2", ("10.97.0.2", 7946), (1, 1), 1, state, 0.0)
    place = "vxlanu/member/"
    assert names(list(tree(cluster.view, place))) == [f"{place}{it}" for it in ("h1", "h2", "h2~0000", "h2~0909")]
    assert cluster.value(f"{place}h2")["state"] == "alive"
    assert cluster.value(f"{place}h2~0000")["state"] == "left"


def test_blocks_loans_and_foreign_vteps_are_keys() -> None:
    cluster = Cluster()
    loans = {"192.168.0.9": H2 + bytes(8)}
    block = Block(network=NET, prefix="192.168.0.0/26", state="held", loans=loans)
    cluster.add(H1, Kind.BLOCK, NET + b"192.168.0.0/26", block)
    cluster.add(H1, Kind.VTEP, NET + b"10.9.9.9:4789", Vtep(network=NET, address="10.9.9.9"))
    shown = cluster.value("vxlanu/network/demo/block/192.168.0.0/26")
    assert shown == {"holder": "h1", "state": "held", "loans": {"192.168.0.9": "h2"}}
    assert cluster.value("vxlanu/network/demo/vtep/10.9.9.9:4789")["port"] == 4789


def test_a_network_is_found_by_the_id_that_docker_gave_it() -> None:
    cluster, docker_id = Cluster(), "d" * 64
    place = "docker/network/v1.0/network/"
    named = list(tree(cluster.view, place, {NET: [docker_id]}))
    assert names(named) == sorted([f"{place}{NET.hex()}/", f"{place}{docker_id}/"])
    assert [json.loads(it.value)["id"] for it in named if docker_id in it.key] == [docker_id]


def test_what_is_not_asked_for_is_not_made() -> None:
    class Counting(View):
        asked = 0

        def endpoints(self, network: NetworkId | None = None) -> list[EndpointView]:
            self.asked += 1
            return super().endpoints(network)

    cluster = Cluster()
    view = Counting(cluster.index, cluster._table)
    for prefix in ("vxlanu/member/", "vxlanu/network/other", "docker/nodes/", "docker/network/v1.0/network/", "x"):
        list(tree(view, prefix))
    assert view.asked == 0
    assert list(tree(view, "vxlanu/network/demo/arp/")) == [] and view.asked == 1


@pytest.mark.parametrize("prefix", ["", "d", "docker/n", "docker/network/v1.0/endpoint/", "vxlanu/m", "x", "vxlanu"])
def test_a_part_of_the_tree_is_what_the_whole_has_there(prefix: str) -> None:
    cluster = Cluster()
    cluster.endpoint(H1, A, "C0", "192.168.0.2/24")
    whole = list(tree(cluster.view))
    assert names(list(tree(cluster.view, prefix))) == [it for it in names(whole) if it.startswith(prefix)]
    assert len(set(names(whole))) == len(whole) > 10


def test_an_index_rises_for_what_changed_and_stays_for_the_rest() -> None:
    cluster, stamps = Cluster(), Stamps()
    before = {it.key: it for it in asyncio.run(found(cluster.view, stamps, ""))}
    cluster.endpoint(H1, A, "C0", "192.168.0.2/24")
    stamps.changed({("endpoint", NET, A)})
    after = {it.key: it for it in asyncio.run(found(cluster.view, stamps, ""))}
    count = f"docker/network/v1.0/endpoint_count/{NET.hex()}/"
    changed = {key for key, it in after.items() if key not in before or it.modify_index > before[key].modify_index}
    assert changed == {count} | (after.keys() - before.keys()) and len(changed) == 5
    assert {after[key].modify_index for key in changed} == {stamps.index}
    assert after[count].create_index <= after[count].modify_index


def test_stamps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vxlanu.agent.keys.STAMPS_MAX", 3)
    stamps, seen = Stamps(), 0
    for number in range(20):
        stamps.changed([("node", bytes([number]), b"")])
        created, modified = stamps.of(("node", bytes([number]), b""))
        assert seen < created <= modified == stamps.index
        assert stamps.of(("node", b"another", b""))[1] <= modified
        seen = modified


def test_who_waits_is_woken_by_a_change_and_not_before() -> None:
    async def story() -> tuple[int, int, int]:
        stamps = Stamps()
        start = stamps.index
        same = await stamps.wait(start, 0.01)
        waiting = asyncio.create_task(stamps.wait(start, 60))
        await asyncio.sleep(0)
        stamps.changed([("node", b"", b"")])
        return start, same, await waiting

    start, same, woken = asyncio.run(story())
    assert same == start and woken == start + 1


PRINTED = {
    "kv ls": "vxlanu/network/demonet/arp/192.168.0.100\n",
    "kv ls vxlanu/ --separator /": "vxlanu/network/\n",
    "kv get vxlanu/network/demonet/arp/192.168.0.100": "02:42:c0:a8:00:64\n",
    "kv get vxlanu/ --recurse": "vxlanu/network/demonet/arp/192.168.0.100 02:42:c0:a8:00:64\n",
}


@pytest.mark.parametrize("line", PRINTED)
def test_the_command_prints(line: str, agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line.split(), "--socket", str(agent.path)]) == 0
    assert capsys.readouterr().out == PRINTED[line]


def test_json_is_what_the_agent_sent(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", "get", "vxlanu/", "--recurse", "--json", "--socket", str(agent.path)]) == 0
    [one] = json.loads(capsys.readouterr().out)
    assert one["Key"] == "vxlanu/network/demonet/arp/192.168.0.100" and one["ModifyIndex"] == 4


def test_a_key_that_is_not_there_is_exit_4(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", "get", "vxlanu/network", "--socket", str(agent.path)]) == 4
    assert "vxlanu/network" in capsys.readouterr().err
    assert main(["kv", "ls", "nonsense", "--socket", str(agent.path)]) == 4


@pytest.mark.parametrize("said", ["8500", ":8500", "127.0.0.1", "127.0.0.1:0", "h1:8500", "::1:8500", "10.0.0.1:99999"])
def test_an_http_address_that_cannot_be_is_told(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "--check", "--http", said]) == 2
    assert said in capsys.readouterr().err
    assert main(["agent", "--check", "--http", "[::1]:8500"]) == 0


def test_a_change_wakes_all_who_waited_also_while_another_begins_to() -> None:
    async def scene() -> None:
        stamps = Stamps()
        start = stamps.index

        async def change() -> None:
            stamps.changed([("node", b"x", b"")])

        async def begin() -> None:
            await stamps.wait(stamps.index, 60)

        first, _, second = [asyncio.create_task(it) for it in (stamps.wait(start, 60), change(), begin())]
        assert await asyncio.wait_for(first, 10) == start + 1
        assert not second.done(), "the control: nothing has changed for the second"
        stamps.changed([("node", b"x", b"")])
        await asyncio.wait_for(second, 10)

    asyncio.run(scene())
