"""`vxlanu kv`: the records as keys and values, for who wants to look into them.

Rules of this file
  1. `get` prints a value as a person reads it: JSON over several lines, text as it is. --json prints what the agent
     sent, in Consul's shape.
  2. `watch` prints a line a key, `set KEY VALUE` or `gone KEY`: first what is there, then what changes. It ends when
     the user or the reader of its output has had enough; an agent that stops is exit 3.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator

import click
import msgspec

from vxlanu.api.schema import KeyValue
from vxlanu.cli import complete
from vxlanu.cli.command import Group, client, show, wants_json
from vxlanu.cli.render import printable
from vxlanu.errors import NotFound

__all__ = ["kv"]

kv = Group(
    "kv",
    help="Look into the records as keys and values, in the manner of Consul's store. vxlanu help kv names the keys.",
    examples=["vxlanu kv ls", "vxlanu kv get vxlanu/network/demonet"],
)


@kv.verb("ls", examples=["vxlanu kv ls", "vxlanu kv ls vxlanu/network/demonet/", "vxlanu kv ls docker/ --separator /"])
@click.argument("prefix", default="", shell_complete=complete.keys)
@click.option("--separator", default="", metavar="TEXT", help="Each name only up to the next TEXT behind PREFIX.")
def ls(prefix: str, separator: str) -> None:
    """List the keys that begin with PREFIX, or all of them."""
    try:
        show(client().key_names(prefix, separator), lambda names: [printable(name) for name in names])
    except NotFound:
        if prefix:
            raise


@kv.verb(
    "get",
    examples=[
        "vxlanu kv get vxlanu/network/demonet",
        "vxlanu kv get docker/network/v1.0/endpoint/ --recurse",
        "vxlanu kv get vxlanu/network/demonet/arp/192.168.0.100",
    ],
)
@click.argument("key", shell_complete=complete.keys)
@click.option("--recurse", is_flag=True, help="Every key that begins with KEY, a line each.")
def get(key: str, recurse: bool) -> None:
    """Print the value of a key."""
    if recurse:
        show(client().keys(key), lambda found: [f"{printable(it.key)} {_text(it)}" for it in found])
    else:
        show(client().key(key), lambda found: _whole(found[0]))


def _text(one: KeyValue) -> str:
    """The value on one line."""
    return printable(base64.b64decode(one.value).decode(errors="replace"))


def _whole(one: KeyValue) -> Iterator[str]:
    """JSON spread out, with escapes for what could steer the terminal; anything else as it is."""
    value = base64.b64decode(one.value)
    if not value.startswith(b"{"):
        yield _text(one)
        return
    for line in json.dumps(json.loads(value), indent=2, ensure_ascii=False).splitlines():
        yield printable(line)


@kv.verb("watch", examples=["vxlanu kv watch", "vxlanu kv watch vxlanu/network/demonet/arp/"])
@click.argument("prefix", default="", shell_complete=complete.keys)
def watch(prefix: str) -> None:
    """Print the keys that begin with PREFIX, and every change of them as it happens."""
    asked, known, index = client(), dict[str, KeyValue](), 0
    while True:
        try:
            reply = asked.keys(prefix, after=index)
            found, index = {it.key: it for it in reply.value}, reply.index
        except NotFound as nothing:
            found, index = {}, int(nothing.detail.get("index", 0))
        for line in _differences(known, found):
            click.echo(line)
        sys.stdout.flush()
        known = found


def _differences(before: dict[str, KeyValue], now: dict[str, KeyValue]) -> Iterator[str]:
    """One line a key that is new, different or gone; with --json one object."""
    for key in sorted(before.keys() - now.keys()):
        yield msgspec.json.encode({"Key": key, "Value": None}).decode() if wants_json() else f"gone {printable(key)}"
    for key, one in now.items():
        if key not in before or before[key].value != one.value:
            yield msgspec.json.encode(one).decode() if wants_json() else f"set {printable(key)} {_text(one)}"
