"""The C parsers and the whole decision under sanitizers: libFuzzer with a fixed seed, and every captured frame.

Rules of this file
  1. Deterministic: a seed and a number of runs, never a time; VXLANU_FUZZ_TIMES multiplies them.
  2. Seeds of the corpus are made here, from scapy, so that coverage does not begin at zero; crashes that were found
     are named inputs in FOUND.
  3. Captures are read if they lie beside the repository; the frames made here go the same way everywhere.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import require
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Timestamp
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.utils import RawPcapReader

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NATIVE, SCENE = ROOT / "native", ROOT / "tests" / "native"
CAPTURES = ROOT.parent / "shared" / "pcaps"
GROUPS = ("vxlan", "vxlan-odd", "inner", "inner-gso", "encrypted", "fuzz")
SANITIZE = [
    *("-std=gnu11", "-O1", "-g", "-fno-strict-aliasing", "-fno-sanitize-recover=all", "-pthread"),
    *("-iquote", str(NATIVE), "-iquote", str(SCENE)),
]
RUNS = {
    "fuzz_arp_nd": 300_000,
    "fuzz_gro": 100_000,
    "fuzz_gso": 150_000,
    "fuzz_headers": 300_000,
    "fuzz_switch": 200_000,
}

TUNNEL, HEADER, SOURCE, TARGET, FOREIGN, CHECKSUMS = 1, 2, 4, 8, 32, 64
A, FAR = "02:42:0a:07:00:11", "02:42:0a:07:00:21"
FOUND: dict[str, list[bytes]] = {}


def clang(*arguments: str) -> None:
    done = subprocess.run(["clang", *SANITIZE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All of the fast path and what the targets share, instrumented once for every target."""
    require("clang")
    folder = tmp_path_factory.mktemp("fuzz")
    sources = [path for path in sorted(NATIVE.glob("*.c")) if path.name != "ns.c"]
    made = []
    for source in [*sources, SCENE / "scene.c", SCENE / "wire.c"]:
        made.append(str(folder / f"{source.stem}.o"))
        clang("-fsanitize=fuzzer-no-link,address,undefined", "-c", str(source), "-o", made[-1])
    return made


def link(target: str, main: str, objects: list[str], folder: Path) -> Path:
    """A target as a program: `main` is the sanitizer list with libFuzzer's main, or a source with one."""
    program = folder / target
    more = [main] if main.endswith(".c") else []
    sanitizers = "fuzzer-no-link,address,undefined" if more else main
    clang(f"-fsanitize={sanitizers}", str(HERE / f"{target}.c"), *more, *objects, "-o", str(program))
    return program


def frames() -> list[bytes]:
    """One frame of each kind that some stage treats in its own way."""
    ether = Ether(src=A, dst=FAR)
    arp = ARP(hwsrc=A, psrc="10.7.0.17", pdst="10.7.0.33")
    ns = ICMPv6ND_NS(tgt="fd07::21") / ICMPv6NDOptSrcLLAddr(lladdr=A)
    v4, v6 = IP(src="10.7.0.17", dst="10.7.0.33"), IPv6(src="fd07::11", dst="fd07::21")
    made = [
        Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / arp,
        Ether(src=A, dst="33:33:ff:00:00:21") / IPv6(src="fd07::11", dst="ff02::1:ff00:21", hlim=255) / ns,
        ether / IPv6(src="fd07::11", dst="fd07::21", hlim=255) / ICMPv6ND_NA(tgt="fd07::11", S=1),
        ether / v4 / TCP(flags="S"),
        ether / v4 / TCP(flags="A") / (b"x" * 200),
        ether / v6 / TCP(flags="A", options=[("Timestamp", (1, 2))]) / (b"x" * 200),
        ether / v4 / TCP() / (b"x" * 3000),
        ether / v4 / UDP(sport=1, dport=2) / b"payload",
        ether / v4 / ICMP(),
        ether / v6 / TCP() / (b"x" * 3000),
        ether / v6 / IPv6ExtHdrFragment(offset=0, m=1) / UDP(),
        Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0") / UDP(sport=68, dport=67) / BOOTP() / DHCP(),
        ether / Dot1Q(vlan=5) / v4 / UDP(),
        ether / v6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["fd07::31"]) / TCP() / b"abcdefg",
        ether / IP(src="10.7.0.17", dst="10.7.0.33", options=[IPOption_Timestamp()]) / UDP() / b"abcdefg",
    ]
    return [bytes(frame) for frame in made]


