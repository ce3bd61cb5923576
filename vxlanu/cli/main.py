"""The door of the command line: finds the command, runs it, turns what goes wrong into one line and an exit code.

Rules of this file
  1. A command's module is imported when the command is used: `vxlanu member ls` loads neither the agent nor the lab.
  2. Exactly one line on stderr for a failure, `vxlanu: what: why; try: ...`, and the exit code of its class
     (errors.py). A traceback only under VXLANU_DEBUG=1.
  3. With --json a failure is also the API's error body on stdout, so that a script can read its name.

Exit codes that are no class: 130 after Ctrl-C, 141 when the reader of a pipe went away, as a shell reports them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click
import msgspec
from click.shell_completion import CompletionItem

from vxlanu import __version__
from vxlanu.cli.command import TIMEOUT, Group, emit, wants_json
from vxlanu.cli.render import printable
from vxlanu.errors import AnswerIsNo, BadRequest, Refused, VxlanuError, near

__all__ = ["COMMANDS", "main", "root"]

INTERRUPTED = 130
PIPE_CLOSED = 141

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "This host": {
        "agent": ("vxlanu.cli.agent:agent", "Run the agent; one per host"),
        "status": ("vxlanu.cli.status:status", "Show this agent"),
        "why": ("vxlanu.cli.why:why", "Say where frames to an endpoint go, and why"),
        "drops": ("vxlanu.cli.tables:drops", "Show what was not delivered, and why"),
        "stats": ("vxlanu.cli.tables:stats", "Show traffic counters"),
        "events": ("vxlanu.cli.events:events", "Show what happens, as it happens"),
        "capture": ("vxlanu.cli.capture:capture", "Show frames, or write them for Wireshark"),
        "doctor": ("vxlanu.cli.doctor:doctor", "Find out what is wrong on this host, and what to do"),
        "verify": ("vxlanu.cli.tables:verify", "Compare forwarding tables with the records"),
    },
    "Networks": {
        "network": ("vxlanu.cli.network:network", "Create, list, inspect, remove networks"),
        "attach": ("vxlanu.cli.endpoint:attach", "Give a container an interface in a network"),
        "detach": ("vxlanu.cli.endpoint:detach", "Take it away again"),
        "endpoint": ("vxlanu.cli.endpoint:endpoint", "List and inspect endpoints"),
        "exec": ("vxlanu.cli.inside:exec_", "Run a command where a container is"),
        "ping": ("vxlanu.cli.inside:ping", "Ping from a container, naming the way"),
        "netns": ("vxlanu.cli.netns:netns", "List namespaces that can be attached"),
        "link": ("vxlanu.cli.link:link", "Show networks and TAPs as ip -d link does"),
        "fdb": ("vxlanu.cli.tables:fdb", "Show where each MAC is"),
        "dns": ("vxlanu.cli.dns:dns", "Ask for a name as a container would"),
        "neighbor": ("vxlanu.cli.tables:neighbor", "Show which MAC each address has"),
    },
    "Cluster": {
        "member": ("vxlanu.cli.member:member", "List, join, leave, forget members"),
        "netcheck": ("vxlanu.cli.doctor:netcheck", "Try every way to and from the other hosts"),
        "vtep": ("vxlanu.cli.vtep:vtep", "List tunnel ends; add and remove foreign ones"),
        "kv": ("vxlanu.cli.kv:kv", "Look into the records as keys and values"),
        "ipam": ("vxlanu.cli.ipam:ipam", "Show addresses, and who hands them out"),
        "key": ("vxlanu.cli.key:key", "Make the cluster key"),
    },
    "More": {
        "lab": ("vxlanu.lab.commands:lab", "Several hosts on this machine, to try things out"),
        "help": ("vxlanu.cli.topics:topics", "Explain more than one command: vxlanu help"),
        "bench": ("vxlanu.cli.bench:bench", "Time the fast path over the frames of captures"),
        "reset": ("vxlanu.cli.reset:reset", "Remove everything that a stopped agent keeps here"),
        "completion": ("vxlanu.cli.completion:completion", "Print the completion script of a shell"),
    },
}
COMMANDS = {name: where for section in SECTIONS.values() for name, (where, _summary) in section.items()}


class Root(Group):
    """Knows all commands by name and loads only the one that is asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].split(":")
        found = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_where, summary) in commands.items()], col_max=14)

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """From the table above: click would load every command to ask for its help."""
        known = [it for commands in SECTIONS.values() for it in commands.items()]
        found = [CompletionItem(name, help=summary) for name, (_where, summary) in known if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, context, incomplete)

    def invoke(self, context: click.Context) -> object:
        """Here and not in `main`, because --json is known only while the context stands."""
        try:
            return super().invoke(context)
        except VxlanuError as error:
            if wants_json() and not isinstance(error, AnswerIsNo):
                emit(msgspec.json.encode(error.reply()))
            raise


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"vxlanu {__version__}")
        context.exit()


