"""The frames of capture files that a bench can carry, and a count by name of those that it cannot.

Rules of this file
  1. Every packet of a file is either in `Frames.frames` or counted in `Frames.left_out`.
  2. Memory is bounded: what exceeds OCTETS_MAX is left out under that name.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vxlanu.bench.capfile import ETHERNET, Capture, Record, link_name

__all__ = ["SIZES", "Frames", "read_frames", "size_class"]

OCTETS_MAX = 256 << 20  # of frames in memory; the bench needs them twice
SIZES = (64, 128, 256, 512, 1024, 1518)  # upper ends of the classes; RFC 2544's sizes without FCS are in them
LARGER = "larger"


@dataclass
class Frames:
    """What was read from one or more files."""

    frames: list[bytes] = field(default_factory=list)
    files: list[dict[str, str | int]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    octets: int = 0


def read_frames(paths: Iterable[Path]) -> Frames:
    """The Ethernet frames of all files.

    Raises:
        NotFound, BadRequest: a file is not there, or is no capture.
    """
    found = Frames()
    for path in paths:
        capture = Capture(path)
        before = len(found.frames)
        packets = 0
        for record in capture:
            packets += 1
            _take(found, record)
        found.left_out.update(capture.passed_over)
        found.warnings += [f"{path.name}: {warning}" for warning in capture.warnings]
        found.files.append(
            {
                "path": str(path),
                "sha256": _digest(path),
                "packets": packets,
                "frames": len(found.frames) - before,
            }
        )
    return found


def _take(found: Frames, record: Record) -> None:
    if record.link != ETHERNET:
        found.left_out[f"not Ethernet: {link_name(record.link)}"] += 1
    elif record.length > len(record.data):
        found.left_out["cut by the snap length"] += 1
    elif found.octets + len(record.data) > OCTETS_MAX:
        found.left_out[f"beyond {OCTETS_MAX >> 20} MiB"] += 1
    else:
        found.frames.append(record.data)
        found.octets += len(record.data)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_class(length: int) -> str:
    """`<=64`, ..., `<=1518`, `larger`."""
    return next((f"<={end}" for end in SIZES if length <= end), LARGER)


def by_size(frames: Sequence[bytes]) -> dict[str, list[bytes]]:
    """Frames by class, the smallest first; empty classes are left out."""
    classes: dict[str, list[bytes]] = {name: [] for name in (*(f"<={end}" for end in SIZES), LARGER)}
    for frame in frames:
        classes[size_class(len(frame))].append(frame)
    return {name: members for name, members in classes.items() if members}
