"""Networks and foreign VTEPs: create and remove.

Rules of this file
  1. Words are checked here, facts of the cluster (name, VNI, overlap, use) by the control core, which all hosts share.
  2. Whatever is not said is chosen here once and written into the record; no other host chooses again.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets

from vxlanu.agent import lookup
from vxlanu.agent.agent import Agent
from vxlanu.agent.refusals import as_error
from vxlanu.api.schema import NetworkCreate, VtepAdd
from vxlanu.config import split_host_port
from vxlanu.control.core.choose import choose_ipv6_subnet, choose_subnet, choose_vni
from vxlanu.control.core.errors import Refusal
from vxlanu.control.core.pool import parse_address
from vxlanu.control.core.records import Network, NetworkId, Vtep, is_mac, is_name, short
from vxlanu.control.core.view import NetworkView
from vxlanu.errors import BadRequest, Conflict, NotFound, near

log = logging.getLogger("vxlanu.networks")

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network

VNI_MAX = (1 << 24) - 1
MTU_MIN = 576  # every IPv4 host must take as much (RFC 791)
MTU_MIN_IPV6 = 1280  # RFC 8200, section 5
MTU_MAX = 65_485  # the largest inner packet that one outer datagram can hold
WORDS_BYTES_MAX = 16 << 10  # every host keeps them for ever; a record takes 64 KiB
PREFIX_LENGTH_MAX = {4: 30, 6: 126}  # a gateway and at least one endpoint


async def create(agent: Agent, wanted: NetworkCreate) -> NetworkId:
    """Make a network; returns once it is durable here and every alive member has it, or after a second."""
    what = f"network {wanted.name}"
    _check_words(wanted)
    identity = NetworkId(secrets.token_bytes(16))
    subnets = [_subnet(text) for text in wanted.subnets]
    _check_disjoint(subnets)
    if not subnets:
        subnets.append(await _default_subnet(agent, identity))
    if wanted.ipv6 and not any(subnet.version == 6 for subnet in subnets):
        subnets.append(ipaddress.ip_network(choose_ipv6_subnet(identity)))
    gateways = _gateways(wanted, subnets)
    body = Network(
        id=identity,
        name=wanted.name,
        vni=wanted.vni if wanted.vni is not None else choose_vni(identity, agent.view.vnis_in_use()),
        subnets=tuple(str(subnet) for subnet in subnets),
        gateways=gateways,
        ip_ranges=_ranges(wanted, subnets),
        aux=_aux(wanted, subnets, gateways),
        mtu=_mtu(agent, wanted, subnets),
        internal=wanted.internal,
        ipv6=any(subnet.version == 6 for subnet in subnets),
        ipam=wanted.ipam,
        vlan=wanted.vlan,
        labels=wanted.labels,
        created_by=agent.control.core.node,
    )
    try:
        await agent.control.create_network(body)
    except Refusal as refusal:
        raise as_error(refusal, what) from refusal
    log.info("created network %s with VNI %d", body.name, body.vni, extra={"event": "network_created"})
    return identity


def _check_words(wanted: NetworkCreate) -> None:
    """The values that a type cannot express."""
    if not is_name(wanted.name):
        raise BadRequest(f"network {wanted.name}", "a name is letters, digits, . _ - and at most 128 of them")
    if wanted.vni is not None and not 0 < wanted.vni <= VNI_MAX:
        raise BadRequest(f"--vni {wanted.vni}", f"a VNI is 1 to {VNI_MAX}")
    if wanted.ipam not in ("strict", "available"):
        raise BadRequest(f"--ipam {wanted.ipam}", "there are strict and available")
    if wanted.vlan not in ("drop", "pass"):
        raise BadRequest(f"--vlan {wanted.vlan}", "there are drop and pass")
    octets = sum(len(text.encode()) for pair in (*wanted.labels.items(), *wanted.aux.items()) for text in pair)
    if octets > WORDS_BYTES_MAX:
        raise BadRequest(f"network {wanted.name}", f"{octets} bytes of labels and aux names, at most {WORDS_BYTES_MAX}")


def _subnet(text: str) -> Prefix:
    try:
        subnet, given = ipaddress.ip_network(text, strict=False), ipaddress.ip_interface(text).ip
    except ValueError as error:
        raise BadRequest(f"--subnet {text}", "not a prefix in CIDR notation", hint="--subnet 192.168.0.0/24") from error
    if given != subnet.network_address:
        raise BadRequest(f"--subnet {text}", "has host bits set", hint=f"--subnet {subnet}")
    if subnet.prefixlen > PREFIX_LENGTH_MAX[subnet.version] or subnet.prefixlen == 0:
        raise BadRequest(f"--subnet {text}", f"/{subnet.prefixlen} leaves no use of it", hint="a /24, say")
    if subnet.is_multicast or subnet.is_loopback or subnet.is_link_local:
        raise BadRequest(f"--subnet {text}", "not a range for hosts", hint="--subnet 192.168.0.0/24")
    return subnet


def _check_disjoint(subnets: list[Prefix]) -> None:
    for number, one in enumerate(subnets):
        for other in subnets[number + 1 :]:
            if one.overlaps(other):
                raise Conflict(f"--subnet {other}", f"overlaps --subnet {one}", name="subnet_overlaps")


async def _default_subnet(agent: Agent, identity: NetworkId) -> Prefix:
    """A /24 of 10.0.0.0/8 that overlaps no network and no route of this host."""
    taken = agent.view.subnets_in_use()
    taken += [route.destination for route in await agent.helper.routes() if not route.destination.endswith("/0")]
    try:
        return ipaddress.ip_network(choose_subnet(identity, taken))
    except Refusal as refusal:
        raise as_error(refusal, "default subnet") from refusal


def _home(text: str, subnets: list[Prefix], option: str) -> Prefix:
    """The subnet that an address is in."""
    try:
        address = parse_address(text)
    except ValueError as error:
        raise BadRequest(f"{option} {text}", "not an address") from error
    for subnet in subnets:
        if address in subnet:
            return subnet
    shown = ", ".join(str(subnet) for subnet in subnets)
    raise BadRequest(f"{option} {text}", f"outside {shown}", name="address_outside")


def _gateways(wanted: NetworkCreate, subnets: list[Prefix]) -> tuple[str, ...]:
    """One gateway a subnet: what was given, else the first host address."""
    chosen: dict[Prefix, str] = {}
    for text in wanted.gateways:
        subnet = _home(text, subnets, "--gateway")
        address = ipaddress.ip_address(text)
        if subnet in chosen:
            raise Conflict(f"--gateway {text}", f"{subnet} has the gateway {chosen[subnet]}", name="gateway_clash")
        if address == subnet.network_address or (address == subnet.broadcast_address and subnet.version == 4):
            raise Conflict(f"--gateway {text}", f"not a host address of {subnet}", name="gateway_clash")
        chosen[subnet] = str(address)
    return tuple(chosen.get(subnet, str(subnet.network_address + 1)) for subnet in subnets)


def _ranges(wanted: NetworkCreate, subnets: list[Prefix]) -> tuple[str, ...]:
    """Each narrows the subnet that it lies in; the API has them in one text, with commas between."""
    ranges: list[Prefix] = []
    for text in filter(None, wanted.ip_range.split(",")):
        try:
            pool = ipaddress.ip_network(text)
        except ValueError as error:
            raise BadRequest(f"--ip-range {text}", str(error), hint="--ip-range 192.168.0.128/25") from error
        home = _home(str(pool.network_address), subnets, "--ip-range")
        if pool.prefixlen < home.prefixlen:
            raise BadRequest(f"--ip-range {pool}", f"larger than its subnet {home}", name="address_outside")
        if any(pool.overlaps(other) for other in ranges):
            raise BadRequest(f"--ip-range {pool}", "overlaps another --ip-range")
        ranges.append(pool)
    return tuple(map(str, ranges))


def _aux(wanted: NetworkCreate, subnets: list[Prefix], gateways: tuple[str, ...]) -> dict[str, str]:
    for name, text in wanted.aux.items():
        _home(text, subnets, f"--aux {name}=")
        if str(ipaddress.ip_address(text)) in gateways:
            raise Conflict(f"--aux {name}={text}", "that is the gateway", hint="--gateway IP", name="gateway_clash")
    return {name: str(ipaddress.ip_address(text)) for name, text in wanted.aux.items()}


def _mtu(agent: Agent, wanted: NetworkCreate, subnets: list[Prefix]) -> int:
    """1450, or 1430 where this host's underlay is IPv6, whatever larger frames the underlay could carry."""
    least = MTU_MIN_IPV6 if any(subnet.version == 6 for subnet in subnets) else MTU_MIN
    if wanted.mtu is None:
        return 1500 - agent.underlay.overhead
    if not least <= wanted.mtu <= MTU_MAX:
        raise BadRequest(f"--mtu {wanted.mtu}", f"an MTU is {least} to {MTU_MAX} here")
    return wanted.mtu


