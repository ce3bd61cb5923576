"""Capture files: pcap and pcapng of either byte order, plain or gzip, record by record.

Rules of this file
  1. Size first, then parse: no length from the file is believed before it is held to a limit and to what is there.
  2. What is not a capture is an error. A file that ends or breaks off later keeps its records: the rest is a warning,
     which says at which byte.
  3. No record is passed over in silence: what a reader here cannot give is counted by name in `Capture.passed_over`.

Own, and not scapy's readers: a capture is a stranger's file. Those raise whatever the struct module raises, end without
a word where a file is cut, take a length of 2 GB at its word, and load half a second of modules for it.

pcap: draft-ietf-opsawg-pcap; pcapng: draft-ietf-opsawg-pcapng. Sections, interfaces and time resolutions may differ
within a pcapng file.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vxlanu.errors import BadRequest, NotFound

__all__ = ["ETHERNET", "Capture", "Record", "link_name"]

ETHERNET = 1
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

PACKET_MAX = 262144  # tcpdump's MAXIMUM_SNAPLEN: no Ethernet frame is longer, so a greater length is damage
BLOCK_MAX = 16 << 20  # Wireshark's limit for a block
INTERFACES_MAX = 65536  # of a section: one for each container of a cluster, and then some
FILE_MAX = 4 << 30  # read from one file, after gunzip: a bomb ends here

PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
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

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
ORDER_MAGIC = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
NO_PACKETS = {4, 5, 9, 10, 0xBAD, 0x40000BAD}  # names, statistics, journal, secrets, custom blocks
TSRESOL, TSOFFSET, END_OF_OPTIONS = 9, 14, 0
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """One packet. `length` is what it had on the wire: more than `data` where a snap length cut it."""

    data: bytes
    length: int
    link: int
    time_ns: int
    """Since 1970; 0 where the file does not say (simple packet blocks)."""


class _Damaged(Exception):
    """The rest of the file cannot be read; says why."""


def link_name(link: int) -> str:
    """As tcpdump -L prints it."""
    return LINKS.get(link, f"link type {link}")


class _Bytes:
    """Reads exactly, and knows where it is."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.at = 0

    def take(self, wanted: int) -> bytes:
        """Exactly so many bytes; fewer only at the end."""
        if self.at + wanted > FILE_MAX:
            raise _Damaged(f"more than {FILE_MAX >> 30} GiB in one file")
        try:
            got = self._stream.read(wanted)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _Damaged(f"compressed data is damaged or ends early ({error})") from error
        self.at += len(got)
        return got

    def need(self, wanted: int, what: str) -> bytes:
        """Exactly so many bytes.

        Raises:
            _Damaged: the file ends before.
        """
        got = self.take(wanted)
        if len(got) < wanted:
            raise _Damaged(f"the file ends in the middle of {what}")
        return got


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
        try:
            with self.path.open("rb") as plain:
                magic = plain.read(2)
                plain.seek(0)
                if magic == GZIP_MAGIC:
                    with gzip.GzipFile(fileobj=plain) as unpacked:
                        yield from self._records(_Bytes(unpacked))  # type: ignore[arg-type]  # reads like one
                else:
                    yield from self._records(_Bytes(plain))
        except FileNotFoundError:
            raise NotFound(str(self.path), "no such file", name="file_not_found") from None
        except OSError as error:
            raise BadRequest(str(self.path), error.strerror or str(error), name="unreadable") from error

    def _records(self, source: _Bytes) -> Iterator[Record]:
        begun = False
        try:
            magic = source.need(4, "the first four bytes")
            records = self._pcap(source, magic) if magic in PCAP_MAGIC else self._pcapng(source, magic)
            for record in records:
                begun = True
                yield record
        except _Damaged as why:
            if not begun and source.at <= 28:
                raise self._no_capture(str(why)) from None
            self.warnings.append(f"stopped at byte {source.at}: {why}")

    def _no_capture(self, why: str) -> BadRequest:
        return BadRequest(str(self.path), why, name="no_capture", hint="a pcap or pcapng file, plain or gzip")

    def _pcap(self, source: _Bytes, magic: bytes) -> Iterator[Record]:
        order, unit_ns = PCAP_MAGIC[magic]
        major, minor, _, _, _, link = struct.unpack(f"{order}HHIIII", source.need(20, "the file header"))
        if (major, minor) != (2, 4):
            raise self._no_capture(f"pcap version {major}.{minor} is unknown")
        while header := source.take(16):
            if len(header) < 16:
                raise _Damaged("the file ends in the middle of a packet header")
            seconds, fraction, kept, length = struct.unpack(f"{order}IIII", header)
            if kept > PACKET_MAX:
                raise _Damaged(f"a packet of {kept} bytes: the file is damaged, or no packet is there")
            data = source.need(kept, "a packet")
            yield Record(data, max(length, kept), link & 0xFFFF, seconds * SECOND_NS + fraction * unit_ns)

    def _pcapng(self, source: _Bytes, magic: bytes) -> Iterator[Record]:
        if magic != SECTION.to_bytes(4, "big"):
            known = next((name for start, name in OTHER_MAGIC.items() if magic.startswith(start[:3])), "")
            raise self._no_capture(f"is {known}" if known else f"begins with {magic.hex(' ')}: no capture file")
        section = _Section(source)
        section.begin(source.need(4, "a section header"))
        while head := source.take(8):
            if len(head) < 8:
                raise _Damaged("the file ends in the middle of a block header")
            record = section.block(head, self.passed_over)
            if record:
                yield record


