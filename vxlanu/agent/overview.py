"""What `vxlanu` alone shows: the agent, its networks, its tunnels.

Rules of this file
  1. From memory alone, in one pass: no namespace is asked. Frames that the kernel lost in a TAP's ring, for which every
     namespace has to be asked, are in `vxlanu drops` only.
"""

from __future__ import annotations

import time

from vxlanu.agent import answers
from vxlanu.agent.agent import Agent
from vxlanu.api import schema
from vxlanu.control.core.view import NetworkView
from vxlanu.dataplane import VtepRef


def overview(agent: Agent) -> schema.Overview:
    """The status, and beneath it what there is to see."""
    status = answers.status(agent)
    return schema.Overview(
        **{name: getattr(status, name) for name in status.__struct_fields__},
        overlays=[_overlay(agent, view) for view in agent.view.networks()],
        tunnels=_tunnels(agent),
    )


def _overlay(agent: Agent, view: NetworkView) -> schema.Overlay:
    here = [it for it in agent.view.endpoints(view.id) if it.id.hex() in agent.journal.rows]
    programmed = view.id in agent.dataplane.networks()
    totals = agent.dataplane.network_totals(view.id)
    return schema.Overlay(
        network=answers.network(agent, view),
        hosts=len(agent.view.hosts(view.id)),
        local=[it.body.name for it in here],
        counters=answers.counters("network", view.name, totals, view.name, view.id.hex()) if programmed else None,
        drops=answers.drops_of(totals, "network", view.name, view.name) if programmed else [],
    )


def _tunnels(agent: Agent) -> list[schema.Tunnel]:
    """The VTEPs that this host has something to do with, the last heard first."""
    now, used = time.monotonic(), agent.dataplane.vteps()
    rows = []
    for row in answers.vteps(agent):
        ref = VtepRef(row.address, row.port)
        if ref in used:
            counted = answers.counters("vtep", row.address, used[ref][0])
            rows.append(schema.Tunnel(vtep=row, counters=counted, last_traffic_s=agent.traffic.age(ref, now)))
    return sorted(rows, key=lambda it: (it.last_traffic_s is None, it.last_traffic_s or 0.0, it.vtep.address))
