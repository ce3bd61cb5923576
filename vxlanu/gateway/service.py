"""Service ports: the gateway of a network, on every host that has an endpoint of it.

How it works
  Behind a port of the switch stands a TAP in a namespace of its own, one per network, with all the gateway addresses of
  that network and nothing else. There the kernel's own stack answers ICMP, routes between the network's subnets, and
  sockets may be opened (`open_sockets`: names are answered there). What it routes leaves with this host's router MAC,
  which the other hosts know from our node record. That every host answers for the gateway itself is reconcile's doing.

  A namespace routes only between what is inside it, so two networks never meet, whatever their addresses.

Rules of this file
  1. Only descriptors of the agent hold the namespace and its TAP: they end with the agent, however it ends, and are
     made anew at the start. Nothing of them is on disk.
  2. A service port follows its network: `start` when an endpoint is about to be here, `drop` when the last one has
     gone. Whatever of a start is under way is undone by a drop; a start waits for the end that was before it.
  3. A gateway that cannot be had keeps no endpoint from coming; it is tried again. So is what stands behind it: the
     gateway answers meanwhile, and names are answered as soon as their port can be had.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vxlanu.control.core.records import Network, NetworkId, router_mac
from vxlanu.dataplane.values import PortConfig, PortRef
from vxlanu.endpoints import TAG_DIGITS
from vxlanu.errors import NotFound, VxlanuError
from vxlanu.nsopen import KernelRefused, Link, OpenedSockets, OpenTap, TapPlan

if TYPE_CHECKING:  # the agent holds its services
    from vxlanu.agent.agent import Agent

__all__ = ["GATEWAY_NAME", "Service", "Services", "gateway_addresses"]

log = logging.getLogger("vxlanu.gateway")

GATEWAY_NAME = "gateway"  # what a service port is called wherever an endpoint's name would stand
IFNAME = "eth0"
RETRY_S = 10.0  # what keeps a gateway from being made (descriptors, privilege) passes in seconds or not at all

Hook = Callable[[bytes], Awaitable[None]]


def gateway_addresses(body: Network) -> tuple[str, ...]:
    """The gateways of a network, each with the length of its subnet."""
    subnets = [ipaddress.ip_network(subnet) for subnet in body.subnets]
    return tuple(
        f"{gateway}/{subnet.prefixlen}"
        for gateway in body.gateways
        for subnet in subnets
        if ipaddress.ip_address(gateway) in subnet
    )


@dataclass(frozen=True, slots=True)
class Service:
    """One service port. `namespace` is the descriptor that keeps it; the port's belong to the fast path."""

    network: bytes
    namespace: int
    addresses: tuple[str, ...]
    ifindex: int
    mac: str

    @property
    def key(self) -> str:
        """What the data plane knows its port by."""
        return PortRef.of_gateway(self.network).endpoint


