"""Capture files are read without trust: what others wrote, what is cut, what is hostile.

Files of the reader's own tests are made by vxlanu.capture.blocks and by hand; `../shared/pcaps`, when it is there, has
some hundred files of other projects, many made to crash readers.
"""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import pytest
from capture_blocks import ARP, PING, block, option, ours, packet
from click.testing import CliRunner

from vxlanu.capfile import Cut, Damaged
from vxlanu.capture.dissect import dissect
from vxlanu.capture.lines import line_of, text_of
from vxlanu.capture.reading import Frame, Reader
from vxlanu.capture.whole import Whole
from vxlanu.cli.capture import capture
from vxlanu.cli.main import main

SHARED = Path(__file__).resolve().parents[3] / "shared" / "pcaps"


def read(data: bytes, piece: int = 1 << 16) -> list[Frame]:
    reader = Reader()
    return [frame for at in range(0, len(data), piece) for frame in reader.feed(data[at : at + piece])]


def test_a_frame_comes_back_with_all_that_was_said_of_it() -> None:
    comment = b"vxlanu drop=fdb_miss path=out ep=A.look vni=256 frames=2"
    said = option(2, struct.pack("=I", 2)) + option(4, struct.pack("=Q", 9)) + option(5, struct.pack("=Q", 77))
    reader, time = Reader(), 1_700_000_000_123_456_789
    (frame,) = reader.feed(ours(packet(PING, said + option(1, comment) + option(0, b""), time=time)))
    line = line_of(frame, reader.names)
    assert (frame.time_ns, frame.data, frame.packet, frame.dropcount) == (time, PING, 77, 9)
    assert (line.drop, line.endpoint, line.vni, line.frames) == ("fdb_miss", "A.look", 256, 2)
    assert text_of(line).endswith(
        ".123456 A.look out A.look > B.look: ICMP echo request, id 1, seq 5, length 8  DROP fdb_miss (2 frames)"
    )


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 16])
def test_it_does_not_matter_how_the_bytes_come(piece: int) -> None:
    data = ours(*(packet(PING[:length]) for length in range(14, 42)))
    assert [frame.data for frame in read(data, piece)] == [PING[:length] for length in range(14, 42)]
    whole, cut = Whole(), b""
    for at in range(0, len(data), piece):
        part = whole.take(data[at : at + piece])
        read(cut + part)  # ends where a block ends, or this would leave a rest
        cut += part
    assert (cut, whole.frames, whole.lost) == (data, 28, 0)


def test_the_losses_of_all_interfaces_add_up() -> None:
    statistics = [block(5, struct.pack("=3I", 0, 0, 0) + option(5, struct.pack("=Q", lost))) for lost in (3, 4)]
    reader, whole = Reader(), Whole()
    assert list(reader.feed(ours(*statistics))) == []
    whole.take(ours(*statistics))
    assert reader.lost == whole.lost == 7


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "units"), [(0xA1B2C3D4, 10**6), (0xA1B23C4D, 10**9)])
def test_pcap_is_read_in_both_orders_and_precisions(order: str, magic: int, units: int) -> None:
    head = struct.pack(f"{order}I2H4I", magic, 2, 4, 0, 0, 65535, 1)
    record = struct.pack(f"{order}4I", 10, units // 2, len(ARP), len(ARP)) + ARP
    for piece in (1, 1000):
        found = read(head + record * 2, piece)
        assert [(frame.time_ns, frame.data) for frame in found] == [(10_500_000_000, ARP)] * 2


def test_a_second_section_may_have_the_other_byte_order() -> None:
    def section(order: str) -> bytes:
        return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order) + block(
            1, struct.pack(f"{order}HHI", 1, 0, 0), order
        )

    data = section("<") + packet(ARP) + section(">") + packet(PING, order=">")
    assert [frame.data for frame in read(data)] == [ARP, PING]


@pytest.mark.parametrize("order", ["<", ">"])
def test_interfaces_say_when_a_packet_was_and_how_much_of_it_is_kept(order: str) -> None:
    def section(major: int) -> bytes:
        return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, major, 0, -1), order)

    def interface(snaplen: int, options: bytes = b"") -> bytes:
        return block(1, struct.pack(f"{order}HHI", 1, 0, snaplen) + options, order)

    late = option(14, struct.pack(f"{order}q", 3600), order) + option(2, b"late", order)
    old = struct.pack(f"{order}HHIIII", 1, 7, 0, 5, len(ARP), 1) + ARP + bytes(-len(ARP) % 4)
    simple = struct.pack(f"{order}I", len(PING)) + PING[:20]
    found = read(section(1) + interface(20) + interface(0, late) + block(2, old, order) + block(3, simple, order))
    assert [(frame.interface.name, frame.time_ns) for frame in found] == [
        ("late", 3600_000_005_000),
        ("interface 0", 0),
    ]
    assert [(frame.data, frame.length) for frame in found] == [(ARP, len(ARP)), (PING[:20], len(PING))]
    with pytest.raises(Damaged, match="pcapng version 2 is unknown"):
        read(section(2))


