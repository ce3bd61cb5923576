"""`python -m benchmarks compare` through the whole, as short as it can be: what it prints, keeps, and leaves behind.

    c1-1 ─ h1 ── underlay ── h2 ─ c2-1          vxlanu
    c1-kernel ─ (same hosts) ─ c2-kernel        the kernel's

Nothing here is a figure: whether a bar holds is no business of `make test`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab_ns import poll

from benchmarks.results import load

pytestmark = [
    pytest.mark.netns,
    pytest.mark.interop("iperf3", "ethtool", "kernel-vxlan"),
    pytest.mark.timeout(600),  # twelve seconds, on a machine that does nothing else
]

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--peers", "vxlanu,kernel", "--meters", "tcp-1", "--seconds", "1")


@contextmanager
def compare(file: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """In a process group of its own, which a signal can be sent to as a terminal does."""
    command = [sys.executable, "-m", "benchmarks", "compare", *SHORT, "--json", str(file), *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def is_there(group: int) -> bool:
    """Whether a process group has a process, if only one that nobody has waited for yet."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_rounds_are_measured_printed_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    with compare(file, "--rounds", "2") as process:
        shown, told = process.communicate(timeout=500)
    assert process.returncode == 0, shown + told
    run = load(file)
    assert run.complete and run.machine.cores == os.cpu_count() and run.offloads["tx-udp_tnl-segmentation"]
    for peer in ("vxlanu", "again", "kernel"):
        series = run.of("tcp-1", peer)
        assert series and [it.round for it in series.samples] == [1, 2] and all(it.value > 0 for it in series.samples)
    for part in ("vxlanu beside kernel", "TCP, 1 stream", "A/A", "TCP, 1 stream, offload"):
        assert part in shown
    assert "round 1 of 2: TCP, 1 stream: vxlanu" in told


def test_an_interrupt_keeps_what_was_measured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    with compare(file, "--rounds", "100") as process:
        assert process.stderr
        for line in process.stderr:
            if "round 2 of 100" in line:
                break
        assert is_there(process.pid), "positive control"
        os.killpg(process.pid, signal.SIGINT)
        shown, told = process.communicate(timeout=150)
    assert process.returncode == 130, shown + told
    run = load(file)
    assert not run.complete and [it.round for it in run.series[0].samples] == [1] and "broken off" in shown
    poll(lambda: not is_there(process.pid), what="all that it had started is gone")
