"""`vxlanu exec` and `vxlanu ping`: from where a container is.

Rules of this file
  1. Both work from a local endpoint's own namespace and interface: what they see is what the container sees.
  2. `exec` becomes the command: its output, its exit code. `ping` exits 1 when an answer is missing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

import click
import msgspec

from vxlanu.api.schema import Why
from vxlanu.cli import complete
from vxlanu.cli.command import Command, client, emit, wants_json
from vxlanu.cli.echo import Echo
from vxlanu.cli.why import broken
from vxlanu.cli.within import move_into
from vxlanu.errors import AnswerIsNo, BadRequest, NotFound, Refused

__all__ = ["exec_", "ping"]


PACE_S = 1.0  # as ping(8)


class Pong(msgspec.Struct, frozen=True):
    """A line of `ping --json`. `rtt_ms`: null without a reply; `vtep` is empty for an endpoint of this host."""

    address: str
    endpoint: str
    node: str
    vtep: str
    vni: int
    number: int
    rtt_ms: float | None


@click.command(
    "exec",
    cls=Command,
    verbatim=True,
    examples=["vxlanu exec C0 -- ip addr", "vxlanu exec C0.demonet -- curl http://192.168.0.20/"],
)
@click.argument("endpoint", shell_complete=complete.local_endpoints)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def exec_(endpoint: str, command: Sequence[str]) -> None:
    """Run COMMAND in the network namespace of a local endpoint. Its exit code is the command's.

    Only the network is the container's: files, processes and user are this host's. Takes root, or the owner of a
    rootless container.
    """
    argv = list(command[1:] if command[0] == "--" else command)
    if not argv:
        raise BadRequest(f"exec {endpoint}", "no command", hint=f"vxlanu exec {endpoint} -- ip addr", name="usage")
    move_into(client().endpoint(endpoint).value)
    sys.stdout.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores both, and a program inherits what is ignored
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except FileNotFoundError as error:
        raise NotFound(f"exec {argv[0]}", "there is no such command on this host", name="no_command") from error
    except PermissionError as error:
        raise Refused(f"exec {argv[0]}", "it may not be run", name="permission_denied") from error


@click.command("ping", cls=Command, examples=["vxlanu ping C1", "vxlanu ping 192.168.0.20 --from C0 -c 3"])
@click.argument("target", metavar="NAME|IP", shell_complete=complete.endpoints)
@click.option("--from", "source", default="", metavar="ENDPOINT", shell_complete=complete.local_endpoints,
              help="Ping from this local endpoint.  [the first of this host in the network]")  # fmt: skip
@click.option("-c", "--count", type=click.IntRange(1), default=1, metavar="N", help="How often.  [1]")
@click.option("-s", "--size", type=click.IntRange(0, 65000), default=56, metavar="BYTES", help="Payload.  [56]")
@click.option("-W", "--timeout", type=click.FloatRange(0.05), default=2.0, metavar="SECONDS", help="For each.  [2]")
def ping(target: str, source: str, count: int, size: int, timeout: float) -> None:
    """Ping an endpoint from a container of this host, and say by which way: endpoint, host, VTEP, time.

    The way is explained first (vxlanu why): where a step of it fails, that is the answer. Exit code 1 without a reply.
    """
    asked = client()
    path = asked.why(target, source).value
    broken(f"ping {target}", path)
    if not path.address:
        raise BadRequest(f"ping {target}", "a MAC cannot be pinged", hint="its address", name="usage")
    origin = source or _first_here(path)
    move_into(asked.endpoint(origin).value)
    try:
        echo = Echo(path.address)
    except PermissionError as error:
        raise Refused("ping", "a raw socket takes CAP_NET_RAW", hint="as root", name="permission_denied") from error
    lost = 0
    for number in range(1, count + 1):
        took = _one(echo, number, timeout, size)
        lost += took is None
        _say(path, number, took)
        if took is not None and number < count:
            time.sleep(max(0.0, PACE_S - took))
    if lost:
        why = f"{lost} of {count} without a reply, though every step of the way is there"
        hint = f"vxlanu drops, here and on {path.node or 'its host'}"
        raise AnswerIsNo(f"ping {target}", why, hint=hint, name="no_reply")


def _first_here(path: Why) -> str:
    """A local endpoint to ping from, not the one that is pinged if there is another."""
    here = [e for e in client().endpoints(path.network).value.items if e.local]
    if not here:
        raise NotFound("ping", f"no endpoint of this host is in {path.network}", hint="vxlanu endpoint ls")
    return min(here, key=lambda e: (e.name == path.endpoint, e.name)).id


def _one(echo: Echo, number: int, timeout: float, size: int) -> float | None:
    try:
        return echo.once(number & 0xFFFF, timeout, size)
    except OSError as error:
        raise AnswerIsNo("ping", f"not sent: {error.strerror}", name="not_sent") from error


def _say(path: Why, number: int, took: float | None) -> None:
    if wants_json():
        rtt_ms = None if took is None else round(took * 1000, 3)
        emit(msgspec.json.encode(Pong(path.address, path.endpoint, path.node, path.vtep, path.vni, number, rtt_ms)))
    else:
        click.echo(f"no reply from {path.address}" if took is None else _pong(path, took))
    sys.stdout.flush()


def _pong(path: Why, took: float) -> str:
    who = f"{path.endpoint} ({path.address})" if path.endpoint else path.address
    where = f" on {path.node}" if path.node else ""
    way = "this host's switch" if path.local else f"{path.vtep or 'foreign VTEPs'} vni {path.vni}"
    return f"pong from {who}{where} via {way} in {took * 1000:.2f} ms"
