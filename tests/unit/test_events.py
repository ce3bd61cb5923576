"""The log's event names: what the code says and what vxlanu.event_names lists are the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import vxlanu
from vxlanu.agent.logs import OF_A_LIBRARY
from vxlanu.event_names import EVENTS

PACKAGE = Path(vxlanu.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
OF_THE_FAST_PATH = "event.kind.value"  # said of every EventKind that has no sentence of its own


def log_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every `log.LEVEL(...)`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if node.func.attr in LEVELS and isinstance(owner, ast.Name) and owner.id in ("log", "logger", "logging"):
            yield node


def event_of(call: ast.Call) -> str:
    """What stands behind "event" in `extra`; empty when nothing does."""
    for keyword in call.keywords:
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "event":
                    return str(value.value) if isinstance(value, ast.Constant) else ast.unparse(value)
    return ""


def said() -> dict[str, list[str]]:
    """Event → places, of the whole program but the lab, which is no part of an agent."""
    found: dict[str, list[str]] = {}
    for file in sorted([*PACKAGE.rglob("*.py"), *(PACKAGE / "control").rglob("*.py")]):
        if "lab" in file.parts:
            continue
        for call in log_calls(ast.parse(file.read_text())):
            found.setdefault(event_of(call), []).append(f"{file.relative_to(PACKAGE)}:{call.lineno}")
    return found


def test_every_log_call_says_an_event_that_is_listed() -> None:
    found = said()
    assert "" not in found, f"no event: {found['']}"
    unlisted = {event: places for event, places in found.items() if event not in EVENTS and event != OF_THE_FAST_PATH}
    assert not unlisted
    assert len(found) > 30, "a walk that sees nothing would pass"


def test_every_listed_event_is_said_somewhere() -> None:
    from vxlanu.dataplane import EventKind

    kinds = {kind.value for kind in EventKind}
    assert kinds <= EVENTS.keys()
    assert EVENTS.keys() - said().keys() - kinds == {OF_A_LIBRARY}


def test_a_call_without_an_event_would_be_noticed() -> None:
    calls = list(log_calls(ast.parse('log.info("x")\nlog.info("y", extra={"event": "ready"})')))
    assert [event_of(call) for call in calls] == ["", "ready"]