def switch_inputs(frame: bytes) -> Iterator[bytes]:
    """A frame as fuzz_switch takes it: from a TAP, a member and a foreign VTEP, as it is and made plausible."""
    steer = bytes([7, 0, 0, 0]) + bytes(10)
    for ways in (0, SOURCE | TARGET, TUNNEL | HEADER, TUNNEL | HEADER | SOURCE | TARGET | CHECKSUMS):
        yield bytes([ways]) + steer + frame
    yield bytes([TUNNEL | HEADER | FOREIGN]) + steer + frame


def gro_inputs(frame: bytes) -> Iterator[bytes]:
    """A frame and three like it as fuzz_gro takes them: as they are, made to follow each other, and once twisted."""
    valid, like, twist, partial = 1, 2, 4, 8
    size = min(len(frame), 600).to_bytes(2, "big")
    for ways in (0, valid, valid | like, valid | like | partial, valid | like | twist):
        first = valid if ways else 0
        yield b"".join(bytes([way]) + size + frame[:600] for way in (first, ways, first | ways & like, ways))


def gso_inputs(frame: bytes) -> Iterator[bytes]:
    """A frame as fuzz_gso takes it: to be cut small and large, made plausible and fit, plausible only, and as it is."""
    for ways, size in ((3, 3), (3, 1000), (1, 1000), (0, 0)):
        yield bytes([ways]) + struct.pack("<BBHHHH", 0, 0, 0, size, 0, 0) + frame


def seeds(target: str) -> Iterator[bytes]:
    for frame in frames():
        if target == "fuzz_switch":
            yield from switch_inputs(frame)
        elif target == "fuzz_gro":
            yield from gro_inputs(frame)
        elif target == "fuzz_gso":
            yield from gso_inputs(frame)
        else:
            yield (bytes(10) if target == "fuzz_headers" else b"") + frame
    yield from FOUND.get(target, [])


@pytest.mark.parametrize("target", sorted(RUNS))
def test_a_fixed_number_of_mutations_finds_nothing(target: str, objects: list[str], tmp_path: Path) -> None:
    program = link(target, "fuzzer,address,undefined", objects, tmp_path)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(target)):
        (corpus / f"{number:03}").write_bytes(seed)
    runs = RUNS[target] * int(os.environ.get("VXLANU_FUZZ_TIMES", "1"))
    command = [str(program), f"-runs={runs}", "-seed=7", "-max_len=4096", "-print_final_stats=1", str(corpus)]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=max(200, runs / 1000), check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert f"stat::number_of_executed_units: {runs}" in run.stderr


def captured() -> Iterator[bytes]:
    """The frames made here, and those of the captures if they lie beside the repository."""
    yield from frames()
    for group in GROUPS if CAPTURES.is_dir() else ():
        for path in sorted((CAPTURES / group).iterdir()):
            for frame, _ in RawPcapReader(str(path)):
                yield frame


def udp_payload(frame: bytes) -> bytes | None:
    """The payload of a UDP packet over IPv4 in an untagged frame: what a receive socket would hand over."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return None
    return frame[14 + (frame[14] & 15) * 4 + 8 :]


def test_every_captured_frame_gets_a_verdict(objects: list[str], tmp_path: Path) -> None:
    program = link("fuzz_switch", str(HERE / "replay_bundle.c"), objects, tmp_path)
    bundle = tmp_path / "bundle"
    records = 0
    with bundle.open("wb") as out:
        for frame in captured():
            inputs = list(switch_inputs(frame[:65000]))
            if (payload := udp_payload(frame)) is not None:
                inputs.append(bytes([TUNNEL]) + bytes([7]) + bytes(13) + payload[:65000])
            records += len(inputs)
            for one in inputs:
                out.write(len(one).to_bytes(4, "big") + one)
    run = subprocess.run([str(program), str(bundle)], capture_output=True, text=True, timeout=250, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert int(run.stdout) == records > 0
