"""The core is pure: what it imports says so, and one core does what it does whatever the wall clock says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "control" / "core"
FORBIDDEN = {"asyncio", "socket", "ssl", "time", "random", "os", "threading", "logging", "datetime", "secrets"}


def imports(text: str) -> set[str]:
    """The top-level names that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.name)
def test_the_core_touches_no_clock_no_socket_no_thread(path: Path) -> None:
    assert not imports(path.read_text()) & FORBIDDEN


def test_the_check_bites() -> None:
    assert imports("def f():\n    from time import monotonic\n") & FORBIDDEN
