"""The agent's side of the helper.

Rules of this file
  1. Nothing blocks: a request is one send on a socket with room for it, an answer arrives by `add_reader`.
  2. A caller that stops waiting closes its answer socket. A child that finds it closed undoes its work; a child that
     had answered before is undone by the caller (`delete_tap`), so between them nothing is left behind.
  3. Descriptors that arrive belong to the value that is returned, and to nobody when an error is raised.
  4. Requests wait for their turn here, and that time is not the child's: it is given its whole time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

import msgspec

from vxlanu.errors import VxlanuError
from vxlanu.nsopen import helper, syscalls, wire
from vxlanu.nsopen.wire import (
    AdoptTap,
    AskHops,
    AskPaths,
    AskRoute,
    DeleteTap,
    EgressCut,
    EgressGround,
    EgressLook,
    EgressWire,
    GroundFacts,
    HelperGone,
    HelperTimeout,
    InterfaceAddress,
    Link,
    ListAddresses,
    ListLinks,
    ListRoutes,
    NewNamespace,
    NextHop,
    NextHops,
    OpenedSockets,
    OpenedUplink,
    OpenSockets,
    OpenTap,
    OpenUplink,
    ProbeTap,
    Question,
    Route,
    RouteTo,
    TapFeatures,
    TapPlan,
    TapQueues,
    UplinkFacts,
    WayOut,
    WireFacts,
)

# A request takes some 10 ms. On a busy host it waits for a processor, and for a lock that all network namespaces share:
# whoever takes down a thousand links holds it for seconds. No longer than a Docker request may take (server.WORK_S).
TIMEOUT_S = 10.0
# Children at the same time. They are busy from their first moment to their last, so more of them than processors only
# makes each slower: of 100 TAPs on two busy processors each took 2.2 s with 16 at once (at most 3.8), 0.5 s with 4, and
# all of them together the same 13 s. A few more than processors, for those that must wait.
AT_ONCE = max(4, min(16, 2 * len(os.sched_getaffinity(0))))
ADDRESSES_AT_ONCE = 1000  # of 41 bytes at most, in a request of wire.REQUEST_BYTES
WAYS_BYTES = wire.REQUEST_BYTES // 2  # of a look, counted roughly
SOCKETS_AT_ONCE = wire.DESCRIPTORS_MAX // 2
CHUNK_BYTES = 256 * 1024
AGAIN = "vxlanu.nsopen.again"

R = TypeVar("R")


class NamespaceHelper:
    """A running helper process and the way to ask it things. `target` is always a namespace descriptor, or None for
    the agent's own namespace; it is only borrowed."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.restarts = 0
        self._pidfd = os.pidfd_open(pid)
        self._control = control
        self._slots: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    @classmethod
    def start(cls) -> NamespaceHelper:
        """Fork the helper. Call it first of all: before threads, event loop and heavy imports."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        agent = os.getpid()
        pid = os.fork()
        if pid == 0:
            helper.serve(theirs, agent)
        theirs.close()
        ours.setblocking(False)
        return cls(pid, ours)

    async def ended(self) -> None:
        """Return when the helper process has ended by itself."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._pidfd, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._pidfd)

    def restart(self) -> None:
        """A new helper in the place of one that has ended: what was asked of that one has failed with HelperGone.

        Raises:
            OSError: no process is to be had.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            argv = [sys.executable, "-P", "-m", AGAIN, str(theirs.fileno()), str(os.getpid())]
            started = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            started.returncode = 0  # waited for here, not by its destructor
            self._forget()
            self.pid, self._pidfd = started.pid, os.pidfd_open(started.pid)
            ours.setblocking(False)
            self._control = ours.dup()
            self.restarts += 1

    def _forget(self) -> None:
        """Close what belongs to a helper that has ended, and take its status."""
        self._control.close()
        os.close(self._pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def close(self) -> None:
        """End the helper and wait for it; work in flight still ends, each child by itself."""
        if self._control.fileno() < 0:
            return
        self._control.close()
        # By pidfd: a helper that died and was waited for by others may have left its number to a stranger.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._forget()

    async def create_tap(self, target: int, plan: TapPlan, *, timeout: float = TIMEOUT_S) -> OpenTap:
        """A new TAP in `target`. Errors: InterfaceTaken, AddressFailed, TunMissing, PermissionMissing."""
        try:
            return await self._call(plan, target, timeout)
        except (HelperTimeout, HelperGone, asyncio.CancelledError):
            await asyncio.shield(self._erase(os.dup(target), plan.tag))
            raise

    async def adopt_tap(
        self, target: int, tag: str, queues: TapQueues | None = None, *, timeout: float = TIMEOUT_S
    ) -> OpenTap:
        """The TAP of endpoint `tag`, opened again. Such descriptors pin the namespace. Errors: TapMissing, TapBusy."""
        return await self._call(AdoptTap(tag, queues or TapQueues()), target, timeout)

    async def delete_tap(self, target: int, tag: str, *, timeout: float = TIMEOUT_S) -> bool:
        """Delete it; False if there was none."""
        return await self._call(DeleteTap(tag), target, timeout)

    async def egress_ground(self, wanted: EgressGround) -> GroundFacts:
        """Bridge, ports and forwarding as they should be. Errors: BridgeTaken, PermissionMissing."""
        return await self._call(wanted, None)

    async def egress_wire(self, target: int, wanted: EgressWire) -> WireFacts:
        """A veth from `target` to the bridge. Errors: InterfaceTaken, PermissionMissing."""
        try:
            return await self._call(wanted, target)
        except (HelperTimeout, HelperGone, asyncio.CancelledError):
            await asyncio.shield(self.egress_cut(wanted.tag))
            raise

    async def egress_cut(self, tag: str) -> bool:
        """Take it away; False if there was none."""
        return await self._call(EgressCut(tag), None)

    async def egress_look(self, ways: Sequence[WayOut]) -> list[str]:
        """Tags of those that are not what they should be inside of their targets."""
        found: list[str] = []
        for part in _parts(ways):
            lacking: list[str] = await self._call(EgressLook(part), None)
            found += lacking
        return found

    async def probe_tap(self) -> TapFeatures:
        """What this kernel's TAPs can do. Errors: TunMissing, PermissionMissing."""
        return await self._call(ProbeTap(), None)

    async def new_namespace(self) -> int:
        """One that forwards, with nothing in it; it ends with the last descriptor. Errors: PermissionMissing."""
        return await self._call(NewNamespace(), None)

    async def open_sockets(self, target: int, addresses: Sequence[str], port: int) -> OpenedSockets:
        """UDP and TCP sockets bound to `port` of addresses of the target; at most SOCKETS_AT_ONCE addresses.
        Errors: AddressFailed."""
        return await self._call(OpenSockets(tuple(addresses), port), target)

    async def links(self, target: int | None = None) -> list[Link]:
        """All interfaces, with their altnames and what the kernel dropped on them."""
        return await self._call(ListLinks(), target)

    async def addresses(self, target: int | None = None) -> list[InterfaceAddress]:
        """All addresses of all interfaces."""
        return await self._call(ListAddresses(), target)

    async def routes(self, target: int | None = None) -> list[Route]:
        """The unicast routes of every table: what a default subnet must not overlap."""
        return await self._call(ListRoutes(), target)

    async def route_to(self, address: str, target: int | None = None) -> RouteTo | None:
        """None when there is no route."""
        return await self._call(AskRoute(address), target)

    async def path_mtus(self, addresses: Sequence[str]) -> dict[str, int]:
        """The largest packet that leaves towards each address by link and route; those without route are not in it."""
        found: dict[str, int] = {}
        for start in range(0, len(addresses), ADDRESSES_AT_ONCE):
            part: dict[str, int] = await self._call(AskPaths(tuple(addresses[start : start + ADDRESSES_AT_ONCE])), None)
            found |= part
        return found

    async def open_uplink(self, ifname: str) -> OpenedUplink:
        """A TAP whose frames leave by `ifname`. Errors: TunMissing, PermissionMissing, KernelRefused."""
        return await self._call(OpenUplink(ifname), None)

    async def next_hops(self, addresses: Sequence[str], opened: UplinkFacts, source: str) -> NextHops:
        """By which neighbours of the uplink addresses are reached now, if it takes tunnelled super-frames."""
        found = dict[str, NextHop]()
        for start in range(0, len(addresses) or 1, ADDRESSES_AT_ONCE):
            part = tuple(addresses[start : start + ADDRESSES_AT_ONCE])
            answer: NextHops = await self._call(AskHops(part, opened, source), None)
            if answer.unable:
                return answer
            found |= answer.items
        return NextHops(found)

    def call_sync(self, request: Question[R], target: int | None = None, *, timeout: float = TIMEOUT_S) -> R:
        """The same without a loop, for tests and for the start of the agent."""
        with _Answer() as answer:
            self._send(request, answer, target)
            deadline = time.monotonic() + timeout
            arriving = select.poll()
            arriving.register(answer.ours, select.POLLIN)
            while not answer.ended:
                left = deadline - time.monotonic()
                if not arriving.poll(max(left, 0) * 1000):
                    raise _too_late(timeout)
                answer.receive()
            return cast(R, answer.result())

    async def _call(self, request: Question[R], target: int | None, timeout: float = TIMEOUT_S) -> R:
        loop = asyncio.get_running_loop()
        if self._slots is None or self._slots[0] is not loop:
            self._slots = (loop, asyncio.Semaphore(AT_ONCE))
        async with self._slots[1]:
            with _Answer() as answer:
                self._send(request, answer, target)
                await answer.arrive(loop, timeout)
                return cast(R, answer.result())

    def _send(self, request: Question[R], answer: _Answer, target: int | None) -> None:
        fds = [answer.theirs.fileno()] + ([] if target is None else [target])
        try:
            socket.send_fds(self._control, [msgspec.msgpack.encode(request)], fds)
        except OSError as why:
            raise HelperGone("ask the namespace helper", f"it does not listen ({why.strerror})") from why
        finally:
            answer.theirs.close()

    async def _erase(self, target: int, tag: str) -> None:
        try:
            await self.delete_tap(target, tag)
        except VxlanuError:
            return  # the helper is gone: its children die with what they had half made
        finally:
            os.close(target)


