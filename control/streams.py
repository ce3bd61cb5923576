"""Streams: TCP connections that carry frames. A frame is four bytes of length, big-endian, and that many bytes.

Rules of this file
  1. The length is compared with its limit before anything is read or allocated; a longer one ends the stream.
  2. Time limits are the core's (it closes what takes too long); only connecting has one here.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine

from .core.effects import Address, StreamId
from .core.limits import FRAME_BYTES_MAX

__all__ = ["Streams"]

_LENGTH = struct.Struct("!I")
_FRAME_MAX = FRAME_BYTES_MAX + 64  # version, flag, nonce and tag around the largest message
_LINGER_SECONDS = 5.0  # a peer that does not read what we sent before closing is cut off after that

Opened = Callable[[StreamId, Address], None]
Got = Callable[[StreamId, bytes], None]
Closed = Callable[[StreamId], None]


class Streams:
    """All streams of one agent."""

    def __init__(self, opened: Opened, got: Got, closed: Closed, connect_seconds: float) -> None:
        self._opened = opened
        self._got = got
        self._closed = closed
        self._connect_seconds = connect_seconds
        self._writers: dict[StreamId, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._next_inbound = 2

    async def listen(self, host: str, port: int) -> None:
        """Accept streams. OSError when the port is held."""
        self._server = await asyncio.start_server(self._accepted, host, port)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers.values()):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def open(self, stream: StreamId, to: Address, source: str) -> None:
        """Connect; ends in `opened` or `closed`."""
        self._start(self._connect(stream, to, source))

    def send(self, stream: StreamId, data: bytes) -> None:
        """One frame; nothing when the stream is gone."""
        writer = self._writers.get(stream)
        if writer is not None:
            writer.write(_LENGTH.pack(len(data)) + data)

    def close(self, stream: StreamId) -> None:
        """Close when what was sent has left."""
        writer = self._writers.pop(stream, None)
        if writer is not None:
            writer.close()
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, writer.transport.abort)

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, stream: StreamId, to: Address, source: str) -> None:
        try:
            async with asyncio.timeout(self._connect_seconds):
                reader, writer = await asyncio.open_connection(*to, local_addr=(source, 0))
        except (OSError, TimeoutError):
            self._closed(stream)
            return
        await self._run(stream, to, reader, writer)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        stream, self._next_inbound = self._next_inbound, self._next_inbound + 2
        self._start(self._run(stream, (peer[0], peer[1]) if peer else ("", 0), reader, writer))

    async def _run(
        self, stream: StreamId, peer: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers[stream] = writer
        self._opened(stream, peer)
        try:
            while stream in self._writers:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                if length > _FRAME_MAX:
                    break
                self._got(stream, await reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer closed, as it should after the last frame, or went away
        finally:
            self.close(stream)
            self._closed(stream)
