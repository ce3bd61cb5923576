"""The C unit tests: one executable per unit_*.c, built with address and undefined-behaviour sanitizers.

Rules of this file
  1. The sources are those of the extension, compiled without Python; a test that needs a fault from a system call, or
     another thread's doing at a certain moment, names the function in WRAPPED and gets it by the linker's --wrap, so no
     product code knows of faults. STANDS says what else is linked to a unit.
  2. An executable that exits 0 and printed nothing on stderr has passed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
FLAGS = [
    *("-std=gnu11", "-O1", "-g", "-fno-strict-aliasing", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror", "-pthread"),
]
NOT_LINKED = {"ns.c"}
SHARED = ("scene.c", "wire.c", "batch.c", "flow.c")
STANDS = {
    "unit_transmit": ["stand", "sends"],
    "unit_send_errors": ["stand", "sends"],
    "unit_uplink": ["stand", "sends"],
    "unit_deliver": ["rig", "sends"],
    "unit_local": ["rig", "sends"],
    "unit_capture": ["rig", "sends"],
}
WRAPPED = {
    "unit_tables": ["pthread_mutex_lock"],
    "unit_soft": ["vx_soft_note"],
    "unit_transmit": ["sendmmsg", "uname"],
    "unit_send_errors": ["sendmmsg"],
    "unit_uplink": ["sendmmsg", "writev"],
    "unit_deliver": ["writev", "sendmmsg"],
    "unit_local": ["writev", "sendmmsg"],
    "unit_capture": ["writev", "sendmmsg"],
    "unit_receive": ["recvmmsg"],
    "unit_memory": ["calloc", "malloc", "posix_memalign", "epoll_ctl"],
}


def _compile(source: Path, target: Path) -> None:
    command = ["gcc", *FLAGS, "-iquote", str(NATIVE), "-iquote", str(HERE), "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The fast path and what the tests share, compiled once with sanitizers."""
    folder = tmp_path_factory.mktemp("native")
    sources = [source for source in sorted(NATIVE.glob("*.c")) if source.name not in NOT_LINKED]
    made = []
    for source in [*sources, *(HERE / name for name in SHARED)]:
        target = folder / f"{source.stem}.o"
        _compile(source, target)
        made.append(target)
    return made


@pytest.mark.parametrize("unit", sorted(path.stem for path in HERE.glob("unit_*.c")))
def test_c_unit(unit: str, objects: list[Path], tmp_path: Path) -> None:
    own = [tmp_path / f"{name}.o" for name in (unit, *STANDS.get(unit, []))]
    for target in own:
        _compile(HERE / f"{target.stem}.c", target)
    program = tmp_path / unit
    wraps = [f"-Wl,--wrap={name}" for name in WRAPPED.get(unit, [])]
    linked = subprocess.run(
        ["gcc", *FLAGS, *wraps, *map(str, [*own, *objects]), "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert linked.returncode == 0, linked.stderr
    run = subprocess.run(
        [str(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0"},
    )
    assert run.returncode == 0 and not run.stderr, f"after {run.stdout.splitlines()[-1:]}:\n{run.stderr}"
