"""Subnet and addresses of the bridge: which are free.

Rules of this file
  1. Pure. The subnet is the first that overlaps nothing that this host routes or vxlanu overlays; a subnet that was
     said is taken or refused, never replaced.
  2. An address comes back into use as late as possible: connections of its last owner may still be in conntrack.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable
from itertools import chain

from vxlanu.errors import Conflict

CANDIDATES = tuple(f"172.{number}.0.0/16" for number in range(18, 32))
"""The pools that Docker's bridges come from, but for its first, which docker0 has."""


def choose(wanted: str, before: str, taken: Iterable[str]) -> str:
    """The subnet for the bridge: the one that was said, else that of the last time, else the first that is free.

    Raises:
        Conflict: it overlaps, or nothing is free.
    """
    others = [ipaddress.ip_network(text, strict=False) for text in taken]
    in_use = [other for other in others if isinstance(other, ipaddress.IPv4Network) and other.prefixlen]
    candidates: tuple[str, ...] = (wanted,) if wanted else (before, *CANDIDATES) if before else CANDIDATES
    for text in candidates:
        subnet = ipaddress.IPv4Network(text)
        clash = next((other for other in in_use if other.overlaps(subnet)), None)
        if clash is None:
            return text
        if wanted:
            why = f"overlaps {clash}, a network or a route of this host"
            raise Conflict(f"gateway-subnet {wanted}", why, hint="another subnet", name="subnet_overlaps")
    why = f"all of {CANDIDATES[0]} to {CANDIDATES[-1]} overlap networks or routes of this host"
    raise Conflict("egress", why, hint="gateway-subnet = CIDR in the configuration", name="subnet_overlaps")


def gateway(subnet: str) -> str:
    """The bridge's address, with prefix length."""
    network = ipaddress.ip_network(subnet)
    return f"{network.network_address + 1}/{network.prefixlen}"


def next_address(subnet: str, last: str, used: Container[str]) -> str:
    """The next free one after `last`, with prefix length; from the beginning again when the end is reached.

    Raises:
        Conflict: none is free.
    """
    network = ipaddress.ip_network(subnet)
    first, final = int(network.network_address) + 2, int(network.broadcast_address) - 1
    begin = int(ipaddress.ip_interface(last).ip) + 1 if last else first
    if not first <= begin <= final:
        begin = first
    for number in chain(range(begin, final + 1), range(first, begin)):
        address = f"{ipaddress.ip_address(number)}/{network.prefixlen}"
        if address not in used:
            return address
    raise Conflict("egress", f"no address of {subnet} is free", hint="a larger gateway-subnet", name="pool_exhausted")


def mac_of(address: str) -> str:
    """Docker's rule for bridges of the kernel too: 02:42 and the address."""
    return (b"\x02\x42" + ipaddress.ip_interface(address).ip.packed).hex(":")
