"""What addresses are called in a capture: endpoints as NAME.NETWORK, VTEPs as their host.

Rules of this file
  1. An address that two networks of the capture use has no name: a file has one name for an address.
  2. Names are told once, and in pieces: a file may begin before ten thousand of them are written.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from vxlanu.capture.wanted import Selection
from vxlanu.control.core.view import EndpointView, View

__all__ = ["Labels", "endpoint_name"]

PIECE = 2000  # names a time, some 100 KB


def endpoint_name(it: EndpointView, networks: Mapping[bytes, str]) -> str:
    """As it is referred to everywhere: NAME.NETWORK."""
    return f"{it.body.name}.{networks.get(it.body.network, '?')}"


class Labels:
    """The names of one capture: `look` when records have changed, `take` what has to be told."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._told: dict[str, str] = {}
        self._waiting: dict[str, str] = {}

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def look(self, view: View) -> None:
        """Compare with what was told."""
        named: dict[str, str] = {}
        twice: set[str] = set()
        for address, name in self._all(view):
            if named.setdefault(address, name) != name:
                twice.add(address)
        self._waiting = {
            address: name
            for address, name in named.items()
            if address not in twice and self._told.get(address) != name
        }

    def take(self) -> list[tuple[str, str]]:
        """The next names to tell."""
        piece = dict(list(self._waiting.items())[:PIECE])
        self._told |= piece
        for address in piece:
            del self._waiting[address]
        return list(piece.items())

    def _all(self, view: View) -> Iterator[tuple[str, str]]:
        for member in view.members():
            yield (member.node.data_host if member.node else member.address[0]), member.name
        networks: dict[bytes, str] = {it.id: it.name for it in view.networks()}
        wanted = self._selection.networks | {
            it.body.network for it in view.endpoints() if it.id in self._selection.endpoints
        }
        for it in view.endpoints():
            if wanted and it.body.network not in wanted:
                continue
            for address in it.body.addresses:
                yield str(ipaddress.ip_interface(address).ip), endpoint_name(it, networks)
