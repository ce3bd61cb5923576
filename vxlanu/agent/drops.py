"""What was not delivered, summed up: for the log, and for whoever listens to events.

How it works
  The fast path counts drops and says nothing. Once a second its counters are compared with what they were; what has
  grown is told per network and reason, under the names of `vxlanu drops`.

Rules of this file
  1. The first burst of a network and reason is told at once, what follows summed up, at most once in the tally's time.
  2. While nothing is dropped a look is one read of the host's counters, however many networks there are.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from vxlanu.dataplane import Dataplane
from vxlanu.dataplane.reading import REASON_TEXTS

if TYPE_CHECKING:  # the agent holds its log of drops
    from vxlanu.agent.agent import Agent

log = logging.getLogger("vxlanu.agent")

LOGGED_EVERY_S = 60.0
NOBODYS = b""

Key = tuple[bytes, str]
"""Network (NOBODYS: no network's) and reason."""


class Loss(NamedTuple):
    """Frames of one network that were dropped for one reason, in the last so many seconds; 0.0: just now."""

    network: bytes
    reason: str
    frames: int
    seconds: float


class Tally:
    """Drops since `begin`, each told once."""

    def __init__(self, plane: Dataplane, every_s: float) -> None:
        self._plane = plane
        self._every_s = every_s
        self._host: dict[str, int] = {}
        self._networks: Counter[Key] = Counter()
        self._rest: Counter[str] = Counter()
        self._untold: Counter[Key] = Counter()
        self._told: dict[Key, float] = {}

    def begin(self) -> None:
        """What was dropped by now is not told."""
        self._take(self._plane.totals().drops)
        self._untold.clear()
        self._told.clear()

    def look(self, now: float) -> list[Loss]:
        """What is to be told at `now`, which is monotonic."""
        host = self._plane.totals().drops
        if host != self._host:
            self._take(host)
        found = []
        for key, frames in list(self._untold.items()):
            last = self._told.get(key)
            if last is None or now - last >= self._every_s:
                found.append(Loss(*key, frames, round(now - last, 1) if last is not None else 0.0))
                self._told[key] = now
                del self._untold[key]
        return found

    def _take(self, host: dict[str, int]) -> None:
        """Note what has grown: of each network, and of the host what is no network's.

        A network's counters end with it, the host's stay, so growth is compared, not sums. The host was read first:
        what the networks count meanwhile makes `_rest` negative until the host's next reading has it too.
        """
        networks = self._of_networks()
        grown = networks - self._networks
        self._rest.update(host)
        self._rest.subtract(self._host)
        for (_, reason), frames in grown.items():
            self._rest[reason] -= frames
        self._host, self._networks = host, networks
        self._untold += grown
        for reason, frames in list(self._rest.items()):
            if frames > 0:
                self._untold[NOBODYS, reason] += self._rest.pop(reason)

    def _of_networks(self) -> Counter[Key]:
        return Counter(
            {
                (network, reason): frames
                for network in self._plane.networks()
                for reason, frames in self._plane.network_totals(network).drops.items()
            }
        )


class DropLog:
    """One line in the log for each loss."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._tally = Tally(agent.dataplane, LOGGED_EVERY_S)

    def look(self, now: float) -> None:
        """Once a second."""
        losses = self._tally.look(now)
        names: dict[bytes, str] = {view.id: view.name for view in self._agent.view.networks()} if losses else {}
        for loss in losses:
            where = f" in {names[loss.network]}" if loss.network in names else ""
            span = f" in {loss.seconds:g} s" if loss.seconds else ""
            said = f"{loss.reason}, {loss.frames} frame{'' if loss.frames == 1 else 's'}{span}"
            log.info("dropped%s: %s: %s", where, said, REASON_TEXTS[loss.reason], extra={"event": "drops"})
