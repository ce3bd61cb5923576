"""What every list can do besides --json: print chosen fields only, and be drawn again and again.

Rules of this file
  1. --format knows the fields of the row's struct before anything is asked: an unknown one is a mistake on the line.
  2. --format prints values alone, tab-separated, in the order asked for, for `cut`, `awk` and a shell: no header, a
     list joined by commas, what is absent or empty as `-`.
  3. --watch draws over the old picture on a terminal; anywhere else blocks follow one another, a blank line between
     them, with --json one body a line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec
from click.shell_completion import CompletionItem

from vxlanu.api.schema import Items
from vxlanu.cli.command import show, wants_json
from vxlanu.cli.render import printable
from vxlanu.errors import BadRequest, near

if TYPE_CHECKING:
    from vxlanu.api.client import Reply

__all__ = ["list_options", "show_list"]

T = TypeVar("T", bound=msgspec.Struct)
F = TypeVar("F", bound=Callable[..., object])

FIELDS = "vxlanu.format"
EVERY = "vxlanu.watch"
EVERY_S = 1.0
EVERY_S_MIN = 0.1

HOME, CLEAR_TAIL, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def list_options(row: type[msgspec.Struct]) -> Callable[[F], F]:
    """--format and --watch for a command that lists `row`s; stands under the decorator that makes the command."""
    known = row.__struct_encode_fields__

    def decorate(function: F) -> F:
        for option in (_watch(), _every(), _format(known)):
            function = option(function)
        return function

    return decorate


def _format(known: Sequence[str]) -> Callable[[F], F]:
    def read(context: click.Context, _parameter: click.Parameter, said: str) -> None:
        if said:
            context.meta[FIELDS] = _checked(said, known)

    def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        before, comma, begun = typed.rpartition(",")
        return [CompletionItem(before + comma + name) for name in known if name.startswith(begun)]

    return click.option(
        "--format",
        metavar="FIELD,...",
        expose_value=False,
        callback=read,
        shell_complete=complete,
        help=f"Print these fields only, tab-separated: {', '.join(known)}.",
    )


def _checked(said: str, known: Sequence[str]) -> list[str]:
    wanted = [name.strip() for name in said.split(",")]
    for name in wanted:
        if name not in known:
            meant = near(name, known)
            why = f"there is no field {name!r}; there are {', '.join(known)}"
            raise BadRequest("--format", why, hint=f"--format {meant}" if meant else "", name="usage")
    return wanted


def _watch() -> Callable[[F], F]:
    def read(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
        if wanted:
            context.meta.setdefault(EVERY, EVERY_S)

    return click.option("--watch", is_flag=True, expose_value=False, callback=read, help="Show it again every second.")


def _every() -> Callable[[F], F]:
    def read(context: click.Context, _parameter: click.Parameter, seconds: float | None) -> None:
        if seconds is not None:
            context.meta[EVERY] = seconds

    return click.option(
        "--every",
        type=click.FloatRange(EVERY_S_MIN),
        metavar="SECONDS",
        expose_value=False,
        callback=read,
        help="--watch, at another pace.",
    )


def show_list(ask: Callable[[], Reply[Items[T]]], draw: Callable[[Items[T]], Iterable[str]]) -> None:
    """Print a list as the options on the line want it; `ask` is called once for each picture."""
    meta = click.get_current_context().meta
    fields: list[str] = meta.get(FIELDS, [])
    if fields and wants_json():
        raise BadRequest("--format", "--json prints the API's answer unchanged", hint="one of the two", name="usage")
    if fields:
        show_again(ask, lambda found: _rows(found, fields))
    else:
        show_again(ask, draw)


def show_again(ask: Callable[[], Reply[T]], draw: Callable[[T], Iterable[str]]) -> None:
    """Print an answer once, or with --watch until the user or the reader of our output has had enough."""
    seconds: float | None = click.get_current_context().meta.get(EVERY)
    if seconds is None:
        show(ask(), draw)
        return
    again = False
    while True:
        reply = ask()
        if wants_json():
            show(reply, draw)
        elif sys.stdout.isatty():
            _redraw(list(draw(reply.value)))
        else:
            sys.stdout.write("\n" if again else "")
            show(reply, draw)
        sys.stdout.flush()
        again = True
        time.sleep(seconds)


def _redraw(lines: list[str]) -> None:
    """Over the last picture, line by line, so that nothing flickers; what the screen has no room for is counted."""
    import shutil  # loads three compressors, which a plain list does not wait for

    room = max(1, shutil.get_terminal_size().lines - 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines"]
    sys.stdout.write(HOME + "".join(f"{line}{CLEAR_TAIL}\n" for line in lines) + CLEAR_BELOW)


def _rows(found: Items[T], fields: Sequence[str]) -> Iterator[str]:
    for item in found.items:
        whole = msgspec.to_builtins(item)
        yield "\t".join(_value(whole.get(name)) for name in fields)


def _value(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(_value(one) for one in value) or "-"
        case dict():
            return ",".join(f"{key}={_value(one)}" for key, one in value.items()) or "-"
    return printable(str(value))
