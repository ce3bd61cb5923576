"""`--docker-sync`: every network of the cluster is in `docker network ls` of this host.

How it works
  Networks are shared records; Docker's networks of a plugin are known to one dockerd only. Whenever the records change
  or Docker comes back, both lists are compared: a network that no Docker network stands for is made in Docker by its
  own name, one that we made is removed when the record has been removed and no container uses it any more.

Rules of this file
  1. Only what carries our label is ever removed, and only when the cluster has removed the network: one that is merely
     not known yet, or made by hand, is left alone.
  2. A name that is taken is said once and not fought for. One that a person removed from Docker is not made again
     before the agent's next start.
  3. Docker calls our plugin while it makes a network. That is a request of Docker's as any other, on the same loop:
     nothing here may be waited for by the plugin.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from vxlanu.control.core.effects import Changed
from vxlanu.control.core.records import Network, NetworkId
from vxlanu.control.core.view import NetworkState, NetworkView
from vxlanu.runtimes.docker.client import DockerApi, DockerAway, DockerRefused, RuntimeEvent, socket_of
from vxlanu.runtimes.docker.client import Network as DockerNetwork
from vxlanu.runtimes.docker.events import Listener
from vxlanu.runtimes.following import Questions

if TYPE_CHECKING:  # the agent holds it
    from vxlanu.agent.agent import Agent

__all__ = ["LABEL", "Sync", "wanted_body"]

log = logging.getLogger("vxlanu.docker")

LABEL = "vxlanu.sync"  # on what we made: the network's id
OPTION = "vxlanu.network"
# Between two tries of what Docker refused: a network still in use, a name that is taken, an answer that never came.
# Most of it is told by an event; what stays refused (no IPv4, before Docker 28) costs a line of the log at each try.
AGAIN_S_MIN, AGAIN_S_MAX = 5.0, 300.0
GONE = 404
EVERYTHING = "everything"


def wanted_body(network: NetworkView, driver: str) -> dict[str, object]:
    """What Docker is asked for: the network as it is, by its id, which never means another one."""
    body, identity = network.body, network.id.hex()
    return {
        "Name": network.name,
        "CheckDuplicate": True,  # of no effect since API 1.44, where it always is
        "Driver": driver,
        "Internal": body.internal,
        "EnableIPv4": any("." in subnet for subnet in body.subnets),  # since API 1.48; before, there is no way without
        "EnableIPv6": any(":" in subnet for subnet in body.subnets),
        "IPAM": {
            "Driver": driver,
            "Options": {OPTION: identity},
            "Config": [_pool(body, subnet) for subnet in body.subnets],
        },
        "Options": {OPTION: identity},
        "Labels": {**body.labels, LABEL: identity},
    }


def _pool(body: Network, subnet: str) -> dict[str, object]:
    """A subnet with what lies in it. Docker has room for one range; of several it is told none, for ours count."""
    shown: dict[str, object] = {"Subnet": subnet}
    for gateway in body.gateways:
        if subnet_of(gateway, [subnet]):
            shown["Gateway"] = gateway
    ranges = [text for text in body.ip_ranges if subnet_of(text.partition("/")[0], [subnet])]
    if len(ranges) == 1:
        shown["IPRange"] = ranges[0]
    aux = {name: address for name, address in body.aux.items() if subnet_of(address, [subnet])}
    if aux:
        shown["AuxiliaryAddresses"] = aux
    return shown


def subnet_of(address: str, subnets: Collection[str]) -> str:
    """The subnet that holds an address; empty where none does."""
    return next((subnet for subnet in subnets if ip_address(address) in ip_network(subnet)), "")


class Sync(Listener):
    """Compares the cluster's networks with one dockerd's, whenever there is a reason."""

    def __init__(self, agent: Agent, driver: str, stands_for: Callable[[str], bytes | None]) -> None:
        """`driver`: by which name Docker knows our plugin. `stands_for`: which of our networks one of Docker's is, by
        Docker's id; None for a foreign one.
        """
        self._agent = agent
        self._driver = driver
        self._stands_for = stands_for
        self._questions = Questions(agent, self._compare)
        self._made: set[NetworkId] = set()
        self._said: dict[NetworkId | str, str] = {}  # what Docker refused in the last comparison
        self._refused: dict[NetworkId | str, str] = {}  # in the one that runs
        self._next_try = 0.0
        self._pause = AGAIN_S_MIN

    def begin(self) -> None:
        """Listen from here on."""
        self._agent.control.subscribe(self._changed)
        self._agent.runtimes.follow("docker", self)

    # reasons to compare

    def connected(self) -> None:
        """Docker is there."""
        self._questions.ask(EVERYTHING)

    def heard(self, event: RuntimeEvent) -> None:
        """A container has left a network, which may be one that can go now; or one has gone, and its name is free."""
        if event.kind == "network" and event.action in ("disconnect", "destroy"):
            self._questions.ask(EVERYTHING)

    def _changed(self, change: Changed) -> None:
        if any(kind == "network" for kind, _, _ in change.keys):
            self._questions.ask(EVERYTHING)

    def check(self, now: float) -> None:
        """Once a second; `now` is monotonic. What Docker refused is tried again, ever more rarely."""
        if not self._said:
            self._pause = AGAIN_S_MIN
        elif now >= self._next_try:
            self._next_try = now + self._pause
            if EVERYTHING not in self._said:
                self._pause = min(2 * self._pause, AGAIN_S_MAX)
            self._questions.ask(EVERYTHING)

    # the comparison

    async def _compare(self, _: str) -> None:
        path = socket_of("docker")
        if path is None or not self._agent.runtimes.following("docker"):
            return
        api, self._refused = DockerApi(path), {}
        try:
            there = await api.networks()
            for network in there:
                await self._remove(api, network)
            stood_for = {identity for network in there if (identity := self._meaning(network))}
            for view in self._agent.view.networks():
                if view.state is NetworkState.ACTIVE and view.id not in stood_for and view.body.subnets:
                    await self._create(api, view)
        except (DockerAway, DockerRefused) as why:
            # Its events may go on, so that nobody will say when it is well again.
            self._refused = self._said | self._refused
            self._say(EVERYTHING, f"Docker's networks cannot be compared: {why}")
        if self._refused.keys() - self._said.keys():  # not to be kept waiting by what was refused long ago
            self._pause, self._next_try = AGAIN_S_MIN, 0.0
        self._said = self._refused

    def _meaning(self, network: DockerNetwork) -> bytes | None:
        """Which of ours one of Docker's stands for."""
        identity = (network.labels or {}).get(LABEL, "")
        return bytes.fromhex(identity) if _is_id(identity) else self._stands_for(network.id)

    async def _remove(self, api: DockerApi, network: DockerNetwork) -> None:
        """One of ours whose record has been removed."""
        identity = (network.labels or {}).get(LABEL, "")
        if not _is_id(identity) or not self._agent.view.is_removed(NetworkId(bytes.fromhex(identity))):
            return
        known = NetworkId(bytes.fromhex(identity))
        try:
            await api.remove_network(network.id)
            log.info("removed Docker network %s", network.name, extra={"event": "docker_sync"})
        except DockerRefused as why:
            if why.status != GONE:
                self._say(known, f"Docker network {network.name} stays: {why}")

    async def _create(self, api: DockerApi, view: NetworkView) -> None:
        if view.id in self._made:
            return  # by us, and removed by somebody since
        try:
            await api.create_network(wanted_body(view, self._driver))
            self._made.add(view.id)
            log.info("made Docker network %s", view.name, extra={"event": "docker_sync"})
        except DockerRefused as why:
            self._say(view.id, f"network {view.name} cannot be in Docker: {why}")

    def _say(self, network: NetworkId | str, why: str) -> None:
        """Once, not at every try."""
        if self._said.get(network) != why:
            log.warning("%s", why, extra={"event": "docker_sync"})
        self._refused[network] = why


def _is_id(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == 16
    except ValueError:
        return False
