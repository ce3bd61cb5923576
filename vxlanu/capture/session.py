"""A capture of this host while it runs: endpoints come and go, frames leave for the reader.

How it works
  The fast path's writer thread writes whole pcapng blocks into a pipe; `read` hands on what is in it. Blocks of new
  interfaces and names are queued before any frame can refer to them. Whoever reads too slowly fills the pipe, then the
  rings, which lose and count: forwarding never waits.

Rules of this file
  1. An endpoint's interface block is handed over before the endpoint is selected, so the file never refers forward.
  2. Nothing here touches a frame.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
from typing import TYPE_CHECKING

from vxlanu import __version__
from vxlanu.api.schema import CaptureStopped, CaptureWanted
from vxlanu.capture import blocks
from vxlanu.capture.labels import Labels, endpoint_name
from vxlanu.capture.wanted import Selection, config_of, select
from vxlanu.dataplane.captures import CAPTURES_MAX, FIRST_INTERFACE, INTERFACES_MAX, Capture, CaptureConfig
from vxlanu.errors import NotFound, TryAgain
from vxlanu.gateway.service import GATEWAY_NAME

if TYPE_CHECKING:  # the agent holds its captures
    from vxlanu.agent.agent import Agent

__all__ = ["Captures", "Session"]

log = logging.getLogger("vxlanu.capture")

PIPE_BYTES = 1 << 20  # the most an unprivileged pipe holds: some milliseconds of full rate
LOOK_S = 0.1  # how soon a new endpoint is seen
GATHER_S = 0.02  # a piece grows for so long before it is passed on: a piece is what costs
ENDED_S = 2.0  # a writer looks every 50 ms whether its reader has gone
OUTER_TEXT = "datagrams as cut for the wire; outer addresses, ports, TOS and lengths are real, the rest is 0"
DROPS_TEXT = "frames that were not delivered; those of no known network as datagrams"


class Session:
    """One capture. `read` gives the file piece by piece; `close` is always due."""

    def __init__(self, captures: Captures, number: str, wanted: CaptureWanted) -> None:
        self.number = number
        self._captures = captures
        self._agent = captures.agent
        self._filter = _filter_text(wanted)
        self._selection: Selection = select(self._agent.view, self._agent.control.core.node, wanted.references)
        config = config_of(wanted, self._selection)
        self._inner = config.inner
        self._interfaces: dict[str, int] = {}
        self._next = FIRST_INTERFACE
        self._labels = Labels(self._selection)
        self._seen = (-1, -1)
        self._looked = 0.0
        self._reader, self._capture = self._open(config)
        self._begin()

    def _open(self, config: CaptureConfig) -> tuple[int, Capture]:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:  # the user's pipes hold as much as they may: a smaller one will do
            log.debug("the pipe stays small", extra={"event": "capture"})
        try:
            return reader, self._agent.dataplane.open_capture(config, writer)
        except OSError as error:
            os.close(reader)
            os.close(writer)
            if error.errno != errno.EBUSY:
                raise
            why = "as many captures run as may at once"
            raise TryAgain("capture", why, hint="end one of them", name="too_many_captures") from error

    def _begin(self) -> None:
        host = self._agent.config.name
        self._capture.block(blocks.section(f"vxlanu {__version__}", f"host {host}"))
        self._capture.block(blocks.interface("vxlanu:underlay", OUTER_TEXT, self._filter))
        self._capture.block(blocks.interface("vxlanu:drops", DROPS_TEXT, self._filter))
        self._follow()
        self._capture.start()

    def _follow(self) -> None:
        """Select what is new, and tell new names; nothing when nothing has changed."""
        now = asyncio.get_running_loop().time()
        seen = (self._agent.dataplane.changes, self._captures.changes)
        if (seen == self._seen and not self._labels.waiting) or now - self._looked < LOOK_S:
            return
        self._looked = now
        if seen != self._seen:
            self._seen = seen
            self._labels.look(self._agent.view)
            self._select()
        if names := self._labels.take():
            self._capture.block(blocks.names(names))

    def _select(self) -> None:
        plane = self._agent.dataplane
        for network in self._selection.networks:
            if (index := plane.network_index(network)) is not None:
                self._capture.network(index)
        for address in self._selection.vteps:
            for index in plane.vtep_indexes(address):
                self._capture.vtep(index)
        networks: dict[bytes, str] = {it.id: it.name for it in self._agent.view.networks()}
        for it in self._agent.view.endpoints():
            index = plane.port_index(it.id.hex())
            if index is None or it.owner != self._agent.control.core.node or not self._selection.has(it):
                continue
            name = endpoint_name(it, networks)
            self._capture.port(index, self._interface(it.id.hex(), name), name)
        for service in self._agent.services.standing():
            index = plane.port_index(service.key)
            if index is not None and (self._selection.everything or service.network in self._selection.networks):
                name = f"{GATEWAY_NAME}.{networks.get(service.network, '?')}"
                self._capture.port(index, self._interface(service.key, name), name)

    def _interface(self, key: str, name: str) -> int:
        """The number of an endpoint's interface, its block queued when it is new; 0, none, when there are too many."""
        number = self._interfaces.get(key)
        if number is None and self._next >= INTERFACES_MAX:
            return 0
        if number is None:
            number = self._interfaces[key] = self._next
            self._next += 1
            text = f"inner frames of {name}, as they cross its TAP"
            self._capture.block(blocks.interface(f"vxlanu:{name}", text, self._filter))
        return number

    async def read(self, patience_s: float) -> bytes | None:
        """What there is of the file, at most a pipe full; empty at its end, None when nothing came for so long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            self._follow()
            try:
                return os.read(self._reader, PIPE_BYTES)
            except BlockingIOError:
                if loop.time() >= until:
                    return None
                await self._readable(loop)

    async def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for more of the file, or until it is time to look who is there."""
        ready = asyncio.Event()
        loop.add_reader(self._reader, ready.set)
        try:
            async with asyncio.timeout(LOOK_S):
                await ready.wait()
            loop.remove_reader(self._reader)
            await asyncio.sleep(GATHER_S)
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self._reader)

    def stop(self) -> CaptureStopped:
        """Let what there is be written; `read` then comes to the end."""
        self._capture.stop()
        told = self._capture.captured()
        return CaptureStopped(told.frames, told.lost)

    def close(self) -> None:
        """End it, whatever is left."""
        told = self._capture.captured()
        log.info(
            "capture %s ended: %d frames, %d lost", self.number, told.frames, told.lost, extra={"event": "capture"}
        )
        self._capture.close()
        os.close(self._reader)
        self._captures.forget(self)


