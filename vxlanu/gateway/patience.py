"""How soon what is undone again and again is put right again.

Rules of this file
  1. No clock: `now` comes in.
  2. Whoever was left alone for long enough has it all again; so a container that loses something now and then is mended
     at once for ever, and one that flips its interface in a loop costs the agent one mending a minute.

A bucket of BURST mendings for each target, refilled by one every REGAIN_S, kept as the moment when it will be full
(GCRA, ITU-T I.371): a target that was never mended takes no memory.
"""

from __future__ import annotations

from collections.abc import Collection

BURST = 5  # a runtime, a person and a firewall may each undo something within a minute
REGAIN_S = 60.0  # a mending takes 20 ms of processor: 0.03 % of a core for each that wants it for ever


class Patience:
    """Of each target, by tag."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}

    def take(self, tag: str, now: float) -> bool:
        """Whether it is to be mended now."""
        if self.over(tag, now):
            return False
        self._full_at[tag] = max(self._full_at.get(tag, now), now) + REGAIN_S
        return True

    def over(self, tag: str, now: float) -> bool:
        """Whether the next one is not for now."""
        return self._full_at.get(tag, now) - now > (BURST - 1) * REGAIN_S

    def keep(self, tags: Collection[str], now: float) -> None:
        """Forget who is gone, or has it all again."""
        self._full_at = {tag: full for tag, full in self._full_at.items() if tag in tags and full > now}
