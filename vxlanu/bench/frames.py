"""The frames of capture files that a bench can carry, and a count by name of those that it cannot.

Rules of this file
  1. Every packet of a file is either in `Frames.frames` or counted in `Frames.left_out`.
  2. Memory is bounded: what exceeds OCTETS_MAX is left out under that name; and time, by FILE_MAX.
  3. What is not a capture is an error. A file that ends or breaks off later keeps its packets: the rest is a warning,
     which says at which byte.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vxlanu.capfile import ETHERNET, NAMES, STATISTICS, Damaged, Reader, Record, pieces
from vxlanu.errors import BadRequest

__all__ = ["SIZES", "Capture", "Frames", "link_name", "read_frames", "size_class"]

FILE_MAX = 4 << 30  # read from one file, after gunzip: a bomb ends here
NO_PACKETS = {NAMES, STATISTICS, 9, 10, 0xBAD, 0x40000BAD}  # and journal, secrets, custom blocks
LINKS = {
    0: "NULL",
    1: "EN10MB",
    101: "RAW",
    105: "IEEE802_11",
    113: "LINUX_SLL",
    127: "IEEE802_11_RADIO",
    228: "IPV4",
    229: "IPV6",
    276: "LINUX_SLL2",
}
OCTETS_MAX = 256 << 20  # of frames in memory; the bench needs them twice
SIZES = (64, 128, 256, 512, 1024, 1518)  # upper ends of the classes; RFC 2544's sizes without FCS are in them
LARGER = "larger"


@dataclass
class Capture:
    """A capture file. Iterate over it once; what was noticed on the way is known afterwards."""

    path: Path
    warnings: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[Record]:
        """Its packets.

        Raises:
            NotFound: there is no such file.
            BadRequest: it is no capture, or cannot be read.
        """
        reader = Reader()
        try:
            for piece in pieces(self.path):
                yield from self._records(reader, piece)
                if reader.offset > FILE_MAX:
                    raise Damaged(f"more than {FILE_MAX >> 30} GiB in one file", reader.offset)
            reader.end()
        except Damaged as error:
            if not reader.offset:
                hint = "a pcap or pcapng file, plain or gzip"
                raise BadRequest(str(self.path), error.why, name="no_capture", hint=hint) from None
            self.warnings.append(f"stopped at byte {error.at}: {error.why}")

    def _records(self, reader: Reader, piece: bytes) -> Iterator[Record]:
        for item in reader.feed(piece):
            if isinstance(item, Record):
                yield item
            elif item.kind not in NO_PACKETS:
                self.passed_over[f"block of unknown type {item.kind:#x}"] += 1


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
    link = record.interface.link
    if link != ETHERNET:
        found.left_out[f"not Ethernet: {link_name(link)}"] += 1
    elif record.length > len(record.data):
        found.left_out["cut by the snap length"] += 1
    elif found.octets + len(record.data) > OCTETS_MAX:
        found.left_out[f"beyond {OCTETS_MAX >> 20} MiB"] += 1
    else:
        found.frames.append(record.data)
        found.octets += len(record.data)


def link_name(link: int) -> str:
    """As tcpdump -L prints it."""
    return LINKS.get(link, f"link type {link}")


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
