"""`ipam show`: which addresses a network has, who hands them out, and which are in use.

It reads the view and the pool's arithmetic, and changes nothing. Sizes are computed, never counted address by address:
a subnet may have millions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network

from vxlanu.agent.agent import Agent
from vxlanu.agent.reclaim import is_reclaimable, unused_leases
from vxlanu.api.schema import AddressBlock, AddressPool
from vxlanu.control.core.pool import IPAddress, IPNetwork, Pool
from vxlanu.control.core.records import Network, NodeId, short
from vxlanu.control.core.view import BlockView, NetworkView

__all__ = ["pools"]


def pools(agent: Agent, networks: Iterable[NetworkView]) -> list[AddressPool]:
    """One for each subnet of each network."""
    return [_pool(agent, view, subnet) for view in networks for subnet in Pool(view.body).subnets]


def _pool(agent: Agent, view: NetworkView, subnet: IPNetwork) -> AddressPool:
    pool = Pool(view.body)
    everyone = (ip_interface(it).ip for one in agent.view.endpoints(view.id) for it in one.body.addresses)
    used = Counter(pool.block_of(address) for address in everyone if address in subnet)
    held = [it for it in agent.view.blocks(view.id) if ip_network(it.body.prefix).network_address in subnet]
    blocks = [_block(agent, pool, it, used) for it in sorted(held, key=_place)]
    usable = _usable(pool, subnet) if subnet.version == 4 else None
    return AddressPool(
        network=view.name,
        network_id=view.id.hex(),
        subnet=str(subnet),
        ipam=view.body.ipam,
        used=used.total(),
        usable=usable,
        unclaimed=None if usable is None else usable - sum(block.usable or 0 for block in blocks),
        ip_ranges=[text for text in view.body.ip_ranges if ip_network(text).network_address in subnet],
        reserved=_reserved(view.body, subnet),
        blocks=blocks,
        unused=[it.address for it in unused_leases(agent, view.id) if _in(it.address, subnet)],
    )


def _place(view: BlockView) -> tuple[int, NodeId]:
    return int(ip_network(view.body.prefix).network_address), view.owner


def _block(agent: Agent, pool: Pool, view: BlockView, used: Counter[IPNetwork]) -> AddressBlock:
    prefix = ip_network(view.body.prefix)
    return AddressBlock(
        prefix=view.body.prefix,
        holder=view.owner_name,
        holder_state=view.owner_state.value,
        state=view.body.state,
        used=used[prefix],
        usable=sum(1 for _ in pool.usable(prefix)) if isinstance(prefix, IPv4Network) else None,
        local=view.owner == agent.control.core.node,
        lent={address: _name(agent, NodeId(tag[:16])) for address, tag in sorted(view.body.loans.items())},
        reclaimable=is_reclaimable(view.owner_state),
    )


def _usable(pool: Pool, subnet: IPNetwork) -> int:
    """What can be picked without being asked for: the ranges, or all of it, without what is reserved."""
    parts = pool.parts_of(subnet)
    kept = [address for address in pool.reserved if any(address in part for part in parts)]
    return sum(part.num_addresses for part in parts) - len(kept)


def _reserved(body: Network, subnet: IPNetwork) -> dict[str, str]:
    named = [("gateway", gateway) for gateway in body.gateways]
    named += [(f"aux {name}", address) for name, address in body.aux.items()]
    return {name: address for name, address in named if _in(address, subnet)}


def _in(text: str, subnet: IPNetwork) -> bool:
    address: IPAddress = ip_address(text)
    return address in subnet


def _name(agent: Agent, node: NodeId) -> str:
    member = agent.view.member(node)
    return member.name if member is not None else short(node)
