"""The address pool of one network: which addresses exist, which are reserved, how they are cut into blocks.

Rules of this file
  1. Pure functions of the network record: every node computes the same blocks.
  2. A block is a /26; a subnet of /26 or smaller is cut into single addresses, since as one block a single host would
     have all of it. The size is a function of the subnet and never changes. An IPv6 address is a block of its own: the
     subnets are so large that nobody needs a neighbourhood.
  3. Never handed out: network and broadcast address, the gateway (the given one, else the first host), `--aux`.
  4. A range (`--ip-range`) narrows what is picked in the subnet that it lies in, and in no other.
  5. The pool of one subnet is the network's without the other subnets: the same blocks, the same reserved addresses.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec.structs import replace

from .choose import ipv6_start
from .records import EndpointId, Network, NodeId

__all__ = ["BLOCK_PREFIX", "IPAddress", "IPNetwork", "Pool", "overlap", "parse_address", "parse_prefix", "span_of"]

BLOCK_PREFIX = 26
_GUESSES = 64  # pseudo-random places tried before a linear search; a pool less than 90 % claimed never gets there
_PROBES = 4096  # IPv6 addresses looked at, from the one that the hash gives, before a pool counts as full
_SPARSE_BITS = 48  # of the host part: 10 000 endpoints meet by hash once in five million networks, so nobody is asked

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


def parse_address(text: str) -> IPAddress:
    """An address of a pool. ValueError, also for one with a zone: fd00::7%eth0 equals fd00::7 for nobody but us."""
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text} has a zone")
    return address


@functools.lru_cache(maxsize=1 << 14)
def parse_prefix(text: str) -> IPNetwork:
    """A subnet or block. Kept, since every question about an address goes through the prefixes of all blocks."""
    return ip_network(text)


@functools.lru_cache(maxsize=1 << 14)
def span_of(text: str) -> tuple[int, int, int]:
    """IP version, first and last address of a block, to compare many of them in a fraction of the time."""
    prefix = parse_prefix(text)
    return prefix.version, int(prefix.network_address), int(prefix.broadcast_address)


def overlap(one: str, other: str) -> bool:
    """Whether two blocks share an address."""
    (version, first, last), (their_version, their_first, their_last) = span_of(one), span_of(other)
    return version == their_version and first <= their_last and their_first <= last


class Pool:
    """A network's address space, or what of it lies in one of its subnets (rule 5)."""

    def __init__(self, network: Network, only: str = "") -> None:
        if only:
            network = replace(network, subnets=(only,) if only in network.subnets else ())
        self.subnets: list[IPNetwork] = [parse_prefix(text) for text in network.subnets]
        self._ranges: list[IPNetwork] = [parse_prefix(text) for text in network.ip_ranges]
        self.reserved: set[IPAddress] = {ip_address(text) for text in (*network.gateways, *network.aux.values())}
        gateways = [ip_address(text) for text in network.gateways]
        for subnet in self.subnets:
            if subnet.num_addresses > 2:
                self.reserved.add(subnet.network_address)  # of IPv6: the anycast address of the routers (RFC 4291)
                if not any(gateway in subnet for gateway in gateways):
                    self.reserved.add(subnet.network_address + 1)
            if isinstance(subnet, IPv4Network) and subnet.prefixlen < 31:
                self.reserved.add(subnet.broadcast_address)

    def of_version(self, version: int) -> list[IPNetwork]:
        """The subnets of an IP version."""
        return [subnet for subnet in self.subnets if subnet.version == version]

    def subnet_of(self, address: IPAddress) -> IPNetwork | None:
        """The subnet that holds an address."""
        return next((subnet for subnet in self.subnets if address in subnet), None)

    def with_prefix(self, address: IPAddress) -> str:
        """As an endpoint wears it: 192.168.0.100/24."""
        subnet = self.subnet_of(address)
        return f"{address}/{subnet.prefixlen if subnet is not None else address.max_prefixlen}"

    def is_sparse(self, address: IPAddress) -> bool:
        """Whether it lies where a hash alone keeps two endpoints apart."""
        parts = (part for _, part in self._parts() if part.version == 6 and address in part)
        return any(part.max_prefixlen - part.prefixlen >= _SPARSE_BITS for part in parts)

    def block_of(self, address: IPAddress) -> IPNetwork:
        """The block that an address of the pool belongs to."""
        if isinstance(address, IPv6Address):
            return IPv6Network(address)
        subnet = self.subnet_of(address)
        prefix = BLOCK_PREFIX if subnet is not None and subnet.prefixlen < BLOCK_PREFIX else 32
        return IPv4Network((int(address), prefix), strict=False)

    def usable(self, block: IPv4Network) -> Iterator[IPv4Address]:
        """The addresses of a block that may be picked without being asked for."""
        subnet = self.subnet_of(block.network_address)
        parts = self.parts_of(subnet) if subnet is not None else []
        for address in block:
            if address not in self.reserved and any(address in part for part in parts):
                yield address

    def preference(self, network: bytes, node: NodeId) -> Iterator[IPv4Network]:
        """Every IPv4 block with something to pick, once or more, in an order of this node's own: two nodes rarely want
        the same one."""
        for subnet, part in self._parts():
            if not isinstance(part, IPv4Network):
                continue
            size = BLOCK_PREFIX if subnet.prefixlen < BLOCK_PREFIX else 32
            first, count = int(part.network_address) >> (32 - size), 1 << max(0, size - part.prefixlen)
            seed = network + node + str(part).encode()
            start = 0
            for guess in range(_GUESSES):
                digest = hashlib.sha256(seed + bytes((guess,))).digest()
                start = int.from_bytes(digest[:8], "big") % count
                yield IPv4Network(((first + start) << (32 - size), size))
            for step in range(count):
                yield IPv4Network(((first + (start + step) % count) << (32 - size), size))

    def ipv6_candidates(self, node: NodeId, endpoint: EndpointId) -> Iterator[tuple[IPv6Address, bool]]:
        """Where to look for an endpoint's IPv6 address, best first, and whether the others must be asked for it: in a
        large subnet the hash keeps two apart, in a small one it does not."""
        for _, part in self._parts():
            if not isinstance(part, IPv6Network):
                continue
            bits = part.max_prefixlen - part.prefixlen
            start = ipv6_start(node, endpoint) % (1 << bits)
            for step in range(min(_PROBES, 1 << bits)):
                address = part[(start + step) % (1 << bits)]
                if address not in self.reserved:
                    yield address, bits < _SPARSE_BITS

    def _parts(self) -> Iterator[tuple[IPNetwork, IPNetwork]]:
        """Each subnet with each part of it that is picked from."""
        for subnet in self.subnets:
            yield from ((subnet, part) for part in self.parts_of(subnet))

    def parts_of(self, subnet: IPNetwork) -> list[IPNetwork]:
        """What of a subnet is picked from: its ranges, else all of it."""
        return [it for it in self._ranges if it.network_address in subnet] or [subnet]
