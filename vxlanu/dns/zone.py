"""The names of one network: what a question that arrives at its gateway is answered with.

    NAME, ALIAS, and both with .NETWORK, each with and without .vxlanu.internal    → the endpoint's addresses
    the reverse names of addresses in the network's subnets                        → NAME.NETWORK.vxlanu.internal

Rules of this file
  1. Pure: records and a question in, an answer out. No clock, no I/O.
  2. A question costs the addresses that it is answered with, neither all that a name has nor those of the network:
     names are in an index of the endpoints whose hosts live. A changed endpoint alters it in its own names, a changed
     member in those of its endpoints. Whether an address is its claimant's, which others decide too, is asked of the
     records at the time of the question, where it is a look-up.
  3. Endpoints of other networks are never seen. Those of dead hosts are hidden, as DESIGN.md 4 has it.
  4. NXDOMAIN is final for a resolver: it asks no other server. So it is said only of what no other server can know,
     names below vxlanu.internal that could only be this network's, and its own reverse names. A single label that
     nobody here has may be a name of another network of the same container, whose gateway is the next server in its
     list, or a name of the runtime's: REFUSED makes the resolver ask there. For the same reason names below
     vxlanu.internal with the name of another network behind them are refused.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from vxlanu.control.core.effects import State
from vxlanu.control.core.records import Endpoint, EndpointId, Network, NetworkId, NodeId
from vxlanu.control.core.view import EndpointView
from vxlanu.dns.limits import ADDRESSES_KEPT, STREAM_ADDRESSES_MAX

__all__ = ["AAAA", "ANY", "PTR", "ZONE", "A", "Found", "Kind", "Records", "Zone", "reversed_address"]

ZONE = "vxlanu.internal"
A, NS, SOA, PTR, AAAA, DS, DNSKEY, ANY = 1, 2, 6, 12, 28, 43, 48, 255
_OF_ZONES = frozenset({NS, SOA, DS, DNSKEY})
"""Types that are asked of top-level domains by resolvers, and never of hosts."""
_VERSIONS = {A: (4,), AAAA: (6,), ANY: (4, 6)}
_LIVE = frozenset({State.ALIVE, State.SUSPECT})


class Kind(StrEnum):
    """Where an answer comes from."""

    RECORD = "record"  # the name of an endpoint
    ALIAS = "alias"  # an alias, of one or of several
    REVERSE = "reverse"
    ZONE = "zone"  # a name that is there only because others are below it
    UNKNOWN = "unknown"  # ours to know, and not there
    FOREIGN = "foreign"  # for the host's resolvers
    REFUSED = "refused"  # for another server of the client, see rule 4


@dataclass(frozen=True, slots=True)
class Found:
    """`values`: addresses, or names without the final dot; none: the name is there, but nothing of that type."""

    kind: Kind
    values: tuple[str, ...] = ()
    why: str = ""
    inside: bool = False
    """Whether the name as asked is below vxlanu.internal."""
    looked: int = 0
    """How many addresses were looked at: what the answer cost."""
    more: bool = False
    """Whether the name has others, whose turn comes."""


class Records(Protocol):
    """The questions that names ask; `vxlanu.control.core.view.View` answers them."""

    def records_of(self, network: NetworkId, endpoint: EndpointId | None = None) -> list[tuple[NodeId, Endpoint]]: ...
    def holds(self, network: NetworkId, address: str, endpoint: EndpointId, owner: NodeId) -> bool: ...
    def is_live(self, node: NodeId) -> bool: ...
    def winner(self, network: NetworkId, address_or_mac: str) -> EndpointView | None: ...


_Claimant = tuple[bytes, NodeId]  # endpoint id, its writer
_Told = tuple[bytes, NodeId, str]  # one address of a claimant


@dataclass(slots=True)
class _Name:
    """What one name is answered with: addresses of endpoints of living hosts, in a fixed order."""

    by_version: dict[int, list[_Told]]
    own: int = 0
    """How many of the endpoints are called so, rather than have it as an alias."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One endpoint as its record has it. `names`: in lower case, each once; none without addresses."""

    own: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]


