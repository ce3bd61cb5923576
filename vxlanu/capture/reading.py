"""Capture files, block by block: pcapng and pcap, as they stream or from disk.

Rules of this file
  1. No byte is trusted: a size is checked before it is used, and what cannot be is `Damaged`, with the offset.
  2. Memory is bounded by BLOCK_MAX, whatever the file says; nothing is read twice, so a pipe will do.
  3. Standard library only: the command line loads this.

A capture that was cut off in the middle of a block is not damaged: all before it is good, and `end` says how much of
it hangs there.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Damaged", "Frame", "Interface", "Reader"]

BLOCK_MAX = 16 << 20  # names of some 300 000 endpoints; a frame is at most 256 KiB
INTERFACES_MAX = 65536
NAMES_MAX = 1_000_000
SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, NAMES, STATISTICS, PACKET = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
MAGIC = 0x1A2B3C4D
PCAP_MAGIC = {0xA1B2C3D4: 10**6, 0xA1B23C4D: 10**9}
COMMENT = 1
IF_NAME, IF_DESCRIPTION, IF_TSRESOL = 2, 3, 9
PACKET_FLAGS, PACKET_DROPCOUNT, PACKET_ID = 2, 4, 5
STATISTICS_DROPPED = 5
DIRECTIONS = {0: "", 1: "in", 2: "out", 3: ""}
FRAME_MAX = 1 << 20


class Damaged(ValueError):
    """The file is not what it says it is."""


@dataclass(slots=True)
class Interface:
    """Where frames were seen. `units`: of its timestamps, a second."""

    name: str
    description: str = ""
    link: int = 1
    units: int = 10**6


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
        self._waiting = b""
        self._offset = 0
        self._order = ""
        self._pcap: Interface | None = None
        self._interfaces: list[Interface] = []

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """The frames that `piece` makes whole.

        Raises:
            Damaged: what comes here cannot be; the frames before it were given.
        """
        self._waiting += piece
        at = 0
        try:
            while length := self._next_length(at):
                block = self._waiting[at : at + length]
                at += length
                yield from self._frames_of(block)
                self._offset += length
        finally:
            self._waiting = self._waiting[at:]

    def end(self) -> int:
        """Nothing more comes. How many bytes hang: of a block that was cut off.

        Raises:
            Damaged: it was too short to be anything.
        """
        if not self._order:
            raise Damaged(f"{len(self._waiting)} bytes are too few for pcapng or pcap")
        return len(self._waiting)

    def _next_length(self, at: int) -> int:
        """The length of the block or record at `at`; 0: it is not whole yet."""
        left = len(self._waiting) - at
        if not self._order and left >= 12:
            self._begin(self._waiting[at : at + 12])
        if not self._order:
            return 0
        length = self._pcap_length(at) if self._pcap else self._block_length(at)
        return length if length <= left else 0

    def _begin(self, head: bytes) -> None:
        """What the first bytes of a file say: format and byte order."""
        for order in "<>":
            kind, _, magic = struct.unpack(f"{order}3I", head)
            if kind == SECTION and magic == MAGIC:
                self._order = order
            elif kind in PCAP_MAGIC:
                self._order = order
                self._pcap = Interface("", units=PCAP_MAGIC[kind])
        if not self._order:
            raise Damaged("neither pcapng nor pcap")

    def _pcap_length(self, at: int) -> int:
        """The file header of 24 bytes comes first, then records."""
        if self._offset == 0:
            return 24
        if len(self._waiting) - at < 16:
            return BLOCK_MAX
        captured: int = struct.unpack_from(f"{self._order}I", self._waiting, at + 8)[0]
        if captured > FRAME_MAX:
            raise self._damaged(f"a record of {captured} bytes")
        return 16 + captured

    def _block_length(self, at: int) -> int:
        if len(self._waiting) - at < 12:
            return BLOCK_MAX
        kind, length, magic = struct.unpack_from(f"{self._order}3I", self._waiting, at)
        if kind == SECTION:  # a new section may have the other byte order
            swapped = "><"["<>".index(self._order)]
            if magic != MAGIC and struct.unpack_from(f"{swapped}I", self._waiting, at + 8)[0] == MAGIC:
                self._order = swapped
                length = struct.unpack_from(f"{swapped}I", self._waiting, at + 4)[0]
            elif magic != MAGIC:
                raise self._damaged("a section without its magic number")
        if length < 12 or length % 4 or length > BLOCK_MAX:
            raise self._damaged(f"a block of {length} bytes")
        return int(length)

    def _damaged(self, what: str) -> Damaged:
        return Damaged(f"{what} at offset {self._offset}")

    def _frames_of(self, block: bytes) -> Iterator[Frame]:
        try:
            if self._pcap:
                yield from self._record(self._pcap, block)
                return
            kind, length = struct.unpack_from(f"{self._order}2I", block)
            if struct.unpack_from(f"{self._order}I", block, length - 4)[0] != length:
                raise self._damaged("a block whose two lengths differ")
            yield from self._block(kind, block[8:-4])
        except (struct.error, IndexError) as error:
            raise self._damaged("a block that is too short for what it says") from error

    def _record(self, interface: Interface, record: bytes) -> Iterator[Frame]:
        if self._offset == 0:
            interface.link = struct.unpack_from(f"{self._order}I", record, 20)[0] & 0xFFFF
            return
        seconds, units, _captured, length = struct.unpack_from(f"{self._order}4I", record)
        time_ns = seconds * 10**9 + units * 10**9 // interface.units
        yield Frame(time_ns, interface, record[16:], length)

    def _block(self, kind: int, body: bytes) -> Iterator[Frame]:
        if kind == SECTION:
            self._interfaces = []
        elif kind == INTERFACE:
            self._add_interface(body)
        elif kind == NAMES:
            self._add_names(body)
        elif kind == STATISTICS:
            self._add_statistics(body)
        elif kind in (PACKET, OLD_PACKET):
            yield self._frame(kind, body)
        elif kind == SIMPLE_PACKET:
            length = self._word(body, 0)
            yield Frame(0, self._interface(0), body[4 : 4 + length], length)

    def _word(self, body: bytes, at: int) -> int:
        found: int = struct.unpack_from(f"{self._order}I", body, at)[0]
        return found

    def _interface(self, number: int) -> Interface:
        if number >= len(self._interfaces):
            raise self._damaged(f"a frame of interface {number}, which there is not")
        return self._interfaces[number]

    def _frame(self, kind: int, body: bytes) -> Frame:
        number, high, low, captured, length = struct.unpack_from(f"{self._order}5I", body)
        interface = self._interface(number & 0xFFFF if kind == OLD_PACKET else number)
        if captured > FRAME_MAX or 20 + captured > len(body):
            raise self._damaged(f"a frame of {captured} bytes in a block of {len(body) + 12}")
        time_ns = ((high << 32) | low) * 10**9 // interface.units
        frame = Frame(time_ns, interface, body[20 : 20 + captured], length)
        for code, value in self._options(body, 20 + (captured + 3) // 4 * 4) if kind == PACKET else ():
            if code == COMMENT:
                frame.comments.append(_text(value))
            elif code == PACKET_FLAGS and len(value) == 4:
                frame.direction = DIRECTIONS[self._number(value) & 3]
            elif code == PACKET_DROPCOUNT and len(value) == 8:
                frame.dropcount = self._number(value)
            elif code == PACKET_ID and len(value) == 8:
                frame.packet = self._number(value)
        return frame

    def _number(self, value: bytes) -> int:
        return int.from_bytes(value, "little" if self._order == "<" else "big")

    def _options(self, body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        while at + 4 <= len(body):
            code, length = struct.unpack_from(f"{self._order}2H", body, at)
            if code == 0:
                return
            if at + 4 + length > len(body):
                raise self._damaged("an option that is longer than its block")
            yield code, body[at + 4 : at + 4 + length]
            at += 4 + (length + 3) // 4 * 4

    def _add_interface(self, body: bytes) -> None:
        if len(self._interfaces) >= INTERFACES_MAX:
            raise self._damaged(f"more than {INTERFACES_MAX} interfaces")
        link = struct.unpack_from(f"{self._order}H", body)[0]
        found = Interface(f"interface {len(self._interfaces)}", link=link)
        for code, value in self._options(body, 8):
            if code == IF_NAME:
                found.name = _text(value)
            elif code == IF_DESCRIPTION:
                found.description = _text(value)
            elif code == IF_TSRESOL and value:
                found.units = 2 ** (value[0] & 127) if value[0] & 128 else 10 ** min(value[0], 127)
        self._interfaces.append(found)

    def _add_names(self, body: bytes) -> None:
        at = 0
        while at + 4 <= len(body):
            kind, length = struct.unpack_from(f"{self._order}2H", body, at)
            if kind == 0:
                return
            value = body[at + 4 : at + 4 + length]
            size = {1: 4, 2: 16}.get(kind)
            if len(value) < length:
                raise self._damaged("a name that is longer than its block")
            if size and len(value) > size and len(self.names) < NAMES_MAX:
                name = value[size:].split(b"\0", 1)[0]
                self.names[str(ipaddress.ip_address(value[:size]))] = _text(name)
            at += 4 + (length + 3) // 4 * 4

    def _add_statistics(self, body: bytes) -> None:
        for code, value in self._options(body, 12):
            if code == STATISTICS_DROPPED and len(value) == 8:
                self.lost += self._number(value)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
