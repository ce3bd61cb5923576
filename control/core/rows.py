"""Rows: from the state directory back into the parts.

Rules of this file
  1. Tables in an order that lets each row find what it needs: facts and fences first, log headers before records.
  2. A row that cannot be read is counted ("bad_row") and left out: one flipped bit in a cache must not keep a node
     down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .config import Row
from .errors import ControlError
from .pack import convert, unpack
from .parts import Parts
from .records import Record, check_record

__all__ = ["load", "next_epoch", "own_records"]


def next_epoch(rows: Iterable[Row]) -> int:
    """One more than the epoch that was persisted last."""
    return 1 + max((int.from_bytes(value, "big") for table, key, value in rows if (table, key) == _EPOCH), default=0)


def own_records(rows: Iterable[Row]) -> list[Record]:
    """Our own records, whatever epoch they were written in."""
    records = []
    for table, _, value in rows:
        if table == "own":
            try:
                records.append(check_record(convert(unpack(value, 1 << 20), Record)))
            except ControlError:
                continue
    return sorted(records, key=lambda record: (record.epoch, record.version))


def load(rows: Iterable[Row], parts: Parts, now: float) -> None:
    """Everything else."""
    loaders: dict[str, Callable[[bytes, bytes], None]] = {
        "fact": lambda key, value: parts.shared.load(value),
        "log": lambda key, value: parts.owned.load_header(key, value),
        "rec": lambda key, value: parts.owned.load_record(value, now),
        "member": lambda key, value: parts.table.load(value, now),
        "promise": lambda key, value: parts.ipam.claims.load(key, value),
        "alloc": lambda key, value: parts.ipam.leases.load(key, value, now),
    }
    by_table: dict[str, list[tuple[bytes, bytes]]] = {}
    for table, key, value in rows:
        by_table.setdefault(table, []).append((key, value))
    for table, loader in loaders.items():
        for key, value in by_table.get(table, ()):
            try:
                loader(key, value)
            except (ControlError, ValueError):
                parts.out.counters["bad_row"] += 1
    for node, epoch in list(parts.index.forgotten.items()):
        parts.swim.fence(node, epoch)
        parts.owned.fence(node, epoch)


_EPOCH = ("meta", b"epoch")
