"""What the data plane holds and counts: `fdb show`, `neighbor show`, `drops`, `stats`, `verify`.

Rules of this file
  1. `fdb show` and `neighbor show` speak the grammar of `bridge fdb show` and `ip neigh show`: keyword and value, `dev`
     (here the network) left out when one network was asked for. What those tools do not have stands after it in the
     same grammar: endpoint, node, origin. So a habit, a grep or an awk from there works here.
  2. `verify` prints nothing when all is well; any line is a difference, and the exit code is 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import click

from vxlanu.api.schema import Counters, Drop, FdbEntry, Items, Neighbor, Verify
from vxlanu.cli import complete
from vxlanu.cli.command import Command, Group, client, show
from vxlanu.cli.endpoint import draw_drops
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.render import age, count, printable, size, table
from vxlanu.errors import AnswerIsNo

__all__ = ["drops", "fdb", "neighbor", "stats", "verify"]

fdb = Group("fdb", help="The forwarding database: where each MAC is.", examples=["vxlanu fdb show demonet"])
neighbor = Group(
    "neighbor",
    help="The neighbours this host answers ARP and ND for: which MAC each address has.",
    examples=["vxlanu neighbor show demonet"],
)


def _words(pairs: Iterable[tuple[str, str]]) -> str:
    """`keyword value` for what has a value."""
    return "".join(f" {keyword} {printable(value)}" for keyword, value in pairs if value)


@fdb.verb("show", examples=["vxlanu fdb show", "vxlanu fdb show demonet --watch"])
@list_options(FdbEntry)
@click.argument("network", required=False, default="", shell_complete=complete.networks)
def fdb_show(network: str) -> None:
    """Show the FDB as bridge(8) does: MAC, network (dev), VTEP (dst), then endpoint, node, origin."""
    show_list(lambda: client().fdb(network), lambda found: (fdb_line(e, dev=not network) for e in found.items))


def fdb_line(e: FdbEntry, *, dev: bool) -> str:
    """As in bridge(8) `permanent` is what nobody learned; `age` is of what was."""
    place = [("dev", e.network if dev else ""), ("dst", "" if e.local else e.vtep)]
    lasting = " local permanent" if e.local else " self permanent" if e.origin == "record" else " self"
    known = [("age", "" if e.age_s is None else age(e.age_s)), ("endpoint", e.endpoint), ("node", e.node)]
    return e.mac + _words(place) + lasting + _words([*known, ("origin", e.origin)])


@neighbor.verb("show", examples=["vxlanu neighbor show", "vxlanu neighbor show demonet --format address,mac"])
@list_options(Neighbor)
@click.argument("network", required=False, default="", shell_complete=complete.networks)
def neighbor_show(network: str) -> None:
    """Show the neighbours as ip-neighbour(8) does: address, network (dev), MAC (lladdr), state, then endpoint, node."""
    show_list(
        lambda: client().neighbors(network),
        lambda found: (neighbor_line(n, dev=not network) for n in found.items),
    )


def neighbor_line(n: Neighbor, *, dev: bool) -> str:
    place = [("dev", n.network if dev else ""), ("lladdr", n.mac)]
    return f"{n.address}{_words(place)} {n.state.upper()}" + _words([("endpoint", n.endpoint), ("node", n.node)])


@click.command("drops", cls=Command, examples=["vxlanu drops", "vxlanu drops --watch"])
@list_options(Drop)
def drops() -> None:
    """Show the frames that were not delivered, each under one reason. With --watch also how many a second."""
    seen = Rates()
    show_list(client().drops, seen.draw)


class Rates:
    """Draws drops, and from the second time on how fast each grew since the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[tuple[str, str, str, str], int] = {}
        self._at: float | None = None

    def draw(self, found: Items[Drop]) -> Iterator[str]:
        now, counted = self._clock(), {(d.reason, d.scope, d.name, d.network): d.frames for d in found.items}
        rates = None
        if self._at is not None and now > self._at:
            gone = now - self._at
            rates = [round((frames - self._before.get(key, 0)) / gone) for key, frames in counted.items()]
        self._before, self._at = counted, now
        return draw_drops(found.items, rates)


@click.command("stats", cls=Command, examples=["vxlanu stats", "vxlanu stats --watch"])
@list_options(Counters)
def stats() -> None:
    """Show traffic of host, networks, endpoints and VTEPs, as each of them sees it."""
    show_list(client().stats, draw_stats)


STATS = ("SCOPE", "NAME", "NETWORK", "SENT", "FRAMES", "RECEIVED", "FRAMES", "ENCAP", "DECAP", "FLOODED")
ANSWERS = ("ARP", "ND", "ARP/ND-OUT", "DROPPED")


def draw_stats(found: Items[Counters]) -> Iterator[str]:
    return table((*STATS, *ANSWERS), [_stats_row(c) for c in found.items])


def _stats_row(c: Counters) -> Sequence[str | int]:
    sent = (size(c.sent_bytes), c.sent_frames)
    received = (size(c.received_bytes), c.received_frames)
    tunnel = (c.encapsulated_frames, c.decapsulated_frames, c.flooded_frames)
    answered = (c.arp_answered, c.nd_answered, c.arp_nd_underlay, c.dropped_frames)
    return (c.scope, c.name, c.network, *sent, *received, *tunnel, *answered)


@click.command("verify", cls=Command, examples=["vxlanu verify && echo in order"])
def verify() -> None:
    """Compare what is programmed with what the records say: prints every difference, nothing when there is none.

    Exit code 1 when there are differences.
    """
    reply = client("verifying").verify()
    show(reply, draw_verify)
    wrong = len(reply.value.differences)
    if wrong:
        why = f"{count(wrong, 'difference')} in {count(reply.value.checked, 'key')}"
        raise AnswerIsNo("verify", why, name="differences", hint="vxlanu verify again; if they stay, restart the agent")


def draw_verify(answer: Verify) -> Iterator[str]:
    if answer.differences:
        rows = [(d.network, d.table, d.key, d.programmed, d.expected) for d in answer.differences]
        yield from table(("NETWORK", "TABLE", "KEY", "PROGRAMMED", "EXPECTED"), rows)
