"""`link show`: each network as the device that a reader of `ip -d link show vxlan0` looks for, and its TAPs.

Rules of this file
  1. It looks and changes nothing. What the kernel says of a TAP is asked in its namespace; one that ends meanwhile is
     shown as gone.
  2. What ip(8) calls an attribute of the device is here what the fast path does, fixed or not: nothing is invented that
     could be set and cannot.
"""

from __future__ import annotations

import asyncio
import contextlib

from vxlanu.agent import lookup
from vxlanu.agent.agent import Agent
from vxlanu.api.schema import Link, LinkPort
from vxlanu.control.core.records import NetworkId
from vxlanu.control.core.view import EndpointView, NetworkView
from vxlanu.errors import NotFound, VxlanuError, near
from vxlanu.gateway.service import GATEWAY_NAME, Service
from vxlanu.nsopen import Link as KernelLink
from vxlanu.nsopen.client import AT_ONCE

__all__ = ["links"]

HALF = AT_ONCE // 2  # of the helper's children, for one question
AGEING_S = 300  # native/limits.h: VX_LEARNED_MS
SOURCE_PORTS = (49152, 65535)  # native/limits.h: VX_TX_PORT_MIN, VX_TX_PORT_MAX
GSO_BYTES_MAX = 65535  # an IP packet of the largest size, as a TAP hands it over


async def links(agent: Agent, reference: str) -> list[Link]:
    """All networks with their local ports, or one of them, or that of one endpoint with its port alone."""
    networks, only = _meant(agent, reference)
    turn = asyncio.Semaphore(HALF)

    async def port(view: EndpointView) -> LinkPort:
        async with turn:
            return await _port(agent, view)

    async def whole(network: NetworkView) -> Link:
        here = [it for it in agent.view.endpoints(network.id) if it.id.hex() in agent.opened]
        chosen = [it for it in here if only is None or it.id == only.id]
        ports = list(await asyncio.gather(*map(port, chosen)))
        service = agent.services.get(network.id) if only is None else None
        return _link(agent, network, ports + ([await _gateway(agent, service)] if service else []))

    return [await whole(network) for network in networks]


def _meant(agent: Agent, reference: str) -> tuple[list[NetworkView], EndpointView | None]:
    """What is called so, as networks and the one endpoint of them that matters."""
    view = agent.view
    if not reference:
        return view.networks(), None
    try:
        found = lookup.network_or_endpoint(view, reference)
    except NotFound as neither:
        names = [*(it.name for it in view.networks()), *(it.body.name for it in view.endpoints())]
        hint = near(reference, names) or "vxlanu link show"
        why = "no network and no endpoint has that name, id or address"
        raise NotFound(f"link {reference}", why, hint=hint, name="no_link") from neither
    if isinstance(found, NetworkView):
        return [found], None
    place = view.network(NetworkId(found.body.network))
    return ([place] if place else []), found


def _link(agent: Agent, network: NetworkView, ports: list[LinkPort]) -> Link:
    plane, here = agent.dataplane, network.id in agent.dataplane.networks()
    members = plane.members(network.id)
    rungs = [rung.name for rung in agent.ladder.rungs(plane) + agent.injection.rungs() if rung.in_use]
    return Link(
        network=network.name,
        network_id=network.id.hex(),
        state="conflict" if network.conflict_with else "up" if here else "down",
        vni=network.body.vni,
        local=agent.underlay.address,
        dev=agent.underlay.ifname,
        data_port=agent.config.data_port,
        source_port_min=SOURCE_PORTS[0],
        source_port_max=SOURCE_PORTS[1],
        mtu=network.body.mtu,
        vlan=network.body.vlan,
        learning=any(member.foreign for member in members),
        ageing_s=AGEING_S,
        vteps=len(members),
        workers=plane.workers,
        gso_max_bytes=GSO_BYTES_MAX if "tso" in rungs else network.body.mtu,
        offloads=rungs,
        ports=sorted(ports, key=lambda it: it.endpoint),
    )


async def _port(agent: Agent, view: EndpointView) -> LinkPort:
    key = view.id.hex()
    local = agent.opened.get(key)
    found = None
    if local is not None:
        try:
            with local.target.open() as namespace:
                found = next(
                    (it for it in await agent.helper.links(namespace) if it.index == local.ifindex), None
                )
        except VxlanuError:
            pass  # its end is on the way
    return _shown(agent, found, key, view.body.name, view.body.target, view.body.mac)


async def _gateway(agent: Agent, service: Service) -> LinkPort:
    """The port of a gateway; its namespace has no name."""
    found = None
    with contextlib.suppress(VxlanuError):  # it may end meanwhile
        found = await agent.services.link(service.network)
    return _shown(agent, found, service.key, GATEWAY_NAME, "the agent's own", service.mac)


def _shown(agent: Agent, found: KernelLink | None, key: str, name: str, target: str, mac: str) -> LinkPort:
    return LinkPort(
        endpoint=name,
        target=target,
        port_index=agent.dataplane.port_index(key),
        state=state_of(found),
        ifname=found.name if found else "",
        ifindex=found.index if found else 0,
        mac=found.mac if found else mac,
        mtu=found.mtu if found else 0,
        queue_length=found.queue_length if found else 0,
        queues=found.queues if found else 0,
        gso_max_bytes=found.gso_max_bytes if found else 0,
        ring_full_frames=found.tx_dropped if found else 0,
    )


def state_of(link: KernelLink | None) -> str:
    """As `endpoint inspect` says it."""
    if link is None:
        return "gone"
    return "down" if not link.up else "up" if link.carrier else "no carrier"
