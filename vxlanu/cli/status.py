"""`vxlanu status`: this agent in a dozen lines, in the manner of wg(8), warnings last.

Rules of this file
  1. Facts first, judgements last: a warning is a line of its own at the end, where a person stops reading.
"""

from __future__ import annotations

from collections.abc import Iterator

from vxlanu.api.schema import Status
from vxlanu.cli.command import Command, client, show
from vxlanu.cli.render import age, block, count, printable

__all__ = ["show_status", "status"]

NO_KEY = "none: the control channel is clear"


def show_status() -> None:
    """Show this host's agent: who it is, whom it sees, what it carries."""
    show(client().status(), draw_status)


def draw_status(s: Status) -> Iterator[str]:
    yield from block(
        "node",
        s.name,
        [
            ("id", s.id),
            ("state", s.state),
            ("up", f"{age(s.uptime_s)} (epoch {s.epoch})"),
            ("address", f"{s.advertise} (control {s.control_port}, data {s.data_port})"),
            ("key", "yes" if s.keyed else NO_KEY),
            ("data plane", f"{count(s.workers, 'worker')}, offload {s.offload.replace(',', ' ')}"),
            ("offload not used", "; ".join(f"{it.name}: {printable(it.why)}" for it in s.offloads if not it.in_use)),
            ("agent", f"{s.version}, pid {s.pid}, socket {s.socket}, state {s.state_dir}"),
            ("malformed control datagrams", str(s.malformed_control or "")),
            ("control datagrams of another key", str(s.wrong_key or "")),
        ],
    )
    yield ""
    members = ", ".join(f"{number} {state}" for state, number in s.members.items() if number) or "none"
    yield from block("members", members, [])
    yield from block("networks", str(s.networks), [])
    yield from block("endpoints", f"{s.endpoints} ({s.local_endpoints} here)", [])
    if s.names and s.names.networks:
        told = {"answered": s.names.answered, "forwarded": s.names.forwarded, "refused": s.names.refused,
                "failed": s.names.failed, "malformed": s.names.malformed, "limited": s.names.limited}  # fmt: skip
        asked = ", ".join(f"{number} {what}" for what, number in told.items() if number) or "no questions yet"
        yield from block("names", f"{count(s.names.networks, 'network')}, {asked}", [])
    if s.warnings:
        yield ""
        for warning in s.warnings:
            yield f"warning: {printable(warning)}"


status = Command("status", callback=show_status, help=show_status.__doc__, examples=["vxlanu status"])
