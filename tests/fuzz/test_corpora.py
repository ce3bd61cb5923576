"""Every captured frame through the whole decision, under sanitizers.

Rules of this file
  1. Captures are read if they lie beside the repository; the frames made by inputs.py go the same way everywhere.
  2. What is taken out of a tunnel is compared with what editcap takes out of it.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from inputs import FAR, TUNNEL, A, bench_inputs, frames, switch_inputs
from needs import require
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader, wrpcap
from targets import HERE, ROOT, link

CAPTURES = ROOT.parent / "shared" / "pcaps"
GROUPS = ("vxlan", "vxlan-odd", "inner", "inner-gso", "encrypted", "fuzz")
OUTER = 14 + 20 + 8 + 8  # what editcap chops: Ethernet, IPv4 without options, UDP, VXLAN
PORTS = (4789, 8472)  # IANA's, and the one that Linux had before


def captures(*groups: str) -> Iterator[Path]:
    for group in groups if CAPTURES.is_dir() else ():
        yield from sorted((CAPTURES / group).iterdir())


def captured() -> Iterator[bytes]:
    """The frames made here, and those of the captures."""
    yield from frames()
    for path in captures(*GROUPS):
        for frame, _ in RawPcapReader(str(path)):
            yield frame


def udp_payload(frame: bytes) -> bytes | None:
    """The payload of a UDP packet over IPv4 in an untagged frame: what a receive socket would hand over."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return None
    return frame[14 + (frame[14] & 15) * 4 + 8 :]


def bundled(records: Iterable[bytes], path: Path) -> int:
    """Write a bundle as replay_bundle.c reads it. How many records it has."""
    written = 0
    with path.open("wb") as out:
        for record in records:
            out.write(len(record).to_bytes(4, "big") + record)
            written += 1
    return written


def replayed() -> Iterator[bytes]:
    """Each of them in every way that fuzz_switch.c knows, and what is in a datagram as one from the tunnel."""
    for frame in captured():
        yield from switch_inputs(frame[:65000])
        if (payload := udp_payload(frame)) is not None:
            yield bytes([TUNNEL, 7]) + bytes(13) + payload[:65000]


def test_every_captured_frame_gets_a_verdict(objects: list[str], tmp_path: Path) -> None:
    program = link("fuzz_switch", str(HERE / "replay_bundle.c"), objects, tmp_path)
    records = bundled(replayed(), tmp_path / "bundle")
    run = subprocess.run([program, tmp_path / "bundle"], capture_output=True, text=True, timeout=250, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert int(run.stdout) == records > 0


def test_every_captured_frame_goes_through_the_bench(objects: list[str], tmp_path: Path) -> None:
    program = link("fuzz_bench", str(HERE / "replay_bundle.c"), objects, tmp_path)
    several = [frame[:65000] for frame in captured()]
    batches = (several[at : at + 64] for at in range(0, len(several), 64))
    records = bundled((record for batch in batches for record in bench_inputs(batch)), tmp_path / "bundle")
    run = subprocess.run([program, tmp_path / "bundle"], capture_output=True, text=True, timeout=250, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert int(run.stdout) == records > 0


@pytest.fixture(scope="module")
def decapsulate(objects: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link("decapsulate", "address,undefined", objects, tmp_path_factory.mktemp("decapsulate"))


def tunnelled(frame: bytes) -> bool:
    """Whether 50 bytes of a frame are its tunnel: IPv4 without options, UDP to a VXLAN port, the I flag; none cut."""
    if len(frame) < OUTER + 14 or frame[12:15] != b"\x08\x00\x45" or frame[23] != 17:
        return False
    total, port, length = struct.unpack(">16xH18xHH", frame[:40])
    whole = total == len(frame) - 14 and length == total - 20
    return whole and port in PORTS and bool(frame[42] & 8)


def own_tunnel() -> list[bytes]:
    """The frames made here, in a tunnel made by scapy."""
    ether = Ether(src=A, dst=FAR)  # given, or scapy asks the network for them
    outer = ether / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=50000, dport=4789)
    return [bytes(outer / (b"\x08" + bytes(3) + number.to_bytes(3, "big") + b"\0") / frame)
            for number, frame in enumerate(frames(), 1)]  # fmt: skip


def chopped(capture: Path, to: Path) -> list[bytes]:
    done = subprocess.run(["editcap", "-L", "-C", str(OUTER), capture, to], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return [frame for frame, _ in RawPcapReader(str(to))]


def taken_apart(program: Path, bundle: Path) -> Iterator[tuple[int, bytes]]:
    """Reason and inner frame of each record, from decapsulate.c."""
    run = subprocess.run([program, bundle], capture_output=True, timeout=100, check=False)
    assert run.returncode == 0 and not run.stderr, run.stderr[-4000:]
    rest = run.stdout
    while rest:
        reason, length = struct.unpack(">BI", rest[:5])
        yield reason, rest[5 : 5 + length]
        rest = rest[5 + length :]


def test_decapsulation_is_what_editcap_chops_off(decapsulate: Path, tmp_path: Path) -> None:
    require("editcap")
    wrpcap(str(tmp_path / "own.pcap"), [Ether(frame) for frame in own_tunnel()])
    compared = 0
    for capture in (tmp_path / "own.pcap", *captures("vxlan", "vxlan-odd")):
        outer = [frame for frame, _ in RawPcapReader(str(capture))]
        inner = chopped(capture, tmp_path / "inner.pcap")
        applies = [number for number, frame in enumerate(outer) if tunnelled(frame)]
        bundled((outer[number][42:] for number in applies), tmp_path / "bundle")
        found = list(taken_apart(decapsulate, tmp_path / "bundle"))
        assert len(found) == len(applies)
        for number, (reason, frame) in zip(applies, found, strict=True):
            assert frame == inner[number], f"{capture.name}, frame {number + 1}, reason {reason}"
        compared += len(applies)
    assert compared >= len(frames())


def test_a_datagram_that_is_not_taken_apart_has_a_reason(decapsulate: Path, tmp_path: Path) -> None:
    whole = own_tunnel()[0][42:]
    records = [whole, whole[:7], whole[:21], b"\0" + whole[1:]]
    bundled(records, tmp_path / "bundle")
    found = list(taken_apart(decapsulate, tmp_path / "bundle"))
    assert found[0][1] == whole[8:]
    assert [bool(reason) and not frame for reason, frame in found[1:]] == [True, True, True]
