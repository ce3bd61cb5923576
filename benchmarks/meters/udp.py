"""UDP without loss: the highest rate of which at most one datagram of a thousand is lost, and what is left at twice it.

Sizes are of the UDP payload, as sockperf's messages are. The sender (udp_load.c) either makes a call for each datagram,
as sockperf does, or sends trains by UDP_SEGMENT, as QUIC does. It is paced, and leaves its CPU to the path.

How the rate is found
  Trials of `SECONDS`: up by doubling until one loses, or down by halving until one does not, then bisection until the
  bounds are within `CLOSE` of each other. Since one hiccup of a shared machine would decide, a trial that loses less
  than `HICCUP` is made a second time, and the better one counts.

  One lucky trial must not decide either. So the best rate is tried until two trials of at most three are clean, the
  lesser of which counts, or two have lost: then it is the turn of the next lower one. What is left at twice that rate
  is the median of `TWICE` trials.

  What counts is not the rate that was asked for but the goodput: who pushes back, as the kernel's own devices do, slows
  the sender instead of losing. A sender that offers less than half of what it is asked for runs as fast as it can, and
  ends the search: the `limit` is then "sender". Else it is the path, or the receiver's own socket if most was lost
  there: where CPUs are short, it is who starves. What the sender's kernel refuses to send is lost too, and told apart.

  A meter remembers the rates it found by peer and begins with them in the next round (`memory`, no part of its
  identity): the bounds are then soon found.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from benchmarks.meters import MeterFailed, Reading
from benchmarks.meters.program import listening, program
from benchmarks.scene import Path

__all__ = ["IMIX", "Search", "Trial", "Udp", "search", "trial_of"]

IMIX = (18, 548, 18, 548, 18, 18, 1400, 18, 548, 18, 548, 18)
"""CSIT's order (RFC 6985 wants it said) of 60, 590 and 1514 byte frames, as payloads; the longest is cut to what an
overlay on 1500 bytes takes."""

PORT = "11112"
TRAIN = 32
"""44 KB of 1400 bytes: QUIC stacks send 10 to 50 datagrams a call."""
LOSS = 0.001
HICCUP = 0.2
SECONDS = 0.5
CLOSE = 1.05
FIRST = 50_000.0
REMEMBERED = 1.15
SLOWEST, FASTEST = 200.0, 20e6
TRIALS = 16
REPEATS = 14
BELOW = 1.05
TWICE = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """What one call of the sender came to. Rates are of datagrams in a second."""

    asked: float
    offered: float
    loss: float
    """Of all that was sent."""
    overflow: float
    """Part of it that the receiver's own socket lost."""
    goodput: float
    gbits: float = 0.0
    """Of payload."""
    octets: int = 0
    duplicates: int = 0
    reordered: int = 0
    buffer: int = 0
    """Of the receiver's socket, as the kernel counts it."""
    refused: float = 0.0
    """Part of all that was sent which the sender's kernel did not take: an error, as of a device that is full."""

    @property
    def clean(self) -> bool:
        return self.loss <= LOSS

    @property
    def saturated(self) -> bool:
        """Whether the sender made no pause."""
        return self.offered < self.asked / 2


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found."""

    best: Trial
    limit: str
    """What keeps the rate from being higher: the path, the receiver's socket, the sender, or the search's own end."""
    trials: tuple[Trial, ...]


def search(offer: Callable[[float], Trial], first: float = FIRST, step: float = 2.0) -> Search:
    """The highest rate without loss that bears repetition. Raises MeterFailed if there is none."""
    made: list[Trial] = []
    _bisect(offer, first, step, made)
    clean = [trial for trial in made if trial.clean]
    if not clean:
        last = made[-1]
        refused = f", {last.refused:.1%} because the sender's kernel refuses them" if last.refused else ""
        raise MeterFailed(f"no rate without loss down to {last.asked:.0f}/s: {last.loss:.1%} are lost there{refused}")
    best = _borne_out(offer, max(clean, key=_goodput).asked, made)
    return Search(best, _limit(best, made), tuple(made))


def _bisect(offer: Callable[[float], Trial], rate: float, step: float, made: list[Trial]) -> None:
    """Find, with all trials in `made`, bounds that are close to each other, or the sender's limit."""
    low: Trial | None = None
    high: Trial | None = None
    while len(made) < TRIALS:
        trial = _better_of_two(offer, rate, made)
        if trial.clean:
            low = trial
            if trial.saturated:
                break
        else:
            high = trial
        if low and high and high.asked <= CLOSE * low.asked:
            break
        rate = _next(low, high, rate, step)
        step = 2.0
        if not SLOWEST <= rate <= FASTEST:
            break


