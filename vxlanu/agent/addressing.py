"""An endpoint's addresses and MAC: taken from the cluster, with the holder's name where somebody else has them."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING

from vxlanu.agent.refusals import as_error
from vxlanu.control.core.errors import Refusal
from vxlanu.control.core.records import Endpoint, EndpointId, Network, NetworkId
from vxlanu.errors import Conflict

if TYPE_CHECKING:  # the agent's parts ask here
    from vxlanu.agent.agent import Agent

__all__ = ["check_mac", "mac_of", "other_subnets", "take_address"]


async def take_address(
    agent: Agent,
    network: NetworkId,
    endpoint: EndpointId,
    wanted: str,
    what: str,
    *,
    ipv6: bool,
    subnet: str = "",
    take_over: bool = False,
) -> str:
    """`wanted`, or if that is empty any address of the network, with its prefix length; `what` is asked for it.

    `subnet`: one of the network's, from which alone the address may come.
    """
    try:
        return await agent.control.allocate(
            network, endpoint, wanted=wanted or None, subnet=subnet, ipv6=ipv6, take_over=take_over
        )
    except Refusal as refusal:
        holder = agent.view.winner(network, wanted) if wanted else None
        error = as_error(refusal, f"{what} with {wanted}" if wanted else what)
        if holder is not None and refusal.name == "address_in_use":
            error.why = f"{wanted} belongs to {holder.body.name} on {holder.owner_name}"
            error.detail = {"holder": holder.body.name, "node": holder.owner_name}
        elif kept_for := agent.intents.keeper_of(network, wanted):
            error.why = f"{wanted} is kept for {kept_for.body.name} ({kept_for.body.target}), which does not run"
            error.hint = f"vxlanu detach {kept_for.body.network.hex()[:12]} {kept_for.body.target}"
            error.detail = {"holder": kept_for.body.name, "node": kept_for.owner_name}
        raise error from refusal


def check_mac(agent: Agent, network: NetworkId, mac: str, what: str) -> None:
    """Raises Conflict where the MAC is somebody's already."""
    holder = agent.view.winner(network, mac)
    if holder is not None:
        raise Conflict(
            what,
            f"MAC {mac} belongs to {holder.body.name} on {holder.owner_name}",
            hint="another --mac",
            name="mac_in_use",
            detail={"holder": holder.body.name},
        )


def mac_of(address: str) -> str:
    """Docker's rule: 02:42 and the IPv4 address; without one, 02:42 and 4 bytes of SHA-256 of the IPv6 address."""
    packed = ipaddress.ip_interface(address).ip.packed
    tail = packed if len(packed) == 4 else hashlib.sha256(packed).digest()[:4]
    return (b"\x02\x42" + tail).hex(":")


def other_subnets(network: Network, body: Endpoint) -> tuple[str, ...]:
    """The network's subnets that the endpoint has no address in: reached on the link all the same."""
    own = {str(ipaddress.ip_interface(address).network) for address in body.addresses}
    versions = {ipaddress.ip_interface(address).version for address in body.addresses}
    return tuple(
        subnet
        for subnet in network.subnets
        if subnet not in own and ipaddress.ip_network(subnet).version in versions
    )
