"""Awareness: how much this node trusts its own eyes (Lifeguard, arXiv 1707.00788, IV-A; memberlist awareness.go).

0 is healthy. A node that misses acks or must refute raises its score and waits longer before it accuses anyone, since
the likeliest explanation is that it is slow itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Awareness"]


@dataclass(frozen=True, slots=True)
class Awareness:
    """A score from 0 to limit - 1."""

    limit: int
    score: int = 0

    def moved(self, delta: int) -> Awareness:
        """The next score, kept in range."""
        return replace(self, score=min(max(self.score + delta, 0), self.limit - 1))

    def scaled(self, seconds: float) -> float:
        """A timeout stretched by our own ill health."""
        return seconds * (self.score + 1)
