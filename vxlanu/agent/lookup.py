"""From what a user types to the thing that is meant.

Rules of this file
  1. A reference that means nothing is NotFound with the nearest names; one that means several things is BadRequest with
     the list of them (exit 2). It never picks one silently.
  2. A name goes before the beginning of an id, also where the one is a network's and the other an endpoint's: an id is
     a matter of chance.
  3. It reads the view and changes nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from vxlanu.control.core.records import Network, is_mac, short
from vxlanu.control.core.view import EndpointView, MemberView, NetworkState, NetworkView, View, begins
from vxlanu.errors import BadRequest, NotFound, near

T = TypeVar("T")

STATES = {NetworkState.ACTIVE: "active", NetworkState.REMOVING: "removing", NetworkState.CONFLICT: "conflict"}


def network(view: View, reference: str) -> NetworkView:
    """A network by name, NAME~ID4 or id prefix."""
    found = view.find_networks(reference)
    names = [network.name for network in view.networks()]
    return _only("network", reference, found, lambda it: f"{it.name} {short(it.id)}", names)


def state_word(view: NetworkView) -> str:
    """What people read everywhere: active, removing, conflict."""
    return STATES[view.state]


def member(view: View, reference: str) -> MemberView:
    """A member by name or id prefix."""
    found = view.find_members(reference)
    names = [member.name for member in view.members()]
    return _only("member", reference, found, lambda it: f"{it.name} {short(it.id)}", names)


def endpoint(view: View, reference: str, within: NetworkView | None = None) -> EndpointView:
    """An endpoint (of one network) by NAME, NAME.NETWORK, id prefix, IP or MAC."""
    everyone = view.endpoints(within.id if within else None)
    networks: dict[bytes, str] = {network.id: network.name for network in view.networks()}

    def shown(it: EndpointView) -> str:
        return _line(it, networks.get(it.body.network, "?"))

    for matches in (_named, _numbered, _identified):
        found = [it for it in everyone if matches(it, reference, networks.get(it.body.network, ""))]
        if found:
            return _only("endpoint", reference, found, shown, [])
    return _only("endpoint", reference, [], shown, [it.body.name for it in everyone])


def network_or_endpoint(view: View, reference: str) -> NetworkView | EndpointView:
    """A network by name; else an endpoint by name, IP or MAC; else the one of either kind whose id begins so."""
    kinds = called(view, reference)
    if "network" in kinds:
        return network(view, reference)
    networks = view.networks()
    everything: list[NetworkView | EndpointView] = [*networks, *view.endpoints()]
    ids = [it for it in everything if begins(it, reference)]
    if "endpoint" in kinds or not ids:
        return endpoint(view, reference)
    names: dict[bytes, str] = {it.id: it.name for it in networks}

    def shown(it: NetworkView | EndpointView) -> str:
        if isinstance(it, EndpointView):
            return f"endpoint {_line(it, names.get(it.body.network, '?'))}"
        return f"network {it.name} {short(it.id)}"

    return _only("link", reference, ids, shown, [])


def called(view: View, reference: str) -> set[str]:
    """Of which kinds something has exactly this name: network, endpoint, member."""
    networks: dict[bytes, str] = {network.id: network.name for network in view.networks()}
    kinds = {
        "network": reference in networks.values(),
        "endpoint": any(_named(it, reference, networks.get(it.body.network, "")) for it in view.endpoints()),
        "member": any(member.name == reference for member in view.members()),
    }
    return {kind for kind, there in kinds.items() if there}


def named_in(view: View, reference: str, within: NetworkView) -> EndpointView | None:
    """The endpoint of a network that has this name or alias; None: nobody there has."""
    found = [it for it in view.endpoints(within.id) if _named(it, reference, within.name)]
    return _only("endpoint", reference, found, lambda it: _line(it, within.name), []) if found else None


def _line(it: EndpointView, network_name: str) -> str:
    """As it stands in a list of what a word could mean."""
    return f"{it.body.name}.{network_name} {short(it.id)} on {it.owner_name}"


def _named(it: EndpointView, reference: str, network_name: str) -> bool:
    names = (it.body.name, *it.body.aliases)
    return reference in names or reference in [f"{name}.{network_name}" for name in names] + [
        f"{network_name}/{name}" for name in names
    ]


def _numbered(it: EndpointView, reference: str, network_name: str) -> bool:
    if is_mac(reference.lower()):
        return it.body.mac == reference.lower()
    try:
        address = ipaddress.ip_address(reference)
    except ValueError:
        return False
    return any(ipaddress.ip_interface(own).ip == address for own in it.body.addresses)


def _identified(it: EndpointView, reference: str, network_name: str) -> bool:
    return begins(it, reference)


def _only(kind: str, reference: str, found: Sequence[T], shown: Callable[[T], str], names: Iterable[str]) -> T:
    """The one that was meant, or the error that helps."""
    if len(found) == 1:
        return found[0]
    if found:
        listed = "; ".join(shown(one) for one in found[:10])
        raise BadRequest(
            f"{kind} {reference}", f"{len(found)} match: {listed}", hint="more of the id", name="ambiguous"
        )
    hint = near(reference, names) or f"vxlanu {kind} ls"
    raise NotFound(f"{kind} {reference}", "there is none of that name, id or address", hint=hint, name=f"no_{kind}")


def subnet_of(body: Network, version: int) -> str:
    """The network's first subnet of an IP version; empty if it has none."""
    return next((subnet for subnet in body.subnets if ipaddress.ip_network(subnet).version == version), "")