root = Root(
    "vxlanu",
    bare=True,
    help="A userspace VXLAN overlay network for containers. Without a command: this host's networks and tunnels.",
    examples=[
        "vxlanu agent --join 192.0.2.1",
        "vxlanu network create demonet --subnet 192.168.0.0/24",
        "vxlanu attach demonet c0 --ip 192.168.0.100 --name C0",
    ],
)
root.params.append(
    click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print it."
    )
)


@click.pass_context
def _status_when_alone(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        from vxlanu.cli.overview import show_overview

        show_overview()


root.callback = _status_when_alone


def main(arguments: Sequence[str] | None = None, *, timeout_s: float | None = None) -> int:
    """The console script: returns the exit code. `timeout_s`: how long the agent may be silent, if not as usual."""
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments), timeout_s)
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.UsageError as error:
        return _fail(_usage(error))
    except click.ClickException as error:
        return _fail(BadRequest("command line", _sentence(error.format_message()), name="usage"))
    except VxlanuError as error:
        return _fail(error)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _drop_unwritten()
        return PIPE_CLOSED
    except PermissionError as error:
        what = str(error.filename or "permission denied")
        return _fail(Refused(what, error.strerror or str(error), name="permission_denied", hint="as root"))
    except OSError as error:
        _drop_unwritten()
        return _fail(VxlanuError(str(error.filename or "output"), error.strerror or str(error), name="os_error"))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        return _fail(VxlanuError("internal error", why, name="internal", hint="VXLANU_DEBUG=1 shows where"))


def _drop_unwritten() -> None:
    """Nobody takes what is still in the buffer: the interpreter would try once more at exit, and complain itself."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _run(arguments: list[str], timeout_s: float | None) -> int:
    asked_by_shell = os.environ.get("_VXLANU_COMPLETE")
    if asked_by_shell:
        from click.shell_completion import shell_complete

        return shell_complete(root, {}, "vxlanu", "_VXLANU_COMPLETE", asked_by_shell)
    with root.make_context("vxlanu", arguments) as context:
        context.meta[TIMEOUT] = timeout_s
        answer = root.invoke(context)
    return answer if isinstance(answer, int) else 0


def _fail(error: VxlanuError) -> int:
    """Say it and give its code; called while the exception is being handled, for the trace."""
    if os.environ.get("VXLANU_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    print(printable(error.line()), file=sys.stderr)
    return error.exit


def _usage(error: click.UsageError) -> BadRequest:
    """What click found wrong with the line, in our form."""
    path = error.ctx.command_path if error.ctx else "vxlanu"
    what = path.removeprefix("vxlanu").strip() or "command line"
    why, hint = _sentence(error.format_message()), f"{path} --help"
    if isinstance(error, click.NoSuchOption):
        known = [name for parameter in (error.cmd.params if error.cmd else []) for name in parameter.opts]
        why, hint = f"no such option {error.option_name}", near(error.option_name, known) or hint
    elif isinstance(error.cmd, click.Group) and error.ctx and error.message == "Missing command.":
        why = f"missing command, one of {', '.join(error.cmd.list_commands(error.ctx))}"
    return BadRequest(what, why, name="usage", hint=hint)


def _sentence(text: str) -> str:
    """As the middle of our line: one line, small first letter, no full stop."""
    whole = " ".join(text.split())
    return (whole[:1].lower() + whole[1:]).removesuffix(".")


if __name__ == "__main__":
    sys.exit(main())
