"""The bars: what this project wants of itself, as ratios inside one run, and how a run judges them.

A bar compares a row of vxlanu with a row of the best of some peers (usually the kernel's; for "goodput at twice the
peak rate" it is vxlanu's own peak). It is judged where the run has both, on the underlay that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.figures import Ratio, ratio, rows
from benchmarks.results import Run

__all__ = ["BARS", "INJECT", "Bar", "Judgement", "judge"]


INJECT = ("--offload", "inject")


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise."""

    title: str
    row: str
    bound: float
    at_least: bool = True
    """False: at most."""
    underlay: str = ""
    """Empty: on any."""
    flags: tuple[str, ...] = ()
    """The agents': bars are about agents as they are, unless this says otherwise."""
    against: tuple[str, ...] = ("kernel",)
    """The best of them counts."""
    base_row: str = ""
    """Of the other side, where it is not the same."""
    topic: str = ""
    """The heading in NOTES.md under which stands what limits."""

    @property
    def wanted(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A bar, and what a run says of it."""

    bar: Bar
    against: str
    ratio: Ratio

    @property
    def held(self) -> bool:
        return self.ratio.median >= self.bar.bound if self.bar.at_least else self.ratio.median <= self.bar.bound

    @property
    def word(self) -> str:
        """`held`, or by how much it was missed."""
        if self.held:
            return "held"
        return f"missed by {abs(self.ratio.median / self.bar.bound - 1) * 100:.0f} %"


_BULK = tuple(
    Bar(f"TCP, {title}, {underlay}", row, bound, underlay=underlay, topic="Bulk TCP")
    for underlay, bound in (("offload", 0.7), ("plain", 0.95))
    for row, title in (("tcp-1", "1 stream"), ("tcp-4", "4 streams"))
)
_UDP = (
    Bar("UDP without loss, 64 B, a call each", "udp-64", 1.2, topic="UDP"),
    Bar("UDP without loss, 1400 B, UDP_SEGMENT", "udp-1400-segment", 2, topic="UDP"),
    *(
        Bar(f"{of}: goodput at twice the rate", f"{of}-at-twice", 0.8, against=("vxlanu",), base_row=of, topic="UDP")
        for of in ("udp-64", "udp-1400-segment")
    ),
)
_LATE = tuple(
    Bar(f"RTT/2, {of.upper()}, {title}", f"rtt-{of}{part}", bound, at_least=False, topic="Round trips")
    for of in ("tcp", "udp")
    for title, part, bound in (("p50", "", 1.4), ("p99", "-p99", 1.5))
)
_RIVALS = tuple(
    Bar(f"{title}, best of OVS, tinc, nebula", row, 8, against=("ovs", "tinc", "nebula"), topic="Bulk TCP")
    for row, title in (("tcp-1", "TCP, 1 stream"), ("tcp-4", "TCP, 4 streams"))
)
_INJECTED = tuple(
    Bar(f"{title}, --offload inject", row, 0.85, underlay="offload", flags=INJECT, topic="Injection")
    for row, title in (("tcp-1", "TCP, 1 stream"), ("tcp-4", "TCP, 4 streams"))
)
_CPU = (Bar("CPU per Gbit at 2 Gbit/s", "cpu-2g", 1.8, at_least=False, topic="CPU"),)
BARS = (*_BULK, *_UDP, *_LATE, *_CPU, *_RIVALS, *_INJECTED)


def judge(run: Run, bar: Bar) -> Judgement | None:
    """None where the run has not what the bar is about; injection that was refused is none."""
    if bar.underlay not in ("", run.settings.underlay) or bar.flags != run.settings.agent_flags:
        return None
    if bar.flags == INJECT and "inject" not in run.in_use.split(","):
        return None
    by_name = {row.name: row for row in rows(run)}
    row, base = by_name.get(bar.row), by_name.get(bar.base_row or bar.row)
    if row is None or base is None:
        return None
    found = [(name, ratio(run, row, "vxlanu", name, base)) for name in bar.against]
    judged = [Judgement(bar, name, it) for name, it in found if it]
    pick = min if row.meter.higher_is_better else max
    return pick(judged, key=lambda it: it.ratio.median) if judged else None
