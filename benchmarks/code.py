"""The code alone: `vxlanu bench pcap` over made captures and over those that lie beside the repository, and its bars.

Rules of this file
  1. The figures are those that the command itself prints as JSON, run as anybody runs it.
  2. Bars are about the made captures, which are the same bytes everywhere.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.rounds import Progress
from benchmarks.table import Sheet, number

__all__ = ["CORPORA", "CodeFigure", "bars", "figures", "sheet", "topics"]

ROOT = Path(__file__).resolve().parents[1]
CORPORA = ROOT.parent / "shared" / "pcaps"
GROUPS = ("inner", "inner-gso", "vxlan", "vxlan-odd", "fuzz")
FEW, MANY = 1000, 1_000_000
MADE = (("64", (FEW, MANY)), ("imix", (FEW,)), ("tso", (FEW,)))
DECISIONS = ("encapsulate", "decapsulate")
ALL = ("all", "as captured", "super-frames")
NS_EACH, TIMES_AT_MANY, GBIT_EACH = 30, 2, 60


class _Tables(msgspec.Struct):
    entries: int


class _Frames(msgspec.Struct):
    frames: int


class _Nanoseconds(msgspec.Struct):
    median: float
    p5: float
    p95: float


class _Result(msgspec.Struct):
    operation: str
    size: str
    tables: _Tables
    frames: _Frames
    ns_per_frame: _Nanoseconds | None = None
    gbit_s: float = 0.0
    copy_ns_per_frame: float = 0.0


class _Answer(msgspec.Struct):
    results: list[_Result]


@dataclass(frozen=True, slots=True)
class CodeFigure:
    """One operation over one input."""

    source: str
    operation: str
    entries: int
    frames: int
    ns: float
    p5: float
    p95: float
    copy_ns: float
    gbits: float


def figures(progress: Progress, repeats: int) -> list[CodeFigure]:
    """Of the made captures, then of each group of corpora that is there."""
    found: list[CodeFigure] = []
    for size, entries in MADE:
        progress(f"bench pcap: {size}")
        found += _figures(f"made: {size}", ["--size", size], entries, repeats)
    for group in GROUPS:
        files = sorted(str(path) for path in (CORPORA / group).glob("*") if path.is_file())
        if files:
            progress(f"bench pcap: {group}")
            found += _figures(group, files, (FEW,), repeats)
    return found


def _figures(source: str, inputs: Sequence[str], entries: Sequence[int], repeats: int) -> Iterator[CodeFigure]:
    """Raises CalledProcessError, with what the command said."""
    flags = ["--json", "--tables", ",".join(map(str, entries)), "--repeats", str(repeats)]
    command = [sys.executable, "-m", "benchmarks", "pcap", *flags, *inputs]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    for it in msgspec.json.decode(done.stdout, type=_Answer).results:
        if it.size in ALL and it.ns_per_frame and it.frames.frames:
            took = it.ns_per_frame
            yield CodeFigure(
                source, it.operation, it.tables.entries, it.frames.frames,
                took.median, took.p5, took.p95, it.copy_ns_per_frame, it.gbit_s,
            )  # fmt: skip


def sheet(found: Sequence[CodeFigure]) -> Sheet:
    """All figures."""
    header = ("frames of", "operation", "entries", "frames", "ns/frame", "5 % to 95 %", "memcpy, ns", "Gbit/s")
    lines = tuple(
        (
            it.source, it.operation, str(it.entries), str(it.frames), f"{it.ns:.1f}", f"{it.p5:.1f} to {it.p95:.1f}",
            f"{it.copy_ns:.1f}", number(it.gbits),
        )
        for it in found
    )  # fmt: skip
    return Sheet("bench pcap: one core, in memory, every frame compared byte for byte on its way", header, lines)


def bars(found: Sequence[CodeFigure]) -> Sheet:
    """What is promised of the code alone."""
    by_key = {(it.source, it.operation, it.entries): it for it in found}
    lines: list[tuple[str, ...]] = []
    for operation in DECISIONS:
        few, many = (by_key.get(("made: 64", operation, entries)) for entries in (FEW, MANY))
        if few:
            lines.append(_at_most(f"{operation} 64 B, {FEW} entries", few.ns, NS_EACH))
        if few and many:
            limit = NS_EACH * TIMES_AT_MANY
            lines.append(_at_most(f"{operation} 64 B, {MANY} entries", many.ns, limit))
    for operation, title in (("cut", "TSO cutting with checksums"), ("coalesce", "coalescing with verification")):
        if it := by_key.get(("made: tso", operation, FEW)):
            word = "held" if it.gbits >= GBIT_EACH else _missed(1 - it.gbits / GBIT_EACH)
            lines.append((title, f"≥ {GBIT_EACH} Gbit/s", f"{it.gbits:.0f} Gbit/s", word))
    return Sheet("bars of the code alone", ("bar", "wanted", "measured", "verdict"), tuple(lines))


def topics(found: Sequence[CodeFigure]) -> Iterator[str]:
    """The heading in NOTES.md under which stands what limits, where a bar of the decision is missed."""
    if any(title.startswith(DECISIONS) and verdict != "held" for title, _, _, verdict in bars(found).rows):
        yield "Decision"


def _at_most(title: str, ns: float, limit: float) -> tuple[str, ...]:
    word = "held" if ns <= limit else _missed(ns / limit - 1)
    return title, f"≤ {limit:g} ns", f"{ns:.1f} ns", word


def _missed(by: float) -> str:
    return f"missed by {by * 100:.0f} %"
