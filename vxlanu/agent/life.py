"""What is opened, in which order, and who hears of a failure.

Order of the start, and why
  store, identity   before anything is announced
  API socket        bound, not yet served: a second agent on it is refused before it touches anything
  data plane, http  bound, not yet running
  endpoints         adopted from the journal by cached records: forwarding needs no peer
  gateways          of their networks, made beside what follows, and there before the API is
  control plane     epoch persisted, then join; a live holder of our name ends the start here
  egress            bridge, rules and veths as the journal has them, whatever a crash or a firewall left
  Docker's plugin   bound with the API socket; served when what an earlier run left is settled
  API, ready        last: whoever is answered finds everything there

Rules of this file
  1. What is opened is closed in reverse, also when the start fails in the middle; nothing of a failed start is left.
  2. SIGTERM and SIGINT stop without leaving: TAPs, addresses and records stay, the containers keep their connections.
  3. A stop ends, whatever hangs: who asks for it sets the deadline first, in the signal handler itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from vxlanu import __version__
from vxlanu.agent.advertise import choose
from vxlanu.agent.agent import Agent
from vxlanu.agent.attach import attach
from vxlanu.agent.deadline import Deadline
from vxlanu.agent.endpoint_life import adopt_all, end
from vxlanu.agent.journal import ControlJournal, EndpointJournal
from vxlanu.agent.kept import Kept
from vxlanu.agent.ladder import Ladder, tell
from vxlanu.agent.reload import on_hangup
from vxlanu.agent.service import AgentService
from vxlanu.agent.supervisor import Supervisor
from vxlanu.api.http import HttpServer
from vxlanu.api.server import ApiServer
from vxlanu.config import AgentConfig, wants_injection
from vxlanu.control.core.config import PROFILES, Config
from vxlanu.control.core.effects import Effect, IdentityTaken, NameTaken
from vxlanu.control.core.errors import LocalError, Refusal
from vxlanu.control.core.records import router_mac
from vxlanu.control.identity import load_or_create, node_id
from vxlanu.control.net import ControlPlane
from vxlanu.control.seal import Seal, load_key
from vxlanu.dataplane import Dataplane, PortHeld, SocketsStale
from vxlanu.doctor.network import in_the_way
from vxlanu.doctor.ports import holders
from vxlanu.errors import Refused
from vxlanu.nsopen import NamespaceHelper
from vxlanu.runtimes.docker.ledger import Ledger
from vxlanu.runtimes.docker.plugin import DockerPlugin
from vxlanu.store import Store

log = logging.getLogger("vxlanu.life")

FIRST_JOIN_S = 3.0  # to hear of a holder of our name; seeds that do not answer are retried for ever afterwards
IDENTITY_FILE = "node.key"


async def live(
    config: AgentConfig,
    helper: NamespaceHelper,
    supervisor: Supervisor,
    reread: Callable[[], AgentConfig],
    deadline: Deadline,
) -> None:
    """Open everything, run until told to stop, close everything."""
    deadline.of(asyncio.get_running_loop())
    try:
        async with AsyncExitStack() as open_things:
            try:
                await _run_until_told(config, helper, supervisor, reread, deadline, open_things)
            except BaseException as failure:
                deadline.begin(failure)  # before anything is closed
                raise
    except BaseException as failure:
        deadline.closed(failure)
        raise
    deadline.closed()


async def _run_until_told(
    config: AgentConfig,
    helper: NamespaceHelper,
    supervisor: Supervisor,
    reread: Callable[[], AgentConfig],
    deadline: Deadline,
    open_things: AsyncExitStack,
) -> None:
    server = ApiServer(Path(config.socket))
    agent = await _open(config, helper, server, supervisor, open_things)
    http = _open_http(config, open_things)
    agent.take_down = end
    _on_signals(agent, deadline)
    await adopt_all(agent)
    await agent.kept.close_rest()
    open_things.callback(agent.endpoints.leave)
    agent.dataplane.start()
    agent.wire()
    open_things.push_async_callback(agent.unwire)
    await _join(agent, open_things)
    open_things.callback(agent.egress.close)
    await agent.egress.resume()
    if agent.docker is not None:
        await agent.docker.start()
        open_things.push_async_callback(agent.docker.close)  # while everything that it asks still runs
    for key in agent.ended:
        agent.spawn(end(agent, key))
    agent.intents.begin(attach)
    on_hangup(agent, reread)  # before anybody hears of it: a manager may ask for a reload in that very moment
    await _serve(agent, server, http, open_things)
    _announce(agent)
    await agent.stopping.wait()
    deadline.begin()
    supervisor.stopping()
    if agent.failure is not None:
        raise _taken(agent.failure, config.name)
    log.info("stopping", extra={"event": "stopping"})


def _on_signals(agent: Agent, deadline: Deadline) -> None:
    """Stop at SIGTERM and SIGINT. Not by the loop's own handlers: they need a loop that goes round.

    Nor with SA_RESTART (signal.siginterrupt): a call in which the main thread stands, as the write of a log that nobody
    reads, would go on standing, and the deadline never begin. Threads that have no Python in them take no signals.
    """
    loop = asyncio.get_running_loop()

    def told(_number: int, _frame: object) -> None:
        deadline.begin()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(agent.stopping.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)


async def _open(
    config: AgentConfig,
    helper: NamespaceHelper,
    server: ApiServer,
    supervisor: Supervisor,
    open_things: AsyncExitStack,
) -> Agent:
    """Everything that can refuse, in the order of the head."""
    store = Store(Path(config.state_dir))
    open_things.callback(store.close)
    server.open()
    open_things.push_async_callback(server.close)
    underlay = await choose(config.advertise, config.join, helper)
    ladder = await Ladder.probe(config.offload, helper)
    kept = Kept(supervisor)
    dataplane = await _data_plane(config, underlay.address, helper, ladder, kept)
    open_things.callback(dataplane.stop)
    kept.keep_sockets(dataplane.receive_sockets())
    tell(ladder, dataplane)
    journal = ControlJournal(store)
    control = ControlPlane(_core_config(config, underlay.address), journal.rows(), journal)
    agent = Agent(config, underlay, helper, EndpointJournal(store), control, dataplane, ladder, kept)
    if wants_injection(config.offload):
        await agent.injection.open()
    if config.docker:
        agent.docker = DockerPlugin(agent, Ledger(store), Path(config.docker))
        agent.docker.open()
        open_things.push_async_callback(agent.docker.close)
    return agent


def _open_http(config: AgentConfig, open_things: AsyncExitStack) -> HttpServer | None:
    """Only where it is wanted."""
    if not config.http:
        return None
    http = HttpServer(config.http)
    http.open()
    open_things.push_async_callback(http.close)
    return http


async def _serve(agent: Agent, server: ApiServer, http: HttpServer | None, open_things: AsyncExitStack) -> None:
    """From here on whoever asks is answered."""
    await agent.services.ready()
    service = AgentService(agent)
    await server.start(service)
    open_things.push_async_callback(server.close)
    if http is not None:
        await http.start(service, lambda: [member.name for member in agent.view.members()])
        open_things.push_async_callback(http.close)
    open_things.callback(agent.captures.end)
    open_things.callback(agent.feed.end)  # both before the server closes, which waits for its streams


async def _data_plane(
    config: AgentConfig, address: str, helper: NamespaceHelper, ladder: Ladder, kept: Kept
) -> Dataplane:
    open_it = partial(
        Dataplane,
        address,
        config.data_port,
        workers=config.workers,
        offloads=ladder.allowed,
        pin=config.pin_workers,
        spin=config.spin,
    )
    sockets = kept.take_sockets()
    try:
        try:
            dataplane = open_it(sockets=sockets)
            for fd in sockets:
                os.close(fd)
            return dataplane
        except SocketsStale as why:
            await kept.drop_sockets(sockets, why.strerror or "")
            return open_it()
    except PortHeld as error:
        raise await _held("data-port", ("udp",), config.data_port, address) from error
    except OSError as error:
        raise Refused("data plane", error.strerror or str(error), hint="vxlanu agent --advertise IP") from error


async def _held(option: str, protocols: tuple[str, ...], port: int, address: str) -> Refused:
    """The port is taken: by whom, and how to part the two, in the doctor's words."""
    rows = await asyncio.to_thread(holders, [port])
    others = [it for it in rows if it.protocol in protocols and it.pid != os.getpid()]
    found = in_the_way(others, option, address)
    held, by, hint = found or (protocols[0].upper(), "another socket", f"free it, or --{option} N on every host")
    return Refused(f"{held} port {port}", f"held by {by}", hint=hint, name="port_held")


