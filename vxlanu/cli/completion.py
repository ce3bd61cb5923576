"""`vxlanu completion`: the script by which a shell asks this program for names.

Rules of this file
  1. The script is click's; this only prints it. It asks `vxlanu` itself at each TAB, so it never grows stale.
"""

from __future__ import annotations

import click

from vxlanu.cli.command import Command
from vxlanu.errors import VxlanuError

__all__ = ["completion"]


@click.command(
    "completion",
    cls=Command,
    examples=['eval "$(vxlanu completion bash)"', "vxlanu completion fish > ~/.config/fish/completions/vxlanu.fish"],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise VxlanuError(f"completion {shell}", "this click knows nothing of it", name="unsupported")
    click.echo(kind(context.find_root().command, {}, "vxlanu", "_VXLANU_COMPLETE").source())
