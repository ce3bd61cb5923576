"""Capture files: pcap and pcapng of either byte order, plain or gzip, as they stream or from disk.

How it works
  `pieces` gives the bytes of a file, unpacked if they are packed; a `Reader` takes bytes as they come, from there or
  from a stream, and gives what they make whole: packets as `Record`, and every other block as `Block`.

Rules of this file
  1. Size first, then parse: no length from the file is believed before it is held to a limit and to what is there.
  2. What is not a capture is `Damaged` at offset 0. One that ends or breaks off later keeps what came before: `Cut`
     where the file ends in the middle of something, `Damaged` where what comes cannot be; both say at which byte.
  3. No block is passed over in silence. What only some want to know stays raw: options are parsed when they are asked
     for.
  4. Memory is bounded by BLOCK_MAX, whatever the file says, and nothing is read twice, so a pipe will do.
  5. Standard library only: the command line loads this.

Own, and not scapy's readers: a capture is a stranger's file. Those raise whatever the struct module raises, end without
a word where a file is cut, take a length of 2 GB at its word, and load half a second of modules for it.

pcap: draft-ietf-opsawg-pcap; pcapng: draft-ietf-opsawg-pcapng. Sections, interfaces and time resolutions may differ
within a pcapng file.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vxlanu.errors import BadRequest, NotFound

__all__ = [
    "ETHERNET",
    "NAMES",
    "STATISTICS",
    "Block",
    "Cut",
    "Damaged",
    "Interface",
    "Options",
    "Reader",
    "Record",
    "pieces",
    "text",
]

ETHERNET = 1
PIECE = 1 << 18
PACKET_MAX = 262144  # tcpdump's MAXIMUM_SNAPLEN: no Ethernet frame is longer, so a greater length is damage
BLOCK_MAX = 16 << 20  # Wireshark's limit for a block; the names of some 300 000 endpoints
INTERFACES_MAX = 65536  # of a section: one for each container of a cluster, and then some

PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
OTHER_MAGIC = {
    b"\x34\xcd\xb2\xa1": "a modified pcap (Kuznetzov's)",
    b"\xa1\xb2\xcd\x34": "a modified pcap (Kuznetzov's)",
    b"\x1f\x8b\x08\x00": "gzip inside gzip",
    b"\xfd7zX": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"BZh9": "bzip2",
    b"snoo": "a snoop capture",
}
GZIP_MAGIC = b"\x1f\x8b"
SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"  # the type of a section header reads the same in both orders
ORDER_MAGIC = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}

INTERFACE, OLD_PACKET, SIMPLE_PACKET, NAMES, STATISTICS, ENHANCED_PACKET = range(1, 7)
OPTIONS_AT = {STATISTICS: 12}  # of the blocks that have something before their options
IF_NAME, IF_TSRESOL, IF_TSOFFSET = 2, 9, 14
SECOND_NS = 1_000_000_000


class Damaged(ValueError):
    """What comes at byte `at` cannot be; everything before it was given."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(f"{why} at offset {at}" if at else why)
        self.why = why
        self.at = at


class Cut(Damaged):
    """The file ends, at byte `at`, in the middle of something."""


class _Wrong(Exception):
    """What is being parsed cannot be: says why, and the reader, which knows, says where."""


