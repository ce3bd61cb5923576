"""Bytes to plain values and back: the only importer of msgpack.

Rules of this file
  1. Size first, then parse: the caller passes its limit, and every length inside is bounded by msgpack's own limits.
  2. Whatever the bytes are, the outcome is a value or a RemoteError; our state is unchanged either way.

Two steps, since each catches what the other cannot: msgpack bounds arrays, maps and depth, and refuses trailing bytes,
ext types and keys that are not text; `msgspec.convert` then checks types and fills typed, frozen structs.
"""

from __future__ import annotations

from typing import TypeVar

import msgpack  # type: ignore[import-untyped]  # it ships neither stubs nor py.typed
import msgspec

from .errors import RemoteError
from .limits import ITEMS_MAX

__all__ = ["convert", "pack", "unpack"]

_T = TypeVar("_T")


def pack(value: object) -> bytes:
    """The msgpack bytes of a struct or plain value."""
    return msgspec.msgpack.encode(value)


def unpack(data: bytes, bytes_max: int) -> object:
    """The plain value in `data`: dict, list, str, bytes, int, float, bool, None."""
    if len(data) > bytes_max:
        raise RemoteError("too_large", f"{len(data)} bytes, at most {bytes_max}")
    try:
        value: object = msgpack.unpackb(
            data, raw=False, strict_map_key=True, max_array_len=ITEMS_MAX, max_map_len=ITEMS_MAX, max_ext_len=0
        )
    except Exception as error:  # msgpack raises ValueError, its own classes, OverflowError and, deep down, others
        raise RemoteError("not_msgpack", f"{type(error).__name__}: {error}") from error
    return value


def convert(value: object, kind: type[_T]) -> _T:
    """A typed struct from plain values; unknown fields are ignored, missing and wrong ones are RemoteError."""
    try:
        return msgspec.convert(value, kind)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RemoteError("wrong_shape", f"{kind.__name__}: {error}") from error
