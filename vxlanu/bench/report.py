"""Results as text and as JSON.

Rules of this file
  1. A figure stands beside what it was taken on, its spread, and the memcpy of the same frames.
  2. What was left out stands above the figures, by name.
  3. JSON has the raw samples; fields are only added.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from vxlanu import __version__
from vxlanu.bench.frames import Frames
from vxlanu.bench.measure import Result, Settings
from vxlanu.cli.render import count, printable, size, table
from vxlanu.dataplane.bench import compiler

__all__ = ["as_json", "draw", "machine"]

NAMES = {
    "encapsulate": "encapsulate (TAP to tunnel)",
    "decapsulate": "decapsulate (tunnel to TAP)",
    "decide": "decide (as captured)",
    "cut": "cut, with checksums",
    "coalesce": "coalesce, verified",
}
HEADER = ("OPERATION", "SIZE", "ENTRIES", "FRAMES", "NS/FRAME", "     P5", "    P95", "MEMCPY", "FRAMES/S", "GBIT/S")


def machine() -> dict[str, str | int]:
    """What figures depend on."""
    return {
        "version": __version__,
        "commit": _commit(),
        "kernel": platform.release(),
        "cpu": _cpu(),
        "cpus": len(_cpu_lines("processor")),
        "caches": _caches(),
        "compiler": compiler(),
        "python": platform.python_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_lines(key: str) -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key]


def _cpu() -> str:
    return next(iter(_cpu_lines("model name")), platform.machine())


def _caches() -> str:
    """As `L1 48K, L2 2048K, L3 ...`, instruction caches left out; empty where the kernel does not say."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, capacity = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found.append(f"L{level} {capacity}")
    return ", ".join(found)


def _commit() -> str:
    """Of the clone that this runs from, with `-dirty`; empty when installed, or without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def as_json(found: Frames, settings: Settings, results: Iterable[Result]) -> bytes:
    return msgspec.json.encode(
        {
            "format": 1,
            "machine": machine(),
            "settings": asdict(settings),
            "captures": found.files,
            "left_out": dict(found.left_out),
            "warnings": found.warnings,
            "results": [it.as_json() for it in results],
        }
    )


def draw(found: Frames, settings: Settings, results: list[Result]) -> Iterator[str]:
    """The machine, the captures, what was left out, the figures."""
    about = machine()
    yield f"vxlanu {about['version']} {about['commit']}".rstrip() + f", Linux {about['kernel']}, {about['cpu']}"
    yield f"{about['compiler']}; {about['caches']}"
    for file in found.files:
        yield f"{printable(str(file['path']))}: {file['frames']} of {count(int(file['packets']), 'packet')}"
    yield from (f"warning: {printable(warning)}" for warning in found.warnings)
    if found.left_out:
        yield f"left out: {_counted(found.left_out)}"
    yield from _reasons(results)
    timed = [it for it in results if it.samples_ns]
    if not timed:
        return
    yield f"every frame compared byte for byte on its way; {count(settings.repeats, 'repeat')}"
    yield ""
    yield from table(HEADER, (_row(it) for it in timed))
    yield from _notes(timed)


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {printable(name)}" for name, number in reasons.items())


def _reasons(results: list[Result]) -> Iterator[str]:
    """Per operation, once: what tables decide is the same for all sizes of them."""
    seen: set[str] = set()
    for it in results:
        if it.operation in seen or it.size not in ("all", "as captured", "super-frames"):
            continue
        seen.add(it.operation)
        if it.operation in ("encapsulate", "decide", "cut") and it.census.left_out:
            yield f"not for {it.operation}: {_counted(it.census.left_out)}"
        if it.census.decided:
            yield f"{it.operation}: {_counted(it.census.decided)}"


def _row(it: Result) -> tuple[str | int, ...]:
    """Numbers as ints where the table is to right-align them; the others carry one digit behind the point."""
    return (
        NAMES[it.operation],
        it.size,
        it.tables.entries,
        it.census.frames,
        f"{it.per_frame(0.5):8.1f}",
        f"{it.per_frame(0.05):7.1f}",
        f"{it.per_frame(0.95):7.1f}",
        f"{it.copied():6.1f}",
        round(1e9 / it.per_frame(0.5)),
        f"{it.gbit_s():6.1f}",
    )


def _notes(timed: list[Result]) -> Iterator[str]:
    yield ""
    memory = size(max(it.census.memory for it in timed))
    yield f"memcpy: of the same frames; they and their head-room take {memory} at most"
    places = {it.tables.entries: it.tables for it in timed}
    yield "ports and VTEPs: " + ", ".join(f"{it.ports} and {it.vteps} at {entries}" for entries, it in places.items())
    merged = [it for it in timed if it.operation == "coalesce"]
    for it in merged:
        yield f"super-frames: {it.census.merged} of {it.census.frames} merged to what they were cut from"
