"""Conflicts: who wins when two say they own one thing. Pure functions of the records and of who is alive.

A conflict is a *set* of claimants with one winner, never a last writer: when the winner goes, the next one is there
(libnetwork's setmatrix). Two claims of one address arise from `available` networks under partition, from take-over, and
from a fenced node that comes back with its endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .records import Network, NodeId

__all__ = ["AddressClaim", "network_names", "vni_owner", "winner_of"]


@dataclass(frozen=True, slots=True)
class AddressClaim:
    """One endpoint's claim to an address or MAC."""

    endpoint: bytes
    owner: NodeId
    alive: bool
    entitled: bool  # a block that the owner holds covers it, or it is lent to the owner
    supersedes: bytes


def winner_of(claims: Iterable[AddressClaim]) -> AddressClaim | None:
    """Alive beats dead; then whoever took it over beats whom it took it from; then the entitled; then the lower id."""
    candidates = list(claims)
    if not candidates:
        return None
    alive = any(claim.alive for claim in candidates)
    candidates = [claim for claim in candidates if claim.alive == alive]
    superseded = {claim.supersedes for claim in candidates if claim.supersedes != claim.endpoint}
    remaining = [claim for claim in candidates if claim.endpoint not in superseded] or candidates
    return min(remaining, key=lambda claim: (not claim.entitled, claim.endpoint, claim.owner))


def network_names(networks: Mapping[bytes, Network]) -> dict[bytes, str]:
    """The shown name of every network: the lowest id owns the plain name, the others are NAME~ID4."""
    owner: dict[str, bytes] = {}
    for identifier in sorted(networks):
        owner.setdefault(networks[identifier].name, identifier)
    return {
        identifier: network.name if owner[network.name] == identifier else f"{network.name}~{identifier.hex()[:4]}"
        for identifier, network in networks.items()
    }


def vni_owner(networks: Mapping[bytes, Network], vni: int) -> bytes | None:
    """The lowest id among the networks with this VNI."""
    return min((identifier for identifier, network in networks.items() if network.vni == vni), default=None)
