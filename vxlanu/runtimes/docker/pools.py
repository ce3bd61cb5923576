"""Which of our networks Docker means: by `vxlanu.network=NAME`, else by the subnet.

Rules of this file
  1. It chooses among networks that are there and makes none. A network is a fact of the cluster and outlives Docker's
     knowledge of it; one made by a misspelt name would be a segment on which nobody is, and no error.
  2. What Docker is told as the pool's id says everything that we need of it later, so nothing of it is kept.

Several Docker networks may stand for one of ours: compose projects each declare their own. To refuse the second would
need a memory of the first that can be trusted, and Docker does not tell of a network that went while we were away.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from vxlanu.agent.agent import Agent
from vxlanu.agent.attach import known_network
from vxlanu.control.core.records import short
from vxlanu.control.core.view import NetworkState, NetworkView, View
from vxlanu.errors import BadRequest, Conflict, NotFound, VxlanuError, near

SPACE = "vxlanu"
OPTION = "vxlanu.network"
OPTIONS = (OPTION,)
ASK_PEER_S = 0.5  # for a network that nobody here has heard of; Docker waits meanwhile

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


def pool_id(network: NetworkView, subnet: str) -> str:
    """The name for Docker to keep."""
    return f"{SPACE}/{network.body.name}/{short(network.id)}/{subnet}"


def of_pool(view: View, text: str) -> tuple[NetworkView, str]:
    """The network and subnet of a pool's id: the network of that id, or one that was made again with name and subnet.

    Errors: BadRequest (not ours), NotFound (the network was removed).
    """
    name, digits, subnet = _parts(text)
    networks = view.networks()
    for network in networks:
        if network.id.hex().startswith(digits):
            return network, subnet
    for network in networks:
        if network.name == name and subnet in network.body.subnets:
            return network, subnet
    raise removed(name, subnet)


def digits_of(text: str) -> str:
    """The first digits of the network's id, of which there may be none any more."""
    return _parts(text)[1]


def _parts(text: str) -> tuple[str, str, str]:
    space, name, digits, subnet = (*text.split("/", 3), "", "", "")[:4]
    if space != SPACE or not digits or not subnet:
        raise BadRequest(f"pool {text}", "not one that vxlanu gave out")
    return name, digits, subnet


def removed(name: str, subnet: str) -> VxlanuError:
    """Docker still has what the cluster has no more."""
    hint = f"vxlanu network create {name}" + (f" --subnet {subnet}" if subnet else "")
    return NotFound(f"network {name}", "it was removed from the cluster", hint=hint, name="no_network")


async def choose(
    agent: Agent, options: Mapping[str, str], subnet: str, *, ipv6: bool
) -> tuple[NetworkView, str]:
    """The network that a request for a pool means, and which of its subnets."""
    check_options(options)
    wanted = prefix(subnet) if subnet else None
    name = options.get(OPTION, "")
    if name:
        network = await known_network(agent, name, ASK_PEER_S)
    elif wanted:
        network = await with_subnets(agent, [str(wanted)])
    else:
        hint = "docker network create --ipam-opt vxlanu.network=NAME, or --subnet; vxlanu network ls"
        raise BadRequest("docker network", "neither a subnet nor a network of vxlanu is named", hint=hint)
    if network.state is NetworkState.REMOVING:
        raise Conflict(f"network {network.name}", "it is being removed", name="network_removing")
    return network, _one_of(network, wanted, ipv6=ipv6)


def check_options(options: Iterable[str]) -> None:
    """A misspelt option of ours must not pass for none."""
    for key in options:
        if key.startswith(f"{SPACE}.") and key not in OPTIONS:
            raise BadRequest(f"option {key}", "vxlanu has no such option", hint=near(key, OPTIONS) or OPTION)


async def with_subnets(agent: Agent, subnets: Iterable[str]) -> NetworkView:
    """The network that has all of them, after asking a peer if nobody here has heard of it."""
    wanted = set(subnets)
    found = _having(agent.view, wanted)
    if not found and await agent.control.refresh(ASK_PEER_S):
        found = _having(agent.view, wanted)
    if len(found) > 1:
        names = ", ".join(network.name for network in found)
        raise Conflict(f"subnet {min(wanted)}", f"several networks have it: {names}", hint=f"-o {OPTION}=NAME")
    if found:
        return found[0]
    shown = " ".join(f"--subnet {subnet}" for subnet in sorted(wanted))
    all_subnets = [(it.name, have) for it in agent.view.networks() for have in it.body.subnets]
    near_by = [f"{name} has {have}" for name, have in all_subnets if _touches(have, wanted)]
    why = "no vxlanu network has it" + (f", but {', '.join(near_by)}" if near_by else "")
    raise NotFound(f"subnet {min(wanted)}", why, hint=f"vxlanu network create NAME {shown}", name="no_network")


def _having(view: View, wanted: set[str]) -> list[NetworkView]:
    networks = [it for it in view.networks() if it.state is not NetworkState.REMOVING]
    return [it for it in networks if wanted <= set(it.body.subnets)]


def _touches(subnet: str, wanted: set[str]) -> bool:
    one = ipaddress.ip_network(subnet)
    return any(one.version == other.version and one.overlaps(other) for other in map(ipaddress.ip_network, wanted))


def prefix(text: str) -> Prefix:
    """A subnet as Docker writes it, which may name it by an address in it."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise BadRequest(f"--subnet {text}", "not a prefix in CIDR notation") from error


def _one_of(network: NetworkView, wanted: Prefix | None, *, ipv6: bool) -> str:
    """The subnet that was wanted, or the network's first of the IP version."""
    version = 6 if ipv6 else 4
    subnets = [text for text in network.body.subnets if ipaddress.ip_network(text).version == version]
    if not subnets:
        hint = f"vxlanu network create {network.name} --ipv6" if ipv6 else ""
        raise Conflict(f"network {network.name}", f"it has no IPv{version} subnet", hint=hint, name="no_subnet")
    if wanted is None:
        return subnets[0]
    if str(wanted) not in subnets:
        why = f"its IPv{version} subnet is {', '.join(subnets)}, not {wanted}"
        raise Conflict(f"network {network.name}", why, hint=f"--subnet {subnets[0]}", name="subnet_differs")
    return str(wanted)