def _parts(ways: Sequence[WayOut]) -> Iterator[tuple[WayOut, ...]]:
    """As many as a request has room for."""
    part: list[WayOut] = []
    size = 0
    for way in ways:
        size += len(msgspec.msgpack.encode(way))
        if size > WAYS_BYTES and part:
            yield tuple(part)
            part, size = [], 0
        part.append(way)
    if part:
        yield tuple(part)


class _Answer:
    """One answer on its way: bytes and descriptors until end of file. Owns what it has received until `result`."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.ended = False
        self._body = bytearray()
        self._fds: list[int] = []

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        self.theirs.close()
        for fd in self._fds:
            os.close(fd)

    def receive(self) -> None:
        """Take what there is."""
        try:
            data, fds, _ = syscalls.receive_fds(self.ours, CHUNK_BYTES, wire.DESCRIPTORS_MAX)
        except BlockingIOError:
            return
        self._fds += fds
        self._body += data
        self.ended = not data or len(self._body) > wire.ANSWER_BYTES

    async def arrive(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """Wait for the end of the answer."""
        done: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            try:
                self.receive()
            except OSError as why:
                self.ended = True
                self._body.clear()
                self._body += f"({why})".encode()
            if self.ended and not done.done():
                done.set_result(None)

        loop.add_reader(self.ours.fileno(), readable)
        try:
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            if not self.ended:  # else it came in this very moment
                raise _too_late(timeout) from None
        finally:
            loop.remove_reader(self.ours.fileno())

    def result(self) -> object:
        """What the child said, of the type that the request promises (wire.Question), or raise what it raised."""
        try:
            answer: wire.Answer = msgspec.msgpack.decode(self._body, type=wire.Answer)
        except msgspec.DecodeError as why:
            said = f"after {len(self._body)} bytes" if self._body else "without an answer"
            raise HelperGone("work in a namespace", f"the child of the namespace helper ended {said}") from why
        match answer:
            case wire.Failure():
                raise answer.error()
            case wire.TapFacts():
                fds, self._fds = tuple(self._fds), []
                where = answer.namespace_inode
                return OpenTap(answer.ifname, answer.ifindex, answer.mac, answer.mtu, where, fds, answer.write_queue)
            case wire.UplinkFacts():
                return OpenedUplink(answer, self._fds.pop())
            case wire.NamespaceMade():
                return self._fds.pop()
            case wire.SocketsMade():
                fds, self._fds = tuple(self._fds), []
                return OpenedSockets(fds[: answer.count], fds[answer.count :])
            case wire.TapFeatures() | wire.GroundFacts() | wire.WireFacts() | wire.NextHops():
                return answer
            case wire.Deleted():
                return answer.existed
            case wire.RouteAnswer():
                return answer.route
        return answer.items


def _too_late(timeout: float) -> HelperTimeout:
    return HelperTimeout(
        "work in a namespace", f"no answer within {timeout:g} s", hint="again, when the host is less busy"
    )
