"""`--filter KEY=VALUE` of `network ls` and `network prune`, with Docker's meaning.

Rules of this file
  1. One key given twice means either value, but for labels: of those every one must be there. Different keys must
     all hold.
  2. `name` is a part of the name, `id` the beginning of the id, the rest is equal. `label=K` asks for the key alone;
     `label!=K` or `label!=K=V` for its absence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vxlanu.api.schema import Network
from vxlanu.errors import BadRequest, near

__all__ = ["KEYS", "chosen"]

Test = Callable[[Network, str], bool]


def _labelled(row: Network, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in row.labels and (not equals or row.labels[key] == value)


TESTS: dict[str, Test] = {
    "dangling": lambda row, wanted: (row.endpoints == 0) is (wanted == "true"),
    "id": lambda row, wanted: row.id.startswith(wanted.lower()),
    "label": _labelled,
    "label!": lambda row, wanted: not _labelled(row, wanted),
    "name": lambda row, wanted: wanted in row.name,
    "scope": lambda row, wanted: row.scope == wanted,
    "state": lambda row, wanted: row.state == wanted,
    "vni": lambda row, wanted: str(row.vni) == wanted,
}
KEYS = tuple(TESTS)
EVERY = {"label", "label!"}
WORDS = {
    "dangling": ("true", "false"),
    "scope": ("global", "local"),
    "state": ("active", "removing", "conflict"),
}


def chosen(rows: Sequence[Network], said: Sequence[str]) -> list[Network]:
    """The rows that pass.

    Raises:
        BadRequest: a filter that cannot be right.
    """
    wanted: dict[str, list[str]] = {}
    for text in said:
        key, value = _parsed(text)
        wanted.setdefault(key, []).append(value)
    return [row for row in rows if all(_passes(row, key, values) for key, values in wanted.items())]


def _passes(row: Network, key: str, values: Sequence[str]) -> bool:
    holds = (TESTS[key](row, value) for value in values)
    return all(holds) if key in EVERY else any(holds)


def _parsed(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not value:
        raise BadRequest(f"--filter {text}", "not KEY=VALUE", hint="--filter label=team=db", name="usage")
    if key not in TESTS:
        hint = near(key, KEYS) or f"one of {', '.join(KEYS)}"
        raise BadRequest(f"--filter {text}", f"there is no filter {key!r}", hint=hint, name="usage")
    if key in WORDS and value not in WORDS[key]:
        raise BadRequest(f"--filter {text}", f"{key} is {' or '.join(WORDS[key])}", name="usage")
    if key == "vni" and not (value.isascii() and value.isdigit()):
        raise BadRequest(f"--filter {text}", "a VNI is a number", name="usage")
    return key, value
