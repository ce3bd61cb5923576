"""The control plane as the agent holds it: coroutines around the core. They run on its loop and never block it.

`ControlPlane` turns a request into core calls and waits for the effect that answers it. shell.py does the I/O.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from .core.config import Config, Row
from .core.core import Core
from .core.effects import (
    Address,
    Allocated,
    AllocationRefused,
    Changed,
    Effect,
    Exchanged,
    IdentityTaken,
    Joined,
    NameTaken,
    Published,
)
from .core.errors import Refusal
from .core.messages import Surveyed
from .core.records import Endpoint, EndpointId, Kind, Network, NetworkId, NodeId, Record, Vtep
from .seeds import parse_seed, resolve
from .shell import Journal, Shell
from .ways import ask_by_stream, try_stream

__all__ = ["ControlPlane", "Journal"]

_JOIN_SECONDS = 5.0
_CONFIRM_SECONDS = 1.0  # at most, for networks and VTEPs, which are rare; for endpoints the profile says
_POLL_SECONDS = 0.02
_SLACK_SECONDS = 5.0  # beyond a deadline of the core, for a slow disk; only a bug or a dead disk gets there
_EffectT = TypeVar("_EffectT", bound=Effect)
log = logging.getLogger(__name__)


class ControlPlane:
    """The control plane of one agent."""

    def __init__(self, config: Config, rows: Iterable[Row], journal: Journal, *, bind_host: str = "") -> None:
        """`bind_host`: address to bind UDP and TCP to; default the advertised one."""
        self.core = Core(config, rows, random.SystemRandom(), time.monotonic())
        self._config = config
        host = bind_host or config.control_host
        timeout = config.profile.stream_timeout
        self._shell = Shell(self.core, journal, host, config.control_port, timeout, self._effect)
        self._requests = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Effect]] = {}
        self._changed: list[Callable[[Changed], None]] = []
        self._events: list[Callable[[Effect], None]] = []
        self._exchanges = asyncio.Event()
        self._barred: NameTaken | IdentityTaken | None = None

    # life

    async def start(self) -> None:
        """Bind, persist the epoch, begin to join. Raises OSError (EADDRINUSE) when the port is held."""
        await self._shell.start()

    async def stop(self, leave: bool = False) -> None:
        """Flush the journal and close; with `leave`, say goodbye first (at most 2 s)."""
        if leave:
            self.core.leave(time.monotonic())
            self._shell.pump()
            while not self.core.has_left(time.monotonic()):
                await asyncio.sleep(_POLL_SECONDS)
        await self._shell.stop()
        for future in self._waiting.values():
            future.cancel()

    async def first_join(self, deadline: float) -> None:
        """Wait until joined or `deadline` seconds passed. Raises Refusal(name_taken, identity_taken)."""
        end = time.monotonic() + deadline
        while not self.core.joined() and time.monotonic() < end:
            self._raise_if_barred()
            await asyncio.sleep(_POLL_SECONDS)
        self._raise_if_barred()

    def subscribe(self, callback: Callable[[Changed], None]) -> None:
        """Called on the loop after every change of the view; must not block."""
        self._changed.append(callback)

    def on_event(self, callback: Callable[[Effect], None]) -> None:
        """Called with MemberChanged, Joined, Exchanged, JoinFailed, NameTaken, IdentityTaken, WrongKey, SurveyAsked,
        SurveyAnswered."""
        self._events.append(callback)

    # cluster

    async def join(self, seeds: Sequence[str]) -> None:
        """Add HOST[:PORT] seeds and try them now; returns when one answered. Raises Refusal("try_again") after 5 s."""
        for seed in seeds:
            parse_seed(seed)
        self._barred = None
        self.core.add_seeds(seeds)
        addresses = await resolve(seeds, self._config.control_host)
        self._exchanges.clear()
        self.core.join(addresses, time.monotonic())
        self._shell.pump()
        end = time.monotonic() + _JOIN_SECONDS
        while time.monotonic() < end and not self._exchanges.is_set():
            self._raise_if_barred()
            await asyncio.sleep(_POLL_SECONDS)
        if not self._exchanges.is_set():
            raise Refusal("try_again", ", ".join(seeds), "no answer yet; it is tried again for ever")

    async def forget(self, node: NodeId) -> Record:
        """Raises Refusal("not_found" | "member_alive")."""
        record = self.core.forget(node, time.monotonic())
        await self._publish([record], None, 1.0)
        return record

    async def refresh(self, timeout: float = 1.0) -> bool:
        """Exchange state with one random peer now: what `attach` does before it says that a network is unknown."""
        self._exchanges.clear()
        if not self.core.refresh(time.monotonic()):
            return False
        self._shell.pump()
        try:
            async with asyncio.timeout(timeout):
                await self._exchanges.wait()
        except TimeoutError:
            return self._exchanges.is_set()  # it may have come in this very moment
        return True

    # records

    async def create_network(self, network: Network) -> Published:
        """Durable here, then pushed to every alive member. Raises Refusal."""
        return await self._publish([self.core.create_network(network, time.monotonic())], None, _CONFIRM_SECONDS)

    async def remove_network(self, network: NetworkId) -> Published:
        """Raises Refusal."""
        return await self._publish([self.core.remove_network(network, time.monotonic())], None, _CONFIRM_SECONDS)

    async def put_endpoint(self, endpoint: Endpoint) -> Published:
        """Durable here, then pushed; returns after the hosts of its network confirmed, or the profile's `confirm`."""
        record = self.core.put(Kind.ENDPOINT, endpoint.id, endpoint, time.monotonic())
        return await self._publish([record], NetworkId(endpoint.network), self._config.profile.confirm)

    async def delete_endpoint(self, endpoint: EndpointId, *, keep_addresses: bool = False) -> Published:
        """Deletes the record, and releases its addresses unless the id is to come back. Nothing there is success."""
        now = time.monotonic()
        known = self.core.own_endpoint(endpoint)
        record = self.core.delete(Kind.ENDPOINT, endpoint, now)
        if known is None or record is None:
            return Published(0, 0, 0)
        network = NetworkId(known.network)
        if not keep_addresses:
            self.core.release(network, endpoint, now)
        return await self._publish([record], network, self._config.profile.confirm)

    async def put_vtep(self, vtep: Vtep) -> Published:
        """Raises Refusal."""
        return await self._publish([self.core.put_vtep(vtep, time.monotonic())], None, _CONFIRM_SECONDS)

    async def remove_vtep(self, network: NetworkId, address: str, port: int) -> Published:
        """Raises Refusal."""
        record = self.core.remove_vtep(network, address, port, time.monotonic())
        return await self._publish([record], None, _CONFIRM_SECONDS)

    # addresses

    async def allocate(
        self,
        network: NetworkId,
        endpoint: EndpointId,
        *,
        wanted: str | None = None,
        subnet: str = "",
        ipv6: bool = False,
        take_over: bool = False,
    ) -> str:
        """An address with its prefix length, journalled; of `subnet`, if that is given. Raises Refusal (errors.py has
        the names)."""
        request = next(self._requests)
        answer = self._wait_for(request)
        now = time.monotonic()
        self.core.allocate(
            request, network, endpoint, now, wanted=wanted, subnet=subnet, ipv6=ipv6, take_over=take_over
        )
        self._shell.pump()
        effect = await self._answer(request, answer, self._config.profile.allocate_deadline)
        if isinstance(effect, AllocationRefused):
            raise Refusal(effect.name, effect.what, effect.why, effect.holder)
        assert isinstance(effect, Allocated)
        return effect.address

    async def release(self, network: NetworkId, endpoint: EndpointId) -> None:
        """Give its addresses back (a failed attach)."""
        self.core.release(network, endpoint, time.monotonic())
        self._shell.pump()

    def addresses_of(self, network: NetworkId, endpoint: EndpointId) -> tuple[str, ...]:
        """What is kept for an endpoint of this node, whether it has a record or waits for its container."""
        return self.core.addresses_of(network, endpoint)

    @property
    def stream_timeout(self) -> float:
        """How long a peer lets a stream wait."""
        return self._config.profile.stream_timeout

    # surveys: which ways are open between a member and us

    def ask_survey(self, node: NodeId, number: int, length: int) -> None:
        """Ask by one datagram; the answer is the event SurveyAnswered."""
        self.core.ask_survey(node, number, length)
        self._shell.pump()

    async def ask_survey_by_stream(
        self, to: Address, number: int, length: int, seconds: float
    ) -> tuple[str, Surveyed | None]:
        """Ask by a stream of its own: how connecting ended (ways.py), and the answer if one came back on it."""
        own, question = self._config.control_host, self.core.survey_question(number, length)
        found, frame = await ask_by_stream(own, to, question, seconds)
        return found, self.core.survey_reply(frame) if frame else None

    async def try_stream(self, to: Address, seconds: float) -> str:
        """Whether a stream to there opens: open, refused, silent, or what the kernel says."""
        return await try_stream(self._config.control_host, to, seconds)

    def answer_survey(self, node: NodeId, found: Surveyed) -> None:
        """Answer SurveyAsked."""
        self.core.answer_survey(node, found, time.monotonic())
        self._shell.pump()

    # inside

    async def _publish(self, records: list[Record], network: NetworkId | None, timeout: float) -> Published:
        request = next(self._requests)
        answer = self._wait_for(request)
        now = time.monotonic()
        self.core.publish(request, records, network, now + timeout, now)
        self._shell.pump()
        effect = await self._answer(request, answer, timeout)
        assert isinstance(effect, Published)
        return effect

    def _wait_for(self, request: int) -> asyncio.Future[Effect]:
        future: asyncio.Future[Effect] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        return future

    async def _answer(self, request: int, future: asyncio.Future[Effect], seconds: float) -> Effect:
        try:
            async with asyncio.timeout(seconds + _SLACK_SECONDS):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled():  # in this very moment
                return future.result()
            raise Refusal("try_again", "the journal", "the disk does not answer") from None
        finally:
            self._waiting.pop(request, None)

    def _effect(self, effect: Effect) -> None:
        match effect:
            case Changed():
                for changed in self._changed:
                    _guarded(changed, effect)
                return
            case Published() | Allocated() | AllocationRefused():
                future = self._waiting.get(effect.request)
                if future is not None and not future.done():
                    future.set_result(effect)
                return
            case Exchanged() | Joined():
                self._exchanges.set()
            case NameTaken() | IdentityTaken():
                self._barred = effect
        for event in self._events:
            _guarded(event, effect)

    def _raise_if_barred(self) -> None:
        match self._barred:
            case NameTaken(name, holder, address):
                why = f"member {holder.hex()[:12]} at {address[0]}:{address[1]} has this name"
                raise Refusal("name_taken", name, why, f"{address[0]}:{address[1]}")
            case IdentityTaken(address):
                why = f"the node at {address[0]}:{address[1]} has the same identity: a copied state directory"
                raise Refusal("identity_taken", self._config.name, why, f"{address[0]}:{address[1]}")


def _guarded(callback: Callable[[_EffectT], None], effect: _EffectT) -> None:
    """A listener's bug is the listener's: the effects behind it are carried out all the same."""
    try:
        callback(effect)
    except Exception:
        log.exception("a listener failed on %s", type(effect).__name__, extra={"event": "internal"})