async def remove(agent: Agent, reference: str) -> NetworkView:
    """Remove a network for ever."""
    network = lookup.network(agent.view, reference)
    if waiting := agent.intents.waiting(network.id):
        shown = ", ".join(it.wanted.target for it in waiting[:5])
        why = f"attached again when they run: {shown}"
        hint = f"vxlanu detach {network.name} {waiting[0].wanted.target}"
        raise Conflict(f"network {network.name}", why, hint=hint, name="network_in_use")
    try:
        await agent.control.remove_network(network.id)
    except Refusal as refusal:
        error = as_error(refusal, f"network {network.name}")
        users = agent.view.endpoints(network.id)
        if users and refusal.name == "network_in_use":
            shown = ", ".join(f"{it.body.name} on {it.owner_name}" for it in users[:5])
            error.why = f"in use by {len(users)} endpoint{'s' if len(users) > 1 else ''}: {shown}"
        raise error from refusal
    log.info("removed network %s (%s)", network.name, short(network.id), extra={"event": "network_removed"})
    return network


async def prune(agent: Agent, unused: list[str]) -> list[NetworkView]:
    """Remove those of these ids; one that gets its first endpoint meanwhile stays."""
    gone = []
    for identity in unused:
        try:
            gone.append(await remove(agent, identity))
        except (Conflict, NotFound):
            log.info("network %s stays: in use or gone by now", identity[:12], extra={"event": "network_stays"})
    return gone


