"""What every answer is made of: lists and errors.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct, field

T = TypeVar("T")


class Items(Struct, Generic[T]):
    """The body of every list."""

    items: list[T]


class ErrorBody(Struct):
    """One failure: stable name, exit code of its class, and the three parts of the line a user reads."""

    name: str
    exit: int
    what: str
    why: str
    try_: str = field(name="try", default="")
    detail: dict[str, str] = {}


class ErrorReply(Struct):
    """The body of every answer that is not 2xx."""

    error: ErrorBody
