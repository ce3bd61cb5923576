"""What a netlink message means for injection: mostly nothing, for on a busy host they are of containers that come and
go, and of neighbours that are as they were.

Rules of this file
  1. It tells only what has to be looked at, never what is true now. A message that is not understood, or that was lost,
     means a look.
  2. A route matters if what it leads to has one of our addresses in it, whatever device it is by.
  3. A link that goes down takes its IPv4 routes along without a word: as long as anybody is reached by another link
     than the uplink, all links matter. Where routes are passed over while their link has no carrier, they always do:
     one that gets it is no news of its routes either.
  4. A neighbour that is only stale can wait: its MAC counts on, the kernel just has to be made to ask again.
  5. One that has another MAC, or none, cannot wait even for a look: `moved` tells what must not go by it any more.
"""

from __future__ import annotations

import socket
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from vxlanu.nsopen import NextHop, NextHops, UplinkFacts
from vxlanu.nsopen.rtnetlink import NUD_STALE, NUD_VALID, attributes, messages

__all__ = ["Bearing", "Weight"]

NEWLINK, DELLINK, NEWADDR, DELADDR, NEWROUTE, DELROUTE, NEWNEIGH, DELNEIGH = 16, 17, 20, 21, 24, 25, 28, 29
QUEUES_AND_FILTERS = frozenset((36, 37, 40, 41, 44, 45, 100, 101))  # RTM_NEW and RTM_DEL of qdisc, class, filter, chain
IFLA_IFNAME = 3
RTA_DST = NDA_DST = 1
NDA_LLADDR = 2
LINK_BYTES, ROUTE_BYTES, NEIGHBOUR_BYTES = 16, 12, 12  # struct ifinfomsg, rtmsg, ndmsg
INDEX = struct.Struct("=i")  # behind the first four bytes of ifinfomsg, ifaddrmsg, tcmsg and ndmsg
STATE = struct.Struct("=H")  # of ndmsg, behind that
WIDTH: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}
UNREADABLE = (struct.error, OSError, LookupError, ValueError)  # cut short, or of a kind that is new


class Weight(IntEnum):
    """How soon a look is due."""

    NOTHING = 0
    LATER = 1
    NOW = 2


@dataclass(frozen=True, slots=True)
class Bearing:
    """What the last look went by.

    devices: the uplink and its TAP. addresses: ours and of the VTEPs (`_key`), sorted. hops: as found, by address.
    neighbours: next hops with their MACs, empty while not known. all_links: routes may change without a message of
    their own.
    """

    devices: frozenset[int]
    ifname: str
    addresses: tuple[bytes, ...]
    hops: Mapping[str, NextHop]
    neighbours: Mapping[bytes, bytes]
    all_links: bool

    @classmethod
    def after(cls, found: NextHops, opened: UplinkFacts, addresses: Iterable[str], own: str) -> Bearing:
        """A look at `addresses` with that result."""
        asked = frozenset(addresses)
        return cls(
            devices=frozenset((opened.index, opened.uplink)),
            ifname=opened.uplink_ifname,
            addresses=tuple(sorted(_key(_packed(it)) for it in asked | {own})),
            hops=found.items,
            neighbours={_packed(it.via): bytes.fromhex(it.mac.replace(":", "")) for it in found.items.values()},
            all_links=found.carrier or not asked <= found.items.keys(),
        )

    def of(self, bundle: bytes) -> Weight:
        """Of a bundle of messages; empty: some were lost."""
        if not bundle:
            return Weight.NOW
        try:
            return max((self._one(kind, body) for kind, _, body in messages(bundle)), default=Weight.NOTHING)
        except UNREADABLE:
            return Weight.NOW

    def moved(self, bundle: bytes) -> set[str]:
        """The addresses whose next hop has another MAC than we know, or none, as neighbour messages in a bundle say."""
        neighbours = set[bytes]()
        with suppress(*UNREADABLE):
            for kind, _, body in messages(bundle):
                if kind in (NEWNEIGH, DELNEIGH) and self._one(kind, body) is Weight.NOW:
                    neighbours.add(attributes(body, NEIGHBOUR_BYTES, frozenset((NDA_DST,)))[NDA_DST])
        return {address for address, hop in self.hops.items() if _packed(hop.via) in neighbours}

    def _one(self, kind: int, body: bytes) -> Weight:
        if kind in (NEWLINK, DELLINK):
            bears = self.all_links or self._of_device(body) or self._of_name(body)
        elif kind in (NEWADDR, DELADDR) or kind in QUEUES_AND_FILTERS:
            bears = self._of_device(body)
        elif kind in (NEWROUTE, DELROUTE):
            bears = self._of_route(body)
        elif kind in (NEWNEIGH, DELNEIGH):
            return self._neighbour(body, gone=kind == DELNEIGH) if self._of_device(body) else Weight.NOTHING
        else:
            bears = True
        return Weight.NOW if bears else Weight.NOTHING

    def _of_device(self, body: bytes) -> bool:
        return INDEX.unpack_from(body, 4)[0] in self.devices

    def _of_name(self, body: bytes) -> bool:
        """Whether a link is called as the uplink is, or was: another one takes its place."""
        name = attributes(body, LINK_BYTES, frozenset((IFLA_IFNAME,))).get(IFLA_IFNAME, b"")
        return name.rstrip(b"\0") == self.ifname.encode()

    def _of_route(self, body: bytes) -> bool:
        """Whether it leads to one of the addresses: whether the first one that is not below its prefix is in it."""
        width, bits = WIDTH[body[0]], body[1]
        prefix = attributes(body, ROUTE_BYTES, frozenset((RTA_DST,))).get(RTA_DST, bytes(width))
        behind = (1 << 8 * width - bits) - 1
        first = int.from_bytes(prefix) & ~behind
        at = bisect_left(self.addresses, _key(first.to_bytes(width)))
        return at < len(self.addresses) and self.addresses[at] <= _key((first | behind).to_bytes(width))

    def _neighbour(self, body: bytes, *, gone: bool) -> Weight:
        """Of a neighbour on the uplink: is its MAC what we know?"""
        said = attributes(body, NEIGHBOUR_BYTES, frozenset((NDA_DST, NDA_LLADDR)))
        state = STATE.unpack_from(body, 8)[0]
        known = self.neighbours.get(said.get(NDA_DST, b""))
        if known is None:
            return Weight.NOTHING
        if known != (said.get(NDA_LLADDR, b"") if state & NUD_VALID and not gone else b""):
            return Weight.NOW
        return Weight.LATER if state & NUD_STALE else Weight.NOTHING


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _key(packed: bytes) -> bytes:
    """By which those of one family are beside each other."""
    return bytes((len(packed),)) + packed
