"""The address pool of one network: which addresses exist, which are reserved, how they are cut into blocks.

Rules of this file
  1. Pure functions of the network record: every node computes the same blocks.
  2. A block is a /26; a subnet of /26 or smaller is cut into single addresses, since as one block a single host would
     have all of it. The size is a function of the subnet and never changes.
  3. Never handed out: network and broadcast address, the gateway (the given one, else the first host), `--aux`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from .records import Network, NodeId

__all__ = ["BLOCK_PREFIX", "Pool"]

BLOCK_PREFIX = 26
_GUESSES = 64  # pseudo-random places tried before a linear search; a pool less than 90 % claimed never gets there


class Pool:
    """The IPv4 side of a network's address space."""

    def __init__(self, network: Network) -> None:
        self.subnets = [IPv4Network(text) for text in network.subnets if ":" not in text]
        self._ranges = [IPv4Network(text) for text in network.ip_ranges if ":" not in text]
        fixed = [*network.gateways, *network.aux.values()]
        self.reserved = {IPv4Address(text) for text in fixed if ":" not in text}
        gateways = [IPv4Address(text) for text in network.gateways if ":" not in text]
        for subnet in self.subnets:
            if subnet.prefixlen < 31:
                self.reserved |= {subnet.network_address, subnet.broadcast_address}
                if not any(gateway in subnet for gateway in gateways):
                    self.reserved.add(subnet.network_address + 1)

    def subnet_of(self, address: IPv4Address) -> IPv4Network | None:
        """The subnet that holds an address."""
        return next((subnet for subnet in self.subnets if address in subnet), None)

    def with_prefix(self, address: IPv4Address) -> str:
        """As an endpoint wears it: 192.168.0.100/24."""
        subnet = self.subnet_of(address)
        return f"{address}/{subnet.prefixlen if subnet is not None else 32}"

    def block_of(self, address: IPv4Address) -> IPv4Network:
        """The block that an address of the pool belongs to."""
        subnet = self.subnet_of(address)
        prefix = BLOCK_PREFIX if subnet is not None and subnet.prefixlen < BLOCK_PREFIX else 32
        return IPv4Network((int(address), prefix), strict=False)

    def usable(self, block: IPv4Network) -> Iterator[IPv4Address]:
        """The addresses of a block that may be picked without being asked for."""
        for address in block:
            if address not in self.reserved and self._in_ranges(address):
                yield address

    def preference(self, network: bytes, node: NodeId) -> Iterator[IPv4Network]:
        """Every block once or more, in an order of this node's own, so that two nodes rarely want the same one."""
        for subnet in self.subnets:
            size = BLOCK_PREFIX if subnet.prefixlen < BLOCK_PREFIX else 32
            count = 1 << (size - subnet.prefixlen)
            seed = network + node + str(subnet).encode()
            start = 0
            for guess in range(_GUESSES):
                digest = hashlib.sha256(seed + bytes((guess,))).digest()
                start = int.from_bytes(digest[:8], "big") % count
                yield self._block(subnet, start, size)
            for step in range(count):
                yield self._block(subnet, (start + step) % count, size)

    @staticmethod
    def _block(subnet: IPv4Network, place: int, size: int) -> IPv4Network:
        return IPv4Network((int(subnet.network_address) + (place << (32 - size)), size))

    def _in_ranges(self, address: IPv4Address) -> bool:
        return not self._ranges or any(address in wanted for wanted in self._ranges)
