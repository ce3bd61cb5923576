"""Shared facts: networks, their removal, foreign VTEPs, fences. Facts of the cluster, not of a host.

Rules of this file
  1. There is one record per (kind, key), whoever wrote it; every node keeps all of them and passes them on. So nothing
     that happens to a writer can hide one.
  2. `newer` orders two records of one key and is a pure function: merging commutes, and all nodes end alike.
     The version is a Lamport count per key, ties are broken by the writer's id and the body.
  3. A network's removal is for ever. The removed network's own record and VTEPs are kept only while endpoints of it
     exist, and are otherwise left out of the digests, so that each node may drop them in its own time; where endpoints
     reappear after a partition, the digests differ and the record comes back with them.

Rows: "fact" kind + key -> record. Durable when we wrote it, else like any cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from .errors import RemoteError
from .index import Index
from .limits import FACTS_MAX
from .log import Key
from .out import Outbox
from .pack import convert, pack, unpack
from .records import Kind, NodeId, Record, check_record, is_shared

__all__ = ["Shared", "newer"]


def newer(one: Record, other: Record) -> bool:
    """Whether `one` wins over `other` of the same key."""
    return (one.version, one.writer, one.deleted, one.body) > (other.version, other.writer, other.deleted, other.body)


class Shared:
    """All shared facts that this node has."""

    def __init__(self, me: NodeId, out: Outbox, index: Index) -> None:
        self.facts: dict[Key, Record] = {}
        self._me = me
        self._out = out
        self._index = index

    def write(
        self, kind: Kind, key: bytes, body: bytes, epoch: int, *, deleted: bool = False, version: int = 0
    ) -> Record:
        """Our own change, durable. `version` 0: one more than what is known."""
        known = self.facts.get((kind, key))
        version = version or (known.version + 1 if known is not None else 1)
        record = Record(self._me, epoch, version, kind, key, body, deleted)
        self._keep(record, durable=True)
        return record

    def merge(self, record: Record) -> bool:
        """A fact from a peer. True if it is news."""
        if not is_shared(record.kind):
            raise RemoteError("wrong_shape", "an owned record among the facts")
        known = self.facts.get((record.kind, record.key))
        if known is not None and not newer(record, known):
            return False
        if known is None and len(self.facts) >= FACTS_MAX:
            raise RemoteError("too_many_facts", str(FACTS_MAX))
        if record.kind in (Kind.NETWORK, Kind.VTEP) and self._is_rest(record.key[:16]):
            return False  # rule 3
        self._keep(record, durable=False)
        return True

    def removed(self, network: bytes) -> bool:
        """Whether the network was removed."""
        return (Kind.NETWORK_REMOVED, network) in self.facts

    def compact(self, network: bytes) -> None:
        """Drop the body and VTEPs of a removed network that nobody uses any more (rule 3)."""
        if not self._is_rest(network):
            return
        for kind, key in list(self.facts):
            if kind in (Kind.NETWORK, Kind.VTEP) and key[:16] == network:
                record = self.facts.pop((kind, key))
                self._out.erase("fact", bytes((kind,)) + key)
                self._index.remove(record)

    def load(self, row: bytes) -> None:
        """A row of the state directory."""
        record = check_record(convert(unpack(row, 1 << 20), Record))
        self.facts[record.kind, record.key] = record
        if not record.deleted:
            self._index.add(record)

    def digest(self, buckets: int) -> list[int]:
        """One 63-bit hash per bucket."""
        sums = [0] * buckets
        for record in self.facts.values():
            if record.kind in (Kind.NETWORK, Kind.VTEP) and self._is_rest(record.key[:16]):
                continue
            text = pack((record.kind, record.key, record.version, record.writer))
            bits = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
            sums[bucket_of(record.key, buckets)] ^= bits
        return sums

    def in_buckets(self, wanted: Iterable[int], buckets: int) -> list[Record]:
        """The facts of these buckets."""
        chosen = frozenset(wanted)
        return [record for record in self.facts.values() if bucket_of(record.key, buckets) in chosen]

    def _is_rest(self, network: bytes) -> bool:
        """Whether it is removed and nobody uses it."""
        return self.removed(network) and not self._index.populated(network)

    def _keep(self, record: Record, durable: bool) -> None:
        self.facts[record.kind, record.key] = record
        self._out.persist("fact", bytes((record.kind,)) + record.key, pack(record), durable)
        if record.deleted:
            self._index.remove(record)
        else:
            self._index.add(record)


def bucket_of(key: bytes, buckets: int) -> int:
    """Which bucket a key belongs to. Keys begin with random ids, so their first byte spreads well."""
    return key[0] % buckets
