"""The names of Docker's containers, for endpoints that Docker's plugin made.

How it works
  Docker never tells its plugin who an endpoint is for. It tells whoever listens to its events: `network connect` comes
  after the plugin's Join, and an inspect of the container then has its name, its aliases and the endpoint's id. The
  endpoint's record is written again with these, its target too; DNS answers by the record. Until then the endpoint has
  Docker's id of it for name and target.

Rules of this file
  1. Nothing here is on the way of a request of Docker's: a container is reachable before it has its name.
  2. A name that another endpoint of the network has is not taken from it: the later one keeps the name that it has, an
     event says so, and it is tried again while it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from vxlanu.api.schema import Event
from vxlanu.control.core.records import EndpointId, NetworkId, is_name, short
from vxlanu.control.core.view import EndpointView
from vxlanu.runtimes.docker.client import Container, DockerApi, DockerAway, DockerRefused, Joined, RuntimeEvent
from vxlanu.runtimes.docker.client import socket_of as docker_socket
from vxlanu.runtimes.docker.events import Listener
from vxlanu.runtimes.following import Questions

if TYPE_CHECKING:  # the agent holds it
    from vxlanu.agent.agent import Agent

__all__ = ["Names"]

log = logging.getLogger("vxlanu.docker")

INSPECTS_AT_ONCE = 4  # of dockerd, which has other things to do while a hundred containers start
AGAIN_S = 5.0  # between two tries to take a name that another has, or to ask what was not answered
GONE = 404
SHORT_ID_DIGITS = 12  # as Docker shows it, and the container's host name unless it was given another


class Names(Listener):
    """Watches Docker for who is who."""

    def __init__(self, agent: Agent, endpoint_of: Callable[[str], EndpointId | None]) -> None:
        """`endpoint_of`: our endpoint for one of Docker's, by its whole id."""
        self._agent = agent
        self._endpoint_of = endpoint_of
        self._questions = Questions(agent, self._look)
        self._inspects = asyncio.Semaphore(INSPECTS_AT_ONCE)
        self._refused: dict[EndpointId, tuple[str, str]] = {}  # container, and the name that it cannot have
        self._unanswered: set[str] = set()  # containers that Docker could not tell of
        self._unlisted = False  # nor which there are
        self._next_try = 0.0

    def begin(self) -> None:
        """Listen from here on."""
        self._agent.runtimes.follow("docker", self)

    # reasons to look

    def connected(self) -> None:
        """Look at every container."""
        self._agent.spawn(self._look_at_all())

    def heard(self, event: RuntimeEvent) -> None:
        """Look at the one that was connected, started or renamed."""
        if event.container and (event.kind, event.action) in TELLING:
            self._questions.ask(event.container)

    def check(self, now: float) -> None:
        """Once a second; `now` is monotonic. Whoever could not have its name may have it by now."""
        if now >= self._next_try:
            self._next_try = now + AGAIN_S
            for container in self._unanswered:
                self._questions.ask(container)
            if self._unlisted:
                self.connected()
            for endpoint, (container, _) in list(self._refused.items()):
                if endpoint.hex() in self._agent.journal.rows:
                    self._questions.ask(container)
                else:
                    del self._refused[endpoint]

    async def _look_at_all(self) -> None:
        path, said = docker_socket("docker"), self._unlisted
        self._unlisted = False
        try:
            for container in await DockerApi(path).running() if path else ():
                self._questions.ask(container)
        except (DockerAway, DockerRefused) as why:
            self._unlisted = True
            if not said:
                log.warning("Docker does not list its containers: %s", why, extra={"event": "docker"})

    # the look

    async def _look(self, identity: str) -> None:
        """Give a container's endpoints the names that it has now."""
        path = docker_socket("docker")
        if path is None:
            return
        self._unanswered.discard(identity)
        try:
            async with self._inspects:
                container = await DockerApi(path).container(identity)
        except (DockerAway, DockerRefused) as why:
            log.debug("container %s: %s", identity[:SHORT_ID_DIGITS], why, extra={"event": "docker"})
            if isinstance(why, DockerAway) or why.status != GONE:  # no event may come of it: Docker was only busy
                self._unanswered.add(identity)
            return
        for joined in container.networks:
            endpoint = self._endpoint_of(joined.endpoint_id)
            if endpoint is not None:
                await self._name(endpoint, container, joined)

    async def _name(self, endpoint: EndpointId, container: Container, joined: Joined) -> None:
        agent = self._agent
        view = agent.view.endpoint(endpoint)
        key = endpoint.hex()
        if view is None or key not in agent.journal.rows or key in agent.leaving:
            return
        name = container.name if is_name(container.name) else view.body.name
        if self._holder(view, name):
            self._refuse(view, container, name)
            name = view.body.name
        else:
            self._refused.pop(endpoint, None)
        target = f"docker:{container.name or container.id[:SHORT_ID_DIGITS]}"  # its own, also if another has its name
        body = msgspec.structs.replace(
            view.body, name=name, aliases=aliases_of(container, joined, name), target=target
        )
        if body == view.body:
            return
        taken = (NetworkId(body.network), name)
        agent.names_in_use.add(taken)
        try:
            await agent.control.put_endpoint(body)
        finally:
            agent.names_in_use.discard(taken)

    def _holder(self, view: EndpointView, name: str) -> str:
        """Who else has a name in the endpoint's network; nothing if it is free."""
        if name == view.body.name:
            return ""
        network = NetworkId(view.body.network)
        for other in self._agent.view.named(network, name):
            if other.id != view.id:
                return other.owner_name
        return self._agent.config.name if (network, name) in self._agent.names_in_use else ""

    def _refuse(self, view: EndpointView, container: Container, name: str) -> None:
        """Say it once."""
        if self._refused.get(view.id) == (container.id, name):
            return
        self._refused[view.id] = (container.id, name)
        network = self._agent.view.network(NetworkId(view.body.network))
        shown = network.name if network else short(view.body.network)
        why = f"{shown} has an endpoint {name} on {self._holder(view, name)}"
        log.warning("%s keeps its name: %s", view.body.name, why, extra={"event": "name_taken"})
        self._agent.feed.tell(
            Event("name_taken", network=shown, endpoint=view.body.name, node=view.owner_name, error=why)
        )


TELLING = {("network", "connect"), ("container", "rename"), ("container", "start")}


def aliases_of(container: Container, joined: Joined, name: str) -> tuple[str, ...]:
    """Every other name that Docker's own resolver has for the container in this network."""
    said = [*(joined.aliases or ()), *(joined.dns_names or ())]
    said += [container.id[:SHORT_ID_DIGITS], container.config.hostname]
    unwanted = {name, container.name}  # a name that another endpoint has must not come in by the side door
    return tuple(dict.fromkeys(alias for alias in said if alias not in unwanted and is_name(alias)))