def test_what_is_cut_off_is_good_up_to_there_and_what_cannot_be_is_damaged() -> None:
    data = ours(packet(ARP), packet(PING))
    reader = Reader()
    assert len(list(reader.feed(data[:-1]))) == 1
    with pytest.raises(Cut, match=f"in the middle of a block at offset {len(data) - 1}"):
        reader.end()
    for broken, why in (
        (data[:-4] + b"\1\1\1\1", "lengths differ"),
        (data + struct.pack("=2I", 6, 1 << 30) + bytes(4), "a block of 1073741824 bytes"),
        (data + struct.pack("=2I", 6, 8) + bytes(4), "a block of 8 bytes"),
        (data + packet(ARP, interface=7), "interface 7"),
        (data + block(6, bytes(8)), "too short"),
        (data + block(6, struct.pack("=5I", 0, 0, 0, 5000, 5000)), "a packet of 5000 bytes"),
        (data + packet(ARP, struct.pack("=2H", 1, 500)), "an option that is longer"),
        (b"GET / HTTP/1.1\r\n\r\n", "neither pcapng nor pcap"),
    ):
        with pytest.raises(Damaged, match=why):
            read(broken)
    with pytest.raises(Damaged, match="in the middle of the first four bytes"):
        cut = Reader()
        list(cut.feed(b"abc"))
        cut.end()


def test_any_damage_ends_in_frames_or_damaged_and_every_frame_in_a_line() -> None:
    chance = random.Random(4711)
    names = {"192.168.0.10": "A"}
    data = bytearray(ours(*(packet(frame, option(1, b"vxlanu drop=x frames=1")) for frame in (ARP, PING) * 4)))
    outcomes = set()
    for _ in range(3000):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.choice((0, 255, chance.randrange(256)))
        try:
            for frame in read(bytes(broken[: chance.randint(1, len(broken))]), chance.choice((16, 1 << 16))):
                assert text_of(line_of(frame, names)).isprintable()
            outcomes.add("frames")
        except Damaged:
            outcomes.add("damaged")
    assert outcomes == {"frames", "damaged"}


def test_a_frame_may_end_anywhere_and_say_anything() -> None:
    scapy = pytest.importorskip("scapy.all")
    inner = scapy.Ether() / scapy.IP(src="192.168.0.10", dst="192.168.0.20") / scapy.TCP(dport=80, flags="S")
    frames = [
        scapy.Ether() / scapy.IP(src="10.0.0.1", dst="10.0.0.2") / scapy.UDP(dport=4789) / scapy.VXLAN(vni=256) / inner,
        scapy.Ether() / scapy.Dot1Q(vlan=5) / scapy.IPv6(dst="ff02::1") / scapy.ICMPv6ND_NS(tgt="fd00::1"),
        scapy.Ether() / scapy.IPv6() / scapy.IPv6ExtHdrHopByHop() / scapy.IPv6ExtHdrFragment(offset=9) / b"12345678",
        scapy.Ether() / scapy.IP(frag=100) / b"12345678",
    ]
    said = [dissect(bytes(frame), {"192.168.0.10": "A"}).text for frame in frames]
    assert said == [
        "VXLAN, vni 256: A:20 > 192.168.0.20:80: TCP [S], seq 0, win 8192, length 0",
        "vlan 5, ICMPv6 neighbor solicitation, who has fd00::1, length 24",
        "IP protocol 59, fragment at 72, length 8",
        "IP protocol 0, fragment at 800, length 8",
    ]
    chance = random.Random(1)
    for whole in map(bytes, frames):
        for end in range(len(whole)):
            assert dissect(whole[:end], {}).text
        for _ in range(2000):
            broken = bytearray(whole)
            broken[chance.randrange(12, len(broken))] = chance.randrange(256)
            assert dissect(bytes(broken), {}).text


def test_dash_r_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, packed, cut, bad = (tmp_path / name for name in ("good", "good.gz", "cut", "bad"))
    good.write_bytes(ours(packet(ARP), packet(PING)))
    packed.write_bytes(gzip.compress(good.read_bytes()))
    cut.write_bytes(good.read_bytes()[:-3])
    bad.write_bytes(good.read_bytes()[:-4] + b"\1\1\1\1")
    for path, code, lines, said in (
        (good, 0, 2, ""),
        (packed, 0, 2, ""),
        (cut, 0, 1, "the file ends in the middle of a block at offset "),
        (bad, 2, 1, "a block whose two lengths differ at offset "),
    ):
        assert main(["capture", "-r", str(path)]) == code
        shown = capsys.readouterr()
        assert len(shown.out.splitlines()) == lines and said in shown.err, (path, shown)
    whole = packed.read_bytes()
    for broken in (whole[:-9], whole[:-8] + bytes(8), whole[:10] + b"\xff" * 40):
        packed.write_bytes(broken)
        assert main(["capture", "-r", str(packed)]) == 2
        assert "compressed data is damaged or ends early" in capsys.readouterr().err
    assert main(["capture", "C0", "-r", str(good)]) == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the captures of other projects in ../shared/pcaps")
def test_files_of_others_are_read_or_refused_with_a_reason() -> None:
    runner, read_well, files = CliRunner(), 0, sorted(path for path in SHARED.rglob("*") if path.is_file())
    for path in files:
        if path.stat().st_size > 2_000_000 or path.suffix == ".tsv":
            continue
        done = runner.invoke(capture, ["-r", str(path), "-c", "300"])
        assert done.exception is None or type(done.exception).__name__ in ("BadRequest", "SystemExit"), (path, done)
        read_well += done.exception is None and bool(done.output)
    assert read_well > 50
