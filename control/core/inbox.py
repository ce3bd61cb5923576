"""The inbox: bytes in, messages to the part that they are for. The one place where a peer's errors end.

Rules of this file
  1. Nothing that a peer sends raises past here: a RemoteError is counted under its name, and on a stream ends it.
  2. A wrong key is reported (WrongKey), at once and then at most every 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import Rng
from .effects import Address, Exchanged, Joined, SendStream, StreamId, WrongKey
from .errors import RemoteError
from .exchange import Exchange
from .messages import (
    Ack,
    Alive,
    Claim,
    ClaimAnswer,
    Dead,
    Hello,
    Loan,
    LoanAnswer,
    LoanReturn,
    Message,
    Nack,
    Ping,
    PingReq,
    Poke,
    Push,
    PushAck,
    Refused,
    Survey,
    Surveyed,
    Suspect,
    Welcome,
)
from .parts import Parts
from .records import NodeId, is_shared
from .wire import CANNOT_OPEN, WrongKeyError

__all__ = ["Inbox"]

_WRONG_KEY_INTERVAL = 10.0
_FETCH_SPREAD = 0.05  # seconds over which many peers spread their exchanges with a restarted writer
_GAP_PATIENCE = 1.0  # a lost push is usually repeated sooner than an exchange would help


@dataclass(slots=True)
class _Fetch:
    """An exchange that we owe ourselves. `writer` None: in any case; else only if its gap is still open then."""

    at: float
    writer: NodeId | None


class Inbox:
    """What comes in."""

    def __init__(self, parts: Parts, rng: Rng) -> None:
        self._parts = parts
        self._out = parts.out
        self._rng = rng
        self._fetches: dict[Address, _Fetch] = {}
        self._next_wrong_key = 0.0

    def datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Any bytes."""
        self._out.counters["datagrams_in"] += 1
        try:
            messages, errors = self._out.wire.open_datagram(data)
        except RemoteError as error:
            self._blame(error, addr, now)
            return
        for wrong in errors:
            self._blame(wrong, addr, now)
        for message in messages:
            try:
                self._dispatch(message, addr, now)
            except RemoteError as error:
                self._blame(error, addr, now)

    def frame(self, stream: StreamId, data: bytes, now: float) -> None:
        """One frame of a stream; a wrong one ends it."""
        exchange = self._parts.exchanges.running.get(stream)
        if exchange is None:
            return
        try:
            message = self._out.wire.open_frame(data)
            self._parts.exchanges.heard(exchange, now)
            self._exchange(exchange, message, now)
        except RemoteError as error:
            self._blame(error, exchange.address, now)
            if isinstance(error, WrongKeyError) and not exchange.opened_by_us:
                self._out.add(SendStream(stream, CANNOT_OPEN))
            self.abandon(stream, error.name, now)

    def abandon(self, stream: StreamId, why: str, now: float) -> None:
        """An exchange ended before it was complete."""
        exchange = self._parts.exchanges.end(stream, now)
        if exchange is not None:
            self._out.counters["exchanges_failed"] += 1
            if exchange.opened_by_us:
                self._parts.door.failed(exchange.address, why)

    def next_timer(self) -> float | None:
        """When a fetch is due."""
        return min((fetch.at for fetch in self._fetches.values()), default=None)

    def handle_timer(self, now: float) -> None:
        """Fetch what pushes announced and did not bring; close what takes too long."""
        for address, fetch in list(self._fetches.items()):
            if fetch.at <= now:
                del self._fetches[address]
                log = self._parts.owned.logs.get(fetch.writer) if fetch.writer is not None else None
                if fetch.writer is None or (log is not None and log.extras):
                    self._parts.exchanges.begin(address, now, again=True)
        for exchange in self._parts.exchanges.overdue(now):
            self.abandon(exchange.stream, "timeout", now)

    def _dispatch(self, message: Message, addr: Address, now: float) -> None:
        parts = self._parts
        match message:
            case Ping():
                parts.probe.ping(message, addr)
            case PingReq():
                parts.probe.ping_request(message, addr, now)
            case Ack():
                parts.probe.ack(message, now)
                parts.door.ack(message)
            case Nack():
                parts.probe.nack(message, addr)
            case Alive() | Suspect() | Dead():
                parts.swim.hear(message, now)
            case Survey():
                parts.surveys.came(message, addr, None, now)
            case Surveyed():
                parts.surveys.answered(message)
            case Push():
                self._push(message, addr, now)
            case PushAck():
                parts.pusher.confirmed(message.push, message.node, now)
            case Poke():
                self._poke(message, addr, now)
            case Claim() | ClaimAnswer() | Loan() | LoanAnswer() | LoanReturn():
                parts.ipam.hear(message, addr, now)
            case _:
                raise RemoteError("out_of_turn", type(message).__name__)

    def _push(self, message: Push, addr: Address, now: float) -> None:
        """Confirm what is in our view now; fetch what cannot be there yet."""
        visible = True
        for record in message.records:
            if is_shared(record.kind):
                self._parts.exchanges.learn([record])
                continue
            visible = self._parts.owned.push(record, message.base, now) and visible
            log = self._parts.owned.logs.get(record.writer)
            if log is not None and log.extras:
                self._fetches.setdefault(addr, _Fetch(now + _GAP_PATIENCE, record.writer))
        if visible:
            self._out.send(addr, PushAck(message.push, self._parts.table.me))
        else:
            self._fetch_soon(addr, now)

    def _poke(self, message: Poke, addr: Address, now: float) -> None:
        if is_shared(message.kind):
            known = self._parts.shared.facts.get((message.kind, message.key))
            here = known is not None and known.version >= message.version
        else:
            log = self._parts.owned.logs.get(message.sender)
            here = log is not None and (
                log.epoch > message.epoch or (log.epoch == message.epoch and log.has(message.version))
            )
        if here:
            self._out.send(addr, PushAck(message.push, self._parts.table.me))
        else:
            self._fetch_soon(addr, now)

    def _fetch_soon(self, addr: Address, now: float) -> None:
        known = self._fetches.get(addr)
        if known is None or known.writer is not None:
            self._fetches[addr] = _Fetch(now + _FETCH_SPREAD * self._rng.random(), None)

    def _exchange(self, exchange: Exchange, message: Message, now: float) -> None:
        parts = self._parts
        if exchange.peer is not None:
            if parts.exchanges.step(exchange, message, now):
                parts.exchanges.end(exchange.stream, now)
                self._complete(exchange, exchange.peer, now)
        elif isinstance(message, Survey) and not exchange.opened_by_us:
            if not parts.surveys.came(message, exchange.address, exchange.stream, now):
                parts.exchanges.end(exchange.stream, now)
        elif isinstance(message, Hello) and not exchange.opened_by_us:
            refusal = parts.door.check(message)
            if refusal is not None:
                self._out.counters["refused_" + refusal.why] += 1
                parts.exchanges.refuse(exchange, refusal, now)
                return
            self._meet(message, now)
            parts.exchanges.welcome(exchange, message, parts.door.hello(), now)
        elif isinstance(message, Welcome) and exchange.opened_by_us:
            if parts.door.check(message.hello) is not None:
                raise RemoteError("peer_conflict", "the peer's name or id is another live member's")
            exchange.peer = message.hello
            self._meet(message.hello, now)
        elif isinstance(message, Refused) and exchange.opened_by_us:
            parts.exchanges.end(exchange.stream, now)
            parts.door.refused(exchange.address, message, now)
        else:
            raise RemoteError("out_of_turn", type(message).__name__)

    def _meet(self, hello: Hello, now: float) -> None:
        if hello.epoch <= self._parts.swim.fences.get(hello.node, -1):
            return  # it was forgotten; the exchange tells it so, and it comes back with a new epoch
        address = (hello.host, hello.port)
        alive = Alive(hello.node, hello.name, *address, hello.epoch, hello.incarnation, hello.instance)
        self._parts.swim.met(alive, now)

    def _complete(self, exchange: Exchange, peer: Hello, now: float) -> None:
        first = not self._parts.swim.started
        self._parts.door.entered(now)
        address = (peer.host, peer.port)
        if first:
            self._parts.ipam.loans.met(now)
            self._out.add(Joined(peer.node, address))
        self._out.add(Exchanged(peer.node, exchange.address if exchange.opened_by_us else address))

    def _blame(self, error: RemoteError, addr: Address, now: float) -> None:
        self._out.counters[error.name] += 1
        if not isinstance(error, WrongKeyError):
            self._out.counters["malformed"] += 1
        if isinstance(error, WrongKeyError) and now >= self._next_wrong_key:
            self._next_wrong_key = now + _WRONG_KEY_INTERVAL
            self._out.add(WrongKey(addr, error.what, self._out.counters[error.name]))
