"""Man pages from the command line itself: vxlanu(1), and vxlanu-COMMAND(1) for each command with its verbs.

How it works
  Every page is drawn from the click tree (help, options, examples), so it cannot say anything else than --help.
  The wheel is built with them (setup.py); from a clone: python -m vxlanu.cli.manual DIR.

Rules of this file
  1. man(7) macros alone: TH SH SS PP TP IP nf fi B I; every text passes `_escaped`.
  2. The date is that of SOURCE_DATE_EPOCH where that is set, so that a build can be repeated, else today.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from vxlanu import __version__
from vxlanu.cli.main import COMMANDS, SECTIONS, root
from vxlanu.cli.topics import TOPICS
from vxlanu.errors import CLASSES

__all__ = ["pages", "write"]


def pages() -> dict[str, str]:
    """File name → page."""
    context = click.Context(root, info_name="vxlanu")
    found = {"vxlanu.1": "\n".join(_main_page(context)) + "\n"}
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        found[f"vxlanu-{name}.1"] = "\n".join(_command_page(command, inner, name)) + "\n"
    return found


def write(directory: Path) -> list[Path]:
    """Write all of them; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for name, text in pages().items():
        made.append(directory / name)
        made[-1].write_text(text, encoding="utf-8")
    return made


def _main_page(context: click.Context) -> Iterator[str]:
    yield from _head("vxlanu", "userspace VXLAN overlay network for containers")
    yield f".B vxlanu\n.RI [ options ] \" command \" [ arguments ]\n.SH DESCRIPTION\n{_paragraphs(root.help or '')}"
    yield "Each command has a page of its own, for example\n.BR vxlanu-attach (1);\nthis is what there is."
    for title, commands in SECTIONS.items():
        yield f".SH {_quoted(title.upper())}"
        for name, (_where, summary) in commands.items():
            yield f".TP\n.BR vxlanu-{_escaped(name)} (1)\n{_escaped(summary)}."
    yield from _options(root, context)
    yield from _examples(root)
    yield ".SH TOPICS\nLonger explanations, by\n.BR \"vxlanu help\" :"
    for topic, about in TOPICS.items():
        yield f".TP\n.B {_escaped(topic)}\n{_escaped(about)}."
    yield from _tail(status=True)
    yield ".SH FILES\n.TP\n.I /etc/vxlanu/agent.toml\nSettings of the agent."
    yield ".TP\n.I /etc/vxlanu/cluster.key\nThe cluster key.\n.TP\n.I /var/lib/vxlanu\nState of the agent."


def _command_page(command: click.Command, context: click.Context, name: str) -> Iterator[str]:
    summary = next(summary for commands in SECTIONS.values() for it, (_, summary) in commands.items() if it == name)
    yield from _head(f"vxlanu-{name}", summary[:1].lower() + summary[1:])
    verbs = _verbs(command, context)
    for _, verb, inner in verbs or [(name, command, context)]:
        yield _usage(verb, inner)
    yield f".SH DESCRIPTION\n{_paragraphs(command.help or '')}"
    yield from _options(command, context)
    for verb_name, verb, inner in verbs:
        yield f".SH {_quoted(verb_name.upper())}\n{_paragraphs(verb.help or '')}"
        yield from _options(verb, inner, section="")
        yield from _examples(verb, section=".PP\nExamples:")
    yield from _examples(command)
    yield from _tail(status=False)


def _verbs(command: click.Command, context: click.Context) -> list[tuple[str, click.Command, click.Context]]:
    if not isinstance(command, click.Group):
        return []
    found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [(name, it, click.Context(it, info_name=name, parent=context)) for name, it in found if it and not it.hidden]


def _head(name: str, summary: str) -> Iterator[str]:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    date = time.strftime("%Y-%m-%d", time.gmtime(int(epoch) if epoch.isdigit() else None))
    yield f'.TH {name.upper()} 1 "{date}" "vxlanu {__version__}" "vxlanu manual"\n.ad l'
    yield f".SH NAME\n{_escaped(name)} \\- {_escaped(summary)}\n.SH SYNOPSIS"


def _usage(command: click.Command, context: click.Context) -> str:
    words = " ".join(command.collect_usage_pieces(context))
    return f".nf\n.B {_escaped(context.command_path)} {_escaped(words)}\n.fi"


def _options(command: click.Command, context: click.Context, section: str = ".SH OPTIONS\n") -> Iterator[str]:
    """Those of the command itself; --json and --socket are explained once, in vxlanu(1)."""
    known = command is root
    rows = [record for it in command.params if isinstance(it, click.Option) and (record := it.get_help_record(context))]
    rows = [row for row in rows if known or row[0].split()[0] not in ("--socket", "--json", "--help")]
    for number, (names, text) in enumerate(rows):
        yield f"{'' if number else section}.TP\n.B {_escaped(names)}\n{_paragraphs(text)}"


def _examples(command: click.Command, section: str = ".SH EXAMPLES") -> Iterator[str]:
    lines = [_escaped(line) for line in getattr(command, "examples", ())]
    if lines:
        yield "\n".join([section, ".nf", *lines, ".fi"])


def _tail(*, status: bool) -> Iterator[str]:
    if status:
        yield ".SH EXIT STATUS\n.TP\n.B 0\nThe answer, or done."
        for kind in CLASSES:
            yield f".TP\n.B {kind.exit}\n{_escaped((kind.__doc__ or '').splitlines()[0])}"
        return
    yield ".SH SEE ALSO\n.BR vxlanu (1)"


def _paragraphs(text: str) -> str:
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text.replace("\b\n", "")) if block.strip()]
    return "\n.PP\n".join(map(_escaped, blocks))


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Text as roff takes it: backslash, hyphen-minus as typed, no line that looks like a request, no other quotes."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\`").replace("…", "...").replace("→", "->")
    return re.sub(r"(?m)^([.'])", r"\\&\1", plain)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
