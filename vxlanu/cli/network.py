"""`vxlanu network`: the networks of the cluster, listed as Docker lists them.

Rules of this file
  1. Shapes are checked here (a number, K=V); what is right or free is the agent's to say.
  2. `create` and `rm` print what the next command needs, an id or a name, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import click
import msgspec

from vxlanu.api.schema import Items, Network, NetworkCreate, NetworkDetail
from vxlanu.cli import complete
from vxlanu.cli.asking import agreed
from vxlanu.cli.command import Group, client, show
from vxlanu.cli.endpoint import state
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.render import block, table

__all__ = ["network"]

ID_SHOWN = 12
VNI_MAX = (1 << 24) - 1
MTU_MIN, MTU_MAX = 68, 65535  # what IPv4 needs, what a TAP takes; the agent knows the underlay
HEADER = ("NETWORK ID", "NAME", "VNI", "SUBNET", "MTU", "ENDPOINTS", "SCOPE")

network = Group(
    "network",
    help="The networks of the cluster. A network is named by its name, by NAME~ID4 where two have one name, or by the "
    "beginning of its id (4 digits or more).",
    examples=["vxlanu network create demonet --subnet 192.168.0.0/24", "vxlanu network ls"],
)


def pairs(shape: str) -> Callable[[click.Context, click.Parameter, Sequence[str]], dict[str, str]]:
    """A callback that reads KEY=VALUE options; a key said twice is a mistake, not an overwrite."""

    def callback(_context: click.Context, parameter: click.Parameter, said: Sequence[str]) -> dict[str, str]:
        read: dict[str, str] = {}
        for text in said:
            key, sign, value = text.partition("=")
            if not key or not sign:
                raise click.BadParameter(f"{text!r} is not {shape}", param=parameter)
            if key in read:
                raise click.BadParameter(f"{key!r} is given twice", param=parameter)
            read[key] = value
        return read

    return callback


@network.verb(
    "create",
    examples=[
        "vxlanu network create demonet --subnet 192.168.0.0/24 --vni 256",
        "vxlanu network create blue --ipv6 --internal --label team=db",
    ],
)
@click.argument("name")
@click.option("--subnet", "subnets", multiple=True, metavar="CIDR", help="May be repeated.  [a free /24 of 10.0.0.0/8]")
@click.option("--gateway", "gateways", multiple=True, metavar="IP", help="One per subnet.  [its first address]")
@click.option(
    "--ip-range",
    multiple=True,
    metavar="CIDR",
    callback=lambda _context, _parameter, said: ",".join(said),
    help="Give out addresses of this part of its subnet only; repeatable.",
)
@click.option(
    "--aux",
    multiple=True,
    metavar="NAME=IP",
    callback=pairs("NAME=IP"),
    help="An address never to give out; repeatable.",
)
@click.option("--vni", type=click.IntRange(1, VNI_MAX), metavar="N", help="1 to 16777215.  [from the id]")
@click.option(
    "--mtu", type=click.IntRange(MTU_MIN, MTU_MAX), metavar="N", help="68 to 65535.  [1450, or 1430 over IPv6]"
)
@click.option("--ipv6", is_flag=True, help="Also give out IPv6 addresses.")
@click.option("--internal", is_flag=True, help="No way out of the network.")
@click.option(
    "--ipam",
    type=click.Choice(["strict", "available"]),
    default="strict",
    help="strict: never the same address twice; available: under partition addresses go on.  [strict]",
)
@click.option("--vlan", type=click.Choice(["drop", "pass"]), default="drop", help="Inner VLAN tags.  [drop]")
@click.option("--label", "labels", multiple=True, metavar="K=V", callback=pairs("K=V"), help="May be repeated.")
def create(**wanted: object) -> None:
    """Create a network on every host. Prints its id."""
    said = msgspec.convert(wanted, NetworkCreate)
    reply = client(f"creating {said.name}").network_create(said)
    show(reply, lambda made: [made.id[:ID_SHOWN]])


def _filters(function: Callable[..., object]) -> Callable[..., object]:
    return click.option(
        "--filter",
        "filters",
        multiple=True,
        metavar="KEY=VALUE",
        help="Only those with this label (label=K, label=K=V, label!=...), name (a part of it), id, vni, scope, state "
        "or dangling (true: without endpoints). Different keys must all hold; repeatable.",
    )(function)


@network.verb(
    "ls",
    examples=[
        "vxlanu network ls",
        "vxlanu network ls --format name,vni,subnets",
        "vxlanu network ls --filter label=team=db --filter dangling=true",
    ],
)
@_filters
@list_options(Network)
def ls(filters: Sequence[str]) -> None:
    """List the networks."""
    show_list(lambda: client().networks(filters), draw_networks)


def draw_networks(found: Items[Network]) -> Iterator[str]:
    """The state has a column only when some network's is worth a word."""
    all_active = all(n.state == "active" for n in found.items)
    header = HEADER if all_active else (*HEADER, "STATE")
    rows = [
        (n.id[:ID_SHOWN], n.name, n.vni or "-", ",".join(n.subnets), n.mtu, n.endpoints, n.scope, n.state)
        for n in found.items
    ]
    return table(header, [row[: len(header)] for row in rows])


