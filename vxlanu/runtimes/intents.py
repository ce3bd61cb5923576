"""Intents: a container that was attached stays attached across its restarts, with the same name, address and MAC.

How it works
  `attach NETWORK docker:C0` writes an intent beside the endpoint. When the container stops, its namespace ends and the
  endpoint goes, as every endpoint does: no record, no name, no port. The intent stays and keeps the endpoint's id, and
  with the id its addresses. When the container runs again it is attached again under that id.

      attached ── its namespace ends ──► waiting ── the container runs ──► attached
                                            │
                                            ├── the container is removed, for more than GONE_S ──► ended
                                            └── detach, or the network removed ──► ended

  A container that is made anew under the name within that time (as compose does) takes the old one's place. Until
  then the place of a removed one is only kept: it is in no list, and nothing is refused because of it.

What to do follows from what is: `_settle` asks the runtime and acts on the answer. Events, a runtime that came back,
and a clock only say when to ask.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from vxlanu.agent.addressing import mac_of
from vxlanu.api.schema import Attach
from vxlanu.control.core.effects import State
from vxlanu.control.core.records import Endpoint, EndpointId, NetworkId
from vxlanu.control.core.view import EndpointView
from vxlanu.errors import VxlanuError
from vxlanu.netns import RUNTIMES, Target
from vxlanu.runtimes.containers import Found, NoContainer, RuntimeAway, find
from vxlanu.runtimes.docker.client import RuntimeEvent
from vxlanu.runtimes.docker.events import Listener
from vxlanu.runtimes.following import Questions
from vxlanu.store import Row, Store

if TYPE_CHECKING:  # the agent holds its intents
    from vxlanu.agent.agent import Agent

__all__ = ["INTENTS", "Intent", "Intents"]

log = logging.getLogger("vxlanu.intents")

INTENTS = "intent"  # space in the store
GONE_S = 60.0  # between the removal of a container and the end of its intent: time to make it anew
ASK_S = 2.0  # of a container whose runtime sends no events, or that could not be attached
ASK_RARELY_S = 30.0  # beside the events
TELLING = ("start", "died", "die", "remove", "destroy", "rename", "restart", "unpause")


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """An attach that is to be done again. `wanted` has everything filled in but the addresses: those are the id's."""

    endpoint: bytes
    network: bytes
    runtime: str
    container: str
    wanted: Attach

    @property
    def key(self) -> str:
        """The endpoint's id, as the agent's other tables have it."""
        return self.endpoint.hex()

    @property
    def reference(self) -> str:
        """What the user wrote behind docker: or podman:."""
        return self.wanted.target.partition(":")[2]


AttachAgain = Callable[["Agent", Attach, EndpointId], Awaitable[EndpointId]]


