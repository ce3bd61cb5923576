"""The names of one network: what a question that arrives at its gateway is answered with.

    NAME, ALIAS, and both with .NETWORK, each with and without .vxlanu.internal    → the endpoint's addresses
    the reverse names of addresses in the network's subnets                        → NAME.NETWORK.vxlanu.internal

Rules of this file
  1. Pure: records and a question in, an answer out. No clock, no I/O.
  2. A question costs the endpoints that have the name, not those of the network: names are in an index, which a changed
     endpoint alters in its own names. Whether the holder of a name lives, and whether an address is its own, is asked
     of the records at the time of the question, where both are a look-up; so members may die without a word here.
  3. Endpoints of other networks are never seen. Those of dead hosts are hidden, as DESIGN.md 4 has it.
  4. NXDOMAIN is final for a resolver: it asks no other server. So it is said only of what no other server can know,
     names below vxlanu.internal that could only be this network's, and its own reverse names. A single label that
     nobody here has may be a name of another network of the same container, whose gateway is the next server in its
     list, or a name of the runtime's: REFUSED makes the resolver ask there. For the same reason names below
     vxlanu.internal with the name of another network behind them are refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from vxlanu.control.core.effects import State
from vxlanu.control.core.records import Endpoint, EndpointId, Network, NetworkId
from vxlanu.control.core.view import EndpointView
from vxlanu.dns.limits import ADDRESSES_KEPT

__all__ = ["AAAA", "ANY", "PTR", "ZONE", "A", "Found", "Kind", "Records", "Zone", "reversed_address"]

ZONE = "vxlanu.internal"
A, NS, SOA, PTR, AAAA, DS, DNSKEY, ANY = 1, 2, 6, 12, 28, 43, 48, 255
_OF_ZONES = frozenset({NS, SOA, DS, DNSKEY})
"""Types that are asked of top-level domains by resolvers, and never of hosts."""
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


class Records(Protocol):
    """The questions that names ask; `vxlanu.control.core.view.View` answers them."""

    def endpoints(self, network: NetworkId | None = None) -> list[EndpointView]: ...
    def endpoint(self, endpoint: EndpointId, network: NetworkId | None = None) -> EndpointView | None: ...
    def winner(self, network: NetworkId, address_or_mac: str) -> EndpointView | None: ...


class Zone:
    """The names of one network, kept in step by `endpoint_changed` and `member_changed`."""

    def __init__(self, network: Network, records: Records) -> None:
        self.network = network
        self._id = NetworkId(network.id)
        self._records = records
        self._own_name = network.name.lower()
        self._subnets = [ipaddress.ip_network(subnet) for subnet in network.subnets]
        self._holders: dict[str, dict[bytes, Endpoint]] = {}
        self._names_of: dict[bytes, tuple[str, ...]] = {}
        self._above: dict[str, int] = {}
        """Names that have names below them, and how many."""
        self._stale = False
        self.rebuild()

    def member_changed(self) -> None:
        """A member is in another state, and may show endpoints that it hid: they are read at the next question."""
        self._stale = True

    def rebuild(self) -> None:
        """Read all endpoints."""
        self._stale = False
        for table in (self._holders, self._names_of, self._above):
            table.clear()
        for view in self._records.endpoints(self._id):
            self._enter(view.body)

    def endpoint_changed(self, endpoint: bytes) -> None:
        """One endpoint is new, another, or gone."""
        for name in self._names_of.pop(endpoint, ()):
            holders = self._holders[name]
            del holders[endpoint]
            if not holders:
                del self._holders[name]
            self._count_above(name, -1)
        view = self._records.endpoint(EndpointId(endpoint), self._id)
        if view is not None:
            self._enter(view.body)

    def _enter(self, body: Endpoint) -> None:
        names = tuple({name.lower() for name in (body.name, *body.aliases)})
        for name in names:
            self._holders.setdefault(name, {})[body.id] = body
            self._count_above(name, 1)
        self._names_of[body.id] = names

    def _count_above(self, name: str, change: int) -> None:
        for above in _above(name):
            self._above[above] = self._above.get(above, 0) + change
            if not self._above[above]:
                del self._above[above]

    def find(self, name: str, rtype: int) -> Found:
        """The answer to a question: `name` in lower case, without the final dot."""
        if self._stale:
            self.rebuild()
        if name.endswith(".arpa"):
            return self._find_reverse(name, rtype)
        inside = name == ZONE or name.endswith("." + ZONE)
        rest = name.removesuffix(ZONE).removesuffix(".") if inside else name
        holders = self._living(rest)
        if holders:
            kind = Kind.RECORD if any(rest in _own_names(it, self._own_name) for it in holders) else Kind.ALIAS
            return Found(kind, tuple(self._addresses(holders, rtype)), inside=inside)
        if inside:
            return self._absent(rest)
        if name and "." not in name and rtype not in _OF_ZONES:
            why = f"a single label, and nobody in {self.network.name} has it; another server may know it"
            return Found(Kind.REFUSED, why=why)
        return self._foreign()

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

    def _living(self, name: str) -> list[Endpoint]:
        """The endpoints of living hosts that have a name, with or without the network's behind it; in a fixed order."""
        found: dict[bytes, Endpoint] = dict(self._holders.get(name, {}))
        if name.endswith("." + self._own_name):
            found |= self._holders.get(name.removesuffix("." + self._own_name), {})
        return [found[key] for key in sorted(found) if any(self._is_won(found[key], it) for it in _bare(found[key]))]

    def _is_won(self, body: Endpoint, address: str) -> bool:
        winner = self._records.winner(self._id, address)
        return winner is not None and winner.body.id == body.id and winner.owner_state in _LIVE

    def _addresses(self, holders: Iterable[Endpoint], rtype: int) -> Iterable[str]:
        for body in holders:
            for address in _bare(body):
                if rtype in (ANY, AAAA if ":" in address else A) and self._is_won(body, address):
                    yield address

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


def _own_names(body: Endpoint, network: str) -> tuple[str, str]:
    """How an endpoint is called by its own name."""
    name = body.name.lower()
    return name, f"{name}.{network}"


def _bare(body: Endpoint) -> list[str]:
    """Addresses as records are asked for them."""
    return [_plain(address) for address in body.addresses]


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