@dataclass(slots=True)
class Options:
    """(code, value) of a block, as they stand in the file: in the byte order of their section, and not yet checked."""

    area: bytes
    order: str
    at: int

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Up to the one that ends them.

        Raises:
            Damaged: one is longer than its block.
        """
        at = 0
        while at + 4 <= len(self.area):
            code, length = struct.unpack_from(f"{self.order}2H", self.area, at)
            if code == 0:
                return
            if at + 4 + length > len(self.area):
                raise Damaged("an option that is longer than its block", self.at)
            yield code, self.area[at + 4 : at + 4 + length]
            at += 4 + (length + 3) // 4 * 4

    def number(self, value: bytes) -> int:
        """A value that is a number."""
        return int.from_bytes(value, "little" if self.order == "<" else "big")


@dataclass(slots=True)
class Interface:
    """Where packets were seen. Its timestamps count `units` a second from `offset_s` on; `snaplen` 0: no limit."""

    name: str
    link: int
    snaplen: int
    units: int = 10**6
    offset_s: int = 0


@dataclass(slots=True)
class Record:
    """One packet. `length` is what it had on the wire: more than `data` where a snap length cut it."""

    time_ns: int
    """Since 1970; 0 where the file does not say (simple packet blocks)."""
    interface: Interface
    data: bytes
    length: int
    options: Options


@dataclass(slots=True)
class Block:
    """A block of pcapng that is no packet and no interface."""

    kind: int
    options: Options


class Reader:
    """Takes bytes as they come, gives what is in them. `offset`: of the first byte that was not given yet."""

    def __init__(self) -> None:
        self.offset = 0
        self._waiting = b""
        self._format: _Pcap | _Pcapng | None = None

    def feed(self, piece: bytes) -> Iterator[Record | Block]:
        """What `piece` makes whole.

        Raises:
            Damaged: what comes here cannot be.
        """
        self._waiting += piece
        at = 0
        try:
            while size := self._size(at):
                item = self._item(self._waiting[at : at + size])
                at += size
                self.offset += size
                if item:
                    yield item
        except _Wrong as why:
            raise Damaged(str(why), self.offset) from None
        finally:
            self._waiting = self._waiting[at:]

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            Cut: in the middle of something.
            Damaged: before there was anything.
        """
        what = self._format.what if self._format else "the first four bytes"
        if not self.offset:
            raise Damaged(f"the file ends in the middle of {what}", 0)
        if self._waiting:
            raise Cut(f"the file ends in the middle of {what}", self.offset + len(self._waiting))

    def _size(self, at: int) -> int:
        """Of the block or record at `at`; 0: it is not whole yet."""
        there = len(self._waiting) - at
        if not self._format and there >= 4:
            self._format = _format_of(self._waiting[:4])
        if not self._format or there < self._format.head:
            return 0
        size = self._format.size(self._waiting, at)
        return size if size <= there else 0

    def _item(self, whole: bytes) -> Record | Block | None:
        assert self._format, "what has a size has a format"
        try:
            return self._format.item(whole, self.offset)
        except struct.error:
            raise _Wrong(f"a block of {len(whole)} bytes that is too short for what it says") from None


def _format_of(magic: bytes) -> _Pcap | _Pcapng:
    if magic == SECTION_MAGIC:
        return _Pcapng()
    if magic in PCAP_MAGIC:
        return _Pcap(*PCAP_MAGIC[magic])
    known = next((name for start, name in OTHER_MAGIC.items() if magic.startswith(start[:3])), "")
    raise _Wrong(f"is {known}" if known else f"begins with {magic.hex(' ')}: neither pcapng nor pcap")


class _Pcap:
    """A file header, and records of one interface."""

    head = 16  # bytes that say a record's size

    def __init__(self, order: str, units: int) -> None:
        self.what = "the file header"
        self._order = order
        self._units = units
        self._interface: Interface | None = None

    def size(self, buffer: bytes, at: int) -> int:
        if not self._interface:
            return 24
        (kept,) = struct.unpack_from(f"{self._order}I", buffer, at + 8)
        if kept > PACKET_MAX:
            raise _Wrong(f"a packet of {kept} bytes: the file is damaged, or no packet is there")
        return 16 + int(kept)

    def item(self, whole: bytes, at: int) -> Record | None:
        if not self._interface:
            major, minor, _, _, snaplen, link = struct.unpack(f"{self._order}4xHHIIII", whole)
            if (major, minor) != (2, 4):
                raise _Wrong(f"pcap version {major}.{minor} is unknown")
            self._interface = Interface("", link & 0xFFFF, snaplen, self._units)
            self.what = "a packet"
            return None
        seconds, fraction, kept, length = struct.unpack_from(f"{self._order}4I", whole)
        time_ns = seconds * SECOND_NS + fraction * SECOND_NS // self._units
        return Record(time_ns, self._interface, whole[16:], max(length, kept), Options(b"", self._order, at))