def _better_of_two(offer: Callable[[float], Trial], rate: float, made: list[Trial]) -> Trial:
    made.append(offer(rate))
    if made[-1].clean or made[-1].loss > HICCUP:
        return made[-1]
    made.append(offer(rate))
    return min(made[-2:], key=lambda trial: trial.loss)


def _next(low: Trial | None, high: Trial | None, rate: float, step: float) -> float:
    if low and high:
        return float((low.asked * high.asked) ** 0.5)
    return rate * step if low else rate / step


def _borne_out(offer: Callable[[float], Trial], rate: float, made: list[Trial]) -> Trial:
    """The lesser of two clean trials at that rate, or at the next below, by growing steps, of which there are two."""
    step = BELOW
    for _ in range(REPEATS):
        clean = [trial for trial in made if trial.asked == rate and trial.clean]
        lossy = [trial for trial in made if trial.asked == rate and not trial.clean]
        if len(clean) > 1:
            return min(clean, key=_goodput)
        if len(lossy) > 1:
            rate = max([trial.asked for trial in made if trial.clean and trial.asked < rate] + [rate / step])
            step *= BELOW
        made.append(offer(rate))
    raise MeterFailed(f"no rate without loss bears repetition, down to {rate:.0f}/s")


def _goodput(trial: Trial) -> float:
    return trial.goodput


def _limit(best: Trial, made: list[Trial]) -> str:
    if any(trial.clean and trial.saturated for trial in made):
        return "sender"
    lossy = [trial for trial in made if not trial.clean and trial.asked > best.asked]
    if not lossy:
        return "search"
    nearest = min(lossy, key=lambda trial: trial.asked)
    return "receiver" if nearest.overflow > nearest.loss / 2 else "path"


@dataclass(frozen=True, slots=True)
class Udp:
    """`size` is of the payload, 0 for IMIX; `segment`: each call sends `train` datagrams, by UDP_SEGMENT."""

    size: int = 64
    segment: bool = False
    train: int = TRAIN
    memory: dict[str, float] = field(default_factory=dict, compare=False, repr=False)

    unit = "kpps"
    higher_is_better = True

    @property
    def name(self) -> str:
        return f"udp-{self.size or 'imix'}" + ("-segment" if self.segment else "") + self._unusual("-{}")

    @property
    def title(self) -> str:
        how = ", UDP_SEGMENT" + self._unusual(" of {}") if self.segment else ""
        return f"UDP, {f'{self.size} B' if self.size else 'IMIX'}{how}"

    def _unusual(self, form: str) -> str:
        return form.format(self.train) if self.train != TRAIN else ""

    def read(self, path: Path) -> Reading:
        load = program("udp_load")
        with listening(path, [load, "receive", PORT]):
            known = self.memory.get(path.peer)
            found = search(lambda rate: self._offer(path, load, rate), known or FIRST, REMEMBERED if known else 2.0)
            at_twice = [self._offer(path, load, 2 * found.best.goodput) for _ in range(TWICE)]
        twice = sorted(at_twice, key=_goodput)[TWICE // 2]
        self.memory[path.peer] = found.best.goodput
        trials = [*found.trials, *at_twice]
        detail: dict[str, object] = {
            "limit": found.limit,
            "gbits": found.best.gbits,
            "offered_at_twice": twice.offered,
            "curve": sorted((trial.offered, trial.loss, trial.asked) for trial in trials),
            "trials": [asdict(trial) for trial in trials],
        }
        octets = sum(trial.octets for trial in trials)
        return Reading(found.best.goodput / 1e3, octets, detail, {"at-twice": twice.goodput / 1e3})

    def _offer(self, path: Path, load: str, rate: float) -> Trial:
        sizes = ",".join(map(str, (self.size,) if self.size else IMIX))
        flags = [str(self.train if self.segment else 1), f"{rate:.1f}", f"{SECONDS * 1000:.0f}", sizes]
        command = [load, "send", path.address, PORT, *flags]
        done = path.lab.exec(path.sender, command, check=False)
        if done.returncode != 0:
            raise MeterFailed(f"{' '.join(command)}: {done.stderr}")
        return trial_of(rate, json.loads(done.stdout))


def trial_of(rate: float, said: dict[str, float]) -> Trial:
    """What the sender printed."""
    sent, took = max(said["sent"], 1), max(said["seconds"], said["span"])
    return Trial(
        asked=rate,
        offered=said["sent"] / said["seconds"],
        loss=1 - said["received"] / sent,
        overflow=said["overflow"] / sent,
        goodput=said["received"] / took,
        gbits=said["bytes"] * 8 / took / 1e9,
        octets=int(said["bytes"]),
        duplicates=int(said["duplicates"]),
        reordered=int(said["reordered"]),
        buffer=int(said["buffer"]),
        refused=said["refused"] / sent,
    )
