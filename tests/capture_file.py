"""Captures as capinfos and tshark see them, which must have nothing to complain about."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

AS_ROOT = "Running as user"  # tshark says so to root, whatever the file


def _run(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    said = [line for line in done.stderr.splitlines() if not line.startswith(AS_ROOT)]
    assert done.returncode == 0 and not said, (command, done.returncode, said)
    return done.stdout


def tshark(path: Path, *arguments: str) -> list[str]:
    """Lines of tshark about a file; every name resolution off."""
    return _run(["tshark", "-n", "-r", path, *arguments]).splitlines()


def fields(path: Path, *names: str, only: str = "") -> list[list[str]]:
    """These fields of every frame."""
    shown = [word for name in names for word in ("-e", name)]
    told = tshark(path, "-Y", only, "-T", "fields", "-E", "separator=|", *shown)
    return [line.split("|") for line in told]


def counted_in(path: Path) -> int:
    """How many frames a file has; capinfos is quick where tshark takes seconds."""
    return int(_run(["capinfos", "-M", "-r", "-T", "-c", path]).split("\t")[1])


def frames_in(path: Path) -> int:
    """How many frames a file has, where capinfos and tshark agree; both find it whole."""
    counted = counted_in(path)
    assert counted == len(tshark(path))
    return counted


def interfaces_of(path: Path) -> list[str]:
    """The interfaces that a file describes."""
    told = _run(["capinfos", "-I", path]).splitlines()
    return [line.split("=", 1)[1].strip() for line in told if line.strip().startswith("Name =")]


def named(path: Path) -> list[list[str]]:
    """Source and destination of every frame, by the names in the file itself."""
    shown = ["-T", "fields", "-E", "separator=|", "-e", "_ws.col.Source", "-e", "_ws.col.Destination"]
    return [line.split("|") for line in _run(["tshark", "-N", "n", "-r", path, *shown]).splitlines()]
