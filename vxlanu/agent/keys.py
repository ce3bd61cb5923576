"""The records as a tree of keys and values, for people and for scripts that once looked into Docker's Consul.

    docker/nodes/ADDRESS:PORT                        every live member, as Docker's engines announced themselves
    docker/network/v1.0/network/NETWORK-ID/          JSON of libnetwork: name, id, ipamV4Config, ...; also under the
                                                     id that the Docker engine of this host gave the network
    docker/network/v1.0/endpoint/NETWORK-ID/ID/      name, id, ep_iface {addr, mac}, locator (the host's VTEP)
    docker/network/v1.0/endpoint_count/NETWORK-ID/   {"Count": N}
    docker/network/v1.0/overlay/network/NETWORK-ID/  VNI, MTU, subnets and gateways
    vxlanu/member/NAME                               address, state, version
    vxlanu/network/NAME                              the record; below it endpoint/NAME, block/PREFIX, vtep/IP:PORT,
    vxlanu/network/NAME/arp/ADDRESS                  a MAC, and .../fib/MAC the VTEP: what the switch is told

Rules of this file
  1. The tree is a pure function of the view, made anew for every question: nothing can be out of date, and nothing of
     it is stored. There is no key material in it, because there is none in the records.
  2. What Docker's store had and we do not know (sandboxes, services) is left out, not made up.
  3. An index says when this agent saw the records behind a key change. It starts from the clock, so that it goes on
     rising over a restart; two agents count differently, as two Consul clusters do.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from vxlanu.agent.lookup import state_word
from vxlanu.api.schema import KeyValue
from vxlanu.control.core.effects import ChangeKey, State
from vxlanu.control.core.records import Network, NodeId, short
from vxlanu.control.core.view import EndpointView, MemberView, NetworkView, View

__all__ = ["Entry", "Stamps", "found", "tree"]

LIBNETWORK = "docker/network/v1.0"
STAMPS_MAX = 65_536  # keys whose change is remembered one by one: some 10 MB; older changes share one index
TURN = 256  # entries made at a stretch: some 20 ms
COUNT = "endpoint_count"  # changes with any endpoint of a network

Meets = Callable[[str], bool]
"""Whether a branch may have a key that is asked for."""
Aliases = Mapping[bytes, Collection[str]]
"""Network id to other ids under which its key is looked for: those that the Docker engine of this host gave it."""
Value = str | int | bool | None | list["Value"] | dict[str, "Value"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key; `source` is the question on the view whose answer it shows."""

    key: str
    value: bytes
    source: ChangeKey