class Zone:
    """The names of one network, kept in step by `endpoint_changed` and `member_changed`."""

    def __init__(self, network: Network, records: Records) -> None:
        self.network = network
        self._id = NetworkId(network.id)
        self._records = records
        self._own_name = network.name.lower()
        self._subnets = [ipaddress.ip_network(subnet) for subnet in network.subnets]
        self._names: dict[str, _Name] = {}
        self._above: dict[str, int] = {}
        """Names that have names below them, and how many."""
        self._entries: dict[_Claimant, _Entry] = {}
        self._owners_of: dict[bytes, list[NodeId]] = {}
        self._endpoints_of: dict[NodeId, set[bytes]] = {}
        self._live: set[NodeId] = set()
        """Those whose endpoints are in `_names`."""
        for owner, body in records.records_of(self._id):
            self._enter(owner, body)

    def member_changed(self, node: NodeId) -> None:
        """A member is in another state: its endpoints are shown or hidden."""
        live = self._records.is_live(node)
        if live == (node in self._live):
            return
        (self._live.add if live else self._live.discard)(node)
        for endpoint in self._endpoints_of.get(node, ()):
            self._show((endpoint, node), live)

    def endpoint_changed(self, endpoint: bytes) -> None:
        """One endpoint is new, another, or gone."""
        for owner in self._owners_of.pop(endpoint, ()):
            self._leave((endpoint, owner))
        for owner, body in self._records.records_of(self._id, EndpointId(endpoint)):
            self._enter(owner, body)

    def _enter(self, owner: NodeId, body: Endpoint) -> None:
        names = tuple({name.lower() for name in (body.name, *body.aliases)})
        addresses = tuple(_plain(address) for address in body.addresses)
        entry = _Entry(body.name.lower(), names if addresses else (), addresses)
        self._entries[body.id, owner] = entry
        self._owners_of.setdefault(body.id, []).append(owner)
        if owner not in self._endpoints_of and self._records.is_live(owner):
            self._live.add(owner)
        self._endpoints_of.setdefault(owner, set()).add(body.id)
        if owner in self._live:
            self._show((body.id, owner), True)

    def _leave(self, claimant: _Claimant) -> None:
        endpoint, owner = claimant
        if owner in self._live:
            self._show(claimant, False)
        del self._entries[claimant]
        self._endpoints_of[owner].discard(endpoint)
        if not self._endpoints_of[owner]:
            del self._endpoints_of[owner]
            self._live.discard(owner)

    def _show(self, claimant: _Claimant, shown: bool) -> None:
        """Into the names, or out of them."""
        entry = self._entries[claimant]
        for text in entry.names:
            name = self._names.get(text) or self._names.setdefault(text, _Name({4: [], 6: []}))
            name.own += (text == entry.own) * (1 if shown else -1)
            for address in entry.addresses:
                told, one = name.by_version[6 if ":" in address else 4], (*claimant, address)
                if shown:
                    insort(told, one)
                else:
                    del told[bisect_left(told, one)]
            if not any(name.by_version.values()):
                del self._names[text]
            if "." in text:
                self._count_above(text, 1 if shown else -1)

    def _count_above(self, name: str, change: int) -> None:
        for above in _above(name):
            self._above[above] = self._above.get(above, 0) + change
            if not self._above[above]:
                del self._above[above]

    def find(self, name: str, rtype: int, turn: int = 0, most: int = STREAM_ADDRESSES_MAX) -> Found:
        """The answer to a question: `name` in lower case, without the final dot.

        Of many addresses `most` are looked at, from the one whose turn it is; more only until one is found that counts.
        """
        if name.endswith(".arpa"):
            return self._find_reverse(name, rtype)
        inside = name == ZONE or name.endswith("." + ZONE)
        rest = name.removesuffix(ZONE).removesuffix(".") if inside else name
        meant = [it for text in self._forms(rest) if (it := self._names.get(text)) is not None]
        asked = [name.by_version[version] for name in meant for version in _VERSIONS.get(rtype, ())]
        values, looked = self._told(asked, turn, most)
        if values or any(self._holds(one) for name in meant for told in name.by_version.values() for one in told):
            kind = Kind.RECORD if any(name.own for name in meant) else Kind.ALIAS
            return Found(kind, values, inside=inside, looked=looked, more=looked < sum(map(len, asked)))
        if inside:
            return self._absent(rest)
        if name and "." not in name and rtype not in _OF_ZONES:
            why = f"a single label, and nobody in {self.network.name} has it; another server may know it"
            return Found(Kind.REFUSED, why=why)
        return self._foreign()

    def _forms(self, rest: str) -> tuple[str, ...]:
        """The names that endpoints may have which this one means: itself, and what stands before the network's."""
        plain = rest.removesuffix("." + self._own_name)
        return (rest,) if plain == rest else (rest, plain)

    def _told(self, lists: Sequence[Sequence[_Told]], turn: int, most: int) -> tuple[tuple[str, ...], int]:
        """Addresses that count, each once, and how many were looked at."""
        count, looked = sum(map(len, lists)), 0
        found: dict[str, None] = {}
        for one in _round(lists, turn % count) if count else ():
            if looked >= most and found:
                break
            looked += 1
            if self._holds(one):
                found[one[2]] = None
        return tuple(found), looked

    def _holds(self, one: _Told) -> bool:
        endpoint, owner, address = one
        return self._records.holds(self._id, address, EndpointId(endpoint), owner)

    def _absent(self, rest: str) -> Found:
        """Below vxlanu.internal, and no endpoint's."""
        below_own = rest.endswith("." + self._own_name)
        relative = rest.removesuffix("." + self._own_name) if below_own else rest
        if relative in ("", self._own_name) or relative in self._above:
            return Found(Kind.ZONE, inside=True, why="only names below it have addresses")
        if "." in relative and not below_own:
            why = f"not a name of {self.network.name}; another network may have it"
            return Found(Kind.REFUSED, inside=True, why=why)
        return Found(Kind.UNKNOWN, inside=True, why=f"nobody in {self.network.name} has this name")

    def _foreign(self) -> Found:
        if self.network.internal:
            return Found(Kind.REFUSED, why=f"{self.network.name} is internal: foreign names are not forwarded")
        return Found(Kind.FOREIGN)

    def _find_reverse(self, name: str, rtype: int) -> Found:
        address = reversed_address(name)
        if address is None or not any(address in subnet for subnet in self._subnets):
            return self._foreign()
        winner = self._records.winner(self._id, str(address))
        if winner is None or winner.owner_state not in _LIVE:
            return Found(Kind.UNKNOWN, why=f"nobody in {self.network.name} has {address}")
        if rtype not in (PTR, ANY):
            return Found(Kind.REVERSE)
        return Found(Kind.REVERSE, (f"{winner.body.name}.{self.network.name}.{ZONE}",))


