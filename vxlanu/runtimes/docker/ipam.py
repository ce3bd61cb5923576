"""IpamDriver: Docker's questions for subnets and addresses, answered from the cluster's.

Rules of this file
  1. An address that Docker gets is leased in the whole cluster, and journalled before it leaves. It is of the subnet
     that Docker named, though the network may have others: Docker would not find it in its own pool.
  2. Giving back is idempotent, and never touches an address whose endpoint Docker has not deleted: what comes out of
     order belongs to an earlier holder of it.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets

import msgspec.structs

from vxlanu.agent.addressing import take_address
from vxlanu.agent.agent import Agent
from vxlanu.control.core.records import EndpointId, NetworkId
from vxlanu.control.core.view import NetworkState, NetworkView
from vxlanu.errors import BadRequest, Conflict
from vxlanu.runtimes.docker import pools, shapes
from vxlanu.runtimes.docker.ledger import DockerAddress, Ledger
from vxlanu.runtimes.docker.server import Made

log = logging.getLogger("vxlanu.docker")

PURPOSE, GATEWAY = "RequestAddressType", "com.docker.network.gateway"


class Ipam:
    """Addresses for Docker."""

    def __init__(self, agent: Agent, ledger: Ledger) -> None:
        self._agent = agent
        self._ledger = ledger

    async def request_pool(self, asked: shapes.RequestPool) -> shapes.PoolGranted:
        """Name a subnet of one of our networks."""
        network, subnet = await pools.choose(self._agent, asked.options or {}, asked.pool, ipv6=asked.v6)
        if asked.sub_pool and asked.sub_pool not in network.body.ip_ranges:
            hint = f"vxlanu network create {network.name} --ip-range {asked.sub_pool}, and no --ip-range here"
            why = "the range is the vxlanu network's, the same on all hosts"
            raise Conflict(f"--ip-range {asked.sub_pool}", why, hint=hint, name="range_differs")
        return shapes.PoolGranted(pools.pool_id(network, subnet), subnet)

    async def release_pool(self, asked: shapes.ReleasePool) -> shapes.Empty:
        """Nothing was kept."""
        return shapes.Empty()

    async def request_address(self, asked: shapes.RequestAddress) -> shapes.AddressGranted | Made:
        """Lease an address; the gateway's belongs to the network and is leased to nobody."""
        network, subnet = pools.of_pool(self._agent.view, asked.pool_id)
        if (asked.options or {}).get(PURPOSE) == GATEWAY:
            return shapes.AddressGranted(_gateway(network, subnet, asked.address))
        wanted = plain(asked.address) if asked.address else ""
        if wanted and wanted in network.body.aux.values():
            return shapes.AddressGranted(_with_prefix(wanted, subnet))  # no endpoint will get it: it has no lease
        if network.state is NetworkState.REMOVING:
            raise Conflict(f"network {network.name}", "it is being removed", name="network_removing")
        lease = DockerAddress(lease=secrets.token_bytes(16), network=network.id)
        self._ledger.put_soon(lease)  # before the allocation, which is committed
        what, holder = f"network {network.name}", EndpointId(lease.lease)
        try:
            given = await take_address(
                self._agent, network.id, holder, wanted, what, ipv6=":" in subnet, subnet=subnet
            )
            granted = msgspec.structs.replace(lease, address=given)
            await self._ledger.put(granted)
        except BaseException:
            await self.give_back(lease)
            raise
        return Made(shapes.AddressGranted(given), lambda: self._undo(granted))

    async def _undo(self, granted: DockerAddress) -> None:
        """Give back what Docker has not heard of, unless it knows it all the same."""
        if self._ledger.addresses.get(granted.key) is granted:
            await self.give_back(granted)

    async def release_address(self, asked: shapes.ReleaseAddress) -> shapes.Empty:
        """Give a lease back; what is not leased (gateway, aux, a repetition) needs nothing."""
        digits, address = pools.digits_of(asked.pool_id), plain(asked.address)
        for row in list(self._ledger.addresses.values()):
            if not row.network.hex().startswith(digits) or row.address.partition("/")[0] != address:
                continue
            if row.docker_endpoint:
                holder = row.docker_endpoint[:12]
                log.info("Docker releases %s, which %s has", address, holder, extra={"event": "docker_refused"})
            else:
                await self.give_back(row)
        return shapes.Empty()

    async def give_back(self, row: DockerAddress) -> None:
        """End a lease: first in the cluster, then in the ledger, so that a crash between them only repeats it."""
        await self._agent.control.release(NetworkId(row.network), EndpointId(row.lease))
        await self._ledger.drop(row)


def plain(text: str) -> str:
    """An address as we write it, without a prefix length."""
    try:
        return str(ipaddress.ip_interface(text).ip)
    except ValueError as error:
        raise BadRequest(f"address {text}", "not an IP address") from error


def _gateway(network: NetworkView, subnet: str, wanted: str) -> str:
    """The network's own: its service port answers there on every host."""
    gateways = dict(zip(network.body.subnets, network.body.gateways, strict=False))
    gateway = gateways.get(subnet, "")
    if not gateway or (wanted and plain(wanted) != gateway):
        why = f"the gateway of {subnet} is {gateway}, on all hosts"
        hint = f"no --gateway here, or vxlanu network create {network.name} --gateway {wanted}"
        raise Conflict(f"--gateway {wanted}", why, hint=hint, name="gateway_differs")
    return _with_prefix(gateway, subnet)


def _with_prefix(address: str, subnet: str) -> str:
    return f"{address}/{subnet.partition('/')[2]}"
