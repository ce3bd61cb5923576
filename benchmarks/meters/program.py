"""The meters' own programs: C files of this folder, compiled when they are first needed."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from benchmarks.cache import cache_folder
from benchmarks.meters import MeterFailed

__all__ = ["program"]

COMPILER = ("gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


def program(name: str) -> str:
    """The path of `name`.c, compiled. Kept by the hash of its source, so that a change of it is one of the program.

    Raises:
        MeterFailed: no compiler, or what it says.
    """
    source = Path(__file__).with_name(f"{name}.c")
    built = cache_folder() / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not built.exists():
        partial = built.with_suffix(f".{os.getpid()}")
        try:
            done = subprocess.run([*COMPILER, "-o", partial, source], capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise MeterFailed(f"{name}: no {COMPILER[0]} to compile it with") from error
        if done.returncode != 0:
            raise MeterFailed(f"{name}: {done.stderr}")
        partial.rename(built)
    return str(built)
