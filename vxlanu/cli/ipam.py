"""`vxlanu ipam`: addresses, who hands them out, and how many are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from vxlanu.api.schema import AddressBlock, AddressPool, Items, Reclaim, Reclaimed
from vxlanu.cli import complete
from vxlanu.cli.asking import agreed
from vxlanu.cli.command import Group, client, show
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.render import bold, count, printable, table

__all__ = ["ipam"]

HEADER = ("BLOCK", "HOLDER", "STATE", "USED", "USABLE", "LENT")
BAR = 20

ipam = Group(
    "ipam",
    help="Addresses. A member hands out from the blocks that it holds, and lends a single address to another member.",
    examples=["vxlanu ipam show", "vxlanu ipam show demonet", "vxlanu ipam reclaim h3 --dry-run"],
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
        away = {block.holder: block.holder_state for block in pool.blocks if block.reclaimable}
        for holder, state in sorted(away.items()):
            yield f"  {printable(holder)} is {state}; if it never comes back: vxlanu ipam reclaim {printable(holder)}"
        if pool.unused:
            yield f"  leased here to nothing: {', '.join(pool.unused)}; vxlanu ipam reclaim"


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


@ipam.verb(
    "reclaim",
    examples=["vxlanu ipam reclaim --dry-run", "vxlanu ipam reclaim h3 --dry-run", "vxlanu ipam reclaim h3 --yes"],
)
@click.argument("members", nargs=-1, metavar="[MEMBER]...", shell_complete=complete.members)
@click.option("--dry-run", "-n", is_flag=True, help="Say what it would do, and do nothing.")
@click.option("--yes", "--force", "-f", is_flag=True, help="Do not ask.")
def reclaim(members: Sequence[str], dry_run: bool, yes: bool) -> None:
    """Take back the addresses of members that are gone for good. Says what it took; asks before, on a terminal.

    A dead MEMBER must be named: it may be cut off and in use. Then all of it is forgotten, its endpoints too, as by
    `vxlanu member forget`; should it come back, it holds no block, and of two containers with one address its own
    loses. Without MEMBER: members that left, were dead for 72 hours or were replaced, and what this host itself has
    leased to nothing. Refused for a member that answers, and on a host that sees only a minority.
    """
    if dry_run or not yes:
        found = client().reclaim(Reclaim(list(members), dry_run=True))
        if dry_run or not found.value.items:
            show(found, lambda rows: draw_reclaimed(rows, "would reclaim"))
            return
        if not agreed("ipam reclaim", f"reclaim {_summary(found.value)}", "--dry-run, then --yes"):
            return
    show(client("reclaiming").reclaim(Reclaim(list(members))), lambda rows: draw_reclaimed(rows, "reclaimed"))


def draw_reclaimed(found: Items[Reclaimed], verb: str) -> Iterator[str]:
    """A line for each block or address."""
    if not found.items:
        yield "nothing to reclaim"
    for row in found.items:
        of = f"leased by {row.holder} to nothing" if row.state == "unused" else f"{row.state} by {row.holder}"
        if row.state == "lent":
            of = f"lent to {row.holder}"
        away = "" if row.state == "unused" else f", which is {row.holder_state}"
        used = f"; {row.used} in use there" if row.used else ""
        yield printable(f"{verb} {row.prefix} of {row.network}: {of}{away}{used}")


def _summary(found: Items[Reclaimed]) -> str:
    """What is to go, in a line."""
    names = ", ".join(sorted({row.holder for row in found.items}))
    used = sum(row.used for row in found.items)
    return printable(f"what {names} has ({count(len(found.items), 'block')} or addresses, {used} in use)")
