"""`netcheck`: which ways are open between this host and each member, every port and direction by itself.

How it works
  For each member, at once: probes to its data port (probes.py), the question of control/core/survey.py by datagram and
  by stream. The member sends probes to us, tries a stream to us, and answers with what of ours it saw. Each way that
  something came by is open. What can be known only from the member stays unknown where no answer comes; but an agent
  also returns one short probe for the first of a survey, so that an open data port shows even then.

Rules of this file
  1. `unknown` is said wherever nothing was observed: a shut way back must not be read as a shut way there.
  2. One netcheck at a time, few members at once. Nobody but a member gets anything from us (survey.py, `_returned`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vxlanu.agent import probes
from vxlanu.agent.probes import BACK, ECHO, QUESTION, Arrivals, Token
from vxlanu.api import schema
from vxlanu.control.core.effects import State, SurveyAnswered, SurveyAsked
from vxlanu.control.core.messages import Surveyed
from vxlanu.control.core.view import MemberView
from vxlanu.control.ways import OPEN, SILENT
from vxlanu.dataplane import Event
from vxlanu.errors import VxlanuError

if TYPE_CHECKING:
    from vxlanu.agent.agent import Agent

log = logging.getLogger("vxlanu.netcheck")

UNKNOWN = "unknown"
AT_ONCE = 16  # members: half a megabyte of probes
ASK_TIMES, ASK_PAUSE_S = 3, 0.2  # datagrams may be lost without a firewall
WINDOW_S = 0.6  # how long the member waits for our probes after the question: both rounds, and a long path
PATIENCE_S = 2.0  # for a connection: longer than the first repeated SYN (1 s)
SLACK_S = 1.0
DEFAULT_MTU = {4: 1450, 6: 1430}


@dataclass
class _Survey:
    """One running question of ours."""

    number: int
    data_host: str
    found: Surveyed | None = None
    by_datagram: bool = False
    stream: str = UNKNOWN
    refused: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)


class Netcheck:
    """Asks, and serves those who ask."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._arrivals = Arrivals()
        self._running: dict[int, _Survey] = {}
        self._turn = asyncio.Lock()
        # The asked one must answer before the stream of the question times out.
        self._patience_s = min(PATIENCE_S, 0.6 * agent.control.stream_timeout)

    # asking

    async def check(self, members: Sequence[MemberView]) -> schema.Netcheck:
        """Try the ways to and from `members`."""
        agent, begun = self._agent, time.monotonic()
        needed, network = self._needed()
        hosts = [view.node.data_host if view.node else view.address[0] for view in members]
        async with self._turn:
            routes = await self._widths(hosts)
            slots = asyncio.Semaphore(AT_ONCE)

            async def one(view: MemberView, host: str) -> schema.Reach:
                async with slots:
                    return await self._check_one(view, needed, routes.get(host, 0))

            found = await asyncio.gather(*(one(view, host) for view, host in zip(members, hosts, strict=True)))
        return schema.Netcheck(
            node=agent.config.name,
            address=agent.underlay.address,
            ifname=agent.underlay.ifname,
            control_port=agent.config.control_port,
            data_port=agent.config.data_port,
            needed_bytes=needed,
            needed_by=network,
            link_mtu=agent.underlay.mtu,
            members=list(found),
            took_s=round(time.monotonic() - begun, 2),
        )

    async def _widths(self, hosts: Sequence[str]) -> dict[str, int]:
        """The largest packet towards each by link and route; nothing where that cannot be asked."""
        try:
            return await self._agent.helper.path_mtus(hosts)
        except VxlanuError as error:
            log.warning("cannot read the paths to other hosts: %s", error, extra={"event": "paths"})
            return {}

    def _needed(self) -> tuple[int, str]:
        """The longest outer packet that networks of this host make, and which network."""
        agent = self._agent
        wanted = {view.body.mtu: view.name for view in agent.view.networks() if view.id in agent.dataplane.networks()}
        if not wanted:
            wanted = {DEFAULT_MTU[6 if ":" in agent.underlay.address else 4]: ""}
        mtu = max(wanted)
        return mtu + agent.underlay.overhead, wanted[mtu]

    async def _check_one(self, view: MemberView, needed: int, route_mtu: int) -> schema.Reach:
        node = view.node
        survey = _Survey(random.getrandbits(32), node.data_host if node else view.address[0])
        self._running[survey.number] = survey
        try:
            sending = [self._ask(view, survey, needed), self._ask_by_stream(view, survey, needed)]
            if node:
                sending.append(self._send(survey, node.data_port, QUESTION, needed, route_mtu))
            await asyncio.gather(*sending)
        finally:
            del self._running[survey.number]
        return self._judged(view, survey, route_mtu)

    async def _send(self, survey: _Survey, port: int, kind: int, needed: int, link: int) -> None:
        lengths = probes.lengths_to_try(needed, link or self._agent.underlay.mtu)
        own = self._agent.underlay.address
        survey.refused = await probes.send(own, (survey.data_host, port), survey.number, kind, lengths)

    async def _ask(self, view: MemberView, survey: _Survey, needed: int) -> None:
        """By datagram, some times; until an answer came by one, or it is too late for that."""
        for _ in range(ASK_TIMES):
            self._agent.control.ask_survey(view.id, survey.number, needed)
            if await _within(survey.came.wait(), ASK_PAUSE_S):
                return
        await _within(survey.came.wait(), WINDOW_S + self._patience_s + SLACK_S - ASK_TIMES * ASK_PAUSE_S)

    async def _ask_by_stream(self, view: MemberView, survey: _Survey, needed: int) -> None:
        seconds = self._patience_s + WINDOW_S
        survey.stream, found = await self._agent.control.ask_survey_by_stream(
            view.address, survey.number, needed, seconds
        )
        survey.found = found or survey.found

    def _judged(self, view: MemberView, survey: _Survey, route_mtu: int) -> schema.Reach:
        """What all that came means."""
        came = {kind: self._arrivals.lengths(survey.data_host, survey.number, kind) for kind in (ECHO, BACK)}
        found, node = survey.found, view.node
        sizes = list(found.sizes) if found else []
        asked = found is not None or bool(came[BACK])
        by_datagram = found.by_datagram if found else bool(came[BACK]) and survey.stream != OPEN
        out = OPEN if sizes or came[ECHO] else SILENT if found else UNKNOWN
        return schema.Reach(
            id=view.id.hex(),
            name=view.name,
            state=view.state.value,
            address=view.address[0],
            control_port=view.address[1],
            data_address=survey.data_host,
            data_port=node.data_port if node else 0,
            version=node.version if node else "",
            answered=found is not None,
            control_udp_out=OPEN if by_datagram else SILENT if asked else UNKNOWN,
            control_udp_in=OPEN if survey.by_datagram else SILENT if asked else UNKNOWN,
            control_tcp_out=survey.stream,
            control_tcp_in=found.stream_back if found else UNKNOWN,
            data_out=os.strerror(survey.refused) if survey.refused and out != OPEN else out,
            data_in=OPEN if came[BACK] or came[ECHO] else SILENT if asked else UNKNOWN,
            data_out_bytes=max(sizes, default=0),
            data_in_bytes=max(came[BACK], default=0),
            route_mtu=route_mtu,
        )

    # being asked

    def asked(self, effect: SurveyAsked) -> None:
        """A member asks which ways lead to it."""
        self._agent.spawn(self._serve(effect))

    async def _serve(self, effect: SurveyAsked) -> None:
        agent = self._agent
        view = agent.view.member(effect.node)
        if view is None:
            return
        host = view.node.data_host if view.node else view.address[0]
        window = asyncio.get_running_loop().time() + WINDOW_S
        async with asyncio.TaskGroup() as both:
            both.create_task(self._probe_back(view, effect))
            stream_back = await agent.control.try_stream(view.address, self._patience_s)
        await asyncio.sleep(max(0.0, window - asyncio.get_running_loop().time()))
        sizes = self._arrivals.lengths(host, effect.number, QUESTION)
        found = Surveyed(effect.number, agent.control.core.node, stream_back=stream_back, sizes=sizes)
        agent.control.answer_survey(effect.node, found)

    async def _probe_back(self, view: MemberView, effect: SurveyAsked) -> None:
        if view.node is None:
            return
        width = (await self._widths([view.node.data_host])).get(view.node.data_host, 0)
        await self._send(_Survey(effect.number, view.node.data_host), view.node.data_port, BACK, effect.length, width)

    def answered(self, effect: SurveyAnswered) -> None:
        """An answer came by a datagram."""
        survey = self._running.get(effect.number)
        if survey is not None:
            survey.found = survey.found or effect.found
            survey.by_datagram = True
            survey.came.set()

    # probes

    def probe_came(self, event: Event) -> None:
        """The data plane saw a probe."""
        token, member = Token.read(event.value), self._returned(event.address)
        if member is None:
            return
        first = self._arrivals.note(event.address, token)
        if first and token.kind == QUESTION:
            self._agent.spawn(_echo(self._agent.underlay.address, member, token.survey))

    def _returned(self, sender: str) -> tuple[str, int] | None:
        """Where a probe of `sender` is returned to: only to members."""
        for view in self._agent.view.members():
            if view.node and view.node.data_host == sender and view.state is not State.LEFT and not view.me:
                return sender, view.node.data_port
        return None


async def _echo(own: str, to: tuple[str, int], survey: int) -> None:
    await probes.send(own, to, survey, ECHO, (probes.SHORT,))


async def _within(waiting: Coroutine[object, object, bool], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await waiting
    except TimeoutError:
        return False


def everyone(agent: Agent) -> list[MemberView]:
    """The members that netcheck asks unless told otherwise: all that may come back, the dead too."""
    return [it for it in agent.view.members() if not it.me and it.state is not State.LEFT]