def _core_config(config: AgentConfig, address: str) -> Config:
    """The control core's settings.

    Raises:
        Refused: the identity or the cluster key cannot be read.
    """
    try:
        identity = load_or_create(Path(config.state_dir) / IDENTITY_FILE)
        sealer = Seal(load_key(Path(config.key_file))) if config.key_file else None
    except (LocalError, OSError) as error:
        why = error.what if isinstance(error, LocalError) else str(error)
        raise Refused("key", why, hint="vxlanu key gen FILE", name="key_invalid") from error
    return Config(
        node=node_id(identity),
        name=config.name,
        control_host=address,
        control_port=config.control_port,
        data_host=address,
        data_port=config.data_port,
        version=__version__,
        router_mac=router_mac(node_id(identity)),
        seeds=config.join,
        profile=PROFILES[config.profile],
        sealer=sealer,
    )


async def _join(agent: Agent, open_things: AsyncExitStack) -> None:
    """Start the control plane and hear whether our name is free."""
    try:
        await agent.control.start()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise Refused("control plane", error.strerror or str(error), hint="--advertise IP") from error
        both, port = ("udp", "tcp"), agent.config.control_port
        raise await _held("control-port", both, port, agent.underlay.address) from error

    async def stop() -> None:
        await agent.control.stop(leave=agent.leave_on_stop)

    open_things.push_async_callback(stop)
    try:
        await agent.control.first_join(FIRST_JOIN_S)
    except Refusal as refusal:
        if agent.failure is not None:
            raise _taken(agent.failure, agent.config.name) from refusal
        raise Refused(f"name {agent.config.name}", refusal.what, hint="--name N", name=refusal.name) from refusal


