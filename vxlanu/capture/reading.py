"""Frames of captures with what is known of each: names, direction, comments, losses (the files are vxlanu.capfile's).

Rules of this file
  1. No byte is trusted, nor how many there are: NAMES_MAX.
  2. Standard library only: the command line loads this.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from vxlanu import capfile
from vxlanu.capfile import NAMES, STATISTICS, Interface, Options, Record, text

__all__ = ["Frame", "Reader"]

NAMES_MAX = 1_000_000
NAME_BYTES = {1: 4, 2: 16}  # of the address, by the code of its kind
COMMENT, PACKET_FLAGS, PACKET_DROPCOUNT, PACKET_ID = 1, 2, 4, 5
STATISTICS_DROPPED = 5
DIRECTIONS = {0: "", 1: "in", 2: "out", 3: ""}


@dataclass(slots=True)
class Frame:
    """One frame. `length` is what it had, `data` what was kept of it."""

    time_ns: int
    interface: Interface
    data: bytes
    length: int
    direction: str = ""
    packet: int = 0
    dropcount: int = 0
    comments: list[str] = field(default_factory=list)


class Reader:
    """Takes bytes as they come, gives frames. `names` and `lost` grow on the way."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.lost = 0
        self._reader = capfile.Reader()

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """The frames that `piece` makes whole.

        Raises:
            Damaged: what comes here cannot be; the frames before it were given.
        """
        for item in self._reader.feed(piece):
            if isinstance(item, Record):
                yield _frame(item)
            elif item.kind == NAMES:
                self._add_names(item.options)
            elif item.kind == STATISTICS:
                self._add_statistics(item.options)

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            Cut: in the middle of something.
            Damaged: before there was anything.
        """
        self._reader.end()

    def _add_names(self, records: Options) -> None:
        for kind, value in records:
            size = NAME_BYTES.get(kind)
            if size and len(value) > size and len(self.names) < NAMES_MAX:
                name = value[size:].split(b"\0", 1)[0]
                self.names[str(ipaddress.ip_address(value[:size]))] = text(name)

    def _add_statistics(self, options: Options) -> None:
        for code, value in options:
            if code == STATISTICS_DROPPED and len(value) == 8:
                self.lost += options.number(value)


def _frame(record: Record) -> Frame:
    frame = Frame(record.time_ns, record.interface, record.data, record.length)
    for code, value in record.options:
        if code == COMMENT:
            frame.comments.append(text(value))
        elif code == PACKET_FLAGS and len(value) == 4:
            frame.direction = DIRECTIONS[record.options.number(value) & 3]
        elif code == PACKET_DROPCOUNT and len(value) == 8:
            frame.dropcount = record.options.number(value)
        elif code == PACKET_ID and len(value) == 8:
            frame.packet = record.options.number(value)
    return frame