class Intents(Listener):
    """Those of this host, in memory and on disk."""

    def __init__(self, agent: Agent, store: Store) -> None:
        self._agent = agent
        self._store = store
        self._attach: AttachAgain | None = None
        found = (msgspec.msgpack.decode(value, type=Intent) for value in store.load(INTENTS).values())
        self._rows = {intent.key: intent for intent in found}
        self._gone_since: dict[str, float] = {}
        self._due: dict[str, float] = {}  # when to ask next, of those that wait
        self._said: dict[str, str] = {}
        self._questions = Questions(agent, self._settle)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    # life

    def begin(self, attach: AttachAgain) -> None:
        """`attach` may be called from here on: ask after everything that waits, and follow its runtimes."""
        self._attach = attach
        for runtime in {intent.runtime for intent in self._rows.values()}:
            self._agent.runtimes.follow(runtime, self)
        self.connected()

    async def write(self, endpoint: EndpointId, network: NetworkId, name: str, target: Target, wanted: Attach) -> None:
        """Durable when it returns; nothing for a target that no runtime starts again."""
        if target.kind not in RUNTIMES:
            return
        again = msgspec.structs.replace(wanted, network=network.hex(), name=name, take_over=False)
        intent = Intent(
            endpoint=endpoint, network=network, runtime=target.kind, container=target.container, wanted=again
        )
        self._rows[intent.key] = intent
        await self._store.commit([Row(INTENTS, endpoint, msgspec.msgpack.encode(intent))])
        self._agent.runtimes.follow(intent.runtime, self)
        self.look(intent.key)  # it may have ended while this was written

    async def erase(self, key: str) -> None:
        """The container is not attached again. Its addresses are the caller's to release; nothing if there is none."""
        for table in (self._gone_since, self._due, self._said):
            table.pop(key, None)
        if self._rows.pop(key, None):
            await self._store.commit([Row(INTENTS, bytes.fromhex(key), None)])

    async def end(self, intent: Intent) -> None:
        """Give up one that waits, with its addresses."""
        await self.erase(intent.key)
        await self._agent.control.release(NetworkId(intent.network), EndpointId(intent.endpoint))

    # what waits

    def waiting(self, network: bytes | None = None) -> list[Intent]:
        """Those (of one network) whose container does not run, or is not attached yet."""
        found = [it for it in self._unattached() if network in (None, it.network) and it.key not in self._gone_since]
        return sorted(found, key=lambda it: (it.wanted.name, it.key))

    def _unattached(self) -> list[Intent]:
        return [intent for intent in self._rows.values() if intent.key not in self._agent.journal.rows]

    def waiting_for(self, network: bytes, target: str) -> Intent | None:
        """The one that waits for what the user calls so."""
        return next((it for it in self.waiting(network) if it.wanted.target == target), None)

    def place_for(self, network: bytes, target: Target) -> EndpointId | None:
        """The id that is kept for a container, or for one of that name which is gone."""
        for intent in self._unattached():
            renewed = intent.wanted.target == target.text and intent.key in self._gone_since
            if intent.network == network and (renewed or intent.container == target.container):
                return EndpointId(intent.endpoint)
        return None

    def as_endpoint(self, intent: Intent) -> EndpointView:
        """What it will be again, for lists."""
        agent, wanted = self._agent, intent.wanted
        endpoint, network = EndpointId(intent.endpoint), NetworkId(intent.network)
        addresses = agent.control.addresses_of(network, endpoint)
        body = Endpoint(
            id=endpoint,
            network=network,
            name=wanted.name,
            mac=wanted.mac or (mac_of(addresses[0]) if addresses else ""),
            addresses=addresses,
            aliases=tuple(wanted.aliases),
            target=wanted.target,
        )
        return EndpointView(body, agent.control.core.node, agent.config.name, State.ALIVE, time.monotonic())

    def keeper_of(self, network: bytes, address: str) -> EndpointView | None:
        """Whose an address (no prefix length) will be again."""
        found = (self.as_endpoint(intent) for intent in self.waiting(network))
        return next((it for it in found if address in [held.partition("/")[0] for held in it.body.addresses]), None)

    # reasons to ask

    def connected(self) -> None:
        """Ask after all that wait."""
        for intent in self._unattached():
            self.look(intent.key)

    def heard(self, event: RuntimeEvent) -> None:
        """Ask after those whose container it is."""
        if event.kind == "container" and event.action in TELLING:
            for intent in self._unattached():
                if event.container == intent.container or event.name == intent.reference:
                    self.look(intent.key)

    def check(self, now: float) -> None:
        """Ask after those that are due; once a second."""
        for intent in self._unattached():
            if self._due.get(intent.key, now) <= now:
                self.look(intent.key)

    def look(self, key: str) -> None:
        """Ask after one, soon; nothing if it is no intent."""
        if key in self._rows:
            self._questions.ask(key)

    # the answer

    async def _settle(self, key: str) -> None:
        """Attach it, let it wait, or end it."""
        intent = self._rows.get(key)
        if intent is None or self._attach is None or key in self._agent.journal.rows:
            return  # ended, or attached; what is being taken down asks afterwards
        followed = self._agent.runtimes.following(intent.runtime)
        self._due[key] = time.monotonic() + (ASK_RARELY_S if followed else ASK_S)
        if self._agent.view.is_removed(NetworkId(intent.network)):
            await self.end(intent)
            return
        try:
            found = await self._container(intent)
        except NoContainer:
            await self._gone(intent)
            return
        except RuntimeAway as why:
            self._say(intent, str(why))
            return
        self._gone_since.pop(key, None)
        if found.pid > 1:
            await self._attach_again(self._attach, intent, found)

    async def _container(self, intent: Intent) -> Found:
        """The very container, whatever its name by now; else one that was made under the name."""
        try:
            return await find(intent.runtime, intent.container)
        except NoContainer:
            return await find(intent.runtime, intent.reference)

    async def _gone(self, intent: Intent) -> None:
        now = time.monotonic()
        since = self._gone_since.setdefault(intent.key, now)
        self._due[intent.key] = min(self._due[intent.key], since + GONE_S)
        if now - since >= GONE_S:
            log.info("%s is gone: it is attached no more", intent.wanted.target, extra={"event": "intent_ended"})
            await self.end(intent)

    async def _attach_again(self, attach: AttachAgain, intent: Intent, found: Found) -> None:
        target = intent.wanted.target
        if found.name != intent.reference and not found.id.startswith(intent.reference):
            target = f"{intent.runtime}:{found.name}"  # renamed
        wanted = msgspec.structs.replace(intent.wanted, target=target)
        try:
            await attach(self._agent, wanted, EndpointId(intent.endpoint))
            self._said.pop(intent.key, None)
        except (VxlanuError, OSError) as why:
            if intent.key not in self._rows:
                return  # detached meanwhile
            self._due[intent.key] = time.monotonic() + ASK_S
            self._say(intent, str(why))

    def _say(self, intent: Intent, why: str) -> None:
        """Once for each reason, not at every try."""
        if self._said.get(intent.key) != why:
            log.warning("%s is not attached again yet: %s", intent.wanted.target, why, extra={"event": "intent"})
            self._said[intent.key] = why
