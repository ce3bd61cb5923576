"""Where a TAP is that Docker moves: followed into the container after Join.

Rules of this file
  1. Our own descriptor is asked, which costs one system call and enters nothing; the container's namespace is entered
     once, when the device is there.
  2. Whoever does not come is no error here: Docker tells its end by Leave and DeleteEndpoint.
"""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec.structs

from vxlanu.agent.agent import Agent
from vxlanu.endpoints import waiting_name
from vxlanu.errors import NotFound
from vxlanu.netns import own, sandbox
from vxlanu.runtimes.docker.ledger import DockerEndpoint

log = logging.getLogger("vxlanu.docker")

PATIENCE_S = 30.0  # Docker moves the device at once, unless an image or a slow disk comes first
PAUSES_S = (0.02, 0.05, 0.1, 0.2)  # the last one again and again


async def follow(agent: Agent, row: DockerEndpoint) -> None:
    """Wait until the TAP is in its container; from then on it is watched, looked into and found again there."""
    key, home, end = row.endpoint.hex(), own().inode, time.monotonic() + PATIENCE_S
    tries = 0
    while time.monotonic() < end:
        await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
        tries += 1
        try:
            name, inode = agent.endpoints.place(key)
        except NotFound:
            return  # deleted meanwhile
        if inode != home and name != waiting_name(key):
            await _arrived(agent, row, inode)
            return


async def _arrived(agent: Agent, row: DockerEndpoint, inode: int) -> None:
    key = row.endpoint.hex()
    place = sandbox(f"docker:{row.name}", row.sandbox)
    local = agent.opened.get(key)
    if local is None:
        return
    if place.inode != inode:
        log.warning(
            "the namespace of endpoint %s is not to be seen at %s: a crash of the agent would end its interface; "
            "run the agent in dockerd's mount namespace",
            row.name,
            row.sandbox,
            extra={"event": "docker_sandbox"},
        )
        return
    try:
        moved = await agent.endpoints.moved(local, place)
    except NotFound:
        return  # moved back meanwhile, or deleted
    journalled = agent.journal.rows.get(key)
    if journalled is None or key not in agent.opened:
        return
    agent.opened[key] = moved
    if journalled.inode != inode:
        changed = msgspec.structs.replace(journalled, device=place.device, inode=place.inode)
        await agent.journal.write(changed)
