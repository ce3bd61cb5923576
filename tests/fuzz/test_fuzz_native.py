"""The C parsers and the whole decision under sanitizers: libFuzzer with a fixed seed.

Rules of this file
  1. Deterministic: a seed and a number of runs, never a time; VXLANU_FUZZ_TIMES multiplies them.
  2. Seeds of the corpus are made by inputs.py, so that coverage does not begin at zero; crashes that were found
     are named inputs in FOUND.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from inputs import bench_inputs, frames, gro_inputs, gso_inputs, probes, switch_inputs
from targets import link

RUNS = {
    "fuzz_arp_nd": 100_000,
    "fuzz_bench": 2_000,
    "fuzz_gro": 100_000,
    "fuzz_gso": 150_000,
    "fuzz_headers": 300_000,
    "fuzz_switch": 200_000,
}
FOUND: dict[str, list[bytes]] = {}


def seeds(target: str) -> Iterator[bytes]:
    for frame in frames():
        if target == "fuzz_switch":
            yield from switch_inputs(frame)
        elif target == "fuzz_bench":
            yield from bench_inputs([frame, frame])
        elif target == "fuzz_gro":
            yield from gro_inputs(frame)
        elif target == "fuzz_gso":
            yield from gso_inputs(frame)
        else:
            yield (bytes(10) if target == "fuzz_headers" else b"") + frame
    if target == "fuzz_switch":
        yield from probes()
    yield from FOUND.get(target, [])


@pytest.mark.parametrize("target", sorted(RUNS))
def test_a_fixed_number_of_mutations_finds_nothing(target: str, objects: list[str], tmp_path: Path) -> None:
    program = link(target, "fuzzer,address,undefined", objects, tmp_path)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(target)):
        (corpus / f"{number:03}").write_bytes(seed)
    times = int(os.environ.get("VXLANU_FUZZ_TIMES", "1"))
    runs = RUNS[target] * times
    command = [str(program), f"-runs={runs}", "-seed=7", "-max_len=4096", "-print_final_stats=1", str(corpus)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200 * times, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert f"stat::number_of_executed_units: {runs}" in run.stderr
