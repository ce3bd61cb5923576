"""The command line without a process of its own: for commands that do nothing but talk to the agent.

A Python of its own takes a quarter of a second of processor, and tests that poll ask often.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from threading import Lock

from vxlanu.api.client import Client
from vxlanu.cli.main import main
from vxlanu.errors import AnswerIsNo, VxlanuError
from vxlanu.lab.plan import agent_socket
from vxlanu.lab.topology import Json, Lab, parsed

__all__ = ["ONLY_ASK", "PATIENCE_S", "ask", "client"]

ONLY_ASK = {
    *("attach", "detach", "drops", "endpoint", "fdb", "link", "member", "neighbor", "netns", "network"),
    *("stats", "status", "verify", "vtep", "why"),
}
"""Commands that are the same wherever they run, once they know the agent's socket."""

NO = AnswerIsNo.exit
"""The status of `verify` that has printed differences: an answer like any other, for who asks until there are none."""

PATIENCE_S = 60.0
"""A person is told after ten seconds of silence that the agent hangs; on a busy machine it may have had no time."""

_output = Lock()
"""Of this process, and its environment; one command at a time may have them."""


def ask(who: str, socket: Path, *arguments: str) -> Json:
    """`vxlanu ARGUMENTS --json` of the agent on `socket`, parsed; a list is its `items`. `who` is for the error."""
    said, complained = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with _output, _no_settings_of_ours(), redirect_stdout(said), redirect_stderr(complained):
        status = main(["--socket", str(socket), *arguments, "--json"], timeout_s=PATIENCE_S)
    said.seek(0)
    if status and (status, arguments[0]) != (NO, "verify"):
        raise VxlanuError(f"{who}: vxlanu {' '.join(arguments)}", f"status {status}: {complained.getvalue().strip()}")
    return parsed(said.read())


def client(lab: Lab, host: str) -> Client:
    """The API of a host's agent, asked from outside."""
    return Client(str(lab.path(agent_socket(host))), timeout_s=PATIENCE_S)


@contextmanager
def _no_settings_of_ours() -> Iterator[None]:
    """Without VXLANU_* meanwhile, as a command on a host starts."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("VXLANU_")}
    try:
        yield
    finally:
        os.environ.update(taken)
