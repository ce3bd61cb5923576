"""The server at one network's gateway address: datagrams and streams in, answers out.

How it works
  The sockets were opened in the namespace of the network's service port; here they are only read. What the zone knows
  is answered on the spot. The rest waits for the forwarder in a task of its own, so that nobody waits behind it.

Rules of this file
  1. Nothing that comes in ends it. What is malformed is answered FORMERR, or dropped where no question can be seen.
  2. Everything is bounded (limits.py): what is read in a turn of the loop, a client's rate, streams and their patience,
     questions on their way. Over its rate a client is not answered, and muted for a while (muted.py): what it sends
     would fill the sockets that it shares with others.
  3. Several holders of one name are told in rotating order, by the name and type that were asked: a client that asks
     for A and AAAA in turns sees both rotate. Of many a datagram tells those whose turn it is, and says that there are
     more; a stream tells (nearly) all, and counts as so many questions of the client as it costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from vxlanu.dns import wire
from vxlanu.dns.forward import Busy, Forwarder
from vxlanu.dns.limits import (
    ACCEPT_AGAIN_S,
    ADDRESSES_PER_TOKEN,
    BURST,
    CLIENTS_MAX,
    DATAGRAM_ADDRESSES_MAX,
    DATAGRAMS_AT_ONCE,
    HEARD_AGAIN,
    MUTED_S,
    RATE_PER_S,
    REQUEST_BYTES_MAX,
    STREAM_ADDRESSES_MAX,
    STREAM_IDLE_S,
)
from vxlanu.dns.muted import Muted
from vxlanu.dns.streams import Stream, Streams
from vxlanu.dns.zone import Found, Kind, Zone

__all__ = ["Counters", "Server", "Turns"]

log = logging.getLogger("vxlanu.dns")

CLASS_ANY = 255
TRANSFERS = range(249, 255)  # TKEY, TSIG, IXFR, AXFR, MAILB, MAILA: no question of a host
TURNS_MAX = 4096
SAY_AGAIN_S = 60.0
NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(slots=True)
class Counters:
    """What became of the questions; each is counted once."""

    answered: int = 0  # from the records, also that there is no such name
    forwarded: int = 0  # answered by a resolver of the host
    refused: int = 0  # for another server of the client
    failed: int = 0  # no resolver answered
    malformed: int = 0
    limited: int = 0  # over the client's rate, or too many on their way: not answered


class Turns:
    """Whose turn it is among several holders of a name."""

    def __init__(self) -> None:
        self._turns: OrderedDict[tuple[str, int], int] = OrderedDict()

    def now(self, query: wire.Query) -> int:
        """How many had their turn to come first."""
        return self._turns.get((query.name, query.rtype), 0)

    def taken(self, query: wire.Query) -> None:
        """One has had its turn."""
        key = (query.name, query.rtype)
        self._turns[key] = self._turns.pop(key, 0) + 1
        if len(self._turns) > TURNS_MAX:
            self._turns.popitem(last=False)


class _Rates:
    """A bucket for each client; who was forgotten begins with a full one."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, now: float) -> bool:
        """Whether the client may ask once more."""
        left, since = self._left.pop(client, (BURST, now))
        if since > now:  # muted until then
            self._left[client] = (left, since)
            return False
        left = min(BURST, left + (now - since) * RATE_PER_S)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > CLIENTS_MAX:
            self._left.popitem(last=False)
        return left >= 1

    def mute(self, client: str, until: float) -> None:
        """From then on it may ask again, a little."""
        self._left[client] = (HEARD_AGAIN, until)

    def charge(self, client: str, questions: int) -> None:
        """What was answered cost so many more. Who owes is not heard until it is paid back."""
        if client in self._left:
            left, since = self._left[client]
            self._left[client] = (left - questions, since)


