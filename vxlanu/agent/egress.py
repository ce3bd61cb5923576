"""How containers' way out hangs on the agent: what it asks of journal and records.

Rules of this file
  1. Wiring and answers only; what happens is in vxlanu.gateway.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vxlanu.api import schema
from vxlanu.control.core.records import EndpointId
from vxlanu.control.core.view import ID_DIGITS_MIN
from vxlanu.doctor import egress as doctor
from vxlanu.doctor import read
from vxlanu.gateway import pool
from vxlanu.gateway.egress import MTU, Egress, Surroundings
from vxlanu.gateway.ground import Ground, Neighbourhood
from vxlanu.gateway.ledger import EgressRow, Ledger
from vxlanu.gateway.rules import BRIDGE
from vxlanu.netns import Target
from vxlanu.store import Store

if TYPE_CHECKING:
    from vxlanu.agent.agent import Agent


def egress_of(agent: Agent, store: Store) -> Egress:
    """The ways out of this agent's targets."""

    def target_of(endpoint: str) -> Target | None:
        row = agent.journal.rows.get(endpoint)
        return row.target() if row else None

    def name_of(endpoint: str) -> str:
        view = agent.view.endpoint(EndpointId(bytes.fromhex(endpoint)))
        return view.body.name if view else endpoint[:12]

    def subnets() -> Iterator[str]:
        for network in agent.view.networks():
            yield from network.body.subnets

    async def stopper() -> str:
        host = await asyncio.to_thread(read.firewall)
        found = [doctor.stopper(host.chains, row, agent.underlay.ifname) for row in bridge(agent)]
        return next((chain.place for chain in found if chain), "")

    ledger, subnet, node = Ledger(store), agent.config.gateway_subnet, bytes(agent.control.core.node)
    beside = Neighbourhood(subnets, agent.underlay.ifname, stopper)
    ground = Ground(agent.helper, ledger, beside, subnet=subnet, node=node)
    return Egress(agent.helper, ledger, ground, Surroundings(target_of, name_of, agent.spawn))


def way_out(agent: Agent, endpoint: str) -> schema.WayOut | None:
    """The second interface of a local endpoint's container, if it has one."""
    row = agent.egress.ledger.of(endpoint)
    if row is None:
        return None
    gateway = pool.gateway(agent.egress.ledger.subnet).partition("/")[0]
    published = [one.text() for one in row.users[endpoint]]
    return schema.WayOut(row.ifname, row.address, pool.mac_of(row.address), gateway, published)


def bridge(agent: Agent) -> list[schema.Network]:
    """The bridge as a row of `network ls`, while it stands."""
    ledger = agent.egress.ledger
    if not ledger.rows:
        return []
    identity = hashlib.sha256(bytes(agent.control.core.node) + BRIDGE.encode()).hexdigest()[:32]
    return [schema.Network(identity, BRIDGE, 0, [ledger.subnet], MTU, len(ledger.rows), scope="local")]


def bridge_detail(agent: Agent, reference: str) -> schema.NetworkDetail | None:
    """The bridge as `network inspect` has it, if that is what is meant."""
    for row in bridge(agent):
        begins = len(reference) >= ID_DIGITS_MIN and row.id.startswith(reference.lower())
        if reference == BRIDGE or (begins and not agent.view.find_networks(reference)):
            rows = agent.egress.ledger.rows.values()
            return schema.NetworkDetail(
                **{name: getattr(row, name) for name in row.__struct_fields__},
                gateways=[pool.gateway(row.subnets[0]).partition("/")[0]],
                internal=False,
                created_by=agent.config.name,
                hosts=[agent.config.name],
                members=sorted((_member(agent, row.id, it) for it in rows), key=lambda it: it.name),
                options={"icc": "false", "masquerade": "true", "ip_forward": "true"},
                ports=sorted(_ports(agent)),
            )
    return None


def _member(agent: Agent, network: str, row: EgressRow) -> schema.Endpoint:
    target = next((it.text for user in row.users if (it := agent.journal.rows.get(user))), "")
    return schema.Endpoint(
        id=row.tag, name=f"gateway_{row.tag}", network=BRIDGE, network_id=network, addresses=[row.address],
        mac=pool.mac_of(row.address), node=agent.config.name, vtep="", target=target, local=True,
    )  # fmt: skip


def _ports(agent: Agent) -> Iterator[str]:
    for row in agent.egress.ledger.rows.values():
        address = row.address.partition("/")[0]
        for user, published in row.users.items():
            for one in published:
                host = f"{one.address or '0.0.0.0'}:{one.host_port}"
                yield f"{host} -> {address}:{one.port}/{one.protocol} ({agent.egress.name_of(user)})"
