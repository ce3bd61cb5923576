"""The plugin as the agent sees it: opened, settled after a restart, served, swept, closed.

Rules of this file
  1. What is on disk is settled before the first request is answered: a repetition of what was cut short by a crash must
     find either all of it or nothing.
  2. Docker does not tell of what it ended while we were away. An endpoint whose namespace has gone is dropped at the
     start; an address without a running endpoint is given back after IDLE_S, which is far longer than Docker ever
     leaves one between its requests. A network is dropped where the stand-in has heard of its removal.
"""

from __future__ import annotations

import logging
from pathlib import Path

from vxlanu.agent.agent import Agent
from vxlanu.control.core.records import EndpointId
from vxlanu.errors import VxlanuError
from vxlanu.runtimes.docker import pools
from vxlanu.runtimes.docker import shapes as s
from vxlanu.runtimes.docker.absence import StandIn, forget_removed, removed_meanwhile
from vxlanu.runtimes.docker.driver import Driver
from vxlanu.runtimes.docker.ipam import Ipam
from vxlanu.runtimes.docker.ledger import DockerAddress, DockerEndpoint, Ledger
from vxlanu.runtimes.docker.names import Names
from vxlanu.runtimes.docker.server import WORK_S, Method, Server, method
from vxlanu.runtimes.docker.sync import Sync
from vxlanu.store import LOCK_NAME

__all__ = ["DockerPlugin"]

log = logging.getLogger("vxlanu.docker")

IDLE_S = 60.0


