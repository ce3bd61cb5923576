"""`vxlanu bench pcap`: what is printed, what is refused, and that no figure stands without the frames it is about."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner
from needs import require
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.utils import wrpcap

from vxlanu.bench.frames import read_frames
from vxlanu.bench.measure import Result, Settings, measure, percentile
from vxlanu.cli.bench import Bar
from vxlanu.cli.main import main, root
from vxlanu.dataplane.bench import Bench, Census, Differs, Kind, Operation, Tables, compiler

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SMALL = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / bytes(22))
LARGE = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(flags="PA") / bytes(9000))
QUESTION = bytes(Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.0.0.1", pdst="10.0.0.2"))
CORPORA = Path(__file__).resolve().parents[3] / "shared" / "pcaps"
HOSTILE = ("fuzz", "vxlan-odd", "formats", "inner-gso", "encrypted")
QUICK = ["--tables", "1,50", "--repeats", "2"]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "some.pcap"
    wrpcap(str(path), [Ether(frame) for frame in (SMALL, LARGE, QUESTION, SMALL)])
    return path


def run(*arguments: str | Path) -> str:
    shown = CliRunner().invoke(root, ["bench", "pcap", *map(str, arguments)], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    return shown.output


def test_figures_stand_beside_what_they_are_about(capture: Path) -> None:
    output = run(capture, *QUICK)
    assert f"{capture}: 4 of 4 packets" in output
    assert "not for encapsulate: 1 arp_nd" in output
    assert "compared byte for byte" in output and "super-frames: 16 of 16 merged" in output
    rows = [line for line in output.splitlines() if line.startswith(("encap", "decap", "decide", "cut", "coalesce"))]
    table = [row.split("  ") for row in rows if row.split()[-1].replace(".", "").isdigit()]
    operations = [row[0].split(" ")[0].rstrip(",") for row in table]
    assert operations.count("encapsulate") == operations.count("decapsulate") == 4  # two tables; two sizes at one
    assert operations.count("decide") == 2 and operations.count("cut") == operations.count("coalesce") == 1


def test_json_has_raw_samples_and_what_they_were_taken_on(capture: Path) -> None:
    got = json.loads(run(capture, "--json", *QUICK))
    assert got["format"] == 1 and got["settings"]["entries"] == [1, 50]
    assert {"commit", "kernel", "cpu", "compiler", "version", "time"} <= set(got["machine"])
    assert "-O3" in got["machine"]["compiler"] and got["machine"]["compiler"] == compiler()
    assert got["captures"][0]["packets"] == 4 and len(got["captures"][0]["sha256"]) == 64
    for result in got["results"]:
        assert len(result["samples_ns"]) == len(result["copy_samples_ns"]) == 2
        assert result["ns_per_frame"]["p5"] <= result["ns_per_frame"]["median"] <= result["ns_per_frame"]["p95"]
        assert result["frames"]["segments"] >= result["frames"]["frames"] >= result["frames"]["used"] > 0
    carried = next(it for it in got["results"] if it["operation"] == "encapsulate" and it["size"] == "all")
    assert carried["frames"]["used"] == 3 and carried["frames"]["left_out"] == {"arp_nd": 1}


def test_json_has_no_figure_for_what_could_not_be_carried(tmp_path: Path) -> None:
    """A UDP frame longer than the MTU is no super-frame that could be cut, and no defect of the others beside it."""
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    large = ether / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / bytes(2000)
    wrpcap(str(tmp_path / "udp.pcap"), [Ether(SMALL), large])
    results = json.loads(run(tmp_path / "udp.pcap", "--json", *QUICK))["results"]
    without = [it for it in results if "ns_per_frame" not in it]
    assert {it["operation"] for it in without} == {"cut", "coalesce"} and not any(it["samples_ns"] for it in without)
    assert {it["operation"] for it in results if it not in without} == {"encapsulate", "decapsulate", "decide"}


@pytest.mark.parametrize(
    ("content", "exit_code", "why"),
    [
        (b"\x7fELF", 2, "begins with 7f 45 4c 46"),
        (struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1), 2, "it holds no packets"),
        (struct.pack("<IHHIIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101, 0, 0, 1, 1) + b"E", 2, "1 not Ethernet: RAW"),
        (None, 4, "no such file"),
    ],
)
def test_what_cannot_be_carried_is_an_error_and_no_figure(
    content: bytes | None, exit_code: int, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "given"
    if content is not None:
        path.write_bytes(content)
    assert main(["bench", "pcap", str(path), *QUICK]) == exit_code
    shown = capsys.readouterr()
    assert why in shown.err and shown.err.startswith("vxlanu: ") and not shown.out


@pytest.mark.parametrize("tables", ["0", "1,,2", "x", "99999999", "-1"])
def test_tables_out_of_range_are_refused(tables: str, capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "pcap", str(capture), "--tables", tables]) == 2
    assert "is no list of numbers from 1 to 1500000" in capsys.readouterr().err


def test_frames_that_differ_are_an_answer_and_no_figure(
    capture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differs(*_: object) -> int:
        raise Differs("frame 3 of 4 (carry)")

    monkeypatch.setattr(Bench, "run", differs)
    assert main(["bench", "pcap", str(capture), *QUICK]) == 1
    shown = capsys.readouterr()
    assert "not carried as it is: frame 3 of 4" in shown.err and not shown.out


def test_a_capture_of_nothing_that_can_be_carried_says_why_and_has_no_figure(tmp_path: Path) -> None:
    wrpcap(str(tmp_path / "cut.pcap"), [Ether(SMALL[:30])])
    output = run(tmp_path / "cut.pcap", *QUICK)
    assert "not for encapsulate: 1 hdr_trunc" in output and "decide: 1 dropped: hdr_trunc" in output
    assert "encapsulate (TAP" not in output and "decide (as captured)" in output


def test_hostile_captures_are_carried_or_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "cut.pcap").write_bytes(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"\xff" * 40)
    wrpcap(str(tmp_path / "odd.pcap"), [Ether(SMALL[:length]) for length in range(14, len(SMALL) + 1)])
    beside = [path for group in HOSTILE for path in sorted((CORPORA / group).glob("*"))]
    got = json.loads(run(tmp_path / "cut.pcap", tmp_path / "odd.pcap", *beside, "--json", "--tables", "9"))
    assert "cut.pcap: stopped at byte 24: a packet of 4294967295 bytes" in got["warnings"][0]
    packets = sum(file["packets"] for file in got["captures"])
    carried = next(it["frames"] for it in got["results"] if (it["operation"], it["size"]) == ("encapsulate", "all"))
    left_out = [*got["left_out"].values(), *carried["left_out"].values()]
    assert carried["used"] + sum(left_out) == packets and carried["left_out"]["hdr_trunc"] >= 20


def test_every_frame_of_every_kind_is_counted(capture: Path) -> None:
    frames = read_frames([capture]).frames
    with Bench(Tables(10, 2, 3)) as bench:
        for kind in Kind:
            census = bench.load(kind, frames, 1)
            counted = sum(census.decided.values()) if kind is Kind.MIX else census.used
            assert counted + sum(census.left_out.values()) == len(frames), kind
        with pytest.raises(OSError, match="Invalid"):
            bench.run(Operation.ENCAPSULATE)
    with pytest.raises(OSError, match="Invalid"):
        Bench(Tables(10, 100_000, 3))


def test_settings_follow_the_entries_unless_given() -> None:
    assert Settings().tables(1) == Tables(1, 1, 1)
    assert Settings().tables(1_000_000) == Tables(1_000_000, 1000, 1000)
    assert Settings(ports=7, vteps=9, seed=2).tables(50) == Tables(50, 7, 9, 1450, 2)
    assert Settings().classes_at == 1000 and Settings(entries=(70, 5)).classes_at == 5


def test_medians_and_percentiles_are_those_of_the_samples() -> None:
    assert percentile([30, 10, 20], 0.5) == 20 and percentile([10, 20], 0.5) == 15
    assert percentile(range(101), 0.05) == 5 and percentile([7], 0.95) == 7
    it = Result("cut", "all", Tables(1, 1, 1), Census(1, 4, 500, 0, 1, 0), 1, (100, 300, 200), (40, 40, 40))
    assert it.per_frame(0.5) == 50 and it.copied() == 10 and it.gbit_s() == 20


def test_progress_is_told_in_order_and_shown_to_terminals_only(
    capture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[int, int]] = []
    measure(read_frames([capture]).frames, Settings(entries=(2,), repeats=1), lambda *it: told.append(it[:2]))
    assert told == sorted(told) and told[-1][0] + 1 == told[-1][1]
    for terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr("vxlanu.cli.bench.PATIENCE_S", 0.0)
        bar = Bar()
        bar.step(1, 4, "1000 entries")
        bar.over()
        shown = capsys.readouterr().err
        assert ("[#####" in shown and shown.endswith("\x1b[K")) if terminal else shown == ""


def test_two_hosts_of_a_million_entries_fit() -> None:
    require("gigabyte")
    with Bench(Tables(1_000_000, 1000, 1000)) as bench:
        assert bench.load(Kind.CARRY, [SMALL], 4096).frames == 4096
        assert bench.run(Operation.ENCAPSULATE) > 0 and bench.run(Operation.DECAPSULATE) > 0
