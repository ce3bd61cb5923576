"""Frames that the kernel lost before the fast path could see them.

A container's frame waits in the ring of its TAP until a worker reads it; what does not fit is dropped by the kernel,
which counts it in the link's statistics (drivers/net/tun.c, tun_net_xmit). The fast path cannot count this loss itself.
"""

from __future__ import annotations

import asyncio

from vxlanu.agent.agent import Agent
from vxlanu.errors import VxlanuError
from vxlanu.nsopen.client import AT_ONCE

HALF = AT_ONCE // 2  # of the helper's children, for one question

REASON = "ring_full"


async def ring_losses(agent: Agent) -> dict[str, int]:
    """Frames lost on the way into the agent since the TAP was made, by port, those of gateways too; what ends meanwhile
    is left out."""
    turn = asyncio.Semaphore(HALF)
    gateways = {service.key: service.network for service in agent.services.standing()}

    async def ask(key: str) -> int:
        async with turn:
            if key in gateways:
                link = await agent.services.link(gateways[key])
                return link.tx_dropped if link else 0
            local = agent.opened[key]
            with local.target.open() as namespace:
                links = await agent.helper.links(namespace)
        return next((link.tx_dropped for link in links if link.index == local.ifindex), 0)

    keys = [*sorted(agent.opened), *gateways]
    answers = await asyncio.gather(*(ask(key) for key in keys), return_exceptions=True)
    found: dict[str, int] = {}
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, int):
            found[key] = answer
        elif not isinstance(answer, VxlanuError | KeyError):
            raise answer
    return found
