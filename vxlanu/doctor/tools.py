"""Asking the system's tools (ip, nft, iptables-save, conntrack): short, in the C locale, never interactive.

pyroute2 could say some of it, but it takes a quarter of a second to load, and the rules of iptables only its own
programs can read.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence

__all__ = ["Json", "listed", "run", "run_json"]

TIMEOUT_S = 10
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


def run(command: Sequence[str]) -> tuple[str, str]:
    """What it printed, and why that is nothing: not installed, refused, too slow; empty when all is well."""
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        return "", f"{command[0]} is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"{command[0]}: {error}"
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return "", f"{command[0]}: {said[0]}"
    return done.stdout, ""


def run_json(command: Sequence[str]) -> tuple[Json, str]:
    """The same for JSON."""
    text, error = run(command)
    if error:
        return None, error
    try:
        return json.loads(text or "null"), ""
    except ValueError as why:
        return None, f"{command[0]}: not JSON: {why}"


def listed(answer: Json) -> Iterator[dict[str, Json]]:
    """The objects of a JSON list."""
    if isinstance(answer, list):
        yield from (item for item in answer if isinstance(item, dict))
