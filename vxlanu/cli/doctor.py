"""`vxlanu doctor` and `vxlanu netcheck`: findings, one a line, and what to do under those that are not ok.

Rules of this file
  1. Both work without an agent, and say what only an agent could have told.
  2. What takes time is the agent's question to the others, and only that shows progress: the teller is a thread, and
     TAPs are tried by a fork. The look at its workers is half a second.
  3. The exit code is 1 if anything fails, else 0: a warning is no reason for a script to stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import msgspec

from vxlanu.cli import complete
from vxlanu.cli.command import Command, client, emit, wants_json
from vxlanu.cli.render import colour_wanted, printable
from vxlanu.doctor.finding import FAIL, OK, SKIP, WARN, Finding, Report

__all__ = ["doctor", "draw", "netcheck"]

MARKS = {OK: ("ok", "green"), WARN: ("warn", "yellow"), FAIL: ("FAIL", "red"), SKIP: ("?", "cyan")}
WORST_FIRST = (FAIL, WARN, SKIP, OK)


@click.command("doctor", cls=Command, examples=["vxlanu doctor", "vxlanu doctor --json | jq .findings"])
def doctor() -> int:
    """Look for what is wrong on this host: device, capabilities, CPU, ports, firewall, paths, members, clock, key.

    Works without an agent too; with one it also asks the other hosts what arrives there. Changes nothing. Exit code 1
    if anything fails.
    """
    from vxlanu.doctor import egress, host, network
    from vxlanu.doctor.gather import gather

    facts = gather(client("asking the other hosts"), host=True)
    return _show([*host.findings(facts), *egress.egress(facts), *egress.forwarding(facts), *network.findings(facts)])


@click.command("netcheck", cls=Command, examples=["vxlanu netcheck", "vxlanu netcheck h2 --json"])
@click.argument("member", required=False, default="", shell_complete=complete.members)
def netcheck(member: str) -> int:
    """Try every way to and from the other hosts: both ports, UDP and TCP, each direction, and long packets.

    The network part of `vxlanu doctor`, of all members or of one. Exit code 1 if anything fails.
    """
    from vxlanu.doctor import network
    from vxlanu.doctor.gather import gather

    facts = gather(client("trying the ways to the other hosts"), member, host=False)
    return _show(network.findings(facts))


def _show(found: Sequence[Finding]) -> int:
    state = next((state for state in WORST_FIRST if any(it.state == state for it in found)), OK)
    if wants_json():
        emit(msgspec.json.encode(Report(state, list(found))))
    else:
        click.echo("\n".join(draw(found)))
    return 1 if state == FAIL else 0


def draw(found: Sequence[Finding]) -> Iterator[str]:
    """Mark, check, what; the why and the `try:` of what is not ok under it."""
    width = max((len(it.check) for it in found), default=0)
    indent = " " * (4 + 2 + width + 2)
    for it in found:
        mark, colour = MARKS[it.state]
        shown = click.style(f"{mark:4}", fg=colour, bold=it.state == FAIL) if colour_wanted() else f"{mark:4}"
        yield f"{shown}  {it.check:{width}}  {printable(it.what)}".rstrip()
        if it.why:
            yield f"{indent}{printable(it.why)}"
        if it.try_:
            yield f"{indent}try: {printable(it.try_)}"
    counted = [(sum(it.state == state for it in found), MARKS[state][0]) for state in (FAIL, WARN, SKIP, OK)]
    names = {"?": "not known", "FAIL": "failed"}
    yield ", ".join(f"{number} {names.get(mark, mark)}" for number, mark in counted if number)
