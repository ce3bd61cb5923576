"""The outbox: what the parts of the core leave for the shell, in order.

Rules of this file: nothing is decided here. One `Changed` per input is made from all keys that were touched, and it
comes after the rows and messages of the same input.
"""

from __future__ import annotations

from collections import Counter

from .effects import (
    Address,
    Changed,
    ChangeKey,
    CloseStream,
    Effect,
    Erase,
    Persist,
    SendDatagram,
    SendStream,
    StreamId,
)
from .messages import Message, encode_message
from .wire import Wire

__all__ = ["Outbox"]


class Outbox:
    """Collects effects; shared by all parts of one core."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.counters: Counter[str] = Counter()
        self._effects: list[Effect] = []
        self._changed: set[ChangeKey] = set()

    def add(self, effect: Effect) -> None:
        """Any effect."""
        self._effects.append(effect)

    def send(self, to: Address, *messages: Message) -> None:
        """One datagram; the caller knows that it fits."""
        self.send_encoded(to, [encode_message(message) for message in messages])

    def send_encoded(self, to: Address, encoded: list[bytes]) -> None:
        """One datagram of messages that are bytes already."""
        self.counters["datagrams_out"] += 1
        self._effects.append(SendDatagram(to, self.wire.datagram(encoded)))

    def frame(self, stream: StreamId, message: Message) -> None:
        """One stream frame."""
        self._effects.append(SendStream(stream, self.wire.frame(message)))

    def close(self, stream: StreamId) -> None:
        """Close a stream."""
        self._effects.append(CloseStream(stream))

    def persist(self, table: str, key: bytes, value: bytes, durable: bool = False) -> None:
        """Write a row."""
        self._effects.append(Persist(table, key, value, durable))

    def erase(self, table: str, key: bytes, durable: bool = False) -> None:
        """Remove a row."""
        self._effects.append(Erase(table, key, durable))

    def changed(self, *keys: ChangeKey) -> None:
        """These questions may have new answers."""
        self._changed.update(keys)

    def touched(self) -> frozenset[ChangeKey]:
        """What has changed so far within this input."""
        return frozenset(self._changed)

    def take(self) -> list[Effect]:
        """Everything, in order; the outbox is empty afterwards."""
        if self._changed:
            self._effects.append(Changed(frozenset(self._changed)))
            self._changed = set()
        effects, self._effects = self._effects, []
        return effects
