"""Choosing what the user left open: a VNI, a subnet, an IPv6 subnet, where the search for an IPv6 address begins. Pure
functions of an id and of what is in use, so that two creations at once rarely meet, and a repeated one always does.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable

from .errors import Refusal
from .records import EndpointId, NetworkId, NodeId

__all__ = ["VNI_FIRST", "choose_ipv6_subnet", "choose_subnet", "choose_vni", "ipv6_start", "overlapping"]

VNI_FIRST = 256  # Docker's overlay begins at 4096 and vxlan examples at small numbers; 1..255 are left to people
_VNI_COUNT = (1 << 24) - VNI_FIRST
_POOL = ipaddress.IPv4Network("10.0.0.0/8")
_PREFIX = 24

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def choose_vni(network: NetworkId, used: Collection[int]) -> int:
    """256 + H(id) mod (2^24 - 256), or the next free one."""
    start = _hash(b"vni" + network) % _VNI_COUNT
    for step in range(_VNI_COUNT):
        vni = VNI_FIRST + (start + step) % _VNI_COUNT
        if vni not in used:
            return vni
    raise Refusal("pool_exhausted", "no VNI is free")


def choose_subnet(network: NetworkId, used: Iterable[str]) -> str:
    """A /24 of 10.0.0.0/8 that overlaps none of `used` (subnets of networks and routes of the host).

    A default route overlaps everything and says nothing: it is left out.
    """
    taken = [subnet for subnet in map(_network, used) if subnet.version == 4 and subnet.prefixlen > 0]
    count = 1 << (_PREFIX - _POOL.prefixlen)
    start = _hash(b"subnet" + network) % count
    for step in range(count):
        base = int(_POOL.network_address) + ((start + step) % count << (32 - _PREFIX))
        candidate = ipaddress.IPv4Network((base, _PREFIX))
        if not any(candidate.overlaps(other) for other in taken if isinstance(other, ipaddress.IPv4Network)):
            return str(candidate)
    raise Refusal("pool_exhausted", "no /24 of 10.0.0.0/8 is free")


def choose_ipv6_subnet(network: NetworkId) -> str:
    """A /64 of a unique local prefix (RFC 4193) made of the network's id."""
    digest = hashlib.sha256(b"ula" + network).digest()
    return str(ipaddress.IPv6Network((b"\xfd" + digest[:7] + bytes(8), 64)))


def ipv6_start(node: NodeId, endpoint: EndpointId) -> int:
    """The host part from which the IPv6 address of an endpoint is looked for."""
    return int.from_bytes(hashlib.sha256(b"v6" + node + endpoint).digest()[:16], "big")


def overlapping(subnet: str, others: Iterable[str]) -> str | None:
    """The first of `others` that overlaps `subnet`."""
    wanted = _network(subnet)
    for other in others:
        network = _network(other)
        if isinstance(wanted, ipaddress.IPv4Network) and isinstance(network, ipaddress.IPv4Network):
            if wanted.overlaps(network):
                return other
        elif (
            isinstance(wanted, ipaddress.IPv6Network)
            and isinstance(network, ipaddress.IPv6Network)
            and wanted.overlaps(network)
        ):
            return other
    return None


def _network(text: str) -> IPNetwork:
    return ipaddress.ip_network(text, strict=False)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