class DockerPlugin:
    """Hangs off the agent as `agent.docker` where the agent is Docker's plugin."""

    def __init__(self, agent: Agent, ledger: Ledger, path: Path) -> None:
        self.ledger = ledger
        self._agent = agent
        self._ipam = Ipam(agent, ledger)
        self._driver = Driver(agent, ledger)
        self._path = path
        alone = not agent.supervisor.listens and agent.pid != 1
        self._state_dir = Path(agent.config.state_dir)
        self._stand_in = StandIn(path, self._state_dir / LOCK_NAME) if alone else None
        self._server = Server(path, self._stand_in)
        self._names = Names(agent, self.endpoint_of)
        self._sync = Sync(agent, path.stem, self.network_of) if agent.config.docker_sync else None
        self._idle: dict[bytes, float] = {}  # address: since when nothing runs with it

    def open(self) -> None:
        """Bind the socket; a dockerd that finds it waits for `start`. Raises Refused."""
        self._server.open()

    async def start(self) -> None:
        """Settle what an earlier run left, then answer."""
        await self._settle()
        await self._server.start(self._methods())
        self._names.begin()
        if self._sync:
            self._sync.begin()
        log.info("Docker's plugin answers on %s", self._path, extra={"event": "docker"})

    async def close(self) -> None:
        """Stop answering; the containers' interfaces stay."""
        pid = await self._server.close(self._why(), self.ledger.networks)
        if pid is not None:
            names = ", ".join(sorted({row.name for row in self.ledger.networks.values()}))
            stays = "Docker goes on with networks of ours: %s; process %d (vxlanu-stand-in) stays and refuses requests"
            until = "at once until the agent runs again or Docker has removed them"
            log.warning(f"{stays} {until}", names, pid, extra={"event": "docker_stand_in"})

    def _why(self) -> str:
        """Why the agent ends, for Docker's users."""
        if self._agent.failure is not None or not self._agent.stopping.is_set():
            return "it could not go on, its log says why"
        return "it has left the cluster" if self._agent.leave_on_stop else "it was stopped"

    def endpoint_of(self, docker_endpoint: str) -> EndpointId | None:
        """Our endpoint for one of Docker's, by its whole id."""
        row = self.ledger.endpoints.get(docker_endpoint)
        return EndpointId(row.endpoint) if row is not None else None

    def network_of(self, docker_network: str) -> bytes | None:
        """Our network for one of Docker's, by its whole id."""
        row = self.ledger.networks.get(docker_network)
        return row.network if row is not None else None

    def network_ids(self) -> dict[bytes, list[str]]:
        """Docker's ids of each of our networks that it knows here."""
        known: dict[bytes, list[str]] = {}
        for row in self.ledger.networks.values():
            known.setdefault(row.network, []).append(row.docker_id)
        return known

    async def _settle(self) -> None:
        for row in list(self.ledger.endpoints.values()):
            key = row.endpoint.hex()
            runs = key in self._agent.journal.rows and key not in self._agent.ended
            if row.sandbox and not runs:
                log.info("endpoint %s ended while the agent was away", row.name, extra={"event": "vanished"})
                await self._drop(row)
        for address in list(self.ledger.addresses.values()):
            if not address.address:  # asked for when the last run ended; Docker never heard of it
                await self._ipam.give_back(address)
        for docker_id in removed_meanwhile(self._state_dir):
            if (network := self.ledger.networks.get(docker_id)) is not None:
                log.info("Docker has removed network %s meanwhile", docker_id[:12], extra={"event": "docker_network"})
                await self.ledger.drop(network)
        forget_removed(self._state_dir)

    async def _drop(self, row: DockerEndpoint) -> None:
        """An endpoint of which Docker will not speak again, and its addresses."""
        leases = self.ledger.addresses_of(row.docker_id)
        await self._driver.forget(row)
        try:
            await self._agent.endpoints.sweep(row.endpoint.hex())
        except VxlanuError as why:
            log.warning("cannot look for the TAP of endpoint %s: %s", row.name, why, extra={"event": "docker_failed"})
        for lease in leases:
            await self._ipam.give_back(lease)

    def look(self, now: float) -> None:
        """A chore, every second: the stand-in, and addresses that nothing runs with: what stays so is given back."""
        if self._stand_in is not None:
            self._stand_in.look(now)
        self._names.check(now)
        if self._sync:
            self._sync.check(now)
        idle = {row.lease: row for row in self.ledger.addresses.values() if not self._runs(row)}
        self._idle = {key: self._idle.get(key, now) for key in idle}
        for key, since in list(self._idle.items()):
            if now - since > IDLE_S:
                self._idle[key] = now  # not again while it is being done
                self._agent.spawn(self._expire(idle[key]))

    def _runs(self, row: DockerAddress) -> bool:
        endpoint = self.ledger.endpoints.get(row.docker_endpoint) if row.docker_endpoint else None
        return endpoint is not None and endpoint.endpoint.hex() in self._agent.journal.rows

    async def _expire(self, row: DockerAddress) -> None:
        async with self._driver.turn(row.docker_endpoint):
            if self._runs(row):  # joined while we waited
                return
            endpoint = self.ledger.endpoints.get(row.docker_endpoint) if row.docker_endpoint else None
            log.info("nothing runs with %s: given back", row.address, extra={"event": "docker_expired"})
            if endpoint is not None:
                await self._drop(endpoint)
            else:
                await self._ipam.give_back(row)

    def _methods(self) -> dict[str, Method]:
        """Everything that libnetwork can ask, by the name it has on the socket."""
        ipam, driver = self._ipam, self._driver
        network = {
            "GetCapabilities": method(s.Empty, _capabilities),
            "AllocateNetwork": method(s.AllocateNetwork, _allocate_network),
            "FreeNetwork": method(s.NetworkAsked, _nothing),
            "CreateNetwork": method(s.CreateNetwork, driver.create_network),
            "DeleteNetwork": method(s.NetworkAsked, driver.delete_network),
            "CreateEndpoint": method(s.CreateEndpoint, driver.create_endpoint),
            "DeleteEndpoint": method(s.EndpointAsked, driver.delete_endpoint, WORK_S),
            "EndpointOperInfo": method(s.EndpointAsked, driver.operational_info),
            "Join": method(s.Join, driver.join, WORK_S),
            "Leave": method(s.EndpointAsked, driver.leave, WORK_S),
            "ProgramExternalConnectivity": method(s.EndpointAsked, _nothing),
            "RevokeExternalConnectivity": method(s.EndpointAsked, _nothing),
            "DiscoverNew": method(s.Empty, _nothing),
            "DiscoverDelete": method(s.Empty, _nothing),
        }
        addresses = {
            "GetCapabilities": method(s.Empty, _ipam_capabilities),
            "GetDefaultAddressSpaces": method(s.Empty, _address_spaces),
            "RequestPool": method(s.RequestPool, ipam.request_pool),
            "ReleasePool": method(s.ReleasePool, ipam.release_pool),
            "RequestAddress": method(s.RequestAddress, ipam.request_address, WORK_S),
            "ReleaseAddress": method(s.ReleaseAddress, ipam.release_address),
        }
        return {
            "Plugin.Activate": method(s.Empty, _activated),
            **{f"NetworkDriver.{name}": it for name, it in network.items()},
            **{f"IpamDriver.{name}": it for name, it in addresses.items()},
        }


async def _activated(_: s.Empty) -> s.Activated:
    return s.Activated()


async def _capabilities(_: s.Empty) -> s.DriverCapabilities:
    return s.DriverCapabilities()


async def _ipam_capabilities(_: s.Empty) -> s.IpamCapabilities:
    return s.IpamCapabilities()


async def _address_spaces(_: s.Empty) -> s.AddressSpaces:
    return s.AddressSpaces(pools.SPACE, pools.SPACE)


async def _allocate_network(asked: s.AllocateNetwork) -> s.NetworkAllocated:
    return s.NetworkAllocated(asked.options or {})


async def _nothing(_: s.Empty | s.NetworkAsked | s.EndpointAsked) -> s.Empty:
    return s.Empty()
