"""The writer: every change that this node makes to records goes through here: journal, view, push, in that order."""

from __future__ import annotations

from .errors import LocalError
from .limits import BODY_BYTES_MAX
from .owned import Owned
from .push import Pusher
from .records import Body, Kind, Record, encode_body
from .shared import Shared

__all__ = ["Writer"]


class Writer:
    """Our own writes."""

    def __init__(self, owned: Owned, shared: Shared, pusher: Pusher) -> None:
        self._owned = owned
        self._shared = shared
        self._pusher = pusher

    def put(self, kind: Kind, key: bytes, body: Body, now: float, *, push: bool = True) -> Record:
        """Write an owned record."""
        record = self._owned.write(kind, key, _encoded(body), False, now)
        if push:
            self._pusher.push(record, self.base, now)
        return record

    def delete(self, kind: Kind, key: bytes, now: float) -> Record | None:
        """Delete an owned record; None if there was none."""
        known = self._owned.logs[self._owned.me].records.get((kind, key))
        if known is None or known.deleted:
            return None
        record = self._owned.write(kind, key, b"", True, now)
        self._pusher.push(record, self.base, now)
        return record

    def put_shared(self, kind: Kind, key: bytes, body: Body, now: float, *, version: int = 0) -> Record:
        """Write a fact of the cluster."""
        record = self._shared.write(kind, key, _encoded(body), self._epoch, version=version)
        self._pusher.push(record, 0, now)
        return record

    def delete_shared(self, kind: Kind, key: bytes, now: float) -> Record:
        """Mark a fact of the cluster as no longer true."""
        record = self._shared.write(kind, key, b"", self._epoch, deleted=True)
        self._pusher.push(record, 0, now)
        return record

    @property
    def base(self) -> int:
        """The version that makes our epoch complete."""
        return self._owned.logs[self._owned.me].base

    @property
    def _epoch(self) -> int:
        return self._owned.logs[self._owned.me].epoch


def _encoded(body: Body) -> bytes:
    encoded = encode_body(body)
    if len(encoded) > BODY_BYTES_MAX:
        raise LocalError("body_too_large", f"{len(encoded)} bytes, at most {BODY_BYTES_MAX}")
    return encoded
