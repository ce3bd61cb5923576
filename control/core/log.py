"""One writer's log: what a node has of the records that one other node (or it itself) owns.

How it works
  A writer numbers its changes 1, 2, 3, ... within an epoch. A log holds the newest record of every key, and `upto`, the
  version up to which nothing is missing. Pushed records may arrive with gaps: those beyond `upto` are used at once and
  remembered in `extras` until the gap is closed by a retransmission or by an exchange.

Rules of this file
  1. `upto` never claims more than is there (Cassandra CASSANDRA-6125: version published before apply).
  2. A tombstone that was dropped raises `floor`. A peer whose `upto` is below it cannot be told what it missed, and is
     reset to the whole set instead (chitchat ALGORITHM.md: last_gc_version). So the life of a tombstone is a matter of
     economy, never of correctness.
  3. Nothing here knows who may write or which epoch counts; that is owned.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .records import Record

__all__ = ["Key", "WriterLog"]

Key = tuple[int, bytes]  # kind, key


@dataclass(slots=True)
class WriterLog:
    """The records of one writer in one epoch. `base`: the version at which the set is complete."""

    epoch: int
    base: int = 0
    upto: int = 0
    floor: int = 0
    records: dict[Key, Record] = field(default_factory=dict)
    expires: dict[Key, float] = field(default_factory=dict)
    extras: set[int] = field(default_factory=set)

    def complete(self) -> bool:
        """Whether the set may be shown."""
        return self.upto >= self.base

    def has(self, version: int) -> bool:
        """Whether the change of that version, or a newer one of the same key, is here."""
        return version <= self.upto or version in self.extras

    def take(self, record: Record) -> Record | None:
        """Put one record in place. Returns it if it is news, None if it is old."""
        if self.has(record.version):
            return None
        if record.version == self.upto + 1:
            self.upto = record.version
            while self.upto + 1 in self.extras:
                self.upto += 1
                self.extras.discard(self.upto)
        else:
            self.extras.add(record.version)
        return record if self.place(record) else None

    def place(self, record: Record) -> bool:
        """Keep the newest record of its key; False when ours is as new."""
        key = (record.kind, record.key)
        known = self.records.get(key)
        if known is not None and known.version >= record.version:
            return False
        self.records[key] = record
        self.expires.pop(key, None)
        return True

    def close_gap(self, upto: int) -> None:
        """Everything up to `upto` is here now."""
        self.upto = max(self.upto, upto)
        while self.upto + 1 in self.extras:
            self.upto += 1
        self.extras = {version for version in self.extras if version > self.upto}

    def since(self, upto: int) -> list[Record]:
        """What a peer lacks that has everything up to `upto`, oldest first."""
        return sorted((r for r in self.records.values() if r.version > upto), key=lambda record: record.version)

    def next_version(self) -> int:
        """For the writer itself: the number of its next change."""
        return self.upto + 1

    def bury(self, key: Key, deadline: float) -> None:
        """A tombstone may be dropped at `deadline`."""
        self.expires[key] = deadline

    def expire(self, now: float) -> list[Key]:
        """Drop tombstones whose life is over, raise the floor."""
        over = [key for key, deadline in self.expires.items() if deadline <= now]
        dropped = []
        for key in over:
            record = self.records[key]
            if record.version <= self.upto:
                del self.records[key], self.expires[key]
                self.floor = max(self.floor, record.version)
                dropped.append(key)
        return dropped

    def live(self) -> Iterable[Record]:
        """The records that are no tombstones."""
        return (record for record in self.records.values() if not record.deleted)
