"""`vxlanu ipam`: addresses, who hands them out, and how many are left."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vxlanu.api.schema import AddressBlock, AddressPool, Items
from vxlanu.cli import complete
from vxlanu.cli.command import Group, client
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.render import bold, printable, table

__all__ = ["ipam"]

HEADER = ("BLOCK", "HOLDER", "STATE", "USED", "USABLE", "LENT")
BAR = 20

ipam = Group(
    "ipam",
    help="Addresses. A member hands out from the blocks that it holds, and lends a single address to another member.",
    examples=["vxlanu ipam show", "vxlanu ipam show demonet"],
)


@ipam.verb("show", examples=["vxlanu ipam show", "vxlanu ipam show demonet", "vxlanu ipam show demonet --json"])
@click.argument("network", required=False, default="", shell_complete=complete.networks)
@list_options(AddressPool)
def show_pools(network: str) -> None:
    """Show the subnets of NETWORK, or of all: what is in use, reserved, lent, and who holds which block."""
    show_list(lambda: client().pools(network), draw_pools)


def draw_pools(found: Items[AddressPool]) -> Iterator[str]:
    """A paragraph a subnet."""
    for number, pool in enumerate(found.items):
        if number:
            yield ""
        yield f"{bold(printable(pool.network))} {pool.subnet}: {_filled(pool)}"
        for name, value in (("range", ", ".join(pool.ip_ranges)), *pool.reserved.items()):
            if value:
                yield f"  {printable(name)}: {value}"
        if pool.blocks:
            yield from (f"  {line}" for line in table(HEADER, [_row(block) for block in pool.blocks]))


def _filled(pool: AddressPool) -> str:
    """How full it is, in words and as a bar; an IPv6 subnet has no end that could come near."""
    if pool.usable is None:
        return f"{pool.used} used"
    filled = min(BAR, -(-pool.used * BAR // pool.usable)) if pool.usable else BAR
    left = f", {pool.unclaimed} in no block yet" if pool.unclaimed else ""
    return f"[{'#' * filled}{'.' * (BAR - filled)}] {pool.used} of {pool.usable} used{left}"


def _row(block: AddressBlock) -> tuple[str | int, ...]:
    away = "" if block.holder_state == "alive" else f" {block.holder_state}"
    lent = ", ".join(f"{address} to {member}" for address, member in block.lent.items())
    usable = "" if block.usable is None else str(block.usable)
    return block.prefix, block.holder, f"{block.state}{away}", block.used, usable, lent
