"""`vxlanu netns`: the namespaces of this host that could be targets, and what is attached to them.

Rules of this file
  1. TARGET is what `vxlanu attach NETWORK` takes.
"""

from __future__ import annotations

from collections.abc import Iterator

from vxlanu.api.schema import Items, Namespace
from vxlanu.cli.command import Group, client
from vxlanu.cli.listing import list_options, show_list
from vxlanu.cli.render import table

__all__ = ["netns"]

HEADER = ("TARGET", "INODE", "PROCESSES", "PID", "COMMAND", "ENDPOINTS")

netns = Group("netns", help="The network namespaces of this host.", examples=["vxlanu netns ls"])


@netns.verb("ls", examples=["vxlanu netns ls", "vxlanu netns ls --format target,endpoints"])
@list_options(Namespace)
def ls() -> None:
    """List the namespaces that an interface can be given to: those of ip netns, and those of containers."""
    show_list(client().namespaces, draw_namespaces)


def draw_namespaces(found: Items[Namespace]) -> Iterator[str]:
    rows = [
        (n.target, str(n.inode), n.processes, str(n.pid or ""), n.command, ",".join(n.endpoints)) for n in found.items
    ]
    return table(HEADER, rows)
