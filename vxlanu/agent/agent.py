"""`Agent`: the parts of one host, and what they tell each other.

Rules of this file
  1. Wiring only. What a request means is in attach, networks and service; what a record means is in reconcile.
  2. Everything here runs on the loop; nothing blocks it. Work that follows from an event is a task that the agent
     keeps, so that its failure is logged and the stop ends it.

A fact's way: control → `_changed` → reconcile → data plane. An event's way back: data plane → `_drain` → attach.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vxlanu.agent.advertise import Underlay
from vxlanu.agent.drops import DropLog
from vxlanu.agent.egress import egress_of
from vxlanu.agent.feed import Feed
from vxlanu.agent.injection import Injection
from vxlanu.agent.journal import EndpointJournal
from vxlanu.agent.kept import Kept
from vxlanu.agent.keys import Stamps
from vxlanu.agent.ladder import Ladder
from vxlanu.agent.names import Names
from vxlanu.agent.netcheck import Netcheck
from vxlanu.agent.observer import Observer
from vxlanu.agent.paths import Paths
from vxlanu.agent.supervisor import Supervisor
from vxlanu.agent.traffic import Traffic
from vxlanu.agent.watchdog import feed
from vxlanu.api.schema import Event as Told
from vxlanu.capture.session import Captures
from vxlanu.config import AgentConfig
from vxlanu.control.core.effects import (
    Changed,
    Effect,
    IdentityTaken,
    Joined,
    JoinFailed,
    MemberChanged,
    NameTaken,
    SurveyAnswered,
    SurveyAsked,
    WrongKey,
)
from vxlanu.control.core.view import EndpointView, View
from vxlanu.control.net import ControlPlane
from vxlanu.dataplane import Dataplane, Event, EventKind
from vxlanu.endpoints import Endpoints, LocalEndpoint
from vxlanu.gateway.service import Services
from vxlanu.netns import EndOfLifeWatch
from vxlanu.nsopen import NamespaceHelper
from vxlanu.reconcile import Reconciler
from vxlanu.runtimes.docker.ledger import Ledger
from vxlanu.runtimes.following import Runtimes
from vxlanu.runtimes.intents import Intents

if TYPE_CHECKING:  # they need an agent, which they get
    from vxlanu.runtimes.docker.plugin import DockerPlugin

log = logging.getLogger("vxlanu.agent")

HOUSEKEEPING_S = 1.0  # reclaiming memory and expiring soft state; both are specified in seconds
TAKE_DOWN_S = 5.0  # between two tries
HELPER_PAUSE_S = 1.0  # between two starts of the namespace helper
STUCK_AFTER_S = 10.0  # a worker's turn takes at most milliseconds


@dataclass(slots=True)
class Leaving:
    """An endpoint that is being taken down: what it was, and whether that is over. It stays here when it failed."""

    view: EndpointView | None
    said: str = ""  # why it failed, as the log has it
    over: asyncio.Event = field(default_factory=asyncio.Event)
    since: float = field(default_factory=time.monotonic)


class Agent:
    """One host's agent. Made with its parts open; `wire` connects them, `unwire` ends what runs by itself."""

    def __init__(
        self,
        config: AgentConfig,
        underlay: Underlay,
        helper: NamespaceHelper,
        journal: EndpointJournal,
        control: ControlPlane,
        dataplane: Dataplane,
        ladder: Ladder,
        kept: Kept,
    ) -> None:
        self.config = config
        self.underlay = underlay
        self.helper = helper
        self.journal = journal
        self.control = control
        self.dataplane = dataplane
        self.ladder = ladder
        self.kept = kept
        self.reconciler = Reconciler(control.core.view, dataplane, control.core.node)
        watch = EndOfLifeWatch(asyncio.get_running_loop())
        self.endpoints = Endpoints(helper, watch, self.vanished, ladder.tap_queues(dataplane.workers))
        self.egress, self.services = egress_of(self, journal.store), Services(self)
        self.paths, self.injection = Paths(helper, dataplane), Injection(helper, dataplane, underlay)
        self.netcheck, self.names = Netcheck(self), Names(self)
        self.runtimes, self.intents = Runtimes(self), Intents(self, journal.store)
        self.traffic, self.drop_log = Traffic(dataplane), DropLog(self)
        self.feed, self.keys = Feed(), Stamps()
        self.observer, self.captures = Observer(self, self.feed), Captures(self)
        self.opened: dict[str, LocalEndpoint] = {}
        self.names_in_use: set[tuple[bytes, str]] = set()
        self.leaving, self.ended = dict[str, Leaving](), set[str]()
        self.started, self.stopping = time.monotonic(), asyncio.Event()
        self.failure: Effect | None = None
        self.leave_on_stop, self.wrong_key = False, ""
        self.pid, self.docker_before = os.getpid(), tuple(Ledger(journal.store).addresses.values())
        self.docker: DockerPlugin | None = None
        self.take_down: Callable[[Agent, str], Coroutine[None, None, None]] | None = None
        self._tasks, self._unwired = set[asyncio.Task[None]](), False
        self._beats: dict[int, tuple[int, float]] = {}

    @property
    def view(self) -> View:
        """The records as questions."""
        return self.control.core.view

    @property
    def supervisor(self) -> Supervisor:
        """The service manager, if there is one."""
        return self.kept.supervisor

    def wire(self) -> None:
        """Let events flow."""
        self.control.subscribe(self._changed)
        self.control.on_event(self._happened)
        asyncio.get_running_loop().add_reader(self.dataplane.event_fd(), self._drain)
        self.spawn(self._housekeep())
        self.spawn(self._keep_helper())
        self.spawn(self.paths.run())
        self.spawn(self.injection.run())
        self.spawn(feed(self.supervisor, self.dataplane.heartbeats))

    async def unwire(self) -> None:
        """End the events, the tasks, then the gateways, which tasks would make anew. Nothing is begun from here on."""
        self._unwired = True
        asyncio.get_running_loop().remove_reader(self.dataplane.event_fd())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.services.close()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run something that nobody waits for; a failure is logged, not lost."""
        if self._unwired:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed", exc_info=task.exception(), extra={"event": "task_failed"})

    def release_network(self, network: bytes) -> None:
        """Take a network out of the tables when no endpoint of this host is left in it."""
        if not any(row.network == network for row in self.journal.rows.values()):
            self.services.drop(network)
            self.reconciler.let_go(network)

    def vanished(self, endpoint: str) -> None:
        """An endpoint's namespace ended: take the endpoint down, everywhere."""
        if endpoint in self.journal.rows and endpoint not in self.leaving and self.take_down:
            log.info("the namespace of endpoint %s is gone", endpoint[:12], extra={"event": "vanished"})
            self.spawn(self.take_down(self, endpoint))

    def _changed(self, change: Changed) -> None:
        self.reconciler.changed(change.keys)
        self.names.changed(change.keys)
        self.observer.changed(change)
        self.keys.changed(change.keys)
        self.captures.changed()

    def _happened(self, effect: Effect) -> None:
        """What the control plane reports beside changes of the records."""
        match effect:
            case MemberChanged():
                after = effect.after.value if effect.after else "forgotten"
                log.info("member %s is %s", effect.name, after, extra={"event": "member"})
                self.observer.member(effect)
                self.keys.changed([("node", effect.node, b"")])
            case Joined():
                log.info("joined by way of %s", effect.address[0], extra={"event": "joined"})
            case JoinFailed():
                log.debug("cannot join %s: %s", effect.address[0], effect.why, extra={"event": "join_failed"})
            case WrongKey():
                self.wrong_key = f"{effect.address[0]}: {effect.why}"
                log.warning("%s; the same key file belongs on every host", self.wrong_key, extra={"event": "wrong_key"})
            case SurveyAsked():
                self.netcheck.asked(effect)
            case SurveyAnswered():
                self.netcheck.answered(effect)
            case NameTaken() | IdentityTaken():
                self.failure = effect
                self.stopping.set()
            case _:
                pass

    def _drain(self) -> None:
        for event in self.dataplane.events():
            self.observer.reported(event)  # first: what follows may take away what the event names
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        if event.lost:
            log.debug("%d events of the fast path were lost", event.lost, extra={"event": "events_lost"})
        if event.kind is EventKind.PORT_GONE and event.endpoint:
            self.services.gone(event.endpoint)
            self.vanished(event.endpoint)
        elif event.kind is EventKind.PROBE:
            self.netcheck.probe_came(event)
        elif event.kind is EventKind.PATH_MTU:
            log.warning("path MTU to %s is %d now", event.vtep, event.value, extra={"event": "path_mtu"})
            if event.vtep is not None:
                self.paths.lowered(event.vtep)
        elif event.kind is EventKind.INJECT_REFUSED:
            self.injection.refused(event.vtep, event.value)
        elif event.kind is EventKind.VTEP_DEMOTED:
            why = os.strerror(event.value)
            log.warning("UDP_SEGMENT fails to %s (%s): unused", event.vtep, why, extra={"event": "vtep_demoted"})
        else:
            log.debug("%s", event, extra={"event": event.kind.value})

    async def _keep_helper(self) -> None:
        """Start the namespace helper again whenever it ends: at once, but never twice in a second."""
        while True:
            await self.helper.ended()
            log.error("the namespace helper ended: starting it again", extra={"event": "helper"})
            try:
                self.helper.restart()
                self.feed.tell(Told("helper", state="restarted", node=self.config.name))
            except OSError as error:
                log.error("cannot start the namespace helper: %s", error.strerror, extra={"event": "helper"})
            await asyncio.sleep(HELPER_PAUSE_S)

    async def _housekeep(self) -> None:
        """Each by itself: what one of them stumbles over must not end the reclaiming of memory, nor fill the log."""
        chores: dict[str, Callable[[float], None]] = {
            "the data plane": lambda _: self.dataplane.housekeep(),
            "paths": self.paths.check,
            "injection": self.injection.check,
            "gateways": self.services.check,
            "traffic": self.traffic.look,
            "events": self.observer.look,
            "drops": self.drop_log.look,
            "egress": self.egress.look,
            "intents": self.intents.check,
            "endpoints": self._take_down_again,
            "workers": self._watch_workers,
            "Docker's addresses": lambda now: self.docker.look(now) if self.docker else None,
        }
        stumbled: set[str] = set()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            for name, chore in chores.items():
                try:
                    chore(time.monotonic())
                except Exception:
                    if name not in stumbled:
                        log.exception("housekeeping of %s failed", name, extra={"event": "internal"})
                    stumbled.add(name)

    def _take_down_again(self, now: float) -> None:
        """What failed halfway: nothing else would ever ask for it, for its end was told."""
        for key, leaving in list(self.leaving.items()):
            if leaving.over.is_set() and now - leaving.since >= TAKE_DOWN_S and self.take_down:
                self.spawn(self.take_down(self, key))

    def _watch_workers(self, now: float) -> None:
        """Say it, once, when a worker makes no turn any more."""
        for worker, beat in enumerate(self.dataplane.heartbeats()):
            before, since = self._beats.get(worker, (-1, now))
            if beat != before:
                self._beats[worker] = (beat, now)
            elif now - since > STUCK_AFTER_S:
                log.error("worker %d has been stuck for %.0f s", worker, now - since, extra={"event": "stuck"})
                self._beats[worker] = (beat, now)
