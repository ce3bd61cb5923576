"""Leases: which addresses of our blocks are given out, to our endpoints or on loan, and which rest.

How it works
  An allocation is a row "alloc" (network + address -> endpoint, loan tag), durable before anybody hears of it. A freed
  address keeps its row with an empty endpoint and rests for 60 s; then it may be picked again, the longest free first.
  A loan to another node is an entry in our block record, so it is as durable and as visible as the block itself.
  An address that is a block of its own is held for its endpoint and not to pick from: when it has rested it is let go.

Why addresses rest: MAC and address of a new endpoint are those of the old one, and somebody may still have the old
place in a cache (moby #52661). One that is asked for by name may be had at once: the user knows what he is doing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import msgspec

from .config import Profile
from .index import Index
from .members import MemberTable
from .out import Outbox
from .pack import convert, pack, unpack
from .pool import IPAddress, IPNetwork, Pool, parse_prefix
from .records import Block, EndpointId, Kind
from .writer import Writer

__all__ = ["IPAddress", "Lease", "Leases"]


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """One allocated address of ours; an empty endpoint means that it rests.

    `tag`: of the loan, where it is borrowed. `taken`: it was taken over from an endpoint of a dead host.
    """

    endpoint: EndpointId
    tag: bytes = b""
    taken: bool = False


class Leases:
    """Our allocations, and the picking of addresses from our held blocks."""

    def __init__(self, table: MemberTable, index: Index, writer: Writer, profile: Profile, out: Outbox) -> None:
        self.given: defaultdict[bytes, dict[IPAddress, Lease]] = defaultdict(dict)
        self._freed: defaultdict[bytes, dict[IPAddress, float]] = defaultdict(dict)  # when it was freed
        self._table = table
        self._index = index
        self._writer = writer
        self._profile = profile
        self._out = out

    def held(self, network: bytes) -> list[tuple[IPv4Network, Block]]:
        """Our IPv4 blocks, from which we pick."""
        mine = [block for block in self._ours(network) if ":" not in block.prefix]
        return sorted(((IPv4Network(block.prefix), block) for block in mine), key=lambda pair: pair[0])

    def block_with(self, network: bytes, address: IPAddress) -> Block | None:
        """Our held block that covers an address, if it is ours to give."""
        return next((block for block in self._ours(network) if address in parse_prefix(block.prefix)), None)

    def rests(self, network: bytes, address: IPAddress, now: float) -> bool:
        """Whether an address was somebody's a moment ago."""
        since = self._freed[network].get(address)
        return since is not None and now - since < self._profile.address_cooldown

    def pick(self, network: bytes, pool: Pool, now: float) -> IPv4Address | None:
        """A free address of a held block: never used ones first, then the one that has rested longest."""
        freed = self._freed[network]
        best: tuple[float, IPv4Address] | None = None
        for address in self._free(network, pool):
            since = freed.get(address)
            if since is None:
                return address
            if now - since >= self._profile.address_cooldown and (best is None or since < best[0]):
                best = (since, address)
        return best[1] if best is not None else None

    def count_free(self, network: bytes, pool: Pool) -> int:
        """How many could be handed out without asking anyone (resting ones included)."""
        return sum(1 for _ in self._free(network, pool))

    def of_endpoint(self, network: bytes, endpoint: EndpointId, subnets: list[IPNetwork]) -> IPAddress | None:
        """What an endpoint has already in one of these subnets."""
        given = self.given[network].items()
        mine = (address for address, lease in given if lease.endpoint == endpoint)
        return next((address for address in mine if any(address in subnet for subnet in subnets)), None)

    def grant(self, network: bytes, address: IPAddress, lease: Lease) -> None:
        """Write down that an address is an endpoint's. Durable before any effect that follows."""
        self.given[network][address] = lease
        self._freed[network].pop(address, None)
        self._out.persist("alloc", network + address.packed, pack(lease), durable=True)

    def release(self, network: bytes, endpoint: EndpointId, now: float) -> list[tuple[IPAddress, Lease]]:
        """Take back everything of an endpoint; returns what it had."""
        mine = [(a, lease) for a, lease in self.given[network].items() if lease.endpoint == endpoint]
        for address, lease in mine:
            del self.given[network][address]
            if not lease.tag and self.block_with(network, address) is not None:
                self._rest(network, address, now)
            elif isinstance(address, IPv6Address):
                self._rest_briefly(network, address, now)
            else:
                self._erase(network, address)
        return mine

    def drop(self, network: bytes, address: IPAddress) -> None:
        """Strike out a lease that stands no more."""
        del self.given[network][address]
        self._erase(network, address)

    def lend(self, network: bytes, block: Block, address: IPAddress, tag: bytes, now: float) -> None:
        """Write a loan into our block record."""
        self._put(network, block, {**block.loans, str(address): tag}, now)

    def lent_from(self, network: bytes, address: IPAddress) -> Block | None:
        """Our block in which a loan of this address stands."""
        blocks = self._index.blocks.get(network, {}).items()
        mine = (block for (owner, _), block in blocks if owner == self._table.me and str(address) in block.loans)
        return next(mine, None)

    def returned(self, network: bytes, block: Block, address: IPAddress, now: float) -> None:
        """A loan is over."""
        loans = {text: tag for text, tag in block.loans.items() if text != str(address)}
        self._put(network, block, loans, now)
        if address not in self.given[network]:  # else it was taken over while it was lent
            self._rest(network, address, now)

    def let_go_idle(self, network: bytes, block: Block, now: float) -> None:
        """Give up a block of ours of which nothing is in use and everything has rested, if it is a single address or
        another holds it too (rule of `_ours`): anybody may claim it."""
        prefix = parse_prefix(block.prefix)
        single = prefix.num_addresses == 1
        if block.state != "held" or block.loans or not (single or block.prefix in self._disputed(network)):
            return
        freed = self._freed[network]
        given = self.given[network]
        if any(address in prefix for address in given) or any(
            it in prefix and self.rests(network, it, now) for it in freed
        ):
            return
        for address in [it for it in freed if it in prefix]:
            del freed[address]
            self._erase(network, address)
        self._writer.delete(Kind.BLOCK, network + block.prefix.encode(), now)

    def clear(self) -> None:
        """We leave: every lease ends with the block that it came from."""
        for network in [*self.given, *self._freed]:
            self.drop_network(network)

    def drop_network(self, network: bytes) -> None:
        """The network is gone: forget what we gave out."""
        for table in (self.given.pop(network, {}), self._freed.pop(network, {})):
            for address in table:
                self._out.erase("alloc", network + address.packed)

    def load(self, key: bytes, row: bytes, now: float) -> None:
        """An "alloc" row. What rested begins to rest anew: the clock did not survive."""
        lease = convert(unpack(row, 256), Lease)
        address = ip_address(key[16:])
        if lease.endpoint:
            self.given[key[:16]][address] = lease
        else:
            self._freed[key[:16]][address] = now

    def _free(self, network: bytes, pool: Pool) -> Iterator[IPv4Address]:
        given = self.given[network]
        for prefix, block in self.held(network):
            for address in pool.usable(prefix):
                text = str(address)
                if address not in given and text not in block.loans and (network, text) not in self._index.claims:
                    yield address  # the last: not even by someone who has no right to it

    def _erase(self, network: bytes, address: IPAddress) -> None:
        self._out.erase("alloc", network + address.packed, durable=True)

    def _rest(self, network: bytes, address: IPAddress, now: float) -> None:
        self._freed[network][address] = now
        self._out.persist("alloc", network + address.packed, pack(Lease(EndpointId(b""))), durable=True)

    def _rest_briefly(self, network: bytes, address: IPv6Address, now: float) -> None:
        """Of no block of ours. In memory only, and while it matters: a hash gives every endpoint another address, the
        rows would pile up."""
        freed = self._freed[network]
        for old in [it for it in freed if it.version == 6]:  # in the order in which they were freed
            if self.rests(network, old, now):
                break
            del freed[old]
        freed.pop(address, None)
        freed[address] = now
        self._erase(network, address)

    def _ours(self, network: bytes) -> list[Block]:
        """The blocks that are ours to give from. Where two came to hold one under a partition (`available`), it is the
        lower id's from the moment they see each other; what the other has given of it stays as it is."""
        blocks, me = self._index.blocks.get(network, {}), self._table.me
        disputed = self._disputed(network)
        mine = (block for (owner, _), block in blocks.items() if owner == me and block.state == "held")
        return [block for block in mine if block.prefix not in disputed]

    def _disputed(self, network: bytes) -> set[str]:
        """The blocks that a live member with a lower id holds."""
        blocks, me = self._index.blocks.get(network, {}), self._table.me
        lower = ((owner, prefix) for (owner, prefix), block in blocks.items() if owner < me and block.state == "held")
        return {prefix for owner, prefix in lower if self._table.is_live(owner)}

    def _put(self, network: bytes, block: Block, loans: dict[str, bytes], now: float) -> None:
        changed = Block(network=network, prefix=block.prefix, state=block.state, loans=loans)
        self._writer.put(Kind.BLOCK, network + block.prefix.encode(), changed, now)
