"""The member table: who we know, in which state, and the rules by which news change it.

Rules of this file
  1. Only a member itself raises its stamp (epoch, incarnation). News with an older stamp change nothing; at the same
     stamp alive < suspect < dead < left (SWIM, section 4.2). The epoch is persisted, so a restarted node is newer than
     anything said about its earlier life (memberlist #311: a mass restart with incarnation 1 stays dead).
  2. News about ourselves are refuted with a higher stamp, never believed.
  3. A member's state hides or shows its records; it never deletes them (moby 21d9109750). Only a fence forgets.
  4. DEAD turns GONE after 72 h, or as soon as another live member has its address and port.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .config import Profile
from .effects import Address, MemberChanged, State
from .errors import RemoteError
from .limits import MEMBERS_MAX
from .messages import MemberState
from .out import Outbox
from .pack import convert, pack, unpack
from .records import NodeId

__all__ = ["LIVE", "Member", "MemberTable", "Stamp", "is_news", "member_of"]

Stamp = tuple[int, int]  # epoch, incarnation
LIVE = frozenset({State.ALIVE, State.SUSPECT})
_RANK = {State.ALIVE: 0, State.SUSPECT: 1, State.DEAD: 2, State.GONE: 2, State.LEFT: 3}


@dataclass(slots=True)
class Member:
    """One row. `since`: when it entered `state`, on our clock. `rtt`: of the last probe it answered itself, seconds."""

    id: NodeId
    name: str
    address: Address
    stamp: Stamp
    instance: int
    state: State
    since: float
    rtt: float | None = None


class MemberTable:
    """All members, ourselves among them."""

    def __init__(self, me: NodeId, profile: Profile, out: Outbox) -> None:
        self.me = me
        self.by_id: dict[NodeId, Member] = {}
        self.not_alive: list[NodeId] = []  # who stopped being alive: nobody waits for their confirmations
        self._profile = profile
        self._out = out

    def __len__(self) -> int:
        return len(self.by_id)

    def others(self, *states: State) -> Iterator[Member]:
        """Members in these states, without ourselves."""
        return (member for member in self.by_id.values() if member.state in states and member.id != self.me)

    def live_count(self) -> int:
        """Alive and suspect members, ourselves included: the n of SWIM's formulas."""
        return sum(member.state in LIVE for member in self.by_id.values())

    def is_live(self, node: NodeId) -> bool:
        """Whether it can be asked, ourselves included."""
        member = self.by_id.get(node)
        return member is not None and member.state in LIVE

    def electorate(self) -> int:
        """All unforgotten members that have not left: what a majority is a majority of."""
        return sum(member.state is not State.LEFT for member in self.by_id.values())

    def add(self, member: Member) -> None:
        """A member that is new to us; over the limit it is refused and counted."""
        if len(self.by_id) >= MEMBERS_MAX:
            self._out.counters["members_over_limit"] += 1
            raise RemoteError("too_many_members", str(MEMBERS_MAX))
        self.by_id[member.id] = member
        self._store(member)
        self._announce(member, None, member.state)

    def refresh(self, member: Member, name: str, address: Address, stamp: Stamp, instance: int) -> None:
        """Newer facts about a member, by its own word."""
        moved = (member.name, member.address) != (name, address)
        member.name, member.address, member.stamp, member.instance = name, address, stamp, instance
        self._store(member)
        if moved:
            self._out.changed(("member", member.id, b""))

    def move(self, member: Member, state: State, since: float) -> None:
        """Into another state."""
        before = member.state
        if before is state:
            return
        member.state, member.since = state, since
        self._store(member)
        self._announce(member, before, state)

    def forget(self, node: NodeId) -> None:
        """Out of the table."""
        member = self.by_id.pop(node, None)
        if member is not None:
            self._out.erase("member", node)
            self._announce(member, member.state, None)

    def supersede(self, newcomer: Member, now: float) -> None:
        """Whoever is dead at the address and port of a live member does not come back there."""
        for member in list(self.others(State.DEAD)):
            if member.address == newcomer.address and member.id != newcomer.id:
                self.move(member, State.GONE, now)

    def age(self, now: float) -> None:
        """DEAD for 72 h becomes GONE; LEFT for 72 h is forgotten."""
        life = self._profile.dead_until_gone
        for member in list(self.by_id.values()):
            if now - member.since >= life and member.id != self.me:
                if member.state is State.DEAD:
                    self.move(member, State.GONE, now)
                elif member.state is State.LEFT:
                    self.forget(member.id)

    def rows(self, now: float) -> list[MemberState]:
        """The list as it is sent to others."""
        return [
            MemberState(m.id, m.name, *m.address, *m.stamp, m.instance, m.state, max(0.0, now - m.since))
            for m in self.by_id.values()
        ]

    def load(self, row: bytes, now: float) -> None:
        """A row of the state directory. Its state stands until we have met the cluster: forwarding goes on."""
        state = convert(unpack(row, 4096), MemberState)
        member = member_of(state, now)
        if member.state is State.SUSPECT:
            member.state = State.ALIVE  # the accusation did not survive the restart; a new probe will tell
        if member.id != self.me:
            self.by_id[member.id] = member

    def _store(self, member: Member) -> None:
        if member.id == self.me:
            return
        age = 0.0  # a restart starts the 72 h anew: monotonic clocks do not survive it, and patience harms nobody
        row = MemberState(member.id, member.name, *member.address, *member.stamp, member.instance, member.state, age)
        self._out.persist("member", member.id, pack(row))

    def _announce(self, member: Member, before: State | None, after: State | None) -> None:
        if before is State.ALIVE:
            self.not_alive.append(member.id)
        self._out.add(MemberChanged(member.id, member.name, before, after))
        self._out.changed(("member", member.id, b""))


def member_of(row: MemberState, now: float) -> Member:
    """A table row from a sent or stored one; RemoteError when its state has no name."""
    try:
        state = State(row.state)
    except ValueError as error:
        raise RemoteError("wrong_shape", f"member state {row.state[:20]!r}") from error
    stamp = (row.epoch, row.incarnation)
    return Member(row.node, row.name, (row.host, row.port), stamp, row.instance, state, now - row.age)


def is_news(member: Member, stamp: Stamp, state: State) -> bool:
    """Whether saying `state` at `stamp` beats what the table says (rule 1)."""
    return stamp > member.stamp or (stamp == member.stamp and _RANK[state] > _RANK[member.state])