async def add_vtep(agent: Agent, wanted: VtepAdd) -> Vtep:
    """Let a VTEP that does not gossip into a network."""
    network = lookup.network(agent.view, wanted.network)
    what = f"vtep {wanted.address}"
    try:
        address = str(ipaddress.ip_address(wanted.address))
    except ValueError as error:
        raise BadRequest(what, "not an address", hint="IP or IP:PORT") from error
    if not 0 < wanted.port < 65536:
        raise BadRequest(f"{what}:{wanted.port}", "not a port", hint="4789, or 8472 for an old Linux default")
    for mac in wanted.macs:
        if not is_mac(mac.lower()) or int(mac[:2], 16) & 1:
            raise BadRequest(f"--mac {mac}", "not the MAC of one station", hint="02:42:…, six bytes")
    for member in agent.view.members():
        if member.node is not None and member.node.data_host == address:
            raise Conflict(what, f"that is {member.name}, a member: its VTEP is known by gossip", name="vtep_is_member")
    if any(it.address == address and it.port == wanted.port for it in agent.view.vteps(network.id)):
        raise Conflict(what, f"{network.name} has it already", hint="vxlanu vtep ls", name="vtep_exists")
    body = Vtep(
        network=network.id, address=address, port=wanted.port, macs=tuple(mac.lower() for mac in wanted.macs)
    )
    try:
        await agent.control.put_vtep(body)
    except Refusal as refusal:
        raise as_error(refusal, what) from refusal
    return body


async def remove_vtep(agent: Agent, reference: str, text: str) -> Vtep:
    """Take a static VTEP out of a network."""
    network = lookup.network(agent.view, reference)
    host, port = split_host_port(text)
    there = agent.view.vteps(network.id)
    for body in there:
        if body.address == _plain(host) and (not port or body.port == int(port)):
            try:
                await agent.control.remove_vtep(network.id, body.address, body.port)
            except Refusal as refusal:
                raise as_error(refusal, f"vtep {text}") from refusal
            return body
    hint = near(host or text, [body.address for body in there]) or "vxlanu vtep ls"
    raise NotFound(f"vtep {text}", f"{network.name} has no static VTEP of that address", hint=hint, name="no_vtep")


def _plain(host: str) -> str:
    """An address as records have it, however it was typed."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def commands_for(agent: Agent, network: NetworkView, vtep: Vtep) -> list[str]:
    """What the foreign side types (iproute2) to join the network by way of this host."""
    vni, port = network.body.vni, agent.config.data_port
    peers = [
        node.data_host
        for host in agent.view.hosts(network.id)
        if (node := agent.view.node(host)) is not None and node.data_host
    ] or [agent.underlay.address]
    subnets = [subnet for version in (4, 6) if (subnet := lookup.subnet_of(network.body, version))]
    lines = [f"ip link add vx{vni} type vxlan id {vni} local {vtep.address} dstport {port}"]
    lines += [f"bridge fdb append 00:00:00:00:00:00 dev vx{vni} dst {peer}" for peer in peers]
    lines += [f"ip link set vx{vni} mtu {network.body.mtu} up"]
    lines += [f"ip addr add <free address of {subnet}>/{subnet.split('/')[1]} dev vx{vni}" for subnet in subnets]
    return lines
