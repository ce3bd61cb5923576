"""What the tests of this folder share; importlib mode leaves the folder out of the path."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pytest
from needs import require

sys.path.append(str(Path(__file__).parent))

from targets import NATIVE, SCENE, clang


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All of the fast path and what the targets share, instrumented once for every target and every process."""
    require("clang")
    run = tmp_path_factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "fuzz-objects"
    folder.mkdir(exist_ok=True)
    sources = [path for path in sorted(NATIVE.glob("*.c")) if path.name != "ns.c"]
    made = {folder / f"{source.stem}.o": source for source in [*sources, SCENE / "scene.c", SCENE / "wire.c"]}
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for target, source in made.items():
            if not target.exists():
                part = target.with_suffix(".part")  # whoever is killed meanwhile leaves no half of one
                clang("-fsanitize=fuzzer-no-link,address,undefined", "-c", str(source), "-o", str(part))
                part.rename(target)
    return list(map(str, made))
