"""Tables of a run: what stands beside what, for the terminal and for REPORT.md.

Rules of this file
  1. A figure stands beside its unit, its spread and the noise floor; nothing that was asked for is left out silently.
  2. Pure: a run comes in, lines go out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.bars import BARS, Judgement, judge
from benchmarks.figures import STEAL_MAX, Level, Ratio, Row, level, noise, ratio, rows, verdict
from benchmarks.results import AGAIN, PeerInfo, Run
from vxlanu.cli.render import bold, printable, table

__all__ = ["Sheet", "base_of", "heading", "hopeless", "lines", "markdown", "number", "sheets", "text"]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def base_of(run: Run) -> str:
    """What ratios are to: kernel vxlan, or else the first that is not vxlanu; empty if vxlanu was alone."""
    present = [it.name for it in run.peers if not it.missing and it.name != "vxlanu"]
    return "kernel" if "kernel" in present else next(iter(present), "")


def sheets(run: Run) -> Iterator[Sheet]:
    """All that the run shows: vxlanu beside its base, then every peer, then the bars."""
    base = base_of(run)
    if base and any(it.name == "vxlanu" and not it.missing for it in run.peers):
        yield _beside(run, base)
    yield _medians(run)
    if base and len(run.peers) > 2:
        yield _ratios(run, base)
    judged = [it for it in (judge(run, bar) for bar in BARS) if it]
    if judged:
        yield _bars(judged)


def heading(run: Run) -> Iterator[str]:
    """What was measured on, with what, and what is missing."""
    machine = run.machine
    yield f"vxlanu {run.version} {run.commit}".rstrip() + f", {run.date}"
    yield machine.line() + f", clock {machine.clock_source}, TCP {machine.congestion}"
    on = [name for name, state in run.offloads.items() if state]
    yield f"{run.settings.line()}; offloads of the cables: {', '.join(on) or 'none'}"
    if run.in_use:
        yield f"the agents use {run.in_use}"
    yield "peers (inner MTU): " + ", ".join(_peer(it) for it in run.peers if not it.missing)
    yield from (f"missing: {it.name}: {_one_line(it.missing)}" for it in run.peers if it.missing)
    yield "tools: " + ", ".join(f"{name}: {version}" for name, version in run.tools.items())
    if not run.complete:
        yield "broken off: not all rounds were measured"
    for series in run.failed():
        first, *others = series.failures
        rounds = ", ".join(str(it.round) for it in series.failures)
        yield f"no figure: {series.meter}, {series.peer}, round{'s' * bool(others)} {rounds}: {_one_line(first.why)}"


def text(run: Run) -> Iterator[str]:
    """For the terminal."""
    yield from (printable(line) for line in heading(run))
    for sheet in sheets(run):
        yield ""
        yield from lines(sheet)


def lines(sheet: Sheet) -> Iterator[str]:
    """One sheet for the terminal."""
    yield bold(sheet.title)
    header, *rows = _padded(sheet)
    yield from table(header, rows)
    yield from sheet.notes


def markdown(sheet: Sheet) -> Iterator[str]:
    """For REPORT.md; numbers to the right."""
    yield f"**{sheet.title}**"
    yield ""
    yield f"| {' | '.join(sheet.header)} |"
    yield "|" + "|".join("---:" if numeric else "---" for numeric in _numeric(sheet)) + "|"
    yield from (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in sheet.rows)
    if sheet.notes:
        yield ""
        yield from sheet.notes


def number(value: float) -> str:
    """Three digits that count, and no exponent: 0.0123, 1.23, 12.3, 1234."""
    if value == 0:
        return "0"
    for limit, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if abs(value) >= limit:
            return f"{value:.{digits}f}"
    return f"{value:.4f}"


def _peer(peer: PeerInfo) -> str:
    return f"{peer.name} {peer.version}" + (f" ({peer.mtu})" if peer.mtu else "")


def _one_line(said: str) -> str:
    """Enough of what a program said to know the trouble."""
    whole = " ".join(said.split())
    return whole if len(whole) <= 200 else f"{whole[:200]} ..."


def _numeric(sheet: Sheet) -> list[bool]:
    columns = [[row[i] for row in sheet.rows if row[i] not in ("", "-")] for i in range(len(sheet.header))]
    return [bool(cells) and all(cell[0].isdigit() for cell in cells) for cells in columns]


def _padded(sheet: Sheet) -> Iterator[Sequence[str]]:
    """The header and the rows, columns of numbers to the right."""
    right = _numeric(sheet)
    header = tuple(word.upper() for word in sheet.header)
    widths = [max(len(line[i]) for line in (header, *sheet.rows)) for i in range(len(header))]
    for line in (header, *sheet.rows):
        yield [cell.rjust(widths[i]) if right[i] else cell for i, cell in enumerate(line)]


def _beside(run: Run, base: str) -> Sheet:
    header = ("meter", "unit", "vxlanu", base, "ratio", "95 %", "rounds", "of medians", "A/A", "verdict")
    lines = []
    left_out = disturbed = 0
    for row in rows(run):
        if hopeless(run, row, base):
            continue
        found, floor = ratio(run, row, "vxlanu", base), noise(run, row)
        ours, theirs = level(run, row, "vxlanu"), level(run, row, base)
        if found:
            left_out, disturbed = max(left_out, found.left_out), max(disturbed, found.disturbed)
        lines.append((row.title, row.meter.unit, _level(ours), _level(theirs), *_ratio_cells(found, floor, row)))
    notes = [
        "ratio: the median of the rounds' ratios, with its 95 % interval (bootstrap; of fewer than five rounds their "
        "range), the least and the most of them; A/A: vxlanu to itself, likewise. ± is the median distance from the "
        "median."
    ]
    for count, what in ((left_out, "left out"), (disturbed, "that count all the same, since too few would be left")):
        if count:
            steal = f"in which the hypervisor took over {STEAL_MAX:.0%} of the CPUs"
            notes.append(f"Rounds {what}: up to {count}, {steal}.")
    return Sheet(f"vxlanu beside {base}: {run.settings.line()}", header, tuple(lines), tuple(notes))


def hopeless(run: Run, row: Row, base: str) -> bool:
    """Whether there can be no ratio: of what the base has none, as the kernel has no programs whose memory counts."""
    series = run.of(row.meter.name, base)
    return bool(series and series.hopeless)


def _ratio_cells(found: Ratio | None, floor: Ratio | None, row: Row) -> tuple[str, ...]:
    if found is None:
        return ("-",) * 5 + ("no figure",)
    better = (found.median > 1) == row.meter.higher_is_better
    return (
        f"{found.median:.2f}",
        f"{found.low:.2f} to {found.high:.2f}",
        f"{found.least:.2f} to {found.most:.2f} (n={found.n})",
        f"{found.of_medians:.2f}",
        f"{floor.median:.2f} ({floor.low:.2f} to {floor.high:.2f})" if floor else "-",
        verdict(found, floor) or ("better" if better else "worse"),
    )


def _level(found: Level | None) -> str:
    return f"{number(found.median)} ±{number(found.deviation)}" if found else "-"


def _shown(run: Run) -> list[PeerInfo]:
    """Those of the columns. vxlanu's second series is no peer: it stands as the noise floor."""
    return [it for it in run.peers if not it.missing and it.name != AGAIN]


