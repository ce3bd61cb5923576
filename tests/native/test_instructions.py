"""What the decision costs, in instructions per frame on a fixed input: growth by more than a tenth fails.

Rules of this file
  1. Counted by callgrind, in vx_switch() and what it calls, never timed: the same on a loaded machine. The same C
     library functions are chosen on every processor (GLIBC_TUNABLES), and the same sources are compiled with the
     options of the extension. vx_switch.cold is a part of vx_switch() that is jumped to: its name would end the count.
  2. instructions.json has a record for each compiler that was tried. Another one may differ by UNKNOWN from the
     largest: it fails too, only later. VXLANU_RECORD=instructions writes what was found for this compiler.
  3. The record is not a goal. Who makes the path cheaper records that; who makes it dearer by more than a tenth on
     purpose records it too, and says why in the commit.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from needs import require

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
RECORD = HERE / "instructions.json"
OPERATIONS = {"encapsulate": 2, "decapsulate": 3, "decide": 4}  # VX_BENCH_* of vxlanu.cdef.h
NAMES = ("vx_switch", "vx_switch.isra*", "vx_switch.constprop*", "vx_switch.lto_priv*")  # what a compiler may call it
COUNTED = tuple(f"--toggle-collect={name}" for name in NAMES)
PASSES = (1, 3)
GROWTH, UNKNOWN = 1.1, 1.5
BASELINE = "-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX2_Usable,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-EVEX"


def options() -> list[str]:
    """The extension's, but for the include path."""
    module = ast.parse((NATIVE / "build_native.py").read_text())
    found = next(
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILE_ARGS"
    )
    assert isinstance(found, ast.List)
    words = [part.value for part in found.elts if isinstance(part, ast.Constant)]
    assert "-O3" in words
    return [*map(str, words), "-iquote", str(NATIVE), "-iquote", str(HERE), "-pthread"]


def compiler() -> str:
    version = subprocess.run(["gcc", "-dumpversion"], capture_output=True, text=True, check=True).stdout
    return f"gcc {version.split('.')[0].strip()}"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("x86_64", "valgrind")
    made = tmp_path_factory.mktemp("instructions") / "count_instructions"
    sources = [source for source in sorted(NATIVE.glob("*.c")) if source.name != "ns.c"]
    command = ["gcc", *options(), *map(str, [*sources, HERE / "scene.c", HERE / f"{made.name}.c"]), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def counted(program: Path, operation: int, passes: int) -> tuple[int, int]:
    """Instructions of a whole run's decisions, and frames of a pass."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *COUNTED]
    env = os.environ | {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={BASELINE}"}
    command = [*tool, str(program), str(operation), str(passes)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1]), int(done.stdout)


def per_frame(program: Path, operation: str) -> float:
    (few, frames), (many, _) = (counted(program, OPERATIONS[operation], passes) for passes in PASSES)
    return (many - few) / (PASSES[1] - PASSES[0]) / frames


def bound(records: dict[str, dict[str, float]], tool: str, operation: str) -> float:
    if tool in records:
        return records[tool][operation] * GROWTH
    return max(record[operation] for record in records.values()) * UNKNOWN


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_frame_costs_no_more_instructions_than_recorded(operation: str, program: Path) -> None:
    records = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    tool, found = compiler(), per_frame(program, operation)
    print(f"{operation}: {found:.1f} instructions per frame with {tool}")
    if os.environ.get("VXLANU_RECORD") == "instructions":
        records.setdefault(tool, {})[operation] = round(found, 1)
        RECORD.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n")
    allowed = bound(records, tool, operation)
    assert found <= allowed, f"{operation}: {found:.1f} instructions per frame, recorded {allowed / GROWTH:.1f}"
    assert found > 100, "callgrind counts something else"


def test_growth_by_more_than_a_tenth_would_be_noticed() -> None:
    records = {"gcc 12": {"decide": 400.0}, "gcc 13": {"decide": 420.0}}
    assert bound(records, "gcc 12", "decide") == pytest.approx(440)
    assert bound(records, "gcc 99", "decide") == pytest.approx(630)
