"""`vxlanu why`: the way of a frame to somebody, table by table.

Rules of this file
  1. A step a line: what was found, where it comes from, how old it is. The first that fails is the answer, exit 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from vxlanu.api.schema import Why
from vxlanu.cli import complete
from vxlanu.cli.command import Command, client, show
from vxlanu.cli.render import age, printable
from vxlanu.errors import AnswerIsNo

__all__ = ["broken", "draw_why", "why"]


@click.command("why", cls=Command, examples=["vxlanu why 192.168.0.100", "vxlanu why db.demonet --from C0"])
@click.argument("target", metavar="NAME|IP|MAC", shell_complete=complete.endpoints)
@click.option("--from", "source", default="", metavar="ENDPOINT", shell_complete=complete.endpoints,
              help="In this endpoint's network.")  # fmt: skip
def why(target: str, source: str) -> None:
    """Say where frames to an endpoint go from here, and why: neighbour, FDB, VTEP, route, switch.

    Each step with its source and the age of what was learned; `switch` is what the fast path itself decides about such
    a frame. Exit code 1 when a step fails; it is the last one shown.
    """
    reply = client().why(target, source)
    show(reply, draw_why)
    broken(f"why {target}", reply.value)


def broken(what: str, answer: Why) -> None:
    """Raise AnswerIsNo with the step that failed, if one did."""
    for step in answer.steps:
        if not step.ok:
            raise AnswerIsNo(what, f"{step.step} {step.what}: {step.why}", name=f"no_{step.step}")


def draw_why(answer: Why) -> Iterator[str]:
    whose = f"{answer.endpoint} on {answer.node}" if answer.endpoint else "no endpoint of a record"
    yield printable(f"{answer.address or answer.mac}: {whose}, network {answer.network} vni {answer.vni}")
    for step in answer.steps:
        if step.ok:
            last = "" if step.age_s is None else f", {age(step.age_s)} ago"
            yield printable(f"  {step.step:8}  {step.what}  ({step.source}{last})")
        else:
            yield printable(f"  {step.step:8}  {step.what}  {step.why}")
