"""The ways of a survey that the shell goes itself: a stream to a member, tried or asked by (core/survey.py).

Outside of streams.py, whose streams are the core's: a way that is shut is the answer here, not a failure.
"""

from __future__ import annotations

import asyncio
import os
import struct

from .core.effects import Address
from .core.limits import FRAME_BYTES_MAX

__all__ = ["OPEN", "REFUSED", "SILENT", "ask_by_stream", "try_stream"]

OPEN, REFUSED, SILENT = "open", "refused", "silent"
_LENGTH = struct.Struct("!I")
_FRAME_MAX = FRAME_BYTES_MAX + 64


async def try_stream(own: str, to: Address, seconds: float) -> str:
    """Connect from our address and close: open, refused, silent, or what the kernel says against it."""
    found, writer, _ = await _connect(own, to, seconds)
    if writer is not None:
        writer.close()
    return found


async def ask_by_stream(own: str, to: Address, question: bytes, seconds: float) -> tuple[str, bytes]:
    """Connect, send one frame, take one: how connecting ended, and the frame (empty: none came within `seconds`)."""
    found, writer, reader = await _connect(own, to, seconds)
    if writer is None or reader is None:
        return found, b""
    try:
        async with asyncio.timeout(seconds):
            writer.write(_LENGTH.pack(len(question)) + question)
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            return found, await reader.readexactly(length) if length <= _FRAME_MAX else b""
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return found, b""
    finally:
        writer.transport.abort()


async def _connect(
    own: str, to: Address, seconds: float
) -> tuple[str, asyncio.StreamWriter | None, asyncio.StreamReader | None]:
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(*to, local_addr=(own, 0))
    except TimeoutError:
        return SILENT, None, None
    except ConnectionRefusedError:
        return REFUSED, None, None
    except OSError as error:
        return (os.strerror(error.errno) if error.errno else "unreachable"), None, None
    return OPEN, writer, reader
