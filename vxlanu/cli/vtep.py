"""`vxlanu vtep`: tunnel ends, those that gossip and foreign ones (kernel vxlan, OVS, switches).

Rules of this file
  1. `add` prints what the other side has to run, as lines that can be pasted: what is not a command begins with #.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from vxlanu.api.schema import Items, Vtep, VtepAdd, VtepAdded
from vxlanu.cli import complete
from vxlanu.cli.command import Group, client, show
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.member import address
from vxlanu.cli.render import table
from vxlanu.config import split_host_port

__all__ = ["vtep"]

DATA_PORT = 4789
HEADER = ("VTEP", "KIND", "NODE", "STATE", "NETWORKS", "MACS", "PATH-MTU")

vtep = Group(
    "vtep",
    help="Tunnel ends. Members gossip theirs; one that cannot (kernel vxlan, OVS, a switch) is added by hand.",
    examples=["vxlanu vtep ls", "vxlanu vtep add demonet 192.0.2.50"],
)


@vtep.verb("ls", examples=["vxlanu vtep ls", "vxlanu vtep ls --format address,node,path_mtu"])
@list_options(Vtep)
def ls() -> None:
    """List all tunnel ends, gossiped and static."""
    show_list(client().vteps, draw_vteps)


def draw_vteps(found: Items[Vtep]) -> Iterator[str]:
    rows = [
        (
            address(v.address, v.port),
            v.kind,
            v.node,
            v.state,
            ",".join(v.networks),
            ",".join(v.macs),
            str(v.path_mtu or ""),
        )
        for v in found.items
    ]
    return table(HEADER, rows)


@vtep.verb(
    "add",
    examples=["vxlanu vtep add demonet 192.0.2.50", "vxlanu vtep add demonet 192.0.2.50:8472 --mac 02:00:00:00:00:32"],
)
@click.argument("network", shell_complete=complete.networks)
@click.argument("vtep", metavar="IP[:PORT]")
@click.option("--mac", "macs", multiple=True, metavar="MAC", help="A MAC behind it, known from the start; repeatable.")
def add(network: str, vtep: str, macs: Sequence[str]) -> None:
    """Add a foreign tunnel end to NETWORK on every host. Prints the commands for the other side.

    They name the hosts that have containers in NETWORK now; one that joins later needs a `bridge fdb append` line of
    its own there.
    """
    host, port = split_host_port(vtep)
    if not host or (port and not 0 < int(port) < 65536):
        raise click.BadParameter(f"{vtep!r} is not IP, IP:PORT or [IPV6]:PORT", param_hint="'IP[:PORT]'")
    reply = client(f"adding {vtep} to {network}").vtep_add(VtepAdd(network, host, int(port or DATA_PORT), list(macs)))
    show(reply, lambda added: draw_added(network, added))


def draw_added(network: str, added: VtepAdded) -> Iterator[str]:
    yield f"# {address(added.address, added.port)} now serves {network}; on the other side:"
    yield from added.commands
    if any(line.startswith("bridge fdb append") for line in added.commands):
        later = "one that joins later needs a `bridge fdb append` line of its own"
        yield f"# for the hosts of {network} as of now: {later}"


@vtep.verb("rm", examples=["vxlanu vtep rm demonet 192.0.2.50"])
@click.argument("network", shell_complete=complete.networks)
@click.argument("vtep", metavar="IP[:PORT]", shell_complete=complete.vteps)
def rm(network: str, vtep: str) -> None:
    """Take a foreign tunnel end out of NETWORK. Prints its address."""
    reply = client(f"removing {vtep} from {network}").vtep_remove(network, vtep)
    show(reply, lambda gone: [address(gone.address, gone.port)])