class Services:
    """The service ports of one agent. `on_open` and `on_close` are called with the network's id when its gateway stands
    and before its namespace is given up; sockets in it must be closed then, or they keep it. An `on_open` that raises
    is called again every RETRY_S, with those before it."""

    def __init__(self, agent: Agent) -> None:
        self.on_open: list[Hook] = []
        self.on_close: list[Hook] = []
        self._agent = agent
        self._standing: dict[bytes, Service] = {}
        self._starting: dict[bytes, asyncio.Task[None]] = {}
        self._ending: dict[bytes, asyncio.Task[None]] = {}
        self._retry: dict[bytes, float] = {}
        self._refused: dict[bytes, str] = {}

    def refused(self) -> dict[bytes, str]:
        """Networks whose gateway could not be made, or what stands behind it; and why."""
        return dict(self._refused)

    def standing(self) -> list[Service]:
        """Those that answer now, by network."""
        return sorted(self._standing.values(), key=lambda it: it.network)

    def get(self, network: bytes) -> Service | None:
        """The service port of a network, if it stands."""
        return self._standing.get(network)

    def start(self, network: bytes) -> None:
        """Begin to make the service port of a network; nothing if there is one, or one under way."""
        if network not in self._standing:
            self._begin(network)

    def _begin(self, network: bytes) -> None:
        if network in self._starting:
            return
        task = asyncio.get_running_loop().create_task(self._start(network))
        self._starting[network] = task
        task.add_done_callback(lambda done: self._done(self._starting, network, done))

    async def ready(self, network: bytes | None = None) -> None:
        """Return when what was begun for a network, or for all, has come to its end, good or bad."""
        tasks = [task for key, task in self._starting.items() if network in (None, key)]
        if tasks:
            await asyncio.wait(tasks)

    def drop(self, network: bytes) -> None:
        """Take the port of a network away, now; its namespace ends soon. Nothing if there is none."""
        self._retry.pop(network, None)
        self._refused.pop(network, None)
        starting, service = self._starting.get(network), self._standing.pop(network, None)
        if starting is None and service is None:
            return
        if starting is not None:
            starting.cancel()
        if service is not None:
            self._agent.reconciler.serve(network, False)
            self._agent.dataplane.remove_port(service.key)
        task = asyncio.get_running_loop().create_task(self._end(network, service, starting, self._ending.get(network)))
        self._ending[network] = task
        task.add_done_callback(lambda done: self._done(self._ending, network, done))

    async def close(self) -> None:
        """The agent stops: end all of them."""
        for network in {*self._standing, *self._starting}:
            self.drop(network)
        if self._ending:
            await asyncio.wait(list(self._ending.values()))

    def gone(self, port: str) -> None:
        """The fast path says that a port's device has ended: if it was a service port's, make another."""
        for service in self.standing():
            if service.key == port:
                log.warning("the gateway's device has gone: making another", extra={"event": "gateway"})
                self.drop(service.network)
                self.start(service.network)

    def check(self, now: float) -> None:
        """Once a second, `now` is monotonic: start what is missing, unless it failed just now."""
        for network in self._agent.reconciler.local:
            lacking = network not in self._standing or network in self._refused
            if lacking and now >= self._retry.get(network, 0.0):
                self._begin(network)

    async def open_sockets(self, network: bytes, port: int) -> OpenedSockets:
        """A UDP and a TCP socket on `port` of every gateway address of a network.

        Raises:
            NotFound: the gateway is not served here, or not any more.
            VxlanuError: what the helper says.
        """
        service = self._served(network)
        addresses = [address.split("/")[0] for address in service.addresses]
        return await self._agent.helper.open_sockets(service.namespace, addresses, port)

    async def link(self, network: bytes) -> Link | None:
        """The port's TAP as the kernel has it."""
        service = self._served(network)
        links = await self._agent.helper.links(service.namespace)
        return next((link for link in links if link.index == service.ifindex), None)

    def _served(self, network: bytes) -> Service:
        service = self._standing.get(network)
        if service is None:
            raise NotFound(f"gateway of network {network.hex()[:12]}", "it is not served here", name="no_gateway")
        return service

    async def _start(self, network: bytes) -> None:
        """Everything from nothing to a gateway that answers and whose hooks were called."""
        if network in self._ending:
            await asyncio.wait([self._ending[network]])
        try:
            if network not in self._standing:
                await self._open(network)
            if network in self._standing:
                for hook in self.on_open:
                    await hook(network)
        except (VxlanuError, OSError) as why:
            self._put_off(network, str(why))
        except Exception as why:  # a defect of ours: where it is shows in the log
            self._put_off(network, f"{type(why).__name__}: {why}", why)
        else:
            self._refused.pop(network, None)

    def _put_off(self, network: bytes, why: str, defect: Exception | None = None) -> None:
        """It is tried again; why is said once."""
        self._retry[network] = time.monotonic() + RETRY_S
        if self._refused.get(network) != why:
            told = "cannot serve the gateway of network %s: %s"
            if network in self._standing:
                told = "no names are answered at the gateway of network %s: %s"
            level = logging.ERROR if defect else logging.WARNING
            log.log(level, told, network.hex()[:12], why, exc_info=defect, extra={"event": "gateway_failed"})
        self._refused[network] = why

    async def _open(self, network: bytes) -> None:
        agent, view = self._agent, self._agent.view.network(NetworkId(network))
        addresses = gateway_addresses(view.body) if view is not None else ()
        if view is None or not addresses:
            self._retry[network] = math.inf  # it will not get any: they are fixed when a network is made
            return
        mac = router_mac(agent.control.core.node)
        queues = agent.ladder.tap_queues(agent.dataplane.workers)
        plan = TapPlan(network.hex()[:TAG_DIGITS], mac, view.body.mtu, addresses, IFNAME, (), queues)
        with contextlib.ExitStack() as undo:
            namespace = await agent.helper.new_namespace()
            undo.callback(os.close, namespace)
            tap = await agent.helper.create_tap(namespace, plan)
            self._connect(network, tap)
            self._standing[network] = Service(network, namespace, addresses, tap.ifindex, mac)
            undo.pop_all()
        agent.reconciler.serve(network)

    def _connect(self, network: bytes, tap: OpenTap) -> None:
        """The TAP becomes a port. It forwards, so it sends from everybody's addresses, and says what routers say. It
        needs no broadcast, since the proxy answers for it, and its kernel's group reports would interest nobody."""
        agent = self._agent
        agent.reconciler.hold(network)
        if network not in agent.dataplane.networks():
            for fd in tap.fds:
                os.close(fd)
            raise KernelRefused("add the gateway's port", "its network could not be programmed")
        port = PortConfig(tap.mac, tap.mtu, allow_spoof=True, allow_server=True, unicast_only=True)
        key = PortRef.of_gateway(network).endpoint
        agent.dataplane.add_port(key, network, port, tap.fds, write_queue=tap.write_queue)

    async def _end(
        self,
        network: bytes,
        service: Service | None,
        starting: asyncio.Task[None] | None,
        before: asyncio.Task[None] | None,
    ) -> None:
        earlier = [task for task in (starting, before) if task is not None]
        if earlier:
            await asyncio.wait(earlier)
        if service is not None:
            await self._close_behind(network)
            os.close(service.namespace)

    async def _close_behind(self, network: bytes) -> None:
        for hook in self.on_close:
            try:
                await hook(network)
            except Exception:
                log.exception("what stands behind a gateway failed", extra={"event": "gateway_failed"})

    @staticmethod
    def _done(tasks: dict[bytes, asyncio.Task[None]], network: bytes, task: asyncio.Task[None]) -> None:
        if tasks.get(network) is task:
            del tasks[network]
        if not task.cancelled() and task.exception() is not None:
            log.error("a gateway's task failed", exc_info=task.exception(), extra={"event": "task_failed"})
