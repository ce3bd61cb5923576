"""The agent's names: a server at every gateway that is served here, and the files that lead namespaces to it.

Rules of this file
  1. A server lives exactly as long as its network's service port; it is opened and closed by that one's hooks.
  2. Zones follow the records and the members key by key.
  3. A file that cannot be written keeps no endpoint from coming: it is said once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vxlanu.control.core.effects import ChangeKey
from vxlanu.control.core.records import EndpointId, NetworkId, NodeId, short
from vxlanu.control.core.view import NetworkView
from vxlanu.dns import Counters, Forwarder, Resolvers, Server, Zone
from vxlanu.dns.netns_file import NetnsFiles, Served

if TYPE_CHECKING:  # the agent holds its names
    from vxlanu.agent.agent import Agent

__all__ = ["PORT", "Names"]

PORT = 53

log = logging.getLogger("vxlanu.names")


class Names:
    """All names of one agent."""

    def __init__(self, agent: Agent) -> None:
        self.counters = Counters()
        self.forwarder = Forwarder(Resolvers(self._gateways))
        self._agent = agent
        self._servers: dict[bytes, Server] = {}
        self._files = NetnsFiles(short(agent.control.core.node))
        self._settling = asyncio.Lock()
        self._said = ""
        agent.services.on_open.append(self.open)
        agent.services.on_close.append(self.close)

    # servers

    async def open(self, network: bytes) -> None:
        """The gateway of a network stands: answer there. Services says what keeps the port from us, tries again."""
        opened = await self._agent.services.open_sockets(network, PORT)
        view = self._agent.view.network(NetworkId(network))
        if view is None or network in self._servers or self._agent.services.get(network) is None:
            opened.close()  # it went meanwhile
            return
        datagrams = [socket.socket(fileno=fd) for fd in opened.udp]
        listeners = [socket.socket(fileno=fd) for fd in opened.tcp]
        server = Server(Zone(view.body, self._agent.view), self.forwarder, self.counters, datagrams, listeners)
        self._servers[network] = server
        server.open()

    async def close(self, network: bytes) -> None:
        """The gateway goes: its sockets would keep its namespace."""
        server = self._servers.pop(network, None)
        if server is not None:
            await server.close()

    @property
    def served(self) -> int:
        """How many networks' names are answered here."""
        return len(self._servers)

    def zone(self, network: NetworkView) -> Zone:
        """The zone of a network, served here or not."""
        server = self._servers.get(network.id)
        return server.zone if server is not None else Zone(network.body, self._agent.view)

    def changed(self, keys: Iterable[ChangeKey]) -> None:
        """Records or members are others."""
        if not self._servers:
            return
        for kind, first, second in keys:
            if kind == "endpoint" and first in self._servers:
                self._servers[first].zone.endpoint_changed(second)
            elif kind == "member":
                for network in self._servers.keys() & set(self._agent.view.networks_of(NodeId(first))):
                    self._servers[network].zone.member_changed(NodeId(first))

    def _gateways(self) -> set[str]:
        """Where a question must never be sent: it would come back."""
        return {gateway for server in self._servers.values() for gateway in server.zone.network.gateways}

    # files

    async def settle(self) -> None:
        """Let the files of /etc/netns be those of the endpoints that are here."""
        async with self._settling:
            wanted = self._wanted()
            try:
                await asyncio.to_thread(self._files.settle, wanted)
                said = ""
            except OSError as error:
                said = f"cannot write {error.filename}: {error.strerror}"
        for name in sorted(self._files.left_alone):
            said = said or f"/etc/netns/{name}/resolv.conf is not ours: left alone, names are not found in {name}"
        if said and said != self._said:
            log.warning("%s", said, extra={"event": "dns"})
        self._said = said

    def _wanted(self) -> dict[str, list[Served]]:
        """Of every target with a name of ip-netns(8) its networks, in the order of their names."""
        found: dict[str, list[Served]] = {}
        view, rows = self._agent.view, self._agent.journal.rows
        networks = {row: view.network(NetworkId(row)) for row in {row.network for row in rows.values()}}
        for key, row in rows.items():
            network = networks[row.network]
            if row.kind != "name" or key not in self._agent.opened or network is None:
                continue
            written = view.records_of(network.id, EndpointId(row.endpoint))
            own = "".join(address for _, body in written for address in body.addresses)
            gateways = sorted(network.body.gateways, key=lambda it: ":" in it)
            reached = [it for it in gateways if (":" if ":" in it else ".") in own]
            if reached:
                found.setdefault(row.text, []).append(Served(network.body.name, reached[0]))
        return {name: sorted(served, key=lambda it: it.network) for name, served in sorted(found.items())}
