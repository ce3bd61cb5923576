"""The door: who may come in, and how we come in ourselves and stay in.

Coming in
  A node takes part (swim.start) once one exchange is complete, or at once when it knows nobody. Each attempt opens
  exchanges with seeds and remembered members; attempts repeat for ever with growing pauses, and never stop entirely:
  a dead member or an unmet seed is tried now and then, since a partition longer than gossip's memory otherwise leaves
  two islands for ever (memberlist #222).

Letting in
  A live member's name or id is its own. The peer that is asked says Refused and names the holder; the newcomer then
  pings that holder itself. Only an answer from there makes it final (NameTaken, IdentityTaken): without one the holder
  is probably dead and not yet declared so, and the newcomer tries again. A newcomer at the very address and port of the
  holder is let in: two processes cannot have it, so the old one is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import Config, Rng
from .effects import Address, Effect, IdentityTaken, JoinFailed, NameTaken, ResolveSeeds, State
from .exchange import Exchanges
from .members import LIVE
from .messages import Ack, Hello, Ping, Refused
from .out import Outbox
from .records import NodeId
from .suspicion import sync_interval
from .swim import Swim

__all__ = ["Door"]

_ATTEMPT_PEERS = 3  # exchanges per attempt: enough to meet a living one, few enough for a restarting cluster
_VERIFY_TRIES = 5
_VERIFY_PAUSE = 0.2


@dataclass(slots=True)
class _Verification:
    """Pings to the alleged holder of our name or id."""

    refusal: Refused
    seq: int
    tries: int
    next_try: float


class Door:
    """Joining, letting in, staying in."""

    def __init__(self, config: Config, swim: Swim, exchanges: Exchanges, out: Outbox, rng: Rng, now: float) -> None:
        self.barred: Effect | None = None  # NameTaken or IdentityTaken: we stay outside until told to join again
        self._config = config
        self._profile = config.profile
        self._swim = swim
        self._exchanges = exchanges
        self._out = out
        self._rng = rng
        self.seed_names = config.seeds
        self._seeds: set[Address] = set()
        self._pause = config.profile.join_retry_first
        self._next_attempt = now
        self._next_sync = now + config.profile.sync_interval * (0.5 + 0.5 * rng.random())
        self._verification: _Verification | None = None

    def hello(self) -> Hello:
        """Who we are."""
        me = self._swim.me
        return Hello(me.id, me.name, *me.address, *me.stamp, me.instance)

    # coming in

    def join(self, addresses: list[Address], now: float) -> None:
        """Try these now, whatever the pause was."""
        self.barred = None
        self._seeds.update(addresses)
        self._pause = self._profile.join_retry_first
        for address in addresses:
            self._try(address, now)

    def seeds_resolved(self, addresses: list[Address], now: float) -> None:
        """Seeds have addresses now; those that are no live member's are tried."""
        self._seeds.update(addresses)
        if self._seeds == {self._swim.me.address} and len(self._swim.table) == 1:
            self._swim.start(now)  # our only seed is ourselves: we are the first
        if self.barred is None:
            live = {member.address for member in self._swim.table.by_id.values() if member.state in LIVE}
            for address in addresses:
                if address not in live or not self._swim.started:
                    self._try(address, now)

    def entered(self, now: float) -> None:
        """An exchange is complete."""
        self._pause = self._profile.join_retry_first
        self._next_attempt = now + self._profile.join_retry_max
        self._swim.start(now)

    def failed(self, address: Address, why: str) -> None:
        """One attempt failed; the timer brings the next."""
        if not self._swim.started:
            self._out.add(JoinFailed(address, why))

    def refused(self, address: Address, refusal: Refused, now: float) -> None:
        """A peer says that our name or id is taken. Ask the holder, unless it is the holder who says so."""
        if refusal.why not in ("name_taken", "identity_taken") or len(refusal.holder) != 16:
            self.failed(address, refusal.why[:80])
            return
        holder = (refusal.host, refusal.port)
        if holder == address:
            self._bar(refusal)
        elif self._verification is None:
            self._verification = _Verification(refusal, self._rng.getrandbits(31) | 1 << 31, 0, now)

    def doubt(self, address: Address, now: float) -> None:
        """Our id was seen at another address: ask there."""
        if self._verification is None:
            refusal = Refused("identity_taken", self._swim.me.id, *address)
            self._verification = _Verification(refusal, self._rng.getrandbits(31) | 1 << 31, 0, now)

    def ack(self, message: Ack) -> None:
        """The alleged holder answers: it is alive."""
        verification = self._verification
        if verification is None or message.seq != verification.seq or message.node != verification.refusal.holder:
            return
        self._verification = None
        if message.instance != self._swim.me.instance:
            self._bar(verification.refusal)

    # letting in

    def check(self, hello: Hello) -> Refused | None:
        """None: come in. Judged by what we know of live members, and by who we are."""
        me = self._swim.me
        address = (hello.host, hello.port)
        if hello.node == me.id:
            return Refused("self" if hello.instance == me.instance else "identity_taken", me.id, *me.address)
        if hello.name == me.name:
            return Refused("name_taken", me.id, *me.address)
        known = self._swim.table.by_id.get(hello.node)
        if known is not None and known.state in LIVE and known.address != address:
            return Refused("identity_taken", known.id, *known.address)
        for member in self._swim.table.others(*LIVE):
            if member.name == hello.name and member.id != hello.node and member.address != address:
                return Refused("name_taken", member.id, *member.address)
        return None

    # timers

    def next_timer(self) -> float:
        """When something is due."""
        times = [self._next_attempt, self._next_sync]
        if self._verification is not None:
            times.append(self._verification.next_try)
        return min(times)

    def handle_timer(self, now: float) -> None:
        """Verify, attempt, exchange."""
        if self._verification is not None and now >= self._verification.next_try:
            self._verify(self._verification, now)
        if now >= self._next_attempt:
            self._attempt(now)
        if now >= self._next_sync:
            interval = sync_interval(self._swim.table.live_count(), self._profile)
            self._next_sync = now + interval * (0.75 + 0.5 * self._rng.random())
            peer = self.random_peer()
            if peer is not None and self._swim.started:
                self._exchanges.begin(peer, now)

    def random_peer(self) -> Address | None:
        """An alive member."""
        alive = list(self._swim.table.others(State.ALIVE))
        return self._rng.sample(alive, 1)[0].address if alive else None

    def _attempt(self, now: float) -> None:
        joined = self._swim.started and any(True for _ in self._swim.table.others(State.ALIVE))
        limit = self._profile.join_retry_max
        self._next_attempt = now + (limit if joined else self._pause) * (0.75 + 0.5 * self._rng.random())
        self._pause = min(2 * self._pause, limit)
        if self.barred is not None or self._swim.leaving:
            return
        if self.seed_names:
            self._out.add(ResolveSeeds(self.seed_names))
        away = [State.DEAD] if self._swim.started else [State.ALIVE, State.SUSPECT, State.DEAD]
        known = sorted({member.address for member in self._swim.table.others(*away)})
        for address in self._rng.sample(known, min(1 if joined else _ATTEMPT_PEERS, len(known))):
            self._try(address, now)
        if not known and not self.seed_names and not self._seeds:
            self._swim.start(now)  # nobody to meet: we are the cluster

    def _try(self, address: Address, now: float) -> None:
        if address != self._swim.me.address and not self._swim.leaving:
            self._exchanges.begin(address, now)

    def _verify(self, verification: _Verification, now: float) -> None:
        if verification.tries >= _VERIFY_TRIES:
            self._verification = None
            self._next_attempt = min(self._next_attempt, now + self._profile.join_retry_first)
            return
        verification.tries += 1
        verification.next_try = now + _VERIFY_PAUSE
        refusal = verification.refusal
        self._out.send((refusal.host, refusal.port), Ping(verification.seq, refusal.holder))

    def _bar(self, refusal: Refused) -> None:
        address = (refusal.host, refusal.port)
        if refusal.why == "identity_taken":
            self.barred = IdentityTaken(address)
        else:
            self.barred = NameTaken(self._config.name, NodeId(refusal.holder), address)
        self._out.add(self.barred)