@network.verb("inspect", examples=["vxlanu network inspect demonet", "vxlanu network inspect 3fa9 --json"])
@click.argument("network", shell_complete=complete.networks)
def inspect(network: str) -> None:
    """Show one network whole. What it was created with, its hosts and its endpoints."""
    show(client().network(network), draw_network)


def draw_network(n: NetworkDetail) -> Iterator[str]:
    yield from block(
        "network",
        n.name,
        [
            ("id", n.id),
            ("state", f"{n.state} with {n.conflict_with}" if n.conflict_with else n.state),
            ("scope", n.scope if n.scope != "global" else ""),
            ("vni", str(n.vni or "")),
            ("mtu", str(n.mtu)),
            ("subnet", ", ".join(n.subnets)),
            ("gateway", ", ".join(n.gateways)),
            ("ip-range", n.ip_range),
            ("aux", ", ".join(f"{name}={address}" for name, address in n.aux.items())),
            ("ipv6", "yes" if n.ipv6 else "no"),
            ("internal", "yes" if n.internal else "no"),
            ("ipam", n.ipam),
            ("vlan", n.vlan),
            ("label", ", ".join(f"{key}={value}" for key, value in n.labels.items())),
            ("created by", n.created_by),
            ("hosts", ", ".join(n.hosts)),
            ("options", ", ".join(f"{key}={value}" for key, value in n.options.items())),
            ("ports", "; ".join(n.ports)),
        ],
    )
    if n.members:
        yield ""
        rows = [(e.name, ",".join(e.addresses), e.mac, e.node, state(e)) for e in n.members]
        yield from table(("ENDPOINT", "ADDRESS", "MAC", "NODE", "STATE"), rows)


@network.verb("rm", examples=["vxlanu network rm demonet"])
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...", shell_complete=complete.networks)
def rm(networks: Sequence[str]) -> None:
    """Remove networks, one after the other. Prints each that is gone and stops at the first that is not."""
    for ref in networks:
        reply = client(f"removing {ref}").network_remove(ref)
        show(reply, lambda gone: [gone.name])


@network.verb(
    "prune", examples=["vxlanu network prune", "vxlanu network prune --filter label=ci", "vxlanu network prune --yes"]
)
@_filters
@click.option("--yes", "--force", "-f", is_flag=True, help="Do not ask.")
def prune(filters: Sequence[str], yes: bool) -> None:
    """Remove every network in which no host has an endpoint. Prints their names; asks before, on a terminal."""
    if not yes:
        unused = [n.name for n in client().networks([*filters, "dangling=true"]).value.items if n.scope == "global"]
        if not unused:
            return
        if not agreed("network prune", f"remove {', '.join(unused)}"):
            return
    show(client("removing networks").network_prune(filters), lambda gone: [n.name for n in gone.items])