class Captures:
    """The captures of one agent."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.changes = 0
        """Grows when a record or a member changes."""
        self._running: dict[str, Session] = {}
        self._last = 0

    async def open(self, wanted: CaptureWanted) -> Session:
        """Start one.

        Raises:
            NotFound, BadRequest: the request cannot be met.
            TryAgain: there are too many.
        """
        until = asyncio.get_running_loop().time() + ENDED_S
        while True:
            try:
                session = Session(self, str(self._last + 1), wanted)
                break
            except TryAgain:  # one that nobody reads any more may need a moment to end
                if len(self._running) >= CAPTURES_MAX or asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(LOOK_S / 10)
        self._last += 1
        self._running[session.number] = session
        return session

    def stop(self, number: str) -> CaptureStopped:
        """Let a capture come to its end."""
        session = self._running.get(number)
        if session is None:
            raise NotFound(f"capture {number}", "it does not run", name="no_capture")
        return session.stop()

    def changed(self) -> None:
        self.changes += 1

    def forget(self, session: Session) -> None:
        self._running.pop(session.number, None)

    def end(self) -> None:
        """Let all of them come to their end: the agent stops."""
        for session in self._running.values():
            session.stop()


def _filter_text(wanted: CaptureWanted) -> str:
    """What was asked for, for the file."""
    words = [*wanted.references, *(f"reason={one}" for one in wanted.reasons)]
    words += [f"{key}={value}" for key in ("view", "direction") if (value := getattr(wanted, key))]
    return " ".join([*words, *(["drops"] if wanted.drops else [])])