class _Pcapng:
    """Sections of blocks: each with its own byte order and interfaces."""

    head = 12  # bytes that say a block's size, and of a section header the byte order
    what = "a block"

    def __init__(self) -> None:
        self._order = "<"
        self._interfaces: list[Interface] = []

    def size(self, buffer: bytes, at: int) -> int:
        if buffer[at : at + 4] == SECTION_MAGIC:
            magic = buffer[at + 8 : at + 12]
            if magic not in ORDER_MAGIC:
                raise _Wrong(f"a section header with byte order {magic.hex(' ')}")
            self._order = ORDER_MAGIC[magic]
        (length,) = struct.unpack_from(f"{self._order}I", buffer, at + 4)
        if length < 12 or length % 4 or length > BLOCK_MAX:
            raise _Wrong(f"a block of {length} bytes")
        return int(length)

    def item(self, whole: bytes, at: int) -> Record | Block | None:
        order, body = self._order, whole[8:-4]
        (kind,) = struct.unpack_from(f"{order}I", whole)
        if whole[4:8] != whole[-4:]:
            raise _Wrong("a block whose two lengths differ")
        if whole.startswith(SECTION_MAGIC):
            self._begin(body)
        elif kind == INTERFACE:
            self._add_interface(body, at)
        elif kind in (ENHANCED_PACKET, OLD_PACKET):
            numbers = "5I" if kind == ENHANCED_PACKET else "H2x4I"
            number, high, low, kept, length = struct.unpack_from(order + numbers, body)
            interface = self._interface(number)
            time_ns = (high << 32 | low) * SECOND_NS // interface.units + interface.offset_s * SECOND_NS
            options = Options(body[20 + (kept + 3) // 4 * 4 :], order, at)
            return Record(time_ns, interface, _kept(body[20:], kept), max(length, kept), options)
        elif kind == SIMPLE_PACKET:  # of the first interface: what is kept is what its snap length left
            (length,) = struct.unpack_from(f"{order}I", body)
            interface = self._interface(0)
            kept = min(length, interface.snaplen or length)
            return Record(0, interface, _kept(body[4:], kept), length, Options(b"", order, at))
        else:
            return Block(kind, Options(body[OPTIONS_AT.get(kind, 0) :], order, at))
        return None

    def _begin(self, body: bytes) -> None:
        _, major, _, _ = struct.unpack_from(f"{self._order}IHHq", body)
        if major != 1:
            raise _Wrong(f"pcapng version {major} is unknown")
        self._interfaces = []

    def _interface(self, number: int) -> Interface:
        if number >= len(self._interfaces):
            raise _Wrong(f"a packet of interface {number}, of which there are {len(self._interfaces)}")
        return self._interfaces[number]

    def _add_interface(self, body: bytes, at: int) -> None:
        link, snaplen = struct.unpack_from(f"{self._order}H2xI", body)
        if len(self._interfaces) == INTERFACES_MAX:
            raise _Wrong(f"more than {INTERFACES_MAX} interfaces")
        found = Interface(f"interface {len(self._interfaces)}", link, snaplen)
        for code, value in Options(body[8:], self._order, at):
            if code == IF_NAME:
                found.name = text(value)
            elif code == IF_TSRESOL and len(value) == 1:
                found.units = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
            elif code == IF_TSOFFSET and len(value) == 8:
                (found.offset_s,) = struct.unpack(f"{self._order}q", value)
        self._interfaces.append(found)


def _kept(rest: bytes, kept: int) -> bytes:
    if kept > len(rest) or kept > PACKET_MAX:
        raise _Wrong(f"a packet of {kept} bytes in a block with room for {len(rest)}")
    return rest[:kept]


def text(value: bytes) -> str:
    """A text of a file: UTF-8, or something like it."""
    return value.decode("utf-8", "replace")


def pieces(path: Path | None) -> Iterator[bytes]:
    """The bytes of a file, unpacked if they are packed; None: of standard input.

    Raises:
        NotFound: there is no such file.
        BadRequest: it cannot be read.
        Damaged: what is packed breaks off, at this byte of what was unpacked.
    """
    given = 0
    try:
        with open(0 if path is None else path, "rb", closefd=path is not None) as file:
            source = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == GZIP_MAGIC else file
            while piece := source.read1(PIECE):
                yield piece
                given += len(piece)
    except FileNotFoundError:
        raise NotFound(str(path), "no such file", name="file_not_found") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Damaged(f"compressed data is damaged or ends early ({error})", given) from None
    except OSError as error:
        raise BadRequest(str(path or "standard input"), error.strerror or str(error), name="unreadable") from error
