"""Captures of a running overlay, read by capinfos and tshark.

    c1-1 c1-2    c2-1 c2-2
       h1 ───────── h2          captured on h1: network `look`, A (192.168.0.10) on h1, B (192.168.0.20) on h2
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from capture_command import PATIENCE_S, capturing
from capture_file import fields, frames_in, interfaces_of, named, tshark
from lab_ns import poll as poll_value
from streams import once, pings, ready

from vxlanu.capture.reading import Reader
from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.netns, pytest.mark.interop("tshark", "capinfos")]

MORE_THAN_FITS = 8000
"""Frames of 1400 bytes: twice what the ring of a capture, the sockets and the pipes behind it hold."""


@pytest.fixture(scope="module")
def pair(make_module_lab: Callable[..., Lab]) -> Lab:
    lab = make_module_lab(hosts=2, containers=2)
    build(lab)
    return lab


def build(lab: Lab) -> None:
    lab.vxlanu("h1", "network", "create", "look", "--subnet", "192.168.0.0/24", "--vni", "256")
    lab.vxlanu("h1", "attach", "look", "c1-1", "--name", "A", "--ip", "192.168.0.10")
    lab.vxlanu("h2", "attach", "look", "c2-1", "--name", "B", "--ip", "192.168.0.20")
    poll(lambda: len(lab.vxlanu("h1", "endpoint", "ls", "look")) == 2, "both endpoints on h1", 60)
    assert pings(lab, "c1-1", "192.168.0.20")


def lost_to_nobody(lab: Lab, count: int) -> None:
    """Frames from A to a MAC that nobody has: fdb_miss."""
    lab.exec("c1-1", ["ip", "neigh", "replace", "192.168.0.99", "lladdr", "02:00:00:00:00:99", "dev", "eth0"])
    lab.exec("c1-1", ["ping", "-n", "-q", "-i", "0.2", "-c", str(count), "-W", "2", "192.168.0.99"], check=False)


def has_a_place(lab: Lab) -> bool:
    return lab.exec("h1", ["vxlanu", "capture", "--duration", "0.1"], check=False).returncode == 0


def so_far(path: Path) -> int:
    """Frames in a file that is still written."""
    return len(list(Reader().feed(path.read_bytes()))) if path.exists() else 0


def test_lines_name_both_ends_and_say_what_it_is(pair: Lab) -> None:
    with capturing(pair, "A", "-c", "8") as running:
        poll(lambda: pings(pair, "c1-1", "192.168.0.20") and running.process.poll() is not None, "eight frames", 60)
        code, out, err = running.end()
    assert (code, err) == (0, "8 frames, 0 lost\n")
    lines = out.splitlines()
    assert len(lines) == 8
    assert any(" A.look out A.look > B.look: ICMP echo request, " in line for line in lines), out
    assert any(" A.look in  B.look > A.look: ICMP echo reply, " in line for line in lines), out


def test_inner_and_outer_records_of_a_packet_have_one_number(pair: Lab, tmp_path: Path) -> None:
    file = tmp_path / "both.pcapng"
    with capturing(pair, "A", "--view", "both", "-w", file) as running:
        assert pings(pair, "c1-1", "192.168.0.20", count=3)
        code, out, err = running.end(signal.SIGINT)
    assert (code, out) == (0, "")
    assert err == f"{frames_in(file)} frames in {file}, 0 lost\n"
    shown = ("frame.packet_id", "frame.interface_name", "vxlan.vni", "frame.packet_flags_direction", "icmp.ident")
    packets: dict[str, list[list[str]]] = {}
    for number, *row in fields(file, *shown, only="icmp"):
        packets.setdefault(number, []).append(row)
    for rows in packets.values():
        assert [row[:2] for row in sorted(rows)] == [["vxlanu:A.look", ""], ["vxlanu:underlay", "256"]], packets
        assert len({tuple(row[2:]) for row in rows}) == 1, packets
    ways = [rows[0][2] for rows in packets.values()]
    assert min(ways.count("0x00000001"), ways.count("0x00000002")) >= 3, f"six packets, three each way: {packets}"
    assert ["A.look", "B.look"] in named(file)


def test_outer_headers_are_real_where_they_are_said_to_be(pair: Lab, tmp_path: Path) -> None:
    file = tmp_path / "outer.pcapng"
    with capturing(pair, "h2", "-w", file) as running:  # a VTEP alone: outer, without being told
        assert pings(pair, "c1-1", "192.168.0.20", count=2)
        assert running.end(signal.SIGINT)[0] == 0
    assert frames_in(file) >= 4
    addresses = {row["name"]: row["address"] for row in pair.vxlanu("h1", "member", "ls")}
    shown = ("ip.src", "ip.dst", "udp.dstport", "udp.length", "frame.len", "frame.packet_flags_direction")
    for row in fields(file, *shown):
        source, target, port, length, whole, way = (value.split(",")[0] for value in row)
        ends = (addresses["h1"], addresses["h2"])
        assert (source, target) == (ends if way == "0x00000002" else ends[::-1]), row
        assert port == "4789" and int(length) == int(whole) - 34, row
    described = " ".join(fields(file, "frame.interface_description")[0])
    assert "the rest is 0" in described


def test_a_drop_is_shown_with_its_reason_and_only_where_it_is_asked_for(pair: Lab, tmp_path: Path) -> None:
    file = tmp_path / "drops.pcapng"
    with (
        capturing(pair, "--reason", "fdb_miss", "-w", file) as of_reason,
        capturing(pair, "look", "--drops", "--json") as of_all,
        capturing(pair, "--reason", "storm_limit") as of_another,
    ):
        lost_to_nobody(pair, 3)
        poll(lambda: so_far(file) >= 3, "frames in the file", 60)
        assert of_reason.end(signal.SIGINT)[0] == 0
        shown = [json.loads(line) for line in of_all.end(signal.SIGINT)[1].splitlines()]
        assert of_another.end(signal.SIGINT)[1:] == ("", "0 frames, 0 lost\n")
    assert frames_in(file) == 3
    for name, comment, verdict in fields(file, "frame.interface_name", "frame.comment", "frame.verdict.hw"):
        assert name == "vxlanu:drops"
        assert comment == "vxlanu drop=fdb_miss path=out ep=A.look vni=256 frames=1"
        assert bytes.fromhex(verdict.replace(":", "")).endswith(b"DROP fdb_miss")
    assert [line["drop"] for line in shown if line["target"] == "192.168.0.99"] == ["fdb_miss"] * 3
    counted = [row for row in pair.vxlanu("h1", "drops") if row["reason"] == "fdb_miss" and row["scope"] == "network"]
    assert counted and counted[0]["frames"] >= 3
    read = pair.exec("h1", ["vxlanu", "capture", "-r", str(file), "--reason", "fdb_miss", "-c", "2"]).stdout
    assert [line.endswith("  DROP fdb_miss") for line in read.splitlines()] == [True, True], read


def test_an_endpoint_that_comes_later_gets_an_interface_of_its_own(pair: Lab, tmp_path: Path) -> None:
    file = tmp_path / "late.pcapng"
    with capturing(pair, "look", "-w", file) as running:
        pair.vxlanu("h1", "attach", "look", "c1-2", "--name", "LATE", "--ip", "192.168.0.11")
        poll(lambda: pings(pair, "c1-2", "192.168.0.20") and b"LATE.look" in file.read_bytes(), "LATE in the file", 60)
        assert pings(pair, "c1-2", "192.168.0.20")
        pair.vxlanu("h1", "detach", "look", "c1-2")
        assert running.end(signal.SIGINT)[0] == 0
    assert frames_in(file)
    there = ["vxlanu:A.look", "vxlanu:gateway.look", "vxlanu:LATE.look"]
    assert interfaces_of(file) == ["vxlanu:underlay", "vxlanu:drops", *there]
    assert fields(file, "icmp.seq", only='frame.interface_name == "vxlanu:LATE.look" && icmp')


def test_super_frames_are_shown_whole_and_every_checksum_is_right(pair: Lab, tmp_path: Path) -> None:
    file = tmp_path / "bulk.pcapng"
    with capturing(pair, "A", "--view", "both", "-w", file) as running:
        with ready(pair, "c2-1", "receive", "tcp", "192.168.0.20", 5001, PATIENCE_S):
            once(pair, "c1-1", "send", "tcp", "192.168.0.20", 5001, 1_000_000, 1, 0)  # twice that fits the ring
        code, _out, err = running.end(signal.SIGINT)
    assert code == 0 and err.endswith(" 0 lost\n"), err
    assert frames_in(file)
    checks = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    inner = 'frame.interface_name == "vxlanu:A.look"'
    for bad in ("tcp.checksum.status == Bad", "ip.checksum.status == Bad"):
        assert tshark(file, *checks, "-Y", f"{inner} && {bad}") == []
    assert tshark(file, *checks, "-Y", f"{inner} && tcp.checksum.status == Good && ip.checksum.status == Good")
    outer = [int(row[0]) for row in fields(file, "frame.len", only='frame.interface_name == "vxlanu:underlay"')]
    assert max(outer) <= 1450 + 14 + 50, "datagrams are shown as they were cut"
    if "tso" in str(pair.vxlanu("h1", "status")["offload"]):
        assert max(int(row[0]) for row in fields(file, "frame.len", only=inner)) > 1450 + 14


def test_a_file_is_good_after_sigkill_of_the_command(pair: Lab, tmp_path: Path) -> None:
    for number in range(6):  # more often than captures may run at once: each gives its place back
        file = tmp_path / f"killed-{number}.pcapng"
        with capturing(pair, "A", "-w", file) as running:
            assert pings(pair, "c1-1", "192.168.0.20", count=2)
            poll(lambda path=file: so_far(path) >= 2, "frames in the file", 60)
            running.end(signal.SIGKILL)
        assert frames_in(file) >= 2
        poll(lambda: has_a_place(pair), "a place for another capture", 60)


def test_too_many_captures_are_refused_and_a_place_comes_free(pair: Lab) -> None:
    with capturing(pair, "A"), capturing(pair, "A"), capturing(pair, "A"):
        with capturing(pair, "A") as last:
            refused = pair.exec("h1", ["vxlanu", "capture", "A"], check=False)
            assert refused.returncode == 75 and "as many captures run as may at once" in refused.stderr
            assert last.end(signal.SIGTERM)[0] == 0
        poll(lambda: has_a_place(pair), "a place", 60)


def test_what_did_not_fit_is_counted_to_the_frame(pair: Lab, tmp_path: Path) -> None:
    file = tmp_path / "slow.pcapng"

    def came() -> int:
        rows = [row for row in pair.vxlanu("h1", "stats") if row["name"] == "A" and row["scope"] == "endpoint"]
        return int(rows[0]["sent_frames"])

    frame = bytes.fromhex("0242c0a80014" "0242c0a8000a" "88b5") + bytes(1400)

    def more_than_fits() -> bool:
        """With another burst, of which the agent never gets what the TAP's own ring has no room for."""
        once(pair, "c1-1", "burst", "eth0", frame.hex(), 6000)
        return came() - before >= MORE_THAN_FITS

    def read_to_its_end() -> bool:
        """Whether a request for B's MAC is answered: behind a burst, for it takes the same queue (steer.c: no IP)."""
        pair.exec("c1-1", ["ip", "neigh", "del", "192.168.0.20", "dev", "eth0"])
        answered = pings(pair, "c1-1", "192.168.0.20", wait=1)
        pair.exec("c1-1", known)
        return answered

    # A says nothing by itself from here on: neither router solicitations nor ARP probes
    pair.exec("c1-1", ["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6"])
    known = ["ip", "neigh", "replace", "192.168.0.20", "lladdr", "02:42:c0:a8:00:14", "dev", "eth0"]
    pair.exec("c1-1", known)
    with capturing(pair, "A", "--direction", "out", "-w", file) as running:
        before = came()
        running.signal(signal.SIGSTOP)
        poll(more_than_fits, "the agent to get more than fits", 60, pair.story)
        poll(read_to_its_end, "the ring to be read to its end", 60)
        sent = poll_value(lambda: (now := came()) == came() and now - before, what="the counters to come to rest")
        running.signal(signal.SIGCONT)
        code, _out, err = running.end(signal.SIGINT)
    assert code == 0
    frames, lost = int(err.split()[0]), int(err.split()[-2])
    assert frames_in(file) == frames
    assert lost > 0, err
    assert frames + lost == sent, "every frame is in the file or counted as lost"