class Stamps:
    """When each question on the view last had a new answer, and who waits for the next one."""

    def __init__(self) -> None:
        self.index = time.time_ns() // 1_000_000
        self._base = self.index
        self._stamps: dict[ChangeKey, tuple[int, int]] = {}
        self._stir = asyncio.Event()

    def changed(self, keys: Collection[ChangeKey]) -> None:
        """The records behind `keys` are others now."""
        self.index += 1
        if len(self._stamps) >= STAMPS_MAX:
            self._stamps.clear()
            self._base = self.index
        counts = [(COUNT, network, b"") for kind, network, _ in keys if kind == "endpoint"]
        for key in (*keys, *counts):
            self._stamps[key] = (self._stamps.get(key, (self.index, 0))[0], self.index)
        self._stir.set()
        self._stir = asyncio.Event()  # not cleared by waiters: one would take it from another who has yet to look

    def of(self, source: ChangeKey) -> tuple[int, int]:
        """(created, modified): what was there before the first change that is remembered has the base for both."""
        return self._stamps.get(source, (self._base, self._base))

    async def wait(self, index: int, patience_s: float) -> int:
        """The index as soon as something changed after `index`, or after so long."""
        end = time.monotonic() + patience_s
        while self.index == index and (left := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._stir.wait()
            except TimeoutError:
                break
        return self.index


async def found(view: View, stamps: Stamps, prefix: str, aliases: Aliases = {}) -> list[KeyValue]:  # noqa: B006
    """The keys that begin with `prefix`, sorted, as the API shows them. Others have their turn in between: what changes
    meanwhile has a higher index than the one that was read before."""
    shown = []
    for number, entry in enumerate(tree(view, prefix, aliases), 1):
        created, modified = stamps.of(entry.source)
        value = base64.b64encode(entry.value).decode()
        shown.append(KeyValue(0, entry.key, 0, value, created, modified))
        if number % TURN == 0:
            await asyncio.sleep(0)
    return sorted(shown, key=lambda it: it.key)


def tree(view: View, prefix: str = "", aliases: Aliases = {}) -> Iterator[Entry]:  # noqa: B006  # never written to
    """Every key that begins with `prefix`; branches that have none are not made."""

    def meets(branch: str) -> bool:
        return branch.startswith(prefix) or prefix.startswith(branch)

    made = chain(_nodes(view, meets), _libnetwork(view, meets, aliases), _own(view, meets))
    return (entry for entry in made if entry.key.startswith(prefix))


def _text(value: Value) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# as Docker's engines wrote it


def _nodes(view: View, meets: Meets) -> Iterator[Entry]:
    for member in view.members() if meets("docker/nodes/") else ():
        if member.state in (State.ALIVE, State.SUSPECT):
            host, port = member.address
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            yield Entry(f"docker/nodes/{shown}", shown.encode(), ("node", member.id, b""))


def _libnetwork(view: View, meets: Meets, aliases: Aliases) -> Iterator[Entry]:
    for network in view.networks() if meets(f"{LIBNETWORK}/") else ():
        identity, source = network.id.hex(), ("network", network.id, b"")
        for name in (identity, *aliases.get(network.id, ())):
            yield Entry(f"{LIBNETWORK}/network/{name}/", _text(_libnetwork_network(network, name)), source)
            yield Entry(f"{LIBNETWORK}/overlay/network/{name}/", _text(_overlay(network.body)), source)
        place, counter = f"{LIBNETWORK}/endpoint/{identity}/", f"{LIBNETWORK}/endpoint_count/{identity}/"
        if not (meets(place) or meets(counter)):
            continue
        endpoints = view.endpoints(network.id)
        yield Entry(counter, _text({"Count": len(endpoints)}), (COUNT, network.id, b""))
        for endpoint in endpoints if meets(place) else ():
            value = _text(_libnetwork_endpoint(view, endpoint, network.body))
            yield Entry(f"{place}{endpoint.id.hex()}/", value, ("endpoint", network.id, endpoint.id))


def _libnetwork_network(network: NetworkView, identity: str) -> Value:
    """Pools are JSON texts within the JSON, as libnetwork writes them."""
    body = network.body
    whole: dict[str, Value] = {
        "addrSpace": "vxlanu",
        "attachable": True,
        "enableIPv6": body.ipv6,
        "generic": {"com.docker.network.enable_ipv6": body.ipv6, "com.docker.network.generic": {"driver": "vxlanu"}},
        "id": identity,
        "inDelete": state_word(network) == "removing",
        "ingress": False,
        "internal": body.internal,
        "ipamOptions": {},
        "ipamType": "vxlanu",
        "labels": dict(body.labels),
        "name": network.name,
        "networkType": "overlay",
        "persist": True,
        "postIPv6": False,
        "scope": "global",
    }
    for version, suffix in ((4, "V4"), (6, "V6")):
        pools = _pools(body, version)
        if pools:
            whole[f"ipam{suffix}Config"] = json.dumps([config for config, _ in pools])
            whole[f"ipam{suffix}Info"] = json.dumps([info for _, info in pools])
    return whole


def _pools(body: Network, version: int) -> list[tuple[Value, Value]]:
    """For each subnet of an IP version what was asked for, and what came of it."""
    pools: list[tuple[Value, Value]] = []
    for subnet, gateway in _subnets(body):
        if ipaddress.ip_network(subnet).version != version:
            continue
        part = next((it for it in body.ip_ranges if _within(it, subnet)), "")
        aux: dict[str, Value] = {name: it for name, it in body.aux.items() if _within(it, subnet)}
        config: Value = {"PreferredPool": subnet, "SubPool": part, "Gateway": gateway, "AuxAddresses": aux or None}
        length = subnet.partition("/")[2]
        data = {"AddressSpace": "vxlanu", "Gateway": f"{gateway}/{length}", "Pool": subnet}
        pools.append((config, {"IPAMData": json.dumps(data), "PoolID": f"vxlanu/{subnet}"}))
    return pools


def _subnets(body: Network) -> Iterator[tuple[str, str]]:
    """Each subnet with the gateway that is in it."""
    for subnet in body.subnets:
        yield subnet, next((it for it in body.gateways if _within(it, subnet)), "")


def _within(text: str, subnet: str) -> bool:
    return ipaddress.ip_network(text).network_address in ipaddress.ip_network(subnet)


def _overlay(body: Network) -> Value:
    subnets: list[Value] = [
        {"SubnetIP": subnet, "GwIP": f"{gateway}/{subnet.partition('/')[2]}", "Vni": body.vni}
        for subnet, gateway in _subnets(body)
    ]
    return {"secure": False, "mtu": body.mtu, "subnets": subnets}


def _libnetwork_endpoint(view: View, endpoint: EndpointView, network: Network) -> Value:
    """`addr` is the IPv4 address; scripts ask for it, so a container without one shows its IPv6 address there too."""
    body, node = endpoint.body, view.node(endpoint.owner)
    first = {6 if ":" in it else 4: it for it in reversed(body.addresses)}
    interface: dict[str, Value] = {"addr": first.get(4, first.get(6, "")), "mac": body.mac, "dstPrefix": "eth"}
    if 6 in first:
        interface["addrv6"] = first[6]
    for version, name in ((4, "v4PoolID"), (6, "v6PoolID")):
        home = _home(network, first[version]) if version in first else ""
        interface[name] = f"vxlanu/{home}" if home else ""
    return {
        "anonymous": False,
        "ep_iface": interface,
        "id": endpoint.id.hex(),
        "locator": node.data_host if node else "",
        "myAliases": list(body.aliases),
        "name": body.name,
    }


def _home(network: Network, address: str) -> str:
    """The subnet of an endpoint's address; the only one of its version is not parsed for each of thousands."""
    own = [subnet for subnet in network.subnets if (":" in subnet) is (":" in address)]
    if len(own) == 1:
        return own[0]
    home = str(ipaddress.ip_interface(address).network)
    return home if home in own else ""


# as the records are


def _own(view: View, meets: Meets) -> Iterator[Entry]:
    yield from _members(view) if meets("vxlanu/member/") else ()
    for network in view.networks() if meets("vxlanu/network/") else ():
        place = f"vxlanu/network/{network.name}"
        if not meets(place):
            continue
        yield Entry(place, _text(_network(view, network)), ("network", network.id, b""))
        if any(meets(f"{place}/{branch}/") for branch in ("endpoint", "arp", "fib")):
            yield from _endpoints(view, network, place)
        for block in view.blocks(network.id):
            loans: dict[str, Value] = {it: _name(view, tag[:16]) for it, tag in sorted(block.body.loans.items())}
            said: Value = {"holder": block.owner_name, "state": block.body.state, "loans": loans}
            source = ("block", network.id, network.id + block.body.prefix.encode())
            yield Entry(f"{place}/block/{block.body.prefix}", _text(said), source)
        for vtep in view.vteps(network.id):
            where = f"{vtep.address}:{vtep.port}"
            entry = _text({"address": vtep.address, "port": vtep.port, "macs": list(vtep.macs)})
            yield Entry(f"{place}/vtep/{where}", entry, ("vtep", network.id, network.id + where.encode()))


def _members(view: View) -> Iterator[Entry]:
    """A host that was reset has left under the name it has again: who is there has the name, the other NAME~ID4."""
    names: set[str] = set()
    for member in sorted(view.members(), key=lambda member: member.state in (State.DEAD, State.LEFT)):
        name = member.name if member.name not in names else f"{member.name}~{short(member.id)[:4]}"
        names.add(name)
        yield Entry(f"vxlanu/member/{name}", _text(_member(member)), ("node", member.id, b""))


def _endpoints(view: View, network: NetworkView, place: str) -> Iterator[Entry]:
    """Of two with one name, made on two sides of a partition, the second shows as NAME~ID4."""
    names: set[str] = set()
    for endpoint in view.endpoints(network.id):
        body, source = endpoint.body, ("endpoint", network.id, endpoint.id)
        name = body.name if body.name not in names else f"{body.name}~{short(body.id)[:4]}"
        names.add(name)
        yield Entry(f"{place}/endpoint/{name}", _text(_endpoint(endpoint)), source)
        node = view.node(endpoint.owner)
        for address in body.addresses:
            if (plain := address.partition("/")[0]) not in endpoint.lost:
                yield Entry(f"{place}/arp/{plain}", body.mac.encode(), source)
        if node is not None and body.mac not in endpoint.lost:
            yield Entry(f"{place}/fib/{body.mac}", node.data_host.encode(), source)


def _member(member: MemberView) -> Value:
    node = member.node
    return {
        "id": member.id.hex(),
        "name": member.name,
        "address": member.address[0],
        "control_port": member.address[1],
        "vtep": node.data_host if node else "",
        "data_port": node.data_port if node else 0,
        "state": member.state.value,
        "version": node.version if node else "",
    }


def _network(view: View, network: NetworkView) -> Value:
    body = network.body
    return {
        "id": network.id.hex(),
        "name": network.name,
        "vni": body.vni,
        "mtu": body.mtu,
        "subnets": list(body.subnets),
        "gateways": list(body.gateways),
        "ip_ranges": list(body.ip_ranges),
        "aux": dict(body.aux),
        "internal": body.internal,
        "ipam": body.ipam,
        "vlan": body.vlan,
        "labels": dict(body.labels),
        "created_by": _name(view, body.created_by),
        "state": state_word(network),
    }


def _endpoint(endpoint: EndpointView) -> Value:
    body = endpoint.body
    return {
        "id": body.id.hex(),
        "name": body.name,
        "aliases": list(body.aliases),
        "addresses": list(body.addresses),
        "mac": body.mac,
        "node": endpoint.owner_name,
        "target": body.target,
        "flags": list(body.flags),
    }


def _name(view: View, node: bytes) -> str:
    member = view.member(NodeId(node))
    return member.name if member is not None else short(node)
