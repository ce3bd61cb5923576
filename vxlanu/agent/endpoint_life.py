"""The life of an endpoint on this host: journalled, connected, taken down, taken over after a restart.

Rules of this file
  1. Steps in the order journal, address, TAP, port, record; a step that fails undoes the ones before it, in reverse.
     Whoever makes an endpoint (attach, a runtime's driver) brings the address and the TAP, the rest is here.
  2. Taking down is idempotent and starts with the record: the others stop sending before the TAP goes.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import AsyncExitStack

from vxlanu.agent.agent import Agent, Leaving
from vxlanu.agent.journal import LocalRow
from vxlanu.control.core.records import Endpoint, EndpointId, NetworkId
from vxlanu.dataplane import PortConfig
from vxlanu.endpoints import LocalEndpoint, QueuesStale
from vxlanu.errors import NotFound, VxlanuError
from vxlanu.netns import Target, sandbox
from vxlanu.nsopen import NamespaceMissing

log = logging.getLogger("vxlanu.endpoints")


def port_config(body: Endpoint, mtu: int) -> PortConfig:
    """What the endpoint's port may send: its own addresses, and those that may move to it."""
    return PortConfig(
        mac=body.mac,
        mtu=mtu,
        allowed=tuple(address.split("/")[0] for address in body.addresses),
        floating=body.allow_addresses,
        allow_spoof="allow-spoof" in body.flags,
    )


async def begin(agent: Agent, row: LocalRow, undo: AsyncExitStack) -> None:
    """The first step of a new endpoint: whatever follows is found by the next start. `row` may be in memory already."""
    undo.callback(agent.release_network, row.network)
    undo.push_async_callback(agent.journal.erase, row.endpoint.hex())
    await agent.journal.write(row)
    agent.services.start(row.network)


async def connect(agent: Agent, body: Endpoint, opened: LocalEndpoint, undo: AsyncExitStack) -> None:
    """The last steps: a TAP that was opened becomes a port of its network, and the record tells everybody."""
    key = opened.endpoint_id
    undo.push_async_callback(agent.endpoints.close, key)
    agent.reconciler.hold(body.network)
    port = port_config(body, opened.mtu)
    agent.dataplane.add_port(key, body.network, port, opened.fds, write_queue=opened.write_queue)
    undo.callback(agent.dataplane.remove_port, key)
    agent.kept.keep_queues(key, opened.queues)
    undo.callback(agent.kept.drop_queues, key)
    agent.opened[key] = opened
    undo.callback(agent.opened.pop, key, None)
    undo.push_async_callback(agent.control.delete_endpoint, EndpointId(body.id), keep_addresses=True)
    await agent.control.put_endpoint(body)
    if key not in agent.journal.rows:  # taken down meanwhile, when the record was not there yet
        await agent.control.delete_endpoint(EndpointId(body.id))
        raise NamespaceMissing(f"attach {body.target}", "its namespace ended meanwhile")
    agent.reconciler.port_added(body.id)
    await agent.services.ready(body.network)


async def take_down(agent: Agent, key: str) -> None:
    """Remove a local endpoint: record, port, device, journal, and the network if it was the last.

    Whoever comes while another does it waits for that, and does it again where that failed.
    """
    while (before := agent.leaving.get(key)) and not before.over.is_set():
        await before.over.wait()
    row = agent.journal.rows.get(key)
    if row is None:
        agent.leaving.pop(key, None)
        return
    view = agent.view.endpoint(EndpointId(row.endpoint))
    leaving = agent.leaving[key] = Leaving(view or before.view, before.said) if before else Leaving(view)
    try:
        await _remove(agent, key, row)
        del agent.leaving[key]
    finally:
        leaving.over.set()
    agent.intents.look(key)
    await agent.names.settle()


async def _remove(agent: Agent, key: str, row: LocalRow) -> None:
    """The steps, each of them idempotent."""
    returns = key in agent.intents  # its addresses stay taken until its container runs again
    await agent.control.delete_endpoint(EndpointId(row.endpoint), keep_addresses=returns)
    if not returns:
        await agent.control.release(NetworkId(row.network), EndpointId(row.endpoint))  # also without a record
    agent.dataplane.remove_port(key)
    agent.opened.pop(key, None)
    agent.kept.drop_queues(key)
    await agent.endpoints.close(key)
    await agent.egress.leave(key)
    await agent.journal.erase(key)
    if returns and key not in agent.intents:  # detached meanwhile: nobody else releases them now
        await agent.control.release(NetworkId(row.network), EndpointId(row.endpoint))
    agent.release_network(row.network)


async def end(agent: Agent, key: str) -> None:
    """Take down what ended by itself. A failure is said once; the housekeeping tries again."""
    try:
        await take_down(agent, key)
    except (VxlanuError, OSError, sqlite3.Error) as error:
        leaving = agent.leaving.get(key)
        if leaving is not None and leaving.said != str(error):
            leaving.said = str(error)
            log.warning("endpoint %s: cannot be taken down: %s", key[:12], error, extra={"event": "take_down_failed"})


async def adopt(agent: Agent, key: str) -> bool:
    """Take over the TAP that an earlier run left; False when the endpoint ended meanwhile, or never came to be.

    An attach that a crash cut short has a row and perhaps a TAP, but no record: its TAP is opened only to be deleted.
    """
    row = agent.journal.rows[key]
    try:
        # What a runtime had promised and not yet made when the agent ended is looked for now.
        target = sandbox(row.text, row.path) if row.kind == "plugin" and not row.inode else row.target()
        opened = await _opened_again(agent, key, target)
    except NotFound as gone:
        log.info("endpoint %s ended while the agent was away: %s", key[:12], gone.why, extra={"event": "vanished"})
        agent.kept.drop_queues(key)
        return False
    view = agent.view.endpoint(EndpointId(row.endpoint))
    if view is None or agent.view.network(NetworkId(row.network)) is None:
        opened.close_fds()
        agent.kept.drop_queues(key)
        await agent.endpoints.close(key)
        return False
    agent.reconciler.hold(row.network)
    port = port_config(view.body, opened.mtu)
    agent.dataplane.add_port(key, row.network, port, opened.fds, write_queue=opened.write_queue)
    agent.kept.keep_queues(key, opened.queues)
    agent.opened[key] = opened
    agent.reconciler.port_added(row.endpoint)
    agent.services.start(row.network)
    return True


async def _opened_again(agent: Agent, key: str, target: Target) -> LocalEndpoint:
    """By the descriptors that the service manager kept, with whatever waits in them; else by the device's name."""
    kept = agent.kept.take_queues(key)
    if kept is not None:
        try:
            return await agent.endpoints.take(key, target, kept)
        except QueuesStale as why:
            await agent.kept.refuse_queues(key, str(why))
    return await agent.endpoints.adopt(key, target)


async def adopt_all(agent: Agent) -> None:
    """Take over everything the journal names; what ended is taken down once the control plane runs."""
    keys = list(agent.journal.rows)
    found = await asyncio.gather(*(adopt(agent, key) for key in keys), return_exceptions=True)
    for key, result in zip(keys, found, strict=True):
        if isinstance(result, VxlanuError | OSError):
            log.error("cannot take over endpoint %s: %s", key[:12], result, extra={"event": "adopt_failed"})
        elif isinstance(result, BaseException):
            raise result
        elif not result:
            agent.ended.add(key)
    await agent.names.settle()  # also without endpoints: files of an earlier run