def _medians(run: Run) -> Sheet:
    peers = _shown(run)
    lines = []
    for row in rows(run):
        levels = [level(run, row, peer.name) for peer in peers]
        lines.append((row.title, row.meter.unit, *(number(it.median) if it else "-" for it in levels)))
    notes = tuple(f"{it.name}: {it.title}" for it in peers if it.title != it.name)
    header = ("meter", "unit", *(it.name for it in peers))
    return Sheet(f"medians of {run.settings.rounds} rounds: {run.settings.line()}", header, tuple(lines), notes)


def _ratios(run: Run, base: str) -> Sheet:
    peers = _shown(run)
    lines = []
    for row in rows(run):
        if hopeless(run, row, base):
            continue
        found = [ratio(run, row, peer.name, base) for peer in peers]
        sense = "more" if row.meter.higher_is_better else "less"
        lines.append((row.title, sense, *(f"{it.median:.2f}" if it else "-" for it in found)))
    header = ("meter", "better is", *(it.name for it in peers))
    return Sheet(f"ratios to {base}: {run.settings.line()}", header, tuple(lines))


def _bars(judged: Sequence[Judgement]) -> Sheet:
    lines = [(it.bar.title, it.bar.wanted, f"{it.ratio.median:.2f}", it.word) for it in judged]
    return Sheet("bars", ("bar", "wanted", "measured", "verdict"), tuple(lines))
