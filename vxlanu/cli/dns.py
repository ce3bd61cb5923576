"""`vxlanu dns`: what a container is told of a name, and who says so."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem

from vxlanu.api.schema import NameAnswer, NameRecord
from vxlanu.cli import complete
from vxlanu.cli.command import Group, client, show
from vxlanu.cli.render import table
from vxlanu.errors import AnswerIsNo

__all__ = ["dns"]

TYPES = ("A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT")

dns = Group(
    "dns",
    help="Names, as the containers of a network find them. vxlanu help names says which there are.",
    examples=["vxlanu dns query C0", "vxlanu dns query www.example.org --network demonet"],
)


def _types(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in TYPES if name.startswith(typed.upper())]


@dns.verb(
    "query",
    examples=["vxlanu dns query C0", "vxlanu dns query 192.168.0.100", "vxlanu dns query C0.demonet --type AAAA"],
)
@click.argument("name", shell_complete=complete.names)
@click.option("--type", "rtype", default="", metavar="TYPE", shell_complete=_types,
              help="[A and AAAA, of an address PTR]")  # fmt: skip
@click.option("--network", default="", metavar="NETWORK", shell_complete=complete.networks,
              help="As a container of this network.  [the one that knows NAME]")  # fmt: skip
def query(name: str, rtype: str, network: str) -> None:
    """Ask for NAME as a container would, and say who answers.

    FROM names the endpoint whose record or alias it is, or the resolver of this host that was asked. Exit code 1 when
    there is no such name, or nothing of that type, with the reason.
    """
    reply = client(f"asking for {name}").dns_query(name, rtype, network)
    show(reply, _draw)
    if not reply.value.records:
        answer = reply.value
        raise AnswerIsNo(f"{name} in {answer.network}", f"{answer.rcode}: {answer.why}", name=f"dns_{answer.source}")


def _draw(answer: NameAnswer) -> Iterator[str]:
    rows = [(it.name, it.type, it.value, it.ttl_s, _source(answer, it)) for it in answer.records]
    return table(("NAME", "TYPE", "VALUE", "TTL", "FROM"), rows) if rows else iter(())


def _source(answer: NameAnswer, it: NameRecord) -> str:
    """`record of C0 on h2`, `forwarded to 192.0.2.53`."""
    if answer.resolver:
        return f"forwarded to {answer.resolver}"
    return f"{answer.source} of {it.endpoint} on {it.node}"
