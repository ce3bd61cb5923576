"""`vxlanu member`: the hosts of the cluster.

Rules of this file
  1. A failed member stays listed, as serf does it: it may be a partition, and what it hosts is still known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from vxlanu.api.schema import Items, Joined, Member
from vxlanu.cli import complete
from vxlanu.cli.command import Group, client, show
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.render import age, count, table
from vxlanu.errors import TryAgain

__all__ = ["address", "member"]

ID_SHOWN = 12
HEADER = ("NODE", "ADDRESS", "STATE", "SINCE", "VTEP", "ENDPOINTS", "VERSION", "RTT")

member = Group(
    "member",
    help="The hosts of the cluster. A member is named by its name or the beginning of its id (4 digits or more).",
    examples=["vxlanu member ls", "vxlanu member join 192.0.2.1"],
)


def address(host: str, port: int) -> str:
    """HOST:PORT, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@member.verb("ls", examples=["vxlanu member ls --watch", "vxlanu member ls --format name,state,address"])
@list_options(Member)
def ls() -> None:
    """List the members as this host sees them.

    Its own row says `self` under RTT. SINCE is how long this host's agent has seen a member in its state: it begins
    anew with the agent. Where two have one name, as a host and the one that it replaced, their ids are shown too.
    """
    show_list(client().members, draw_members)


def draw_members(found: Items[Member]) -> Iterator[str]:
    alike = len({m.name for m in found.items}) < len(found.items)
    rows: list[tuple[str | int, ...]] = [
        (
            m.name,
            *([m.id[:ID_SHOWN]] if alike else []),
            address(m.address, m.control_port),
            m.state,
            age(m.since_s),
            address(m.address, m.data_port),
            m.endpoints,
            m.version,
            "self" if m.self else "" if m.rtt_ms is None else f"{m.rtt_ms:.1f}ms",
        )
        for m in found.items
    ]
    return table((HEADER[0], *(["ID"] if alike else []), *HEADER[1:]), rows)


@member.verb("join", examples=["vxlanu member join 192.0.2.1", "vxlanu member join h1:7946 h2:7946"])
@click.argument("addresses", nargs=-1, required=True, metavar="HOST[:PORT]...")
def join(addresses: Sequence[str]) -> None:
    """Join the cluster that these hosts are in. Those that do not answer are tried for ever."""
    reply = client(f"joining {' '.join(addresses)}").join(list(addresses))
    show(reply, draw_joined)
    if not reply.value.reached:
        why = f"no answer from {', '.join(reply.value.retrying)}; the agent goes on trying"
        raise TryAgain("member join", why, name="no_seed_answers", hint="vxlanu member ls, in a while")


def draw_joined(joined: Joined) -> Iterator[str]:
    yield from (f"{reached} joined" for reached in joined.reached)
    yield from (f"{away} retrying" for away in joined.retrying)


@member.verb("leave", examples=["vxlanu member leave"])
def leave() -> None:
    """Say good-bye: this host's endpoints disappear everywhere. (Stopping the agent does not do that.)"""
    reply = client("leaving").leave()
    show(reply, lambda left: [f"{left.name} left, {count(left.told, 'member')} told"])


@member.verb("forget", examples=["vxlanu member forget h3"])
@click.argument("member", shell_complete=complete.members)
def forget(member: str) -> None:
    """Give up a dead member for good. Its endpoints, address blocks and name are free again; prints the name."""
    show(client().forget(member), lambda gone: [gone.name])
