"""What changed between two kept runs, for whoever changed the code between them.

Rules of this file
  1. Ratios are compared, never figures: what a machine does on a day meets both sides of a ratio.
  2. A change is shown as one only where it is larger than what vxlanu differs from itself (A/A) in either run, and
     the intervals of the two ratios are apart.
  3. Pure: runs come in, lines go out.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import NONE_SHOWN, Ratio, Row, apart, noise, ratio, rows, width
from benchmarks.results import Run
from benchmarks.table import Sheet, base_of, hopeless, lines

__all__ = ["Unlike", "changes"]


class Unlike(Exception):
    """Two runs that cannot be compared; the text says why."""


def changes(old: Run, new: Run) -> Iterator[str]:
    """For the terminal. Raises Unlike."""
    base = base_of(new)
    if not base or base != base_of(old):
        raise Unlike(f"ratios are to {base_of(old) or 'nobody'} in one run and to {base or 'nobody'} in the other")
    told = [(run.date, run.commit, run.settings.line(), run.machine.line(), run.in_use) for run in (old, new)]
    for what, before, after in zip(("date", "commit", "settings", "machine", "agents use"), *told, strict=True):
        yield f"{what}: {before or '-'}" + (f" -> {after or '-'}" if after != before else "")
    found = {row.name: row for run in (old, new) for row in rows(run) if not hopeless(run, row, base)}
    header = ("meter", "better is", "old", "new", "change", "A/A up to", "verdict")
    cells = [(row.title, _sense(row), *_cells(old, new, row, base)) for row in found.values()]
    yield ""
    yield from lines(Sheet(f"vxlanu to {base}, 95 % and rounds in brackets", header, tuple(cells)))


def _sense(row: Row) -> str:
    return "more" if row.meter.higher_is_better else "less"


def _cells(old: Run, new: Run, row: Row, base: str) -> tuple[str, ...]:
    then, now = (ratio(run, row, "vxlanu", base) for run in (old, new))
    shown = [f"{it.median:.2f} ({it.low:.2f} to {it.high:.2f}, n={it.n})" if it else "-" for it in (then, now)]
    if not then or not now or not then.median or not now.median:
        return (*shown, "-", "-", "no figure")
    change, floor = now.median / then.median, max(width(noise(run, row)) for run in (old, new))
    within = f"{floor:.2f}" if floor > 1 else "-"
    return (*shown, f"{change:.2f}", within, _verdict(then, now, floor, row.meter.higher_is_better))


def _verdict(then: Ratio, now: Ratio, floor: float, higher_is_better: bool) -> str:
    change = now.median / then.median
    if apart(change) <= floor:
        return "within A/A"
    if now.low <= then.high and then.low <= now.high:
        return NONE_SHOWN
    return "better" if (change > 1) == higher_is_better else "worse"
