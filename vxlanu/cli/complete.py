"""Live names for the shell: networks, endpoints, members, targets.

Rules of this file
  1. A completion never speaks: with the agent away, slow or refusing there are simply no names.
  2. It waits a tenth of a second at most; a person is between two keystrokes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from vxlanu.cli.command import SOCKET, Completer
from vxlanu.errors import VxlanuError

if TYPE_CHECKING:
    from vxlanu.api.client import Client
    from vxlanu.api.schema import Endpoint

__all__ = [
    "attached_targets",
    "captured",
    "endpoints",
    "keys",
    "local_endpoints",
    "members",
    "names",
    "networks",
    "targets",
    "vteps",
]

TIMEOUT_S = 0.1
NETNS = Path("/run/netns")

Names = Iterable[tuple[str, str]]
"""(name, what the shell may show beside it)"""


def _completer(names: Callable[[Client, click.Context], Names]) -> Completer:
    def complete(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        from vxlanu.api.client import Client

        asked = Client(context.meta.get(SOCKET, ""), timeout_s=TIMEOUT_S)
        try:
            found = dict(names(asked, context))
        except (VxlanuError, OSError):
            return []
        return [CompletionItem(name, help=help_) for name, help_ in sorted(found.items()) if name.startswith(typed)]

    return complete


def _networks(asked: Client, _context: click.Context) -> Names:
    return [(n.name, f"vni {n.vni} {' '.join(n.subnets)}") for n in asked.networks().value.items]


def _endpoints(asked: Client, _context: click.Context) -> Names:
    """A name that two networks use is offered with its network, which is how it must be said."""
    return [(name, f"{' '.join(e.addresses)} on {e.node}") for name, e in _references(asked)]


def _references(asked: Client) -> list[tuple[str, Endpoint]]:
    found = asked.endpoints().value.items
    used = Counter(e.name for e in found)
    return [(e.name if used[e.name] == 1 else f"{e.name}.{e.network}", e) for e in found]


def _names(asked: Client, _context: click.Context) -> Names:
    """Names and aliases, as a container would ask for them."""
    return [(name, f"{' '.join(e.addresses)} in {e.network}") for e in asked.endpoints().value.items
            for name in (e.name, *e.aliases)]  # fmt: skip


def _local_endpoints(asked: Client, _context: click.Context) -> Names:
    return [(name, f"{' '.join(e.addresses)} in {e.network}") for name, e in _references(asked) if e.local]


def _members(asked: Client, _context: click.Context) -> Names:
    return [(m.name, f"{m.state} {m.address}") for m in asked.members().value.items]


def _targets(_asked: Client, _context: click.Context) -> Names:
    """What may be attached: the namespaces of ip-netns(8), which no agent has to be asked for."""
    return [(entry.name, "") for entry in NETNS.iterdir()]


def _attached(asked: Client, context: click.Context) -> Names:
    network = context.params.get("network") or ""
    return [(e.target, e.name) for e in asked.endpoints(network).value.items if e.local]


def _vteps(asked: Client, context: click.Context) -> Names:
    network = context.params.get("network")
    return [(v.address, v.kind) for v in asked.vteps().value.items if v.kind == "static" and network in v.networks]


def _keys(asked: Client, context: click.Context) -> Names:
    """Whole keys: the shell shows what begins as typed."""
    return [(name, "") for name in asked.key_names("").value]


def _captured(asked: Client, context: click.Context) -> Names:
    """What a capture can be of: endpoints of this host, networks, other hosts."""
    return [*_members(asked, context), *_networks(asked, context), *_local_endpoints(asked, context)]


captured = _completer(_captured)
keys = _completer(_keys)
networks = _completer(_networks)
endpoints = _completer(_endpoints)
local_endpoints = _completer(_local_endpoints)
members = _completer(_members)
names = _completer(_names)
targets = _completer(_targets)
attached_targets = _completer(_attached)
vteps = _completer(_vteps)
