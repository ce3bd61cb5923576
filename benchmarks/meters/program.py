"""The meters' own programs: C files of this folder, compiled when they are first needed."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File

from benchmarks.cache import cache_folder
from benchmarks.meters import MeterFailed
from benchmarks.scene import Path

__all__ = ["listening", "program"]

COMPILER = ("gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


def program(name: str) -> str:
    """The path of `name`.c, compiled. Kept by the hash of its sources, so that a change of them is one of the program.

    Raises:
        MeterFailed: no compiler, or what it says.
    """
    source = File(__file__).with_name(f"{name}.c")
    whole = source.read_bytes() + source.with_name("load.h").read_bytes()
    built = cache_folder() / f"{name}-{hashlib.sha256(whole).hexdigest()[:16]}"
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


@contextmanager
def listening(path: Path, command: list[str]) -> Iterator[None]:
    """One of those programs at the path's end, from when it says that it listens to the end of the block.

    Raises:
        MeterFailed: what it says instead.
    """
    with path.lab.running(path.receiver, command) as server:
        assert server.stdout and server.stderr
        if "listening" not in server.stdout.readline():
            raise MeterFailed(f"{' '.join(command)}: {server.stderr.read()}")
        yield
