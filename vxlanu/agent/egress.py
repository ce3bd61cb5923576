"""How containers' way out hangs on the agent: what it asks of journal and records.

Rules of this file
  1. Wiring only; what happens is in vxlanu.gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vxlanu.control.core.records import EndpointId
from vxlanu.gateway.egress import Egress, Surroundings
from vxlanu.gateway.ledger import Ledger
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

    around = Surroundings(target_of, name_of, subnets, agent.spawn)
    subnet, node = agent.config.gateway_subnet, bytes(agent.control.core.node)
    return Egress(agent.helper, Ledger(store), around, subnet=subnet, node=node)
