"""Questions that are not ours, asked of the host's resolvers.

How it works
  A question goes on under a random id, from a socket of its own with a random port, connected to the resolver: an
  answer counts only from that address, to that port, with that id and that question. A resolver that is silent, refuses
  or fails is followed by the next; the one that answered last is asked first. A truncated answer is fetched by TCP
  where the client came by TCP, and handed on where it came by UDP: it will come again.

Rules of this file
  1. What is on its way is bounded, in all and for one client; a question that a client repeats while it is on its way
     is not asked twice.
  2. A client is answered in any case, with SERVFAIL when nobody else did, before it loses patience.
  3. Sockets are opened in the host's network namespace: that of the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections import Counter
from dataclasses import dataclass

from vxlanu.dns import wire
from vxlanu.dns.limits import ANSWERS_LOOKED_AT_MAX, FORWARDS_MAX, FORWARDS_OF_CLIENT_MAX, TRIES_MAX, TRY_S
from vxlanu.dns.resolvers import Resolvers

__all__ = ["Answered", "Busy", "Forwarder"]

PORT = 53


class Busy(Exception):
    """Too much is on its way already, or this very question is."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the client gets, and whose answer it is; nobody's: ours, for want of one."""

    answer: bytes
    resolver: str = ""
    why: str = ""


class Forwarder:
    """All questions of one agent that are on their way."""

    def __init__(self, resolvers: Resolvers, port: int = PORT) -> None:
        self._resolvers = resolvers
        self._port = port
        self._asked: set[tuple[str, int, bytes]] = set()
        self._of_client: Counter[str] = Counter()
        self._good = ""

    @property
    def on_their_way(self) -> int:
        """How many questions."""
        return len(self._asked)

    async def ask(self, query: wire.Query, client: str, *, stream: bool) -> Answered:
        """The answer for `client`. Raises Busy: it gets none now."""
        key = (client, query.id, query.question)
        if key in self._asked or len(self._asked) >= FORWARDS_MAX or self._of_client[client] >= FORWARDS_OF_CLIENT_MAX:
            raise Busy
        self._asked.add(key)
        self._of_client[client] += 1
        try:
            return await self._ask_each(query, stream)
        finally:
            self._asked.discard(key)
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    async def _ask_each(self, query: wire.Query, stream: bool) -> Answered:
        """One resolver after the other; from the first again while there are tries left."""
        resolvers = self._resolvers.now(asyncio.get_running_loop().time())
        resolvers.sort(key=lambda resolver: resolver != self._good)
        last: tuple[str, bytes] | None = None
        for attempt in range(TRIES_MAX if resolvers else 0):
            resolver = resolvers[attempt % len(resolvers)]
            answer = await self._ask_one(query, resolver, stream)
            if answer is None:
                continue
            last = (resolver, answer)
            if wire.rcode_of(answer) not in (wire.SERVFAIL, wire.REFUSED):
                self._good = resolver
                break
        if last is not None:
            return Answered(wire.relayed(query, last[1], stream=stream), last[0])
        why = f"no answer from {', '.join(resolvers)}" if resolvers else "the host has no resolvers"
        return Answered(wire.reply(query, wire.SERVFAIL, stream=stream, recursion=True), why=why)

    async def _ask_one(self, query: wire.Query, resolver: str, stream: bool) -> bytes | None:
        """A resolver's answer; None when there is none in time."""
        sent = wire.for_resolver(query, secrets.randbelow(1 << 16))
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TRY_S):
                answer = await self._by_datagram(sent, resolver)
                if answer is not None and stream and wire.is_truncated(answer):
                    answer = await self._by_stream(sent, resolver)
                return answer
        return None

    async def _by_datagram(self, sent: bytes, resolver: str) -> bytes | None:
        loop = asyncio.get_running_loop()
        family, address = _place(resolver, self._port)
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as asking:
            asking.connect(address)  # binds a random port of the kernel's choice
            asking.send(sent)
            for _ in range(ANSWERS_LOOKED_AT_MAX):
                got = await loop.sock_recv(asking, 65535)
                if wire.is_answer_to(sent, got):
                    return got
        return None

    async def _by_stream(self, sent: bytes, resolver: str) -> bytes | None:
        reader, writer = await asyncio.open_connection(resolver, self._port)
        try:
            writer.write(struct.pack("!H", len(sent)) + sent)
            length: int = struct.unpack("!H", await reader.readexactly(2))[0]
            got = await reader.readexactly(length)
        except asyncio.IncompleteReadError:
            return None
        finally:
            writer.close()
        return got if wire.is_answer_to(sent, got) else None


def _place(resolver: str, port: int) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    """Where a resolver's socket is; a link-local address brings its link."""
    address, _, link = resolver.partition("%")
    if ":" not in address:
        return socket.AF_INET, (address, port)
    return socket.AF_INET6, (address, port, 0, socket.if_nametoindex(link) if link else 0)
