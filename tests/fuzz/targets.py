"""How fuzz targets and replays are built: clang, libFuzzer and both sanitizers, from the sources of the extension."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NATIVE, SCENE = ROOT / "native", ROOT / "tests" / "native"
SANITIZE = [
    *("-std=gnu11", "-O1", "-g", "-fno-strict-aliasing", "-fno-sanitize-recover=all", "-pthread"),
    *("-iquote", str(NATIVE), "-iquote", str(SCENE)),
]


def clang(*arguments: str) -> None:
    done = subprocess.run(["clang", *SANITIZE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def link(target: str, main: str, objects: list[str], folder: Path) -> Path:
    """A target as a program: `main` is the sanitizer list with libFuzzer's main, or a source with one."""
    program = folder / target
    more = [main] if main.endswith(".c") else []
    sanitizers = "fuzzer-no-link,address,undefined" if more else main
    clang(f"-fsanitize={sanitizers}", str(HERE / f"{target}.c"), *more, *objects, "-o", str(program))
    return program