def _round(lists: Sequence[Sequence[_Told]], start: int) -> Iterator[_Told]:
    """Once round all lists, as if they were one, from a place on."""
    cuts = []
    for each in lists:
        cut = min(start, len(each))
        start -= cut
        cuts.append((each, cut))
        yield from (each[at] for at in range(cut, len(each)))
    for each, cut in cuts:
        yield from (each[at] for at in range(cut))


@lru_cache(ADDRESSES_KEPT)
def _plain(address: str) -> str:
    """Without its prefix length. Reading it is most of what a name with hundreds of holders costs."""
    return str(ipaddress.ip_interface(address).ip)


def _above(name: str) -> list[str]:
    """The names that must be there because `name` is: b.c and c above a.b.c (RFC 8020)."""
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(1, len(labels))]


def reversed_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Which address a reverse name is of; None for one that is not whole."""
    labels = name.split(".")[::-1]
    try:
        if labels[:2] == ["arpa", "in-addr"] and len(labels) == 6:
            return ipaddress.IPv4Address(".".join(labels[2:]))
        if labels[:2] == ["arpa", "ip6"] and len(labels) == 34 and all(len(nibble) == 1 for nibble in labels[2:]):
            return ipaddress.IPv6Address(bytes.fromhex("".join(labels[2:])))
    except ValueError:
        pass
    return None
