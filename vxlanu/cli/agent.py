"""`vxlanu agent`: one flag per setting of `vxlanu.config.AgentConfig`, and the way into the agent itself.

Rules of this file
  1. No flag has a default here: what was not said must be told apart from what was, for flags stand over the
     environment and the file. The defaults are in config.py; the help repeats them.
  2. The agent is imported only to be run, so that a wrong setting is answered at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import click
import msgspec

from vxlanu.cli.command import Command, emit, socket_option, wants_json
from vxlanu.config import OFFLOADS, AgentConfig, load

__all__ = ["agent"]


@click.command(
    "agent",
    cls=Command,
    examples=[
        "vxlanu agent --name h1 --advertise eth0",
        "vxlanu agent --join 192.0.2.1 --key-file /etc/vxlanu/cluster.key",
        "vxlanu agent --config ./agent.toml --check",
    ],
)
@click.option(
    "--config", metavar="FILE", help="TOML; keys are the flags' names.  [/etc/vxlanu/agent.toml if it exists]"
)
@click.option("--check", is_flag=True, help="Print the settings that would hold, and stop.")
@click.option("--name", metavar="N", help="This node, unique in the cluster.  [host name]")
@click.option(
    "--advertise", metavar="IP|IFACE", help="Where the others reach it.  [source address towards the first seed]"
)
@click.option("--join", multiple=True, metavar="HOST[:PORT]", help="A seed, tried for ever; may be repeated.")
@click.option("--data-port", type=int, metavar="PORT", help="VXLAN, UDP.  [4789]")
@click.option("--control-port", type=int, metavar="PORT", help="Gossip, UDP and TCP.  [7946]")
@click.option("--state-dir", metavar="DIR", help="[/var/lib/vxlanu, or ~/.local/state/vxlanu as a user]")
@click.option("--key-file", metavar="FILE", help="The cluster key.  [/etc/vxlanu/cluster.key if it exists, else none]")
@click.option(
    "--offload",
    metavar="auto|off|LIST",
    help=f"Kernel offloads: all that there are, none, or all but a LIST of {','.join(f'no-{it}' for it in OFFLOADS)}."
    "  [auto]",
)
@click.option("--workers", type=int, metavar="N", help="Threads of the data plane.  [one per CPU: 1 of 2, at most 4]")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [info]")
@click.option("--log-format", metavar="FORMAT", help="text or json.  [text]")
@click.option("--ready-fd", type=int, metavar="N", help="Write one line to this descriptor when everything is up.")
@click.option("--profile", metavar="lan|local", help="Timers of the control plane; local is for labs.  [lan]")
def agent(check: bool, **said: object) -> int:
    """Run the agent of this host in the foreground.

    Every setting is a flag, an environment variable (VXLANU_DATA_PORT=4789) or a key of the TOML file
    (data-port = 4789); the first of these that says it holds. SIGTERM stops the agent and leaves interfaces and
    records in place.
    """
    config = load(_given(said), os.environ, uid=os.getuid())
    if check:
        _print(config)
        return 0
    from vxlanu.agent.run import run

    run(config)
    return 0


def _given(said: Mapping[str, object]) -> dict[str, object]:
    """Only what stands on the line, keyed as in the file."""
    given = {key.replace("_", "-"): value for key, value in said.items() if value is not None and value != ()}
    if socket_option():
        given["socket"] = socket_option()
    return given


def _print(config: AgentConfig) -> None:
    """As a file that would say the same; what is not set is left out."""
    settings = msgspec.to_builtins(config)
    if wants_json():
        emit(msgspec.json.encode(settings))
        return
    for key, value in settings.items():
        if key == "config" or value is None or value == "":
            continue
        click.echo(f"{key} = {msgspec.json.encode(value).decode()}")  # JSON's strings, ints and lists are TOML's
