"""benchmarks/REPORT.md: the bars, what limits where one is missed, and every table and plot of the runs it is made of.

Rules of this file
  1. The report is made by the command alone; what people have to say stands in NOTES.md, and is quoted.
  2. The same runs make the same report: its dates are theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bars import BARS, Judgement, judge
from benchmarks.code import CodeFigure, bars, sheet, topics
from benchmarks.crowd import HEADER, Finding
from benchmarks.plots import draw
from benchmarks.results import Machine, Run
from benchmarks.table import Sheet, heading, markdown, sheets

__all__ = ["Measured", "limits", "write"]

HEAD = """# Benchmarks

Made by `python -m benchmarks report`; what people have to say about it is in [NOTES.md](NOTES.md). Ratios inside one
run count, never figures by themselves: on shared cores they drift by a third. The ratio is the median of the ratios of
single rounds, in which all paths are measured in turn; A/A is vxlanu beside itself. A figure counts only if the
interfaces of its path carried its bytes. Steal is the share of the CPUs that the hypervisor kept for others."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a report is made of."""

    runs: Sequence[Run]
    code: Sequence[CodeFigure] = ()
    crowds: Sequence[Finding] = ()


def write(measured: Measured, notes: str, folder: Path) -> Path:
    """REPORT.md and its plots in `folder`, instead of those of a report that was there. Return: the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "REPORT.md"
    before = _pictures(report.read_text()) if report.exists() else set()
    text = "\n".join(_lines(measured, notes, folder)) + "\n"
    for path in before - _pictures(text):
        (folder / path).unlink(missing_ok=True)
    report.write_text(text)
    return report


def _pictures(text: str) -> set[str]:
    """The plots that a report shows, as paths from its folder."""
    return set(re.findall(r"^!\[.*\]\((plots/[^/)]+)\)$", text, flags=re.MULTILINE))


def _lines(measured: Measured, notes: str, folder: Path) -> Iterator[str]:
    yield from (HEAD, "", "## Bars", "")
    judged = [(run, it) for run in measured.runs for it in (judge(run, bar) for bar in BARS) if it]
    yield from markdown(_bars(judged))
    if measured.crowds:
        rows = tuple(it.cells() for it in measured.crowds)
        yield ""
        yield from markdown(Sheet("crowds", tuple(word.lower() for word in HEADER), rows))
    if measured.code:
        yield ""
        yield from markdown(bars(measured.code))
    missed = [it.bar.topic for _, it in judged if not it.held] + [it.topic for it in measured.crowds if not it.held]
    yield from _limits([*missed, *topics(measured.code)], notes)
    if apart := _section(notes, "Measured apart"):
        yield from ("", "## Measured apart", "", apart)
    for at, run in enumerate(measured.runs, 1):
        yield from _run(at, run, folder)
    if measured.code:
        yield from ("", "## The code alone", "")
        yield from markdown(sheet(measured.code))
    yield from ("", "## The machine")
    for machine in dict.fromkeys(_told(run.machine) for run in measured.runs):
        yield from ("", machine)


def _bars(judged: Sequence[tuple[Run, Judgement]]) -> Sheet:
    """Each bar that a run judges, then those that none does."""
    header = ("bar", "against", "underlay", "wanted", "measured", "95 %", "n", "verdict")
    lines = [
        (
            it.bar.title, it.against, run.settings.underlay, it.bar.wanted, f"{it.ratio.median:.2f}",
            f"{it.ratio.low:.2f} to {it.ratio.high:.2f}", str(it.ratio.n), it.word,
        )
        for run, it in judged
    ]  # fmt: skip
    known = {it.bar for _, it in judged}
    lines += [
        (bar.title, ", ".join(bar.against), bar.underlay or "any", bar.wanted, "-", "-", "-", "not measured")
        for bar in BARS if bar not in known
    ]  # fmt: skip
    return Sheet("ratios", header, tuple(lines))


def _limits(topics_missed: Iterable[str], notes: str) -> Iterator[str]:
    """What NOTES.md says about each topic that a missed bar belongs to."""
    said = limits(notes)
    for topic in dict.fromkeys(topics_missed):
        yield from ("", f"### {topic}: what limits", "", said.get(topic, "Not looked into yet."))


def limits(notes: str) -> Mapping[str, str]:
    """Topic -> text, of the sections `### TOPIC` under `## What limits`."""
    sections = re.split(r"^### ", _section(notes, "What limits"), flags=re.MULTILINE)[1:]
    return {title.strip(): body.strip() for title, _, body in (it.partition("\n") for it in sections)}


def _section(notes: str, title: str) -> str:
    """What stands under `## title`."""
    sections = re.split(r"^## ", notes, flags=re.MULTILINE)[1:]
    return next((body.strip() for head, _, body in (it.partition("\n") for it in sections) if head == title), "")


def _run(at: int, run: Run, folder: Path) -> Iterator[str]:
    settings = run.settings
    yield from ("", f"## Run {at}: {settings.line()}", "")
    yield from (f"- {line}" for line in heading(run))
    for table in sheets(run):
        if table.title != "bars":
            yield ""
            yield from markdown(table)
    for path in draw(run, folder / "plots", f"{at}-{settings.underlay}-", kinds=("png",)):
        yield ""
        yield f"![{path.stem}]({path.relative_to(folder)})"


def _told(machine: Machine) -> str:
    told = {
        "CPU": f"{machine.cores} x {machine.cpu}, caches {machine.caches or 'not told'}",
        "memory": f"{machine.memory_mib} MiB",
        "hypervisor": machine.hypervisor or "none",
        "kernel": f"{machine.kernel}, clock {machine.clock_source}, TCP {machine.congestion}",
        "mitigations": "; ".join(f"{name}: {how}" for name, how in machine.mitigations.items()) or "none",
        "compiler": machine.compiler,
        "Python": machine.python,
    }
    return "\n".join(f"- {name}: {value}" for name, value in told.items())
