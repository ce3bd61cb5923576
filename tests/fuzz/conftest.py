"""What the tests of this folder share; importlib mode leaves the folder out of the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from needs import require

sys.path.append(str(Path(__file__).parent))

from targets import NATIVE, SCENE, clang


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
