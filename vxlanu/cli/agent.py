"""`vxlanu agent`: one flag per setting of `vxlanu.config.AgentConfig`, and the way into the agent itself.

Rules of this file
  1. No flag has a default here: what was not said must be told apart from what was, for flags stand over the
     environment and the file. The defaults are in config.py; the help repeats them.
  2. The agent is imported only to be run, so that a wrong setting is answered at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import msgspec

from vxlanu.cli.command import Command, emit, socket_option, wants_json
from vxlanu.cli.render import printable
from vxlanu.config import DOCKER_SOCKET, OFFLOADS, AgentConfig, ConfigMistakes, load, load_with_places
from vxlanu.errors import BadRequest, VxlanuError
from vxlanu.share import shipped

__all__ = ["agent"]


@click.command(
    "agent",
    cls=Command,
    examples=[
        "vxlanu agent --name h1 --advertise eth0",
        "vxlanu agent --join 192.0.2.1 --key-file /etc/vxlanu/cluster.key",
        "vxlanu agent --config ./agent.toml --check",
        "vxlanu agent --print-config > /etc/vxlanu/agent.toml",
    ],
)
@click.option(
    "--config", metavar="FILE", help="TOML; keys are the flags' names.  [/etc/vxlanu/agent.toml if it exists]"
)
@click.option("--check", is_flag=True, help="Print every mistake, or ok and the settings that would hold; then stop.")
@click.option("--print-config", is_flag=True, help="Print a configuration file with every key explained, and stop.")
@click.option("--print-unit", is_flag=True, help="Print a systemd unit that starts this vxlanu, and stop.")
@click.option(
    "--stand-in",
    is_flag=True,
    help="Run no agent: refuse Docker's requests at once in the place of a stopped one, until it runs again or Docker"
    " has removed its networks of ours. With --print-unit: the unit for that.",
)
@click.option("--name", metavar="N", help="This node, unique in the cluster.  [host name]")
@click.option(
    "--advertise", metavar="IP|IFACE", help="Where the others reach it.  [source address towards the first seed]"
)
@click.option("--join", multiple=True, metavar="HOST[:PORT]", help="A seed, tried for ever; may be repeated.")
@click.option("--data-port", type=int, metavar="PORT", help="VXLAN, UDP.  [4789]")
@click.option("--control-port", type=int, metavar="PORT", help="Gossip, UDP and TCP.  [7946]")
@click.option("--state-dir", metavar="DIR", help="[/var/lib/vxlanu, or ~/.local/state/vxlanu as a user]")
@click.option("--key-file", metavar="FILE", help="The cluster key.  [/etc/vxlanu/cluster.key if it exists, else none]")
@click.option("--http", metavar="ADDR:PORT", help="Serve the records as keys, read-only: vxlanu help kv.  [nowhere]")
@click.option(
    "--gateway-subnet",
    metavar="CIDR|none",
    help="Of the bridge by which containers reach the outside; none: no way out.  [the first free of 172.18-31.0.0/16]",
)
@click.option(
    "--offload",
    metavar="auto|off|LIST",
    help=f"Kernel offloads: all that there are, none, or all but a LIST of {','.join(f'no-{it}' for it in OFFLOADS)};"
    " inject in it: super-frames leave uncut (vxlanu help offload).  [auto]",
)
@click.option("--workers", type=int, metavar="N", help="Threads of the data plane.  [one per CPU, at most 4]")
@click.option(
    "--pin-workers/--no-pin-workers",
    default=None,
    help="Keep each of them on a CPU of its own, if there are exactly as many.  [pin]",
)
@click.option(
    "--spin/--no-spin",
    default=None,
    help="Behind a small frame, look for the next one for up to 100 us before sleeping.  [spin]",
)
@click.option(
    "--nice", type=int, metavar="N", help="Before containers that keep the CPUs busy; 0: as it was started.  [-3]"
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [info]")
@click.option("--log-format", metavar="FORMAT", help="text or json.  [text]")
@click.option("--ready-fd", type=int, metavar="N", help="Write one line to this descriptor when everything is up.")
@click.option(
    "--docker",
    is_flag=False,
    flag_value=DOCKER_SOCKET,
    metavar="[SOCKET]",
    help=f"Be Docker's network plugin, on {DOCKER_SOCKET} unless said otherwise.",
)
@click.option("--docker-sync", is_flag=True, default=None, help="Keep every network in Docker's list, with --docker.")
@click.option("--profile", metavar="lan|local", help="Timers of the control plane; local is for labs.  [lan]")
def agent(check: bool, print_config: bool, print_unit: bool, stand_in: bool, **said: object) -> int:
    """Run the agent of this host in the foreground.

    Every setting is a flag, an environment variable (VXLANU_DATA_PORT=4789) or a key of the TOML file
    (data-port = 4789); the first of these that says it holds. SIGTERM stops the agent and leaves interfaces and
    records in place; SIGHUP reads the configuration again. `vxlanu help service` has the systemd unit.
    """
    if print_config:
        click.echo(shipped("agent.toml"), nl=False)
        return 0
    if print_unit:
        click.echo(_unit("vxlanu-stand-in.service" if stand_in else "vxlanu.service"), nl=False)
        return 0
    given = _given(said)
    try:
        config, places = load_with_places(given, os.environ, uid=os.getuid())
        if check:
            _check_host(config)
    except ConfigMistakes as mistakes:
        for mistake in mistakes.each[:-1]:
            click.echo(printable(mistake.line()), err=True)
        raise mistakes.each[-1] from None
    if check:
        _print(config, places)
        return 0
    if stand_in:
        from vxlanu.agent.away import stand_in_for

        stand_in_for(config)
        return 0
    from vxlanu.agent.run import run

    run(config, lambda: load(given, os.environ, uid=os.getuid()))
    return 0


def _given(said: Mapping[str, object]) -> dict[str, object]:
    """Only what stands on the line, keyed as in the file."""
    given = {key.replace("_", "-"): value for key, value in said.items() if value is not None and value != ()}
    if socket_option():
        given["socket"] = socket_option()
    return given


def _unit(name: str) -> str:
    """A unit that ships, with the program that is running now."""
    program = Path(sys.argv[0])
    path = str(program.resolve()) if program.name == "vxlanu" and program.exists() else "/usr/local/bin/vxlanu"
    return shipped(name).replace("/usr/local/bin/vxlanu", path)


def _check_host(config: AgentConfig) -> None:
    """What the agent would not start with on this host is a mistake of the configuration too."""
    found = list(_key_mistakes(config))
    try:
        found += _advertise_mistakes(config)
    except VxlanuError as why:  # the host could not be asked, which hides no mistake
        if not found:
            raise
        click.echo(printable(why.line()), err=True)
    if found:
        raise ConfigMistakes(found)


def _key_mistakes(config: AgentConfig) -> Iterator[BadRequest]:
    """A key that cannot be read."""
    if not config.key_file:
        return
    from vxlanu.control.core.errors import LocalError
    from vxlanu.control.seal import load_key

    try:
        load_key(Path(config.key_file))
    except (LocalError, OSError) as error:
        why = error.what if isinstance(error, LocalError) else error.strerror or str(error)
        yield BadRequest(f"key-file {config.key_file}", why, name="key_invalid", hint="vxlanu key gen FILE")


def _advertise_mistakes(config: AgentConfig) -> Iterator[BadRequest]:
    """An address that is not here: the data sockets are bound to it, so that of a NAT before this host will not do."""
    if not config.advertise:
        return
    import asyncio

    from vxlanu.agent.advertise import choose
    from vxlanu.nsopen import NamespaceHelper

    helper = NamespaceHelper.start()
    try:
        asyncio.run(choose(config.advertise, (), helper))
    except BadRequest as mistake:
        yield mistake
    finally:
        helper.close()


def _print(config: AgentConfig, places: Mapping[str, str]) -> None:
    """As a file that would say the same, with where each was said; what is not set is left out."""
    settings = msgspec.to_builtins(config)
    if wants_json():
        emit(msgspec.json.encode(settings))
        return
    click.echo(f"# ok: {config.config or 'no file'}")
    for key, value in settings.items():
        if key in ("config", "ready-fd") or value is None or value == "":
            continue
        line = f"{key} = {msgspec.json.encode(value).decode()}"  # JSON's strings, ints and lists are TOML's
        click.echo(f"{line:<40}  # {printable(places[key])}")
