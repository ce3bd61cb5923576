"""`vxlanu events`: what happens, as it happens, in the manner of `ip monitor`.

Rules of this file
  1. One line an event: time, name, then keyword and value, as the other commands say them. With --json the agent's line
     unchanged.
  2. It ends when the user, the reader of its output, or --count has had enough; an agent that stops is exit 3.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click
import msgspec
from click.shell_completion import CompletionItem

from vxlanu.api.events import ALWAYS, EVENTS
from vxlanu.api.schema import Event
from vxlanu.cli import complete
from vxlanu.cli.command import Command, chosen, client, wants_json
from vxlanu.cli.render import printable

__all__ = ["draw_event", "events"]


def _complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=text) for name, text in EVENTS.items() if name.startswith(typed)]


def _known(_context: click.Context, _parameter: click.Parameter, said: Sequence[str]) -> list[str]:
    return chosen(said, EVENTS, "--only", "event", see="vxlanu events --help")


@click.command(
    "events",
    cls=Command,
    examples=["vxlanu events", "vxlanu events demonet --only endpoint_added,endpoint_removed --json"],
    help="Show what happens, as it happens: of NETWORK, or of everything.\n\n\b\n"
    + "\n".join(f"{name:17} {text}" for name, text in (EVENTS | ALWAYS).items()),
)
@click.argument("network", required=False, default="", shell_complete=complete.networks)
@click.option("--endpoint", default="", metavar="NAME", shell_complete=complete.endpoints, help="Of this one only.")
@click.option("--only", multiple=True, metavar="EVENT,...", callback=_known, shell_complete=_complete, help="These.")
@click.option("-c", "--count", type=click.IntRange(1), metavar="N", help="End after N events.")
def events(network: str, endpoint: str, only: list[str], count: int | None) -> None:
    seen = 0
    for line in client().events(only, network, endpoint):
        event = msgspec.json.decode(line, type=Event)
        if wants_json():
            sys.stdout.write(line.decode())
        elif event.event != "listening":
            click.echo(draw_event(event))
        sys.stdout.flush()
        seen += event.event not in ALWAYS
        if seen == count:
            return


def draw_event(e: Event) -> str:
    """As the neighbours and FDB entries of these tools are printed: keyword and value, what is absent left out."""
    at = time.strftime("%H:%M:%S", time.localtime(e.unix_s)) + f".{int(e.unix_s * 1000) % 1000:03d}"
    words = [
        ("endpoint", e.endpoint),
        ("network", e.network),
        ("vni", str(e.vni or "")),
        ("address", ",".join(e.addresses)),
        ("lladdr", e.mac),
        ("node", e.node),
        ("dst", e.vtep),
        ("state", e.state),
        ("reason", e.reason),
        ("frames", str(e.frames or "")),
        ("in", f"{e.seconds:g}s" if e.seconds else ""),
        ("mtu", str(e.mtu or "")),
        ("was", e.was or str(e.mtu_was or "")),
        ("error", e.error),
        ("lost", str(e.lost or "")),
    ]
    return f"{at} {e.event}" + "".join(f" {keyword} {printable(value)}" for keyword, value in words if value)
