"""`vxlanu` alone: what `wg show` is for a WireGuard host. The node, its networks, its tunnels; warnings last.

Rules of this file
  1. What is nothing is not shown: no drops line without drops, no transfer without traffic.
  2. Transfer is told from this host's side: received is what came through the tunnel to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vxlanu.api.schema import Counters, Overlay, Overview, Tunnel
from vxlanu.cli.command import client, show
from vxlanu.cli.member import address
from vxlanu.cli.render import age, alarm, block, bold, count, printable, size
from vxlanu.cli.status import NO_KEY

__all__ = ["draw_overview", "show_overview"]

NAMES_SHOWN = 8


def show_overview() -> None:
    """Show the networks and tunnels of this host."""
    show(client().overview(), draw_overview)


def draw_overview(o: Overview) -> Iterator[str]:
    members = ", ".join(f"{number} {state}" for state, number in o.members.items() if number) or "none"
    yield from block(
        "node",
        o.name,
        [
            ("address", address(o.advertise, o.data_port)),
            ("up", age(o.uptime_s)),
            ("members", members),
            ("key", "" if o.keyed else NO_KEY),
            ("offload", o.offload.replace(",", " ")),
        ],
    )
    for overlay in o.overlays:
        yield ""
        yield from _overlay(overlay)
    for tunnel in o.tunnels:
        yield ""
        yield from _tunnel(tunnel)
    if o.warnings:
        yield ""
        for warning in o.warnings:
            yield alarm(f"warning: {printable(warning)}")


def _overlay(overlay: Overlay) -> Iterator[str]:
    n = overlay.network
    where = f"{n.endpoints} on {count(overlay.hosts, 'host')}" if n.endpoints else "none"
    drops = ", ".join(f"{d.reason} {d.frames}" for d in overlay.drops)
    yield from block(
        "network",
        n.name,
        [
            ("state", "" if n.state == "active" else n.state),
            ("vni", str(n.vni)),
            ("subnet", ", ".join(n.subnets)),
            ("mtu", str(n.mtu)),
            ("endpoints", f"{where}; here {_some(overlay.local)}" if overlay.local else where),
            ("transfer", _transfer(overlay.counters, ours=True)),
        ],
    )
    if drops:
        yield f"  {bold('drops')}: {alarm(drops)}"


def _some(names: Sequence[str]) -> str:
    """Those that a line has room for; all of them are in `vxlanu endpoint ls`."""
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def _tunnel(tunnel: Tunnel) -> Iterator[str]:
    v, last = tunnel.vtep, tunnel.last_traffic_s
    yield from block(
        "vtep",
        address(v.address, v.port),
        [
            ("node", v.node or f"none ({v.kind})"),
            ("state", "" if v.state in ("alive", "static") else v.state),
            ("networks", ", ".join(v.networks)),
            ("path mtu", str(v.path_mtu or "")),
            ("latest traffic", "none yet" if last is None else "now" if last < 1 else f"{age(last)} ago"),
            ("transfer", _transfer(tunnel.counters, ours=False)),
        ],
    )


def _transfer(c: Counters | None, *, ours: bool) -> str:
    """`ours`: counters of this host's own endpoints; those of a VTEP are told from its side, and turned round here."""
    if c is None or not (c.sent_bytes or c.received_bytes):
        return ""
    received, sent = (c.received_bytes, c.sent_bytes) if ours else (c.sent_bytes, c.received_bytes)
    return f"{size(received)} received, {size(sent)} sent"