class Server:
    """Serves one zone on sockets that it owns from here on. `forwarder` and `counters` are the agent's."""

    def __init__(
        self,
        zone: Zone,
        forwarder: Forwarder,
        counters: Counters,
        datagrams: Sequence[socket.socket],
        listeners: Sequence[socket.socket],
    ) -> None:
        self.zone = zone
        self._forwarder = forwarder
        self._counters = counters
        self._datagrams = list(datagrams)
        self._listeners = list(listeners)
        self._turns, self._rates = Turns(), _Rates()
        self._muted = Muted([*datagrams, *listeners])
        self._said = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams = Streams()

    def open(self) -> None:
        """Begin to answer."""
        loop = asyncio.get_running_loop()
        for datagrams in self._datagrams:
            datagrams.setblocking(False)
            loop.add_reader(datagrams.fileno(), self._read, datagrams)
        for listener in self._listeners:
            listener.setblocking(False)
            loop.add_reader(listener.fileno(), self._accept, listener)

    async def close(self) -> None:
        """End, and close the sockets; who waits for an answer gets none."""
        loop = asyncio.get_running_loop()
        for opened in (*self._datagrams, *self._listeners):
            loop.remove_reader(opened.fileno())
            opened.close()
        self._datagrams, self._listeners = [], []
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def answer(self, data: bytes, *, stream: bool, client: str = "") -> bytes | wire.Query:
        """The answer to a message, empty for none; or the question, when the host's resolvers are to answer it."""
        try:
            query = wire.read(data)
        except wire.Unreadable as unreadable:
            self._counters.malformed += 1
            return unreadable.answer
        if query.rclass not in (wire.IN, CLASS_ANY) or query.rtype in TRANSFERS:
            self._counters.refused += 1
            return wire.reply(query, wire.REFUSED, stream=stream)
        most = STREAM_ADDRESSES_MAX if stream else DATAGRAM_ADDRESSES_MAX
        found = self.zone.find(query.name, query.rtype, self._turns.now(query), most)
        if found.looked > 1:
            self._turns.taken(query)
            self._rates.charge(client, (found.looked - 1) // ADDRESSES_PER_TOKEN)
        if found.kind is Kind.FOREIGN:
            return query
        return self._told(query, found, stream)

    def _told(self, query: wire.Query, found: Found, stream: bool) -> bytes:
        recursion = not self.zone.network.internal
        if found.kind is Kind.REFUSED:
            self._counters.refused += 1
            return wire.reply(query, wire.REFUSED, stream=stream, recursion=recursion)
        self._counters.answered += 1
        return wire.reply(
            query,
            wire.NXDOMAIN if found.kind is Kind.UNKNOWN else wire.NOERROR,
            found.values,
            stream=stream,
            authoritative=True,
            recursion=recursion,
            missing=found.inside and not found.values,
            more=found.more and not stream,
        )

    def _heard(self, client: str) -> bool:
        """Whether a client's rate allows one more; if not, it is muted."""
        now = time.monotonic()
        if self._rates.take(client, now):
            return True
        self._counters.limited += 1
        if self._muted.add(client):
            self._rates.mute(client, now + MUTED_S)
            asyncio.get_running_loop().call_later(MUTED_S, self._muted.remove, client)
            if now - self._said >= SAY_AGAIN_S:
                self._said = now
                name = self.zone.network.name
                log.warning("%s asks too often for names of %s", client, name, extra={"event": "dns"})
        return False

    # datagrams

    def _read(self, datagrams: socket.socket) -> None:
        """A turn of the loop's worth of what waits."""
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                data, client = datagrams.recvfrom(REQUEST_BYTES_MAX + 1)
            except BlockingIOError:
                return
            except OSError as error:  # what the kernel tells of an earlier answer, to a client that has gone
                log.debug("dns: %s", error, extra={"event": "dns"})
                continue
            if not self._heard(client[0]):
                continue
            said = self.answer(data, stream=False, client=client[0])
            if isinstance(said, wire.Query):
                self._spawn(self._forward_datagram(datagrams, said, client))
            elif said:
                _send(datagrams, said, client)

    async def _forward_datagram(self, datagrams: socket.socket, query: wire.Query, client: tuple[str, int]) -> None:
        answer = await self._forwarded(query, client[0], stream=False)
        if answer and datagrams.fileno() >= 0:
            _send(datagrams, answer, client)

    async def _forwarded(self, query: wire.Query, client: str, *, stream: bool) -> bytes:
        try:
            answered = await self._forwarder.ask(query, client, stream=stream)
        except Busy:
            self._counters.limited += 1
            return b""
        if answered.resolver:
            self._counters.forwarded += 1
        else:
            self._counters.failed += 1
        return answered.answer

    # streams

    def _accept(self, listener: socket.socket) -> None:
        """One connection; the rest in the next turn."""
        try:
            connection, client = listener.accept()
        except OSError as error:  # it went again, or there are no descriptors: it waits
            if error.errno in NO_ROOM:
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener.fileno())
                loop.call_later(ACCEPT_AGAIN_S, self._listen_again, listener)
            return
        heard = self._heard(client[0])
        stream = self._streams.admit(client[0]) if heard else None
        if stream is None:
            self._counters.limited += heard
            connection.close()
            return
        connection.setblocking(False)
        stream.task = self._spawn(self._converse(connection, stream))

    def _listen_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    async def _converse(self, connection: socket.socket, stream: Stream) -> None:
        """One question after the other, until the client goes, is silent for too long, or another needs the place."""
        with connection, contextlib.suppress(OSError, TimeoutError, EOFError):
            try:
                while True:
                    async with asyncio.timeout(STREAM_IDLE_S):
                        (length,) = struct.unpack("!H", await _exactly(connection, 2))
                        if not 0 < length <= REQUEST_BYTES_MAX:
                            self._counters.malformed += 1
                            return
                        data = await _exactly(connection, length)
                    self._streams.heard(stream)
                    if not await self._say(connection, data, stream.client):
                        return
                    self._streams.answered(stream)
            finally:
                self._streams.ended(stream)

    async def _say(self, connection: socket.socket, data: bytes, client: str) -> bool:
        """Answer one message of a stream; False when there is nothing to say any more."""
        if not self._heard(client):
            return False
        said = self.answer(data, stream=True, client=client)
        if isinstance(said, wire.Query):
            said = await self._forwarded(said, client, stream=True)
        if not said:
            return False
        async with asyncio.timeout(STREAM_IDLE_S):
            await asyncio.get_running_loop().sock_sendall(connection, struct.pack("!H", len(said)) + said)
        return True

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a question failed", exc_info=task.exception(), extra={"event": "task_failed"})


async def _exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes; EOFError when the client goes before."""
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        piece = await loop.sock_recv(connection, count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _send(datagrams: socket.socket, answer: bytes, client: tuple[str, int]) -> None:
    """Once: a client whose answer is lost asks again."""
    with contextlib.suppress(OSError):
        datagrams.sendto(answer, client)
