"""`vxlanu attach`, `detach` and `endpoint`: interfaces of containers in networks.

Rules of this file
  1. A target is passed on as it was typed: the agent, which may live in another mount namespace, resolves it.
  2. `attach` prints one line, name, address, MAC, interface, in that order for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import msgspec

from vxlanu.api.schema import Attach, Drop, Endpoint, EndpointDetail, EndpointRoute, Items, WayOut
from vxlanu.cli import complete
from vxlanu.cli.command import Command, Group, client, show
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.render import age, block, size, table

__all__ = ["attach", "detach", "draw_drops", "endpoint", "state"]

ID_SHOWN = 12
HEADER = ("ENDPOINT ID", "NAME", "NETWORK", "ADDRESS", "MAC", "NODE", "TARGET", "STATE")


@click.command(
    "attach",
    cls=Command,
    examples=[
        "vxlanu attach demonet c0 --ip 192.168.0.100 --name C0",
        "vxlanu attach demonet pid:4711 --alias db --alias db.local",
        "vxlanu attach demonet web --publish 8080:80 --publish 127.0.0.1:5353:53/udp",
    ],
)
@click.argument("network", shell_complete=complete.networks)
@click.argument("target", shell_complete=complete.targets)
@click.option("--ip", default="", metavar="IP", help="A fixed IPv4 address.  [the next free one]")
@click.option("--ip6", default="", metavar="IP", help="A fixed IPv6 address.")
@click.option("--mac", default="", metavar="MAC", help="[02:42 and the IPv4 address]")
@click.option("--name", default="", metavar="NAME", help="Unique in the network.  [from the target]")
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="A further name; may be repeated.")
@click.option("--ifname", default="", metavar="IF", help="Interface in the container.  [lowest free ethN]")
@click.option("--allow-spoof", is_flag=True, help="Let it send from any MAC and address.")
@click.option(
    "--allow-address", "allow_addresses", multiple=True, metavar="CIDR", help="Let it also use these addresses."
)
@click.option(
    "--publish", multiple=True, metavar="[IP:]HOST:PORT", help="Lead a port of the host to it; /udp behind for UDP."
)
@click.option("--take-over", is_flag=True, help="Take the fixed address from a dead host's endpoint.")
def attach(**wanted: object) -> None:
    """Give TARGET an interface in NETWORK. Prints name, address, MAC and interface.

    TARGET is the name of a network namespace (ip netns), a /path to one, pid:N, docker:NAME or podman:NAME.
    """
    said = msgspec.convert(wanted, Attach)
    reply = client(f"attaching {said.target} to {said.network}").attach(said)
    show(reply, lambda made: [f"{made.name} {','.join(made.addresses)} {made.mac} {made.ifname}"])


@click.command("detach", cls=Command, examples=["vxlanu detach demonet c0"])
@click.argument("network", shell_complete=complete.networks)
@click.argument("target", shell_complete=complete.attached_targets)
def detach(network: str, target: str) -> None:
    """Take TARGET's interface in NETWORK away. Prints the endpoint's name."""
    reply = client(f"detaching {target} from {network}").detach(network, target)
    show(reply, lambda gone: [gone.name])


endpoint = Group(
    "endpoint",
    help="The endpoints of the cluster. One is named by NAME, NAME.NETWORK, 4 or more digits of its id, IP or MAC.",
    examples=["vxlanu endpoint ls demonet", "vxlanu endpoint inspect C0"],
)


@endpoint.verb("ls", examples=["vxlanu endpoint ls demonet --watch", "vxlanu endpoint ls --format name,addresses,node"])
@list_options(Endpoint)
@click.argument("network", required=False, default="", shell_complete=complete.networks)
def ls(network: str) -> None:
    """List the endpoints, of one network or of all."""
    show_list(lambda: client().endpoints(network), draw_endpoints)


def draw_endpoints(found: Items[Endpoint]) -> Iterator[str]:
    rows = [
        (e.id[:ID_SHOWN], e.name, e.network, ",".join(e.addresses), e.mac, e.node, e.target, state(e))
        for e in found.items
    ]
    return table(HEADER, rows)


def state(e: Endpoint) -> str:
    """`down 12s`: since when its host is dead."""
    return e.state if e.down_s is None else f"{e.state} {age(e.down_s)}"


@endpoint.verb("inspect", examples=["vxlanu endpoint inspect C0", "vxlanu endpoint inspect 192.168.0.100 --json"])
@click.argument("endpoint", shell_complete=complete.endpoints)
def inspect(endpoint: str) -> None:
    """Show one endpoint whole. Its interface and counters are known on its own host only."""
    show(client().endpoint(endpoint), draw_endpoint)


def draw_endpoint(e: EndpointDetail) -> Iterator[str]:
    c = e.counters
    yield from block(
        "endpoint",
        f"{e.name}.{e.network}",
        [
            ("id", e.id),
            ("state", state(e)),
            ("address", ", ".join(e.addresses)),
            ("mac", e.mac),
            ("alias", ", ".join(e.aliases)),
            ("node", f"{e.node} (vtep {e.vtep}{', this host' if e.local else ''})"),
            ("target", e.target),
            ("mtu", str(e.mtu)),
            ("interface", _interface(e)),
            ("interface has", ", ".join(_beside_the_record(e))),
            ("routes", "; ".join(_route(route) for route in e.routes)),
            ("way out", _way_out(e.egress)),
            ("netns", f"{e.netns_path} (inode {e.netns_inode})" if e.netns_inode else ""),
            ("allowed", "any address (--allow-spoof)" if e.allow_spoof else ", ".join(e.allow_addresses)),
            ("sent", f"{size(c.sent_bytes)} in {c.sent_frames} frames" if c else ""),
            ("received", f"{size(c.received_bytes)} in {c.received_frames} frames" if c else ""),
            ("answered", f"{c.arp_answered} ARP, {c.nd_answered} ND" if c else ""),
        ],
    )
    if e.drops:
        yield ""
        yield from draw_drops(e.drops)


def _interface(e: EndpointDetail) -> str:
    """Both ends: the interface in the container, the port of the switch."""
    if not e.ifname:
        return ""
    port = "" if e.port_index is None else f", port {e.port_index}"
    mtu = f" mtu {e.interface_mtu}" if e.interface_mtu else ""
    return f"{e.ifname} (index {e.ifindex}{port}) {e.interface_state}{mtu}".rstrip()


def _beside_the_record(e: EndpointDetail) -> Iterator[str]:
    """Addresses of the interface that somebody in the container gave it; its own fe80:: is a matter of course."""
    for address in e.interface_addresses:
        if address not in e.addresses and not address.startswith("fe80:"):
            yield f"{address} (not of the record)"


def _way_out(way: WayOut | None) -> str:
    """The interface to the outside, and what leads in."""
    if way is None:
        return ""
    ports = f", published {' '.join(way.published)}" if way.published else ""
    return f"{way.ifname} {way.address} via {way.gateway}{ports}"


def _route(route: EndpointRoute) -> str:
    words = (("via", route.gateway), ("src", route.source), ("metric", str(route.metric or "")))
    return route.destination + "".join(f" {word} {value}" for word, value in words if value)


def draw_drops(drops: Sequence[Drop], rates: Sequence[int] | None = None) -> Iterator[str]:
    """The table of `vxlanu drops`, also under an endpoint; `rates`: frames a second, one for each."""
    place = ("SCOPE", "NAME", "NETWORK", "MEANING")
    if rates is None:
        rows: list[tuple[str | int, ...]] = [(d.reason, d.frames, d.scope, d.name, d.network, d.text) for d in drops]
        return table(("REASON", "FRAMES", *place), rows)
    grown = [
        (d.reason, d.frames, rate, d.scope, d.name, d.network, d.text) for d, rate in zip(drops, rates, strict=True)
    ]
    return table(("REASON", "FRAMES", "PER-SECOND", *place), grown)
