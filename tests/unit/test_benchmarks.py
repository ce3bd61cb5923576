"""`python -m benchmarks`: captures are made once, are the same every time, and are what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from vxlanu.bench.frames import read_frames

ROOT = Path(__file__).resolve().parents[2]


def run(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "pcap", "--tables", "4", "--repeats", "1", *arguments]
    env = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=200, check=False)


def test_captures_are_made_once_and_are_the_same_every_time(tmp_path: Path) -> None:
    made = []
    for cache in (tmp_path / "one", tmp_path / "two"):
        done = run(cache, "--size", "64", "--size", "imix", "--size", "tso")
        assert done.returncode == 0, done.stderr
        assert "super-frames: 32 of 32 merged" in done.stdout
        made.append({path.name: path.read_bytes() for path in sorted((cache / "vxlanu" / "benchmarks").iterdir())})
    assert made[0] == made[1] and len(made[0]) == 3
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.pcap")}
    assert run(tmp_path / "one", "--size", "64").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.pcap")} == before
    lengths = {path.name: Counter(map(len, read_frames([path]).frames)) for path in before}
    assert lengths["64-1.pcap"] == {64: 1020} and lengths["tso-1.pcap"] == {65226: 32}
    assert lengths["imix-1.pcap"] == {60: 7 * 85, 590: 4 * 85, 1514: 85}


def test_a_file_is_taken_instead_and_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    given = run(tmp_path, str(tmp_path / "none.pcap"))
    assert given.returncode == 4 and "none.pcap: no such file" in given.stderr
    assert run(tmp_path, "--size", "41").returncode == 2
    assert not (tmp_path / "vxlanu").exists()


def test_help_is_of_both_commands_and_makes_no_capture(tmp_path: Path) -> None:
    for flag in ("-h", "--help"):
        done = run(tmp_path, flag)
        assert done.returncode == 0 and "--size BYTES|imix|tso" in done.stdout and "--repeats N" in done.stdout
    assert not list(tmp_path.rglob("*.pcap"))
