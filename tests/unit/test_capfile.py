"""The capture reader: what is in a file comes out, and what is wrong with one is said.

The oracles are scapy's writers, and the counts that the corpora beside the repository came with.
"""

from __future__ import annotations

import csv
import gzip
import random
import struct
from itertools import accumulate
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng

from vxlanu.bench.frames import Capture, link_name, read_frames
from vxlanu.capfile import ETHERNET, PACKET_MAX, Record
from vxlanu.errors import BadRequest, NotFound

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "pcaps"
FRAMES = [bytes([2] * 12) + b"\x08\x00" + bytes([number]) * (46 + number) for number in range(5)]
MAGIC = {("<", 1000): b"\xd4\xc3\xb2\xa1", (">", 1000): b"\xa1\xb2\xc3\xd4"} | {
    ("<", 1): b"\x4d\x3c\xb2\xa1",
    (">", 1): b"\xa1\xb2\x3c\x4d",
}


def pcap(order: str = "<", unit: int = 1000, link: int = ETHERNET, cut: int = 0) -> bytes:
    """FRAMES at 1.000007 s, 2.000007 s, ...; `cut`: so much of each fell to the snap length."""
    whole = MAGIC[order, unit] + struct.pack(f"{order}HHIIII", 2, 4, 0, 0, 65535, link)
    for number, frame in enumerate(FRAMES):
        kept = frame[: len(frame) - cut]
        whole += struct.pack(f"{order}IIII", 1 + number, 7000 // unit, len(kept), len(frame)) + kept
    return whole


def block(order: str, kind: int, body: bytes) -> bytes:
    length = struct.pack(f"{order}I", 12 + len(body) + -len(body) % 4)
    return struct.pack(f"{order}I", kind) + length + body + bytes(-len(body) % 4) + length


def section(order: str, links: list[int], resolution: int | None = None) -> bytes:
    made = block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    option = b"" if resolution is None else struct.pack(f"{order}HHBxxxI", 9, 1, resolution, 0)
    return made + b"".join(block(order, 1, struct.pack(f"{order}HHI", link, 0, 0) + option) for link in links)


def enhanced(order: str, interface: int, time: int, frame: bytes) -> bytes:
    head = struct.pack(f"{order}IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(frame), len(frame))
    return block(order, 6, head + frame + bytes(-len(frame) % 4))


def read(path: Path, content: bytes) -> tuple[list[Record], Capture]:
    path.write_bytes(content)
    capture = Capture(path)
    return list(capture), capture


@pytest.mark.parametrize(("order", "unit"), MAGIC)
def test_a_pcap_of_any_order_and_unit_is_read(order: str, unit: int, tmp_path: Path) -> None:
    records, capture = read(tmp_path / "a", pcap(order, unit))
    assert [record.data for record in records] == FRAMES
    assert [record.time_ns for record in records] == [(1 + n) * 10**9 + 7000 for n in range(5)]
    assert not capture.warnings and {record.interface.link for record in records} == {ETHERNET}
    assert [record.data for record in read(tmp_path / "z", gzip.compress(pcap(order, unit)))[0]] == FRAMES


@pytest.mark.parametrize("order", ["<", ">"])
def test_sections_interfaces_and_resolutions_may_differ_in_a_pcapng(order: str, tmp_path: Path) -> None:
    other = "<" if order == ">" else ">"
    content = section(order, [ETHERNET, 101]) + enhanced(order, 0, 7, FRAMES[0]) + enhanced(order, 1, 8, b"raw")
    content += block(order, 4, b"names") + block(order, 77, b"?")
    content += block(order, 3, struct.pack(f"{order}I", len(FRAMES[1])) + FRAMES[1])
    content += section(other, [ETHERNET], resolution=9) + enhanced(other, 0, 9, FRAMES[2])
    content += block(other, 2, struct.pack(f"{other}HHIIII", 0, 0, 0, 10, len(FRAMES[3]), 99) + FRAMES[3])
    records, capture = read(tmp_path / "a", content)
    assert [record.data for record in records] == [FRAMES[0], b"raw", *FRAMES[1:4]]
    assert [record.time_ns for record in records] == [7000, 8000, 0, 9, 10]
    assert [record.interface.link for record in records] == [1, 101, 1, 1, 1]
    assert records[-1].length == 99
    assert capture.passed_over == {"block of unknown type 0x4d": 1} and not capture.warnings


HEADS = [struct.pack("<IIII", 1 + number, 7, len(frame), len(frame)) for number, frame in enumerate(FRAMES)]
PARTS = {
    "pcap": [pcap()[:24], *(head + frame for head, frame in zip(HEADS, FRAMES, strict=True))],
    "pcapng": [section("<", [1]), *(enhanced("<", 0, 1, frame) for frame in FRAMES)],
}


@pytest.mark.parametrize("kind", PARTS)
def test_a_file_that_breaks_off_keeps_its_packets_and_says_so(kind: str, tmp_path: Path) -> None:
    whole = b"".join(PARTS[kind])
    assert kind != "pcap" or whole == pcap()
    ends = list(accumulate(map(len, PARTS[kind])))
    for length in range(64, len(whole) + 1):
        records, capture = read(tmp_path / "a", whole[:length])
        complete = sum(end <= length for end in ends) - 1
        assert [record.data for record in records] == FRAMES[: max(0, complete)]
        assert len(capture.warnings) == (length not in ends), length


def test_damage_is_a_warning_and_no_length_is_believed(tmp_path: Path) -> None:
    whole = pcap()
    bomb = whole + struct.pack("<IIII", 1, 1, PACKET_MAX + 1, 60) + bytes(60)
    records, capture = read(tmp_path / "a", bomb)
    assert len(records) == 5 and "a packet of 262145 bytes" in capture.warnings[0]
    for damaged in (
        struct.pack("<II", 6, 0xFFFFFFF0),
        struct.pack("<II", 6, 13),
        struct.pack("<III", 6, 16, 0) + struct.pack("<I", 20),
        enhanced("<", 5, 0, FRAMES[0]),
        block("<", 6, bytes(8)),
        block("<", 6, struct.pack("<IIIII", 0, 0, 0, 4000, 4000) + bytes(60)),
        block("<", 0x0A0D0D0A, b"what"),
    ):
        content = section("<", [1]) + enhanced("<", 0, 1, FRAMES[0]) + damaged + enhanced("<", 0, 1, FRAMES[1])
        records, capture = read(tmp_path / "a", content)
        assert [record.data for record in records] == FRAMES[:1]
        assert len(capture.warnings) == 1 and "stopped at byte" in capture.warnings[0]
    for packed in (gzip.compress(whole)[:-4], gzip.compress(whole)[:-8] + bytes(8)):
        records, capture = read(tmp_path / "z", packed)
        assert len(records) == 5 and "compressed data" in capture.warnings[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file ends in the middle of the first four bytes"),
        (b"\x7fELF" + bytes(100), "begins with 7f 45 4c 46"),
        (b"(\xb5/\xfd" + bytes(100), "is zstd"),
        (gzip.compress(gzip.compress(pcap())), "is gzip inside gzip"),
        (pcap()[:20], "ends in the middle of the file header"),
        (pcap()[:4] + b"\x07" + pcap()[5:], "pcap version 7.4"),
        (gzip.compress(pcap(), mtime=0)[:12], "compressed data is damaged"),
    ],
)
def test_what_is_no_capture_is_an_error_that_says_why(content: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="capture") as raised:
        read(tmp_path / "capture", content)
    assert why in raised.value.why and raised.value.name == "no_capture"


def test_a_file_that_is_not_there_or_not_readable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(Capture(tmp_path / "none"))
    with pytest.raises(BadRequest, match="directory"):
        list(Capture(tmp_path))


def test_any_bytes_are_a_capture_or_an_error(tmp_path: Path) -> None:
    """Seeded: each byte string that fails here becomes a named case above."""
    made = random.Random(11)
    whole = [pcap(), section("<", [1, 113], 9) + b"".join(enhanced("<", 0, 1, frame) for frame in FRAMES)]
    for turn in range(3000):
        content = bytearray(whole[turn % 2])
        for _ in range(made.randint(1, 6)):
            content[made.randrange(len(content))] = made.choice((0, 1, 0x7F, 0xFF, made.randrange(256)))
        try:
            records, _ = read(tmp_path / "a", bytes(content))
        except BadRequest:
            continue
        assert sum(len(record.data) for record in records) <= len(content)


def test_every_packet_is_a_frame_or_is_counted(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(pcap(cut=9))
    (tmp_path / "sll").write_bytes(pcap(link=113))
    (tmp_path / "whole").write_bytes(pcap()[:-1])
    found = read_frames([tmp_path / name for name in ("cut", "sll", "whole")])
    assert found.frames == FRAMES[:4]
    assert found.left_out == {"cut by the snap length": 5, "not Ethernet: LINUX_SLL": 5}
    assert found.warnings == [f"whole: stopped at byte {len(pcap()) - 1}: the file ends in the middle of a packet"]
    assert [file["packets"] for file in found.files] == [5, 5, 4]
    assert link_name(12345) == "link type 12345"


def corpus() -> list[dict[str, str]]:
    if not (CORPORA / "MANIFEST.tsv").is_file():
        return []
    with (CORPORA / "MANIFEST.tsv").open(newline="") as manifest:
        return list(csv.DictReader(manifest, delimiter="\t"))


def test_what_scapy_writes_and_what_lies_beside_the_repository_is_read(tmp_path: Path) -> None:
    packets = [Ether(frame) for frame in FRAMES]
    wrpcap(str(tmp_path / "a.pcap"), packets, nano=True)
    wrpcapng(str(tmp_path / "a.pcapng"), packets)
    for name in ("a.pcap", "a.pcapng"):
        assert [record.data for record in Capture(tmp_path / name)] == FRAMES
    for row in corpus():
        capture = Capture(CORPORA / row["file"])
        records = list(capture)
        assert len(records) == int(row["packets"]), row["file"]
        assert sum(len(record.data) for record in records) == int(row["frame_bytes"]), row["file"]
        assert bool(capture.warnings) == ("CUT SHORT" in row["contents"]), row["file"]
