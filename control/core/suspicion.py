"""Suspicion: how long an accused member may defend itself.

Rules of this file
  1. Everything that decides *when* a suspect is declared dead is here, and nothing else is.
  2. No clock, no I/O, no randomness: `now` comes in, a deadline goes out.

Lifeguard (arXiv 1707.00788, section IV-B): start with a generous timeout and shorten it with each *independent*
confirmation, so that one slow accuser cannot kill a healthy member, and many accusers can quickly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .config import Profile
from .records import NodeId

__all__ = ["Suspicion", "accuse", "retransmit_limit", "sync_interval"]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One running accusation. Times are in seconds of the core's monotonic clock."""

    accused: NodeId
    accuser: NodeId
    since: float
    shortest: float
    longest: float
    confirmations_wanted: int
    confirmed_by: frozenset[NodeId] = frozenset()

    def confirm(self, by: NodeId) -> Suspicion:
        """Count `by` once; the first accuser confirms nothing by repeating itself, and more than wanted add nothing."""
        if by == self.accuser or by in self.confirmed_by or len(self.confirmed_by) >= self.confirmations_wanted:
            return self
        return replace(self, confirmed_by=self.confirmed_by | {by})

    def deadline(self) -> float:
        """When the accused is declared dead unless it refutes (memberlist: remainingSuspicionTime)."""
        if self.confirmations_wanted < 1:
            return self.since + self.shortest
        fraction = math.log(len(self.confirmed_by) + 1) / math.log(self.confirmations_wanted + 1)
        return self.since + max(self.shortest, self.longest - fraction * (self.longest - self.shortest))


def accuse(accused: NodeId, accuser: NodeId, members: int, profile: Profile, now: float) -> Suspicion:
    """A new accusation in a cluster of `members` (memberlist: suspicionTimeout, and k in suspectNode)."""
    scale = max(1.0, math.log10(max(1, members)))
    shortest = profile.suspicion_mult * scale * profile.probe_interval
    wanted = profile.suspicion_mult - 2
    if members - 2 < wanted:
        wanted = 0  # too few others to ever confirm: do not wait for them
    return Suspicion(accused, accuser, now, shortest, profile.suspicion_max_mult * shortest, wanted)


def retransmit_limit(members: int, profile: Profile) -> int:
    """How often one gossip message is sent (memberlist: retransmitLimit)."""
    return profile.retransmit_mult * math.ceil(math.log10(members + 1))


def sync_interval(members: int, profile: Profile) -> float:
    """Time between two exchanges of one node; grows beyond 32 members (memberlist: pushPullScale)."""
    if members <= 32:
        return profile.sync_interval
    return profile.sync_interval * (math.ceil(math.log2(members) - 5) + 1)
