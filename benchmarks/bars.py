"""The bars: what this project wants of itself, as ratios inside one run, and how a run judges them.

A bar compares a row of vxlanu with a row of the best of some peers (usually the kernel's; for "goodput at twice the
peak rate" it is vxlanu's own peak). It is judged where the run has both, on the underlay that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.figures import Ratio, ratio, rows
from benchmarks.results import Run

__all__ = ["BARS", "Bar", "Judgement", "judge"]


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
    against: tuple[str, ...] = ("kernel",)
    """The best of them counts."""
    base_row: str = ""
    """Of the other side, where it is not the same."""

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


BARS = (
    Bar("TCP, 1 stream, offload", "tcp-1", 0.7, underlay="offload"),
    Bar("TCP, 4 streams, offload", "tcp-4", 0.7, underlay="offload"),
    Bar("TCP, 1 stream, plain", "tcp-1", 0.95, underlay="plain"),
    Bar("TCP, 4 streams, plain", "tcp-4", 0.95, underlay="plain"),
    Bar("UDP without loss, 64 B, a call each", "udp-64", 1.2),
    Bar("UDP without loss, 1400 B, UDP_SEGMENT", "udp-1400-segment", 2),
    *(
        Bar(f"goodput at twice the peak rate, {row}", f"{row}-at-twice", 0.8, against=("vxlanu",), base_row=row)
        for row in ("udp-64", "udp-1400-segment")
    ),
    Bar("TCP, 1 stream, best of OVS, tinc, nebula", "tcp-1", 8, against=("ovs", "tinc", "nebula")),
    Bar("TCP, 4 streams, best of OVS, tinc, nebula", "tcp-4", 8, against=("ovs", "tinc", "nebula")),
)


def judge(run: Run, bar: Bar) -> Judgement | None:
    """None where the run has not what the bar is about."""
    if bar.underlay not in ("", run.settings.underlay):
        return None
    by_name = {row.name: row for row in rows(run)}
    row, base = by_name.get(bar.row), by_name.get(bar.base_row or bar.row)
    if row is None or base is None:
        return None
    found = [(name, ratio(run, row, "vxlanu", name, base)) for name in bar.against]
    judged = [Judgement(bar, name, it) for name, it in found if it]
    pick = min if row.meter.higher_is_better else max
    return pick(judged, key=lambda it: it.ratio.median) if judged else None
