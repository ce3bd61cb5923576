"""Addresses: who hands out which, and how many are left.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct


class AddressBlock(Struct):
    """A piece of a subnet that one member hands out. `state` is claimed or held, `holder_state` a member's.

    `used`: addresses of endpoints in it. `usable`: what it has to give, None for IPv6. `lent`: address to member.
    """

    prefix: str
    holder: str
    holder_state: str
    state: str
    used: int
    usable: int | None = None
    local: bool = False
    lent: dict[str, str] = {}


class AddressPool(Struct):
    """One subnet of a network. `usable` is None for IPv6; `unclaimed`: usable addresses in no block yet.

    `reserved`: what is never given out, by its reason.
    """

    network: str
    network_id: str
    subnet: str
    ipam: str
    used: int
    usable: int | None = None
    unclaimed: int | None = None
    ip_ranges: list[str] = []
    reserved: dict[str, str] = {}
    blocks: list[AddressBlock] = []
