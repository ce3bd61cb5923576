"""Addresses: who hands out which, and how many are left.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct


class AddressBlock(Struct):
    """A piece of a subnet that one member hands out. `state` is claimed or held, `holder_state` a member's.

    `used`: addresses of endpoints in it. `usable`: what it has to give, None for IPv6. `lent`: address to member.
    `reclaimable`: the holder does not answer; `ipam reclaim` can give the block back if it is gone for good.
    """

    prefix: str
    holder: str
    holder_state: str
    state: str
    used: int
    usable: int | None = None
    local: bool = False
    lent: dict[str, str] = {}
    reclaimable: bool = False


class AddressPool(Struct):
    """One subnet of a network. `usable` is None for IPv6; `unclaimed`: usable addresses in no block yet.

    `reserved`: what is never given out, by its reason. `unused`: leased on this host to nothing that it knows.
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
    unused: list[str] = []


class Reclaim(Struct, forbid_unknown_fields=True):
    """`ipam reclaim [MEMBER]…`. No `members`: those that the cluster has given up, and what is unused here."""

    members: list[str] = []
    dry_run: bool = False


class Reclaimed(Struct):
    """What is free again. `state` is held or claimed (a block), lent (an address that the holder had borrowed), or
    unused (an address that this host had leased to nothing).

    `used`: addresses of the holder's endpoints in it, which are gone with it.
    """

    network: str
    network_id: str
    prefix: str
    state: str
    holder: str
    holder_id: str
    holder_state: str
    used: int = 0
