"""`vxlanu lab`: the click group over `Lab`.

Rules of this file
  1. Words only: what a lab does is in `topology`. What is heavier than click is imported by the command that needs it.
  2. Progress goes to stderr, answers to stdout; every refusal is one of vxlanu.errors, and main.py shows it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, TypedDict

import click

from vxlanu.cli.command import Group, wants_json

if TYPE_CHECKING:
    from vxlanu.lab.topology import Lab

__all__ = ["lab"]

DEFAULT_LAB = "lab"

lab = Group(
    "lab",
    examples=["vxlanu lab demo", "vxlanu lab up --hosts 3", "vxlanu lab exec h2 -- vxlanu member ls"],
    help="Several hosts and their containers on this machine, to try things and to look at them. Needs no root.",
)

lab_option = click.option(
    "--lab", "lab_id", envvar="VXLANU_LAB", default=DEFAULT_LAB, metavar="ID", show_default=True, help="Which lab."
)


class Row(TypedDict):
    """One line of `lab ls`."""

    name: str
    kind: str
    host: str
    state: str
    addresses: list[str]


def _say(text: str) -> None:
    click.echo(text, err=True)


@lab.verb("up", examples=["vxlanu lab up", "vxlanu lab up --hosts 5 --containers 1 --underlay ipv6"])
@click.option("--hosts", default=3, show_default=True, metavar="N", help="Hosts h1, h2, ...")
@click.option("--containers", default=2, show_default=True, metavar="M", help="Containers on each: c1-1, c1-2, ...")
@click.option("--underlay", type=click.Choice(["ipv4", "ipv6"]), default="ipv4", show_default=True)
@click.option("--mtu", default=1500, show_default=True, metavar="BYTES", help="Of the underlay.")
@lab_option
def up(hosts: int, containers: int, underlay: str, mtu: int, lab_id: str) -> None:
    """Build the hosts, start an agent on each, and wait until all see each other.

    The lab stays until `vxlanu lab down`, or until its supervisor is killed; either leaves nothing behind.
    """
    from vxlanu.lab.topology import Lab

    started = time.monotonic()
    made = Lab(hosts, containers, lab=lab_id, underlay=underlay, mtu=mtu)
    made.start(detached=True, progress=lambda text: _say(f"lab {lab_id}: {text}"))
    try:
        _say(f"lab {lab_id}: waiting for {hosts} agents")
        made.wait_ready()
    except BaseException:
        _say(made.story())
        made.down()
        raise
    _say(f"lab {lab_id}: up after {time.monotonic() - started:.1f} s; supervisor {made.pid}")
    _next_steps(made, "" if lab_id == DEFAULT_LAB else f" --lab {lab_id}")


def _next_steps(made: Lab, option: str) -> None:
    first, last = made.hosts()[0], made.hosts()[-1]
    click.echo("Try next:")
    lines = [
        f"vxlanu lab exec{option} {first} -- vxlanu network create demonet --subnet 192.168.0.0/24",
        f"vxlanu lab exec{option} {first} -- vxlanu attach demonet c1-1 --ip 192.168.0.100 --name C0",
        f"vxlanu lab exec{option} {last} -- vxlanu attach demonet c{last[1:]}-1",
        f"vxlanu lab exec{option} c{last[1:]}-1 -- ping -c 3 192.168.0.100",
        f"vxlanu lab ls{option}",
        f"vxlanu lab down{option}",
    ]
    for line in lines if made.containers() else [lines[0], *lines[-2:]]:
        click.echo(f"  {line}")


@lab.verb("down", examples=["vxlanu lab down"])
@lab_option
def down(lab_id: str) -> None:
    """End the lab: its agents, containers, links and namespaces."""
    from vxlanu.lab.topology import Lab

    Lab.find(lab_id).down()
    _say(f"lab {lab_id}: down")


@lab.verb("ls", examples=["vxlanu lab ls", "vxlanu lab ls --json"])
@lab_option
def ls(lab_id: str) -> None:
    """The hosts and containers of a lab, with their addresses."""
    from vxlanu.cli.render import table
    from vxlanu.lab.topology import Lab

    found = Lab.find(lab_id)
    rows = _rows(found)
    if wants_json():
        click.echo(json.dumps({"items": rows}))
        return
    header = ["NAME", "KIND", "HOST", "STATE", "ADDRESSES"]
    cells = [[row["name"], row["kind"], row["host"], row["state"], ", ".join(row["addresses"])] for row in rows]
    for line in table(header, cells):
        click.echo(line)


def _rows(found: Lab) -> list[Row]:
    """Hosts as the supervisor holds them, containers as the namespaces stand, addresses as an agent tells them."""
    from vxlanu.lab.plan import host_of, underlay_address

    addresses = _attached(found)
    rows: list[Row] = []
    for host, status in found.agents().items():
        state = "up" if status is None else f"down ({status})"
        underlay = [underlay_address(host, family) for family in ("ipv4", "ipv6")]
        rows.append({"name": host, "kind": "host", "host": host, "state": state, "addresses": underlay})
    for name in found.containers():
        held = addresses.get((host_of(name), name), [])
        state = "attached" if held else "empty"
        rows.append({"name": name, "kind": "container", "host": host_of(name), "state": state, "addresses": held})
    return rows


def _attached(found: Lab) -> dict[tuple[str, str], list[str]]:
    """(node, target) -> `ADDRESS NETWORK`, from the first agent that answers."""
    from vxlanu.api.client import Client
    from vxlanu.errors import VxlanuError
    from vxlanu.lab.plan import agent_socket

    for host in found.hosts():
        try:
            endpoints = Client(str(found.path(agent_socket(host))), timeout_s=2).endpoints().value.items
        except VxlanuError:
            continue
        held: dict[tuple[str, str], list[str]] = {}
        for endpoint in endpoints:
            here = held.setdefault((endpoint.node, endpoint.target), [])
            here += [f"{address} ({endpoint.network})" for address in endpoint.addresses]
        return held
    return {}


@lab.verb(
    "exec",
    examples=["vxlanu lab exec h2 -- vxlanu member ls", "vxlanu lab exec c1-1 -- ping 192.168.0.100"],
    verbatim=True,
)
@lab_option
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str, command: tuple[str, ...], lab_id: str) -> None:
    """Run a command on a host, in a container, or on the `underlay` between the hosts."""
    from vxlanu.errors import NotFound
    from vxlanu.lab.plan import UNDERLAY
    from vxlanu.lab.topology import Lab

    found = Lab.find(lab_id)
    names = [*found.hosts(), *found.containers(), UNDERLAY]
    if name not in names:
        raise NotFound(f"lab exec {name}", "no such host or container", hint=", ".join(names), name="name_not_found")
    inside = found.command(name, command[1:] if command[0] == "--" else command)
    sys.stdout.flush()
    os.execve(inside[0], inside, found.environment(name))


execute.allow_interspersed_args = False  # what follows NAME belongs to COMMAND, with or without `--`


@lab.verb("agent", examples=["vxlanu lab agent kill h1", "vxlanu lab agent start h1"])
@lab_option
@click.argument("action", type=click.Choice(["kill", "stop", "start"]))
@click.argument("host")
def agent(action: str, host: str, lab_id: str) -> None:
    """Kill (SIGKILL), stop (SIGTERM) or start the agent of a host; its containers and their interfaces stay."""
    from vxlanu.lab.topology import Lab

    found = Lab.find(lab_id)
    act = {"kill": found.kill_agent, "stop": found.stop_agent, "start": found.start_agent}[action]
    act(host)
    _say(f"lab {lab_id}: {host}: {action}")


@lab.verb("demo", examples=["vxlanu lab demo"])
def demo() -> None:
    """Tell the story of one network over three hosts, each step run for real and checked."""
    from vxlanu.cli.render import colour_wanted
    from vxlanu.lab.demo import tell
    from vxlanu.lab.topology import Lab

    started = time.monotonic()
    made = Lab(hosts=3, containers=2, lab=f"demo-{os.getpid()}")
    made.start(progress=lambda text: _say(f"demo: building {text}"))
    try:
        _say("demo: waiting for 3 agents")
        made.wait_ready()
        tell(made, click.echo, click.style if colour_wanted() else _plain)
    finally:
        made.down()
    click.echo(f"\nEvery step of the demo held; {time.monotonic() - started:.0f} s. The lab is gone without a trace.")


def _plain(text: str, **_: object) -> str:
    return text