@pytest.mark.parametrize(
    ("said", "code", "why"),
    [
        (["nope"], 4, "no endpoint, network or VTEP of that name"),
        (["B"], 4, "it is on h2"),
        (["h1"], 2, "that is this host"),
        (["h2", "--view", "inner"], 2, "only VTEPs are named"),
        (["--reason", "fdb_mis"], 2, "try: fdb_miss"),
        (["-r", "/nowhere"], 4, "no such file"),
        (["-r", "/etc/hosts"], 2, "neither pcapng nor pcap"),
    ],
)
def test_what_cannot_be_captured_is_refused_with_the_reason(pair: Lab, said: list[str], code: int, why: str) -> None:
    done = pair.exec("h1", ["vxlanu", "capture", *said], check=False)
    assert done.returncode == code and why in done.stderr, done


def test_a_capture_can_be_piped_into_a_dissector(pair: Lab, tmp_path: Path) -> None:
    pipe = tmp_path / "seen"
    line = f"vxlanu capture A -c 4 -w - | tshark -n -r - > {pipe}"
    with pair.running("h1", ["sh", "-c", line]) as shell:
        poll(lambda: pings(pair, "c1-1", "192.168.0.20") and shell.poll() is not None, "four frames", 60)
    assert len(pipe.read_text().splitlines()) == 4


def test_a_file_is_good_after_the_agent_ends_either_way(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    lab = make_lab(hosts=2, containers=1)
    build(lab)
    for end, code in ((lab.stop_agent, 0), (lab.kill_agent, 3)):
        file = tmp_path / f"{end.__name__}.pcapng"
        with capturing(lab, "--view", "both", "-w", file) as running:
            assert pings(lab, "c1-1", "192.168.0.20", count=2)
            poll(lambda path=file: so_far(path) >= 4, "frames in the file", 60)
            end("h1")
            assert running.end()[0] == code
        assert frames_in(file) >= 4
        assert bool(tshark(file, "-q", "-z", "io,stat,0")), "tshark counts it"
        lab.start_agent("h1")
        poll(lambda: pings(lab, "c1-1", "192.168.0.20"), "the overlay again", 60)
