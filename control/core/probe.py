"""The probe: one member per interval is asked whether it is there, directly and then through others.

    tick --ping--> target
      probe_timeout later, no ack:  pingreq to `indirect_checks` others; each pings for us and says nack if it gets none
      end of the interval, no ack:  accuse

Rules of this file (SWIM section 4.1; memberlist probeNode)
  1. Round robin over a shuffled list, so every member is probed within n intervals; shuffled anew at each wrap.
  2. A target that is not ALIVE gets the accusation with the ping, so that it can refute at once ("buddy system").
  3. Acks are matched by sequence number and target; a late one is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .config import Profile, Rng
from .effects import Address, State
from .members import LIVE, Member
from .messages import Ack, Nack, Ping, PingReq, Suspect, encode_message
from .out import Outbox
from .records import NodeId
from .swim import Swim

__all__ = ["Probe"]


@dataclass(slots=True)
class _Cycle:
    """One running probe."""

    target: NodeId
    seq: int
    began: float
    timeout: float | None  # when to ask others; None: asked
    end: float
    acked: bool = False
    nacks_wanted: int = 0
    nacks: set[Address] = field(default_factory=set)


@dataclass(slots=True)
class _Errand:
    """A ping for somebody else."""

    asker: Address
    asker_seq: int
    target: NodeId
    nack_at: float


class Probe:
    """Failure detection of one node."""

    def __init__(self, swim: Swim, profile: Profile, out: Outbox, rng: Rng, now: float) -> None:
        self._swim = swim
        self._profile = profile
        self._out = out
        self._rng = rng
        self._seq = rng.getrandbits(31)
        self._cycle: _Cycle | None = None
        self._errands: dict[int, _Errand] = {}
        self._queue: list[NodeId] = []
        self._next_tick = now + profile.probe_interval * rng.random()

    def next_timer(self) -> float:
        """When something is due."""
        times = [errand.nack_at for errand in self._errands.values()]
        if self._cycle is not None and self._cycle.timeout is not None and not self._cycle.acked:
            times.append(self._cycle.timeout)
        return min([self._next_tick, *times])

    def handle_timer(self, now: float) -> None:
        """Nacks, indirect pings, the next cycle."""
        for seq, errand in list(self._errands.items()):
            if errand.nack_at <= now:
                del self._errands[seq]
                self._out.send(errand.asker, Nack(errand.asker_seq))
        cycle = self._cycle
        if cycle is not None and cycle.timeout is not None and cycle.timeout <= now and not cycle.acked:
            self._ask_others(cycle)
        if now >= self._next_tick:
            self._conclude(now)
            self._begin(now)

    def ping(self, message: Ping, addr: Address) -> None:
        """Somebody asks for us."""
        me = self._swim.me
        if message.target != me.id:
            self._out.counters["ping_for_another"] += 1
            return
        ack = encode_message(Ack(message.seq, me.id, me.instance))
        self._out.send_encoded(addr, [ack, *self._swim.piggyback(self._out.wire.room - len(ack))])

    def ping_request(self, message: PingReq, addr: Address, now: float) -> None:
        """Somebody asks us to ping for it."""
        if len(self._errands) >= 256:  # more would be a flood: real ones end after probe_timeout
            self._out.counters["pingreq_over_limit"] += 1
            return
        seq = self._next_seq()
        self._errands[seq] = _Errand(addr, message.seq, message.target, now + self._profile.probe_timeout)
        self._out.send((message.host, message.port), Ping(seq, message.target))

    def ack(self, message: Ack, now: float) -> None:
        """An answer to our ping, direct, by an errand, or for one."""
        cycle = self._cycle
        if cycle is not None and message.seq == cycle.seq and message.node == cycle.target:
            self._measure(cycle, now)
            cycle.acked = True
            return
        errand = self._errands.get(message.seq)
        if errand is not None and errand.target == message.node:
            del self._errands[message.seq]
            self._out.send(errand.asker, Ack(errand.asker_seq, message.node, message.instance))

    def _measure(self, cycle: _Cycle, now: float) -> None:
        """The round trip, from the first ack alone, and only while no helper may have sent it."""
        member = self._swim.table.by_id.get(cycle.target)
        if member is not None and cycle.timeout is not None and not cycle.acked:
            member.rtt = now - cycle.began

    def nack(self, message: Nack, addr: Address) -> None:
        """A helper is well, and our target did not answer it."""
        if self._cycle is not None and message.seq == self._cycle.seq:
            self._cycle.nacks.add(addr)

    def _begin(self, now: float) -> None:
        interval = self._swim.awareness.scaled(self._profile.probe_interval)
        self._next_tick = now + interval
        target = self._next_target() if self._swim.started and not self._swim.leaving else None
        if target is None:
            self._cycle = None
            return
        seq = self._next_seq()
        self._cycle = _Cycle(target.id, seq, now, now + self._profile.probe_timeout, now + interval)
        messages = [encode_message(Ping(seq, target.id))]
        if target.state is not State.ALIVE:
            messages.append(encode_message(Suspect(target.id, *target.stamp, self._swim.me.id)))
        room = self._out.wire.room - sum(map(len, messages))
        self._out.send_encoded(target.address, messages + self._swim.piggyback(room))

    def _ask_others(self, cycle: _Cycle) -> None:
        cycle.timeout = None
        target = self._swim.table.by_id.get(cycle.target)
        if target is None:
            return
        helpers = [member for member in self._swim.table.others(State.ALIVE) if member.id != target.id]
        helpers = self._rng.sample(helpers, min(self._profile.indirect_checks, len(helpers)))
        cycle.nacks_wanted = len(helpers)
        for helper in helpers:
            self._out.send(helper.address, PingReq(cycle.seq, target.id, *target.address))

    def _conclude(self, now: float) -> None:
        cycle, self._cycle = self._cycle, None
        if cycle is None:
            return
        if cycle.acked:
            self._swim.awareness = self._swim.awareness.moved(-1)
            return
        missed = cycle.nacks_wanted - len(cycle.nacks) if cycle.nacks_wanted else 1
        self._swim.awareness = self._swim.awareness.moved(missed)
        self._swim.accuse(cycle.target, now)

    def _next_target(self) -> Member | None:
        table = self._swim.table
        for _ in range(2):
            while self._queue:
                member = table.by_id.get(self._queue.pop())
                if member is not None and member.state in LIVE:
                    return member
            self._queue = [member.id for member in table.others(*LIVE)]
            self._rng.shuffle(self._queue)
        return None

    def _next_seq(self) -> int:
        self._seq = (self._seq + 1) & 0xFFFFFFFF
        return self._seq