@dataclass(slots=True)
class _Interface:
    link: int
    snaplen: int
    units_per_s: int = 1_000_000
    offset_s: int = 0

    def time_ns(self, high: int, low: int) -> int:
        return (high << 32 | low) * SECOND_NS // self.units_per_s + self.offset_s * SECOND_NS


class _Section:
    """A section of a pcapng file: its byte order and interfaces. Sections follow each other; `begin` starts one."""

    def __init__(self, source: _Bytes) -> None:
        self._source = source
        self._order = "<"
        self._interfaces: list[_Interface] = []

    def begin(self, length: bytes) -> None:
        """Read a section header block from behind its length on: the byte order of that stands only there."""
        magic = self._source.need(4, "a section header")
        if magic not in ORDER_MAGIC:
            raise _Damaged(f"a section header with byte order {magic.hex(' ')}")
        self._order = ORDER_MAGIC[magic]
        self._interfaces = []
        body = self._body(struct.unpack(f"{self._order}I", length)[0], 12, "a section header")
        major = struct.unpack_from(f"{self._order}H", body)[0] if len(body) >= 12 else 0
        if major != 1:
            raise _Damaged(f"pcapng version {major} is unknown")

    def block(self, head: bytes, passed_over: Counter[str]) -> Record | None:
        """The block that begins with `head`: a packet, or something to remember or to pass over."""
        if int.from_bytes(head[:4], "big") == SECTION:  # reads the same in both orders
            self.begin(head[4:])
            return None
        kind, length = struct.unpack(f"{self._order}II", head)
        body = self._body(length, 8, "a block")
        try:
            if kind == INTERFACE:
                self._add_interface(body)
            elif kind == ENHANCED_PACKET:
                number, high, low, kept, original = struct.unpack_from(f"{self._order}IIIII", body)
                return self._packet(number, (high, low), kept, original, body[20:])
            elif kind == OLD_PACKET:
                number, _, high, low, kept, original = struct.unpack_from(f"{self._order}HHIIII", body)
                return self._packet(number, (high, low), kept, original, body[20:])
            elif kind == SIMPLE_PACKET:
                (original,) = struct.unpack_from(f"{self._order}I", body)
                return self._simple(original, body[4:])
            elif kind not in NO_PACKETS:
                passed_over[f"block of unknown type {kind:#x}"] += 1
        except struct.error:
            raise _Damaged(f"a block of type {kind} with {len(body)} bytes") from None
        return None

    def _body(self, length: int, read: int, what: str) -> bytes:
        """What a block of `length` bytes has between the `read` ones and its closing length."""
        if length < read + 4 or length % 4 or length > BLOCK_MAX:
            raise _Damaged(f"{what} of {length} bytes")
        rest = self._source.need(length - read, what)
        if struct.unpack(f"{self._order}I", rest[-4:])[0] != length:
            raise _Damaged(f"{what} whose two lengths differ")
        return rest[:-4]

    def _add_interface(self, body: bytes) -> None:
        link, _, snaplen = struct.unpack_from(f"{self._order}HHI", body)
        if len(self._interfaces) == INTERFACES_MAX:
            raise _Damaged(f"more than {INTERFACES_MAX} interfaces")
        made = _Interface(link, snaplen)
        at = 8
        while at + 4 <= len(body):
            code, size = struct.unpack_from(f"{self._order}HH", body, at)
            value = body[at + 4 : at + 4 + size]
            if code == END_OF_OPTIONS or len(value) < size:
                break
            if code == TSRESOL and size == 1:
                made.units_per_s = (2 if value[0] & 0x80 else 10) ** min(value[0] & 0x7F, 64)
            elif code == TSOFFSET and size == 8:
                (made.offset_s,) = struct.unpack(f"{self._order}q", value)
            at += 4 + (size + 3) // 4 * 4
        self._interfaces.append(made)

    def _packet(self, number: int, time: tuple[int, int], kept: int, original: int, rest: bytes) -> Record:
        if number >= len(self._interfaces):
            raise _Damaged(f"a packet of interface {number}, of which there are {len(self._interfaces)}")
        if kept > len(rest) or kept > PACKET_MAX:
            raise _Damaged(f"a packet of {kept} bytes in a block with room for {len(rest)}")
        interface = self._interfaces[number]
        return Record(rest[:kept], max(original, kept), interface.link, interface.time_ns(*time))

    def _simple(self, original: int, rest: bytes) -> Record:
        """A packet of the first interface, with a length only: what is kept is what its snap length left."""
        if not self._interfaces:
            raise _Damaged("a packet before any interface")
        first = self._interfaces[0]
        kept = min(original, first.snaplen or original)
        if kept > len(rest) or kept > PACKET_MAX:
            raise _Damaged(f"a packet of {kept} bytes in a block with room for {len(rest)}")
        return Record(rest[:kept], original, first.link, 0)
