"""The command line without a process of its own: for commands that do nothing but talk to the agent.

A Python of its own takes a quarter of a second of processor, and tests that poll ask often.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from threading import Lock

from vxlanu.cli.main import main
from vxlanu.errors import VxlanuError
from vxlanu.lab.topology import Json, parsed

__all__ = ["ONLY_ASK", "ask"]

ONLY_ASK = {
    *("attach", "detach", "drops", "endpoint", "fdb", "link", "member", "neighbor", "netns", "network"),
    *("stats", "status", "verify", "vtep", "why"),
}
"""Commands that are the same wherever they run, once they know the agent's socket."""

_output = Lock()
"""Of this process; one command at a time may have it."""


def ask(who: str, socket: Path, *arguments: str) -> Json:
    """`vxlanu ARGUMENTS --json` of the agent on `socket`, parsed; a list is its `items`. `who` is for the error."""
    said, complained = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with _output, redirect_stdout(said), redirect_stderr(complained):
        status = main(["--socket", str(socket), *arguments, "--json"])
    said.seek(0)
    if status:
        raise VxlanuError(f"{who}: vxlanu {' '.join(arguments)}", f"status {status}: {complained.getvalue().strip()}")
    return parsed(said.read())
