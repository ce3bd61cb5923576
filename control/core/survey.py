"""The survey: a member is asked to try the ways back to us, so that each direction of each port is judged by itself.

    asker                                              asked
    Survey, by datagram (repeated) and by stream --->  SurveyAsked, once
                                                       its agent tries our ports, notes what of ours arrived
      <--- Surveyed, by datagram and on the streams    answer()

That a Survey came by a datagram, or by a stream, says that this way is open; that the answer came, says it of the other
way. What is tried and for how long is the agent's (vxlanu/agent/netcheck.py): no packet but these two is made here.

Rules of this file
  1. Only a member's question from the member's own address counts: being asked makes us send.
  2. Few run at once, and one per member; what is asked beyond that is counted and dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from .effects import Address, StreamId, SurveyAnswered, SurveyAsked
from .limits import SURVEYS_MAX
from .members import MemberTable
from .messages import Survey, Surveyed
from .out import Outbox
from .records import NodeId

__all__ = ["Surveys"]

_LIFE = 10.0  # seconds; an agent answers within a third of that


@dataclass(slots=True)
class _Asked:
    """A question that our agent works on."""

    number: int
    until: float
    by_datagram: bool = False
    streams: list[StreamId] = field(default_factory=list)


class Surveys:
    """Questions to us, and answers to ours."""

    def __init__(self, table: MemberTable, out: Outbox) -> None:
        self._table = table
        self._out = out
        self._asked: dict[NodeId, _Asked] = {}

    def ask(self, node: NodeId, number: int, length: int) -> None:
        """Ask by one datagram; nothing if there is no such member."""
        member = self._table.by_id.get(node)
        if member is not None:
            self._out.send(member.address, Survey(number, self._table.me, length))

    def question(self, number: int, length: int) -> bytes:
        """The same as a frame, for a stream that the shell has opened."""
        return self._out.wire.frame(Survey(number, self._table.me, length))

    def came(self, message: Survey, addr: Address, stream: StreamId | None, now: float) -> bool:
        """Somebody asks us. False: it is none of our business, the stream may close."""
        member = self._table.by_id.get(message.node)
        if member is None or member.address[0] != addr[0] or message.node == self._table.me:
            self._out.counters["survey_of_stranger"] += 1
            return False
        for node in [node for node, asked in self._asked.items() if asked.until <= now]:
            del self._asked[node]
        asked = self._asked.get(message.node)
        if asked is None:
            if len(self._asked) >= SURVEYS_MAX:
                self._out.counters["surveys_over_limit"] += 1
                return False
            asked = self._asked[message.node] = _Asked(message.survey, now + _LIFE)
            self._out.add(SurveyAsked(message.node, message.survey, message.length))
        if asked.number != message.survey or len(asked.streams) >= SURVEYS_MAX:
            return False
        if stream is None:
            asked.by_datagram = True
        else:
            asked.streams.append(stream)
        return True

    def answer(self, node: NodeId, number: int, found: Surveyed) -> list[StreamId]:
        """Say what was `found`, by a datagram and on every stream that asked. Returns those, to be closed."""
        asked = self._asked.get(node)
        member = self._table.by_id.get(node)
        if asked is None or asked.number != number or member is None:
            return []
        del self._asked[node]
        whole = msgspec.structs.replace(found, by_datagram=asked.by_datagram, by_stream=bool(asked.streams))
        self._out.send(member.address, whole)
        self._out.send(member.address, whole)  # a lost one would look like a closed port
        for stream in asked.streams:
            self._out.frame(stream, whole)
        return asked.streams

    def answered(self, message: Surveyed) -> None:
        """An answer to us came by a datagram."""
        self._out.add(SurveyAnswered(message.node, message.survey, message))