def _taken(failure: Effect, name: str) -> Refused:
    if isinstance(failure, NameTaken):
        holder = f"{failure.address[0]} (id {failure.holder.hex()[:12]})"
        return Refused(f"name {name}", f"held by a live node at {holder}", hint="--name N", name="name_taken")
    where = failure.address[0] if isinstance(failure, IdentityTaken) else "another host"
    return Refused(
        "identity",
        f"this node id is alive at {where}: the state directory is a copy",
        hint="an empty --state-dir",
        name="identity_taken",
    )


def _announce(agent: Agent) -> None:
    """The banner, and the word to whoever waits for it."""
    config, address = agent.config, agent.underlay.address
    agent.supervisor.ready(f"{config.name} at {address}")
    log.info(
        "vxlanu %s: %s (%s) at %s, data port %d, control port %d%s, state in %s, API on %s",
        __version__,
        config.name,
        agent.control.core.node.hex()[:12],
        address,
        config.data_port,
        config.control_port,
        "" if config.key_file else " IN THE CLEAR (no cluster key)",
        config.state_dir,
        config.socket,
        extra={"event": "ready"},
    )
    if config.ready_fd is not None:
        with contextlib.suppress(OSError):  # whoever waited for it has gone, which is no reason to go too
            os.write(config.ready_fd, b"ready\n")
        os.close(config.ready_fd)
