"""`vxlanu link show`: a network as `ip -d link show` would show it, were it a kernel device.

Rules of this file
  1. The grammar is that of ip-link(8): flags, then keyword and value; a line for the device, one for the tunnel, one
     for what ip prints last. The ports stand below as `IFNAME@PORT`, as ip prints the two ends of a pair.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem

from vxlanu.api.schema import Link, LinkPort
from vxlanu.cli import complete
from vxlanu.cli.command import Group, client
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.render import bold, marked, printable

__all__ = ["draw_link", "link"]

link = Group(
    "link",
    help="Networks as devices: what ip -d link shows of a kernel vxlan device.",
    examples=["vxlanu link show demonet"],
)


def _complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    found = complete.networks(context, parameter, typed) + complete.local_endpoints(context, parameter, typed)
    return list({item.value: item for item in found}.values())


@link.verb("show", examples=["vxlanu link show", "vxlanu link show demonet", "vxlanu link show C0 --json"])
@list_options(Link)
@click.argument("link", metavar="[NETWORK|ENDPOINT]", required=False, default="", shell_complete=_complete)
def show(link: str) -> None:
    """Show networks as ip-link(8) shows devices: VNI, local address, ports, MTU, offloads, then this host's TAPs.

    With an endpoint its network and its TAP alone.
    """
    show_list(lambda: client().links(link), lambda found: (line for it in found.items for line in draw_link(it)))


def draw_link(it: Link) -> Iterator[str]:
    flags = ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"] if it.state == "up" else ["BROADCAST", "MULTICAST"]
    yield f"{bold(printable(it.network))}: <{','.join(flags)}> mtu {it.mtu} state {marked(it.state.upper())}"
    ports = f"srcport {it.source_port_min} {it.source_port_max} dstport {it.data_port}"
    switches = {"learning": it.learning, "proxy": it.proxy, "udpcsum": it.udp_checksum}
    said = " ".join(name if on else f"no{name}" for name, on in switches.items())
    yield (
        f"    vxlan id {it.vni} local {it.local} dev {printable(it.dev)} {ports} ttl {it.ttl} tos {it.tos}"
        f" ageing {it.ageing_s} {said} vlan {it.vlan}"
    )
    offloads = " ".join(it.offloads) or "none"
    yield f"    vteps {it.vteps} workers {it.workers} gso_max_size {it.gso_max_bytes} offload {offloads}"
    for port in it.ports:
        yield from _port(port)


def _port(p: LinkPort) -> Iterator[str]:
    port = "-" if p.port_index is None else p.port_index
    flags = {"up": "UP,LOWER_UP", "no carrier": "NO-CARRIER,UP"}.get(p.state, "")
    state = p.state.replace(" ", "-").upper()
    name = printable(f"{p.endpoint}: {p.ifname or 'tap'}@{port}")
    whole = f" mtu {p.mtu} qlen {p.queue_length}" if p.ifindex else ""
    yield f"  {name}: <{flags}>{whole} state {state}"
    if p.ifindex:
        lost = f" ring_full {p.ring_full_frames}" if p.ring_full_frames else ""
        yield (
            f"      link/ether {p.mac} ifindex {p.ifindex} netns {printable(p.target)} queues {p.queues}"
            f" gso_max_size {p.gso_max_bytes}{lost}"
        )
