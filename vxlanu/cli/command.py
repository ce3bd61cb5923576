"""What every command shares: global options anywhere on the line, an example in every help, and how an answer is shown.

Rules of this file
  1. --socket and --json may stand before or after any command; the last one said wins. They live in the click context's
     `meta`, which parent and child share, so no command has to hand them on.
  2. A command or group without an example cannot be built.
  3. With --json what the agent sent goes out byte for byte; nothing else is written to stdout.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import IO, TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem

from vxlanu.cli.progress import waiting
from vxlanu.errors import BadRequest, near

if TYPE_CHECKING:  # it loads http.client, a third of the start, which help and the completion of commands do without
    from vxlanu.api.client import Client, Reply

__all__ = ["TIMEOUT", "Command", "Group", "client", "emit", "global_options", "show", "socket_option", "wants_json"]

T = TypeVar("T")

SOCKET = "vxlanu.socket"
JSON = "vxlanu.json"
TIMEOUT = "vxlanu.timeout"  # no option: main() is told it


def _remember(key: str) -> Callable[[click.Context, click.Parameter, object], None]:
    """A parameter callback that keeps what was really said; silence never overwrites an outer option."""

    def callback(context: click.Context, _parameter: click.Parameter, value: object) -> None:
        if value:
            context.meta[key] = value

    return callback


def global_options() -> list[click.Parameter]:
    """Fresh instances for one command."""
    return [
        click.Option(
            ["--socket"],
            metavar="PATH",
            type=click.Path(),
            expose_value=False,
            callback=_remember(SOCKET),
            help="The agent's socket.  [$VXLANU_SOCKET, else the user's own agent, else /run/vxlanu/agent.sock]",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_remember(JSON),
            help="Print the API's answer unchanged.",
        ),
    ]


class _WithExample(click.Command):
    """Writes the examples under the options, as they are typed: never re-wrapped."""

    examples: Sequence[str]

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """click's parser does not say which command's option lacks its value."""
        try:
            return super().parse_args(context, args)
        except click.UsageError as error:
            error.ctx = error.ctx or context
            raise

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
        super().format_epilog(context, formatter)


class Command(_WithExample):
    """A leaf: `examples` are whole command lines."""

    def __init__(
        self,
        name: str | None,
        *,
        examples: Sequence[str],
        callback: Callable[..., object] | None = None,
        params: list[click.Parameter] | None = None,
        help: str | None = None,
        hidden: bool = False,
        verbatim: bool = False,
    ) -> None:
        """`verbatim`: what follows the first argument is somebody else's command line, options and all."""
        if not examples:
            raise ValueError(f"{name}: a command needs an example")
        super().__init__(
            name,
            callback=callback,
            params=[*(params or []), *global_options()],
            help=help,
            hidden=hidden,
            context_settings={"allow_interspersed_args": not verbatim, "ignore_unknown_options": verbatim},
        )
        self.examples = examples


class Group(_WithExample, click.Group):
    """A noun; its commands are made with `@noun.verb(name, examples=[...])`."""

    def __init__(self, name: str, *, examples: Sequence[str], help: str, bare: bool = False) -> None:
        """`bare`: the group does something by itself when no verb follows."""
        if not examples:
            raise ValueError(f"{name}: a group needs an example")
        click.Group.__init__(
            self, name, params=global_options(), help=help, no_args_is_help=False, invoke_without_command=bare
        )
        self.examples = examples

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown verb is answered with its nearest names."""
        said = args[0]
        if said.startswith("-") or context.resilient_parsing or self.get_command(context, said):
            return super().resolve_command(context, args)
        hint = near(said, self.list_commands(context)) or f"{context.command_path} --help"
        what = context.command_path.removeprefix("vxlanu").strip() or "command line"
        raise BadRequest(what, f"no such command {said!r}", name="usage", hint=hint)

    def verb(
        self, name: str, *, examples: Sequence[str], verbatim: bool = False
    ) -> Callable[[Callable[..., object]], Command]:
        """Register a command of this group."""

        def decorate(function: Callable[..., object]) -> Command:
            made = click.command(name, cls=Command, examples=examples, verbatim=verbatim)(function)
            self.add_command(made)
            return made

        return decorate


def socket_option() -> str:
    """What --socket said, or nothing."""
    said: str = click.get_current_context().meta.get(SOCKET, "")
    return said


def wants_json() -> bool:
    """Whether --json stands anywhere on the line."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(JSON))


def client(doing: str = "asking the agent") -> Client:
    """The agent this command line means; whoever looks on is told what we are `doing` once it takes a while."""
    from vxlanu.api.client import TIMEOUT_S, Client

    timeout_s = click.get_current_context().meta.get(TIMEOUT) or TIMEOUT_S
    return Client(socket_option(), timeout_s=timeout_s, around=lambda: waiting(doing))


def show(reply: Reply[T], draw: Callable[[T], Iterable[str]]) -> None:
    """Print an answer: as it came with --json, else the lines that `draw` makes of it."""
    if wants_json():
        emit(reply.body)
        return
    text = "\n".join(draw(reply.value))
    if text:
        click.echo(text)


def emit(body: bytes, stream: IO[bytes] | None = None) -> None:
    """One line of JSON; the agent ends it with a newline of its own."""
    click.echo(body, file=stream, nl=not body.endswith(b"\n"))


Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def chosen(said: Sequence[str], known: Collection[str], option: str, what: str, see: str) -> list[str]:
    """The names that an option was given, singly or with commas between. Errors: BadRequest for one not in `known`."""
    names = [name for part in said for name in part.split(",")]
    for name in names:
        if name not in known:
            raise BadRequest(option, f"there is no {what} {name!r}", hint=near(name, known) or see, name="usage")
    return names
