"""Owned records: one log per writer, ours among them.

Rules of this file
  1. Only the writer changes or deletes its records; everybody else passes them on as they are.
  2. A higher epoch replaces the whole older set, but only once it is complete (`base`): while a restarted node tells
     its records again, its old ones stay in use. The same holds for a reset within an epoch.
  3. A fence (epoch) voids everything up to it, and what comes late is refused.

Rows: "log" writer -> header; "rec" writer + kind + key -> record; "own" kind + key -> our record (durable).
Header rows follow their records, so that a crash between the two makes us ask again rather than miss something.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .config import Profile
from .errors import RemoteError
from .index import Index
from .limits import DELTA_BYTES_TARGET, MEMBERS_MAX, RECORDS_PER_WRITER_MAX
from .log import Key, WriterLog
from .messages import Delta
from .out import Outbox
from .pack import convert, pack, unpack
from .records import NodeId, Record, check_record, is_shared

__all__ = ["Owned"]


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """The row of a log without its records."""

    epoch: int
    base: int
    upto: int
    floor: int


class Owned:
    """All owned records that this node has."""

    def __init__(self, me: NodeId, profile: Profile, out: Outbox, index: Index) -> None:
        self.me = me
        self.logs: dict[NodeId, WriterLog] = {}
        self._pending: dict[NodeId, WriterLog] = {}
        self._fences: dict[NodeId, int] = {}
        self._profile = profile
        self._out = out
        self._index = index

    # our own

    def begin(self, epoch: int, mine: Iterable[Record]) -> None:
        """Take up our records under a new epoch. Block claims that were never held end here."""
        log = WriterLog(epoch)
        old = self.logs.get(self.me)
        for record in list(old.live()) if old is not None else []:
            self._index.remove(record)
        self.logs[self.me] = log
        for record in mine:
            fresh = Record(self.me, epoch, log.next_version(), record.kind, record.key, record.body)
            log.take(fresh)
            self._index.add(fresh)
        log.base = log.upto

    def write(self, kind: int, key: bytes, body: bytes, deleted: bool, now: float) -> Record:
        """Our own change: durable first, then visible."""
        log = self.logs[self.me]
        life = int(self._profile.tombstone_life) if deleted else 0
        record = Record(self.me, log.epoch, log.next_version(), kind, key, body, deleted, life)
        row = _row(kind, key)
        if deleted:
            self._out.erase("own", row, durable=True)
        else:
            self._out.persist("own", row, pack(record), durable=True)
        self._accept(log, record, now)
        return record

    # from others

    def push(self, record: Record, base: int, now: float) -> bool:
        """One pushed record. True when it is in the view now (or is old news): then it may be confirmed."""
        if not self._admits(record.writer, record.epoch) or record.writer == self.me or is_shared(record.kind):
            return True
        log = self._log_for(record.writer, record.epoch, base)
        if log is None:
            return True
        self._accept(log, record, now)
        self._store_header(record.writer)
        self._settle(record.writer)
        return self.logs.get(record.writer) is log

    def delta(self, delta: Delta, now: float) -> None:
        """A part of an exchange."""
        writer = delta.writer
        if not self._admits(writer, delta.epoch) or writer == self.me:
            return
        log = self._log_for_delta(delta)
        if log is None or delta.after > log.upto:
            return
        for record in delta.records:
            if record.writer != writer or record.epoch != delta.epoch or is_shared(record.kind):
                raise RemoteError("wrong_shape", "a delta holds another writer's record")
            self._accept(log, record, now)
        log.close_gap(delta.upto)
        log.floor = max(log.floor, delta.floor)
        self._store_header(writer)
        self._settle(writer)

    def fence(self, writer: NodeId, epoch: int) -> None:
        """Forget what this writer wrote up to `epoch`."""
        self._fences[writer] = max(epoch, self._fences.get(writer, -1))
        if writer == self.me:
            return
        pending = self._pending.get(writer)
        if pending is not None and pending.epoch <= epoch:
            del self._pending[writer]
        log = self.logs.get(writer)
        if log is not None and log.epoch <= epoch:
            del self.logs[writer]
            self._out.erase("log", writer)
            for key, record in log.records.items():
                self._drop(record, key)

    def vector(self) -> list[tuple[NodeId, int, int]]:
        """Writer, epoch, version up to which nothing is missing."""
        return [(writer, log.epoch, log.upto) for writer, log in self.logs.items() if log.complete()]

    def deltas_for(self, writer: NodeId, epoch: int, upto: int, now: float) -> list[Delta]:
        """What a peer at (epoch, upto) of this writer lacks; (−1, 0) if it has nothing."""
        log = self.logs.get(writer)
        if log is None or not log.complete() or (epoch, upto) >= (log.epoch, log.upto):
            return []
        reset = epoch != log.epoch or upto < log.floor
        after = 0 if reset else upto
        base = log.upto if reset else log.base
        deltas: list[Delta] = []
        for records in _chunks(log.since(after)):
            last = max(min(records[-1].version, log.upto), after)
            sent = [_with_life(record, log, now) for record in records]
            deltas.append(Delta(writer, log.epoch, base, 0, after, last, reset, sent))
            after, reset = last, False
        final = Delta(writer, log.epoch, base, log.floor, after, log.upto, reset, [])
        return [*deltas, final]

    def expire(self, now: float) -> None:
        """Drop tombstones whose life is over."""
        for writer, log in self.logs.items():
            for kind, key in log.expire(now):
                self._out.erase("rec", writer + _row(kind, key))
                if writer != self.me:
                    self._store_header(writer)

    # from the state directory

    def load_header(self, writer: bytes, row: bytes) -> None:
        """A "log" row; all of them come before the "rec" rows."""
        header = convert(unpack(row, 64), _Header)
        self.logs[NodeId(writer)] = WriterLog(header.epoch, min(header.base, header.upto), header.upto, header.floor)

    def load_record(self, row: bytes, now: float) -> None:
        """A "rec" row; one whose header is of another epoch is the rest of a crash and is left out."""
        record = check_record(convert(unpack(row, 1 << 20), Record))
        log = self.logs.get(record.writer)
        if log is None or record.epoch != log.epoch:
            return
        log.place(record)
        if record.version > log.upto:
            log.extras.add(record.version)
        if record.deleted:
            log.bury((record.kind, record.key), now + self._profile.tombstone_life)
        else:
            self._index.add(record)

    # inside

    def _admits(self, writer: NodeId, epoch: int) -> bool:
        return epoch > self._fences.get(writer, -1)

    def _log_for(self, writer: NodeId, epoch: int, base: int) -> WriterLog | None:
        """The log that a record of this epoch belongs to: the shown one, or the one that is being completed."""
        log = self.logs.get(writer)
        if log is not None and epoch <= log.epoch:
            return log if epoch == log.epoch else None
        pending = self._pending.get(writer)
        if pending is None or pending.epoch < epoch:
            if len(self._pending) + len(self.logs) >= 2 * MEMBERS_MAX:
                raise RemoteError("too_many_writers", str(MEMBERS_MAX))
            pending = self._pending[writer] = WriterLog(epoch, max(base, 1))
        return pending if pending.epoch == epoch else None

    def _log_for_delta(self, delta: Delta) -> WriterLog | None:
        if delta.reset:
            log = self.logs.get(delta.writer)
            if log is not None and (log.epoch, log.upto) >= (delta.epoch, delta.base):
                return None  # we have caught up by another way meanwhile
            self._pending[delta.writer] = WriterLog(delta.epoch, max(delta.base, 1))
        pending = self._pending.get(delta.writer)
        if pending is not None and pending.epoch == delta.epoch and pending.upto == delta.after:
            return pending  # it continues a reset; one that was broken off must not swallow later deltas
        return self._log_for(delta.writer, delta.epoch, delta.base)

    def _settle(self, writer: NodeId) -> None:
        """A pending log that is complete takes the place of the shown one (rule 2)."""
        pending = self._pending.get(writer)
        if pending is None or not pending.complete():
            return
        del self._pending[writer]
        old = self.logs.get(writer)
        if old is not None and (old.epoch, old.upto) >= (pending.epoch, pending.upto):
            return
        self.logs[writer] = pending
        for key, record in old.records.items() if old is not None else ():
            if key not in pending.records or pending.records[key].deleted:
                self._drop(record, key)
        for record in pending.records.values():
            self._show(record)
        self._store_header(writer)

    def _accept(self, log: WriterLog, record: Record, now: float) -> None:
        """Put a record into a log, and into the view if that log is shown."""
        key = (record.kind, record.key)
        if key not in log.records and len(log.records) >= RECORDS_PER_WRITER_MAX:
            raise RemoteError("too_many_records", str(RECORDS_PER_WRITER_MAX))
        if log.take(record) is None:
            return
        if record.deleted:
            log.bury(key, now + min(float(record.life), self._profile.tombstone_life))
        if self.logs.get(record.writer) is log:
            self._show(record)

    def _show(self, record: Record) -> None:
        """Into the view and, if it is another's, the cache on disk."""
        if record.writer != self.me:
            self._out.persist("rec", record.writer + _row(record.kind, record.key), pack(record))
        if record.deleted:
            self._index.remove(record)
        else:
            self._index.add(record)

    def _drop(self, record: Record, key: Key) -> None:
        self._out.erase("rec", record.writer + _row(*key))
        self._index.remove(record)

    def _store_header(self, writer: NodeId) -> None:
        log = self.logs.get(writer)
        if log is not None:
            self._out.persist("log", writer, pack(_Header(log.epoch, log.base, log.upto, log.floor)))


def _row(kind: int, key: bytes) -> bytes:
    return bytes((kind,)) + key


def _with_life(record: Record, log: WriterLog, now: float) -> Record:
    """A tombstone goes out with the life it has left, so that it does not circulate for ever (libnetwork #1944)."""
    if not record.deleted:
        return record
    deadline = log.expires.get((record.kind, record.key), now)
    return Record(
        record.writer, record.epoch, record.version, record.kind, record.key, b"", True, max(0, int(deadline - now))
    )


def _chunks(records: list[Record]) -> Iterable[list[Record]]:
    """Pieces of about DELTA_BYTES_TARGET."""
    chunk: list[Record] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += len(record.body) + len(record.key) + 48
        if size >= DELTA_BYTES_TARGET:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
