"""Which address the other hosts shall use for this one (DESIGN.md 4, Node).

An address given is checked to be ours; an interface given yields its first global address, IPv4 before IPv6. Nothing
given means the source address of the route to the first seed that has one, else of a default route, else the first
global address.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass

from vxlanu.config import split_host_port
from vxlanu.errors import BadRequest, Refused
from vxlanu.nsopen import InterfaceAddress, NamespaceHelper

SIOCGIFMTU = 0x8921  # linux/sockios.h
IFREQ_MTU = struct.Struct("16si20x")  # linux/if.h: struct ifreq, of 40 bytes
FAR_AWAY = ("192.0.2.1", "2001:db8::1")  # documentation prefixes: only a default route leads there (RFC 5737, RFC 3849)


@dataclass(frozen=True, slots=True)
class Underlay:
    """The address chosen, and what the interface that has it can carry."""

    address: str
    ifname: str
    first_mtu: int

    @property
    def mtu(self) -> int:
        """As it is now, for it can be changed under a running agent; as it was first where the interface is away."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            try:
                reply = fcntl.ioctl(asking, SIOCGIFMTU, IFREQ_MTU.pack(self.ifname.encode(), 0))
            except OSError:
                return self.first_mtu
        return int(IFREQ_MTU.unpack(reply)[1])

    @property
    def overhead(self) -> int:
        """Bytes that encapsulation adds to an inner IP packet: Ethernet 14, VXLAN 8, UDP 8, and the outer IP header."""
        return 50 if ipaddress.ip_address(self.address).version == 4 else 70


async def choose(wanted: str, seeds: tuple[str, ...], helper: NamespaceHelper) -> Underlay:
    """The address to advertise.

    Raises:
        BadRequest: what was given is neither an address of this host nor an interface with one.
        Refused: nothing was given and this host has no global address.
    """
    addresses = [found for found in await helper.addresses() if found.scope == "global" or found.address == wanted]
    addresses.sort(key=lambda found: ":" in found.address)
    text = wanted or await _source(seeds, helper)
    for found in addresses:
        if text in (found.address, found.ifname) or not text:
            return await _underlay(found, helper)
    if not text:
        raise Refused(
            "advertise", "this host has no global address", hint="--advertise IP|IFACE", name="no_address"
        )
    shown = ", ".join(f"{found.address} on {found.ifname}" for found in addresses) or "none"
    raise BadRequest(
        f"advertise {text}", f"not an address of this host and no interface with one (it has {shown})", name="advertise"
    )


async def _source(seeds: tuple[str, ...], helper: NamespaceHelper) -> str:
    """The source address the kernel takes towards a seed, else towards far away; empty when there is no route."""
    towards = [address for seed in seeds for address in await _resolve(seed)]
    for address in (*towards, *FAR_AWAY):
        route = await helper.route_to(address)
        if route and route.source and not ipaddress.ip_address(route.source).is_loopback:
            return route.source
    return ""


async def _resolve(seed: str) -> list[str]:
    host, _ = split_host_port(seed)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError:
        return []  # an unknown seed is not fatal: joining goes on for ever
    return [str(entry[4][0]) for entry in found]


async def _underlay(found: InterfaceAddress, helper: NamespaceHelper) -> Underlay:
    link = next((link for link in await helper.links() if link.index == found.ifindex), None)
    return Underlay(found.address, found.ifname, link.mtu if link else 1500)
