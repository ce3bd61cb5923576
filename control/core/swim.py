"""SWIM: news about members, told and judged.

How it works
  Messages change the table by the rules of members.py; what changed is queued as gossip and rides on pings (probe.py)
  and on gossip ticks while there is something to tell. An idle cluster sends one ping and one ack per second and node.

Nothing is said and nobody is accused before `start`: a node that has not met the cluster since its start keeps the
states it knew, so that a blocked control port never empties a flood list.
"""

from __future__ import annotations

from .awareness import Awareness
from .config import Config, Rng
from .effects import Address, State
from .gossip import GossipQueue
from .members import LIVE, Member, MemberTable, Stamp, is_news, member_of
from .messages import Alive, Dead, MemberState, Message, Suspect
from .out import Outbox
from .records import NodeId
from .suspicion import Suspicion, accuse, retransmit_limit

__all__ = ["Swim"]

_REFUTE_DIRECTLY = 16  # members that hear a refutation from us, beside gossip: all of a small cluster
_AGING_INTERVAL = 60.0  # how late a 72 h limit may be noticed


class Swim:
    """Membership of one node."""

    def __init__(self, config: Config, table: MemberTable, out: Outbox, rng: Rng, now: float, stamp: Stamp) -> None:
        self.table = table
        self.awareness = Awareness(config.profile.awareness_max)
        self.started = False
        self.leaving = False
        self.stale_epoch = -1  # an epoch of ours that others know and that is not below ours: the core must pass it
        self.clones: list[Address] = []  # where our identity seems to live too; the core asks there
        self.fences: dict[NodeId, int] = {}  # node -> epoch up to which it is forgotten
        self._profile = config.profile
        self._out = out
        self._rng = rng
        self._queue = GossipQueue()
        self._suspicions: dict[NodeId, Suspicion] = {}
        self._next_gossip: float | None = None
        self._next_aging = now + _AGING_INTERVAL
        instance = rng.getrandbits(48) | 1
        me = Member(
            config.node, config.name, (config.control_host, config.control_port), stamp, instance, State.ALIVE, now
        )
        table.by_id[config.node] = me
        self.me = me

    # what we say

    def start(self, now: float) -> None:
        """We have met the cluster, or there is none to meet: begin to take part."""
        if not self.started:
            self.started = True
            self._tell_about_me(now)

    def restamp(self, epoch: int, now: float) -> None:
        """A new epoch of ours."""
        self.me.stamp = (epoch, 0)
        self._out.changed(("member", self.me.id, b""))
        if self.started:
            self._tell_about_me(now)

    def alive_message(self, member: Member) -> Alive:
        """What we know of a live member, as news."""
        return Alive(member.id, member.name, *member.address, *member.stamp, member.instance)

    def piggyback(self, room: int) -> list[bytes]:
        """News for the rest of a datagram."""
        return self._queue.take(room, retransmit_limit(self.table.live_count(), self._profile)) if self.started else []

    def leave(self, now: float) -> None:
        """Tell every live member three times; each tells others too."""
        self.leaving = True
        goodbye = Dead(self.me.id, *self.me.stamp, self.me.id)
        for _ in range(3):
            for member in self.table.others(*LIVE):
                self._out.send(member.address, goodbye)
        self.table.move(self.me, State.LEFT, now)

    # what we hear

    def hear(self, message: Message, now: float) -> None:
        """One piece of news."""
        match message:
            case Alive():
                self._alive(message, now)
            case Suspect():
                self._suspect(message.node, (message.epoch, message.incarnation), message.by, now)
            case Dead():
                self._dead(message.node, (message.epoch, message.incarnation), message.by, now)

    def hear_list(self, rows: list[MemberState], teller: NodeId, now: float) -> None:
        """A peer's member list. Its dead are only suspects to us (memberlist mergeState), if we thought them alive."""
        for row in rows:
            member = member_of(row, now)
            if member.state is State.ALIVE or member.id == self.me.id:
                self._alive(self.alive_message(member), now)
            elif member.id not in self.table.by_id:
                self._learn_absent(member)
            if member.state is State.LEFT:
                self._dead(member.id, member.stamp, member.id, now)
            elif member.state is not State.ALIVE:
                self._suspect(member.id, member.stamp, teller, now)

    def accuse(self, node: NodeId, now: float) -> None:
        """Our own probe failed."""
        member = self.table.by_id.get(node)
        if member is not None:
            self._suspect(node, member.stamp, self.me.id, now)

    def met(self, member: Alive, now: float) -> None:
        """A peer that we speak with on a stream right now: alive beyond doubt, whatever gossip says at its stamp."""
        known = self.table.by_id.get(member.node)
        if known is not None and known.state not in LIVE and (member.epoch, member.incarnation) == known.stamp:
            self.table.move(known, State.SUSPECT, now)  # it will refute; then its stamp is higher than the rumour's
            self._suspicions[known.id] = accuse(known.id, self.me.id, self.table.live_count(), self._profile, now)
        self._alive(member, now)

    def fence(self, node: NodeId, epoch: int) -> None:
        """Forget a member up to an epoch, for ever."""
        self.fences[node] = max(epoch, self.fences.get(node, -1))
        if node == self.me.id:
            if self.me.stamp[0] <= epoch:
                self.stale_epoch = max(self.stale_epoch, epoch)
            return
        member = self.table.by_id.get(node)
        if member is not None and member.stamp[0] <= epoch:
            self._suspicions.pop(node, None)
            self._queue.drop(node)
            self.table.forget(node)

    # timers

    def next_timer(self) -> float:
        """When something is due."""
        times = [suspicion.deadline() for suspicion in self._suspicions.values()]
        if self._next_gossip is not None:
            times.append(self._next_gossip)
        return min([self._next_aging, *times])

    def handle_timer(self, now: float) -> None:
        """Declare the undefended dead, gossip, age."""
        for node, suspicion in list(self._suspicions.items()):
            if suspicion.deadline() <= now:
                member = self.table.by_id[node]
                self._dead(node, member.stamp, self.me.id, now)
        if self._next_gossip is not None and now >= self._next_gossip:
            self._gossip(now)
        if now >= self._next_aging:
            self._next_aging = now + _AGING_INTERVAL
            self.table.age(now)

    def _gossip(self, now: float) -> None:
        profile = self._profile
        candidates = list(self.table.others(*LIVE))
        candidates += [m for m in self.table.others(State.DEAD) if now - m.since < profile.gossip_to_the_dead]
        for member in self._rng.sample(candidates, min(profile.gossip_nodes, len(candidates))):
            news = self.piggyback(self._out.wire.room)
            if news:
                self._out.send_encoded(member.address, news)
        self._next_gossip = now + profile.gossip_interval if len(self._queue) and candidates else None

    def _tell(self, about: NodeId, message: Message, now: float) -> None:
        self._queue.tell(about, message)
        if self._next_gossip is None:
            self._next_gossip = now if not self.started else now + self._profile.gossip_interval * self._rng.random()

    def _tell_about_me(self, now: float) -> None:
        self._tell(self.me.id, self.alive_message(self.me), now)

    # the rules

    def _alive(self, news: Alive, now: float) -> None:
        stamp = (news.epoch, news.incarnation)
        address = (news.host, news.port)
        if news.node == self.me.id:
            self._alive_me(news, stamp, now)
            return
        if news.epoch <= self.fences.get(news.node, -1):
            return
        member = self.table.by_id.get(news.node)
        if member is None:
            member = Member(news.node, news.name, address, stamp, news.instance, State.ALIVE, now)
            self.table.add(member)
        elif stamp > member.stamp:
            self.table.refresh(member, news.name, address, stamp, news.instance)
            self.table.move(member, State.ALIVE, now)
            self._suspicions.pop(member.id, None)
        else:
            return
        self.table.supersede(member, now)
        self._tell(member.id, news, now)

    def _alive_me(self, news: Alive, stamp: Stamp, now: float) -> None:
        """Someone says that we are alive with a stamp or an instance that is not ours."""
        if news.instance == self.me.instance:
            return
        if (news.host, news.port) != self.me.address and stamp[0] >= self.me.stamp[0]:
            self.clones.append((news.host, news.port))
        if stamp[0] >= self.me.stamp[0]:
            self.stale_epoch = max(self.stale_epoch, stamp[0])

    def _suspect(self, node: NodeId, stamp: Stamp, by: NodeId, now: float) -> None:
        member = self.table.by_id.get(node)
        if member is None or stamp < member.stamp:
            return
        if node == self.me.id:
            self._refute(stamp, now)
            return
        running = self._suspicions.get(node)
        if running is not None:
            confirmed = running.confirm(by)
            if confirmed is not running:
                self._suspicions[node] = confirmed
                self._tell(node, Suspect(node, *stamp, by), now)
            return
        if not is_news(member, stamp, State.SUSPECT) or not self.started:
            return
        member.stamp = stamp
        self._suspicions[node] = accuse(node, by, self.table.live_count(), self._profile, now)
        self.table.move(member, State.SUSPECT, now)
        self._tell(node, Suspect(node, *stamp, by), now)
        self._confront(member, Suspect(node, *stamp, by), by)

    def _dead(self, node: NodeId, stamp: Stamp, by: NodeId, now: float) -> None:
        member = self.table.by_id.get(node)
        state = State.LEFT if by == node else State.DEAD
        if member is None or not is_news(member, stamp, state):
            return
        if node == self.me.id:
            self._refute(stamp, now)
            return
        member.stamp = stamp
        self._suspicions.pop(node, None)
        self.table.move(member, state, now)
        self._tell(node, Dead(node, *stamp, by), now)
        self._confront(member, Dead(node, *stamp, by), by)
        for other in list(self.table.others(State.ALIVE)):
            if other.address == member.address:
                self.table.supersede(other, now)

    def _confront(self, member: Member, accusation: Suspect | Dead, by: NodeId) -> None:
        """Our own accusations go to the accused at once: one that lives refutes them before they have spread."""
        if by == self.me.id:
            self._out.send(member.address, accusation)

    def _learn_absent(self, member: Member) -> None:
        """A member that we never met and that is not there now: known for its blocks, its name and the majority."""
        if member.stamp[0] <= self.fences.get(member.id, -1):
            return
        if member.state is State.SUSPECT:
            member.state = State.ALIVE
        self.table.add(member)

    def _refute(self, stamp: Stamp, now: float) -> None:
        """We are accused, and answer with a higher stamp."""
        if self.leaving:
            return
        if stamp[0] > self.me.stamp[0]:
            self.stale_epoch = max(self.stale_epoch, stamp[0])
            return
        self.me.stamp = (self.me.stamp[0], max(self.me.stamp[1], stamp[1]) + 1)
        self.awareness = self.awareness.moved(1)
        self._tell_about_me(now)
        others = list(self.table.others(*LIVE))
        for member in self._rng.sample(others, min(_REFUTE_DIRECTLY, len(others))):
            self._out.send(member.address, self.alive_message(self.me))
