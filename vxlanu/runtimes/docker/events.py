"""Following a runtime's events for ever: across its restarts, its absence, and a socket that comes later.

How it works
  Connect, then `connected()`: whoever listens looks at everything once, for nothing was heard before. From there on
  `heard(event)` for each event. Whatever ends the stream, it is connected again, after a pause that grows.

Rules of this file
  1. The stream is open before `connected` is called, so nothing falls between the look and the first event.
  2. Listeners are called on the loop and must not block; what they do they do as tasks, any number of times.
  3. An absent runtime is said once, not at every try.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from operator import methodcaller
from pathlib import Path

import msgspec
from msgspec import Struct, field

from vxlanu.runtimes.docker.client import (
    ANSWER_S_MAX,
    DAEMONLESS,
    EVENT_BYTES_MAX,
    DockerApi,
    DockerAway,
    DockerRefused,
    RuntimeEvent,
    refusal,
    socket_of,
)

__all__ = ["Follower", "Listener"]

log = logging.getLogger("vxlanu.runtimes")

PAUSE_S_MIN, PAUSE_S_MAX = 0.2, 5.0  # the longest is what a container waits for after its runtime has come back

COMMANDS = {
    "docker": ("docker", "events", "--since", "2s", "--format", "{{json .}}"),
    "podman": ("podman", "events", "--since", "2s", "--filter", "type=container", "--format", "json"),
}


class Listener:
    """Who wants to hear. Both do nothing here."""

    def connected(self) -> None:
        """A stream has begun: look at everything."""

    def heard(self, event: RuntimeEvent) -> None:
        """Something has happened."""


class Follower:
    """One runtime, followed."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.following = False
        self.listeners: list[Listener] = []
        self._silent = False
        self._path: Path | None = None  # one that was used is waited for, it goes with its daemon
        self._by_command = False

    async def run(self) -> None:
        """Until it is cancelled."""
        pause = PAUSE_S_MIN
        while True:
            try:
                async with self._stream() as events:
                    pause, self._silent = PAUSE_S_MIN, False
                    self.following = True
                    log.info("following the events of %s", self.runtime, extra={"event": "runtime"})
                    self._tell(methodcaller("connected"))
                    async for event in events:
                        self._tell(methodcaller("heard", event))
            except (DockerAway, DockerRefused) as why:
                if not self._silent:
                    log.info("%s sends no events: %s", self.runtime, why, extra={"event": "runtime"})
                self._silent = True
                self._by_command = not self._by_command
            finally:
                self.following = False
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_S_MAX)

    def _stream(self) -> AbstractAsyncContextManager[AsyncIterator[RuntimeEvent]]:
        """By the socket where there is one. Without a daemon it may lead to nobody: then by either way in turn."""
        self._path = socket_of(self.runtime) or self._path
        refused = self.runtime in DAEMONLESS and self._by_command
        return DockerApi(self._path).events() if self._path and not refused else _command_events(self.runtime)

    def _tell(self, what: Callable[[Listener], None]) -> None:
        for listener in self.listeners:
            try:
                what(listener)
            except Exception:
                log.exception("a listener of %s failed", self.runtime, extra={"event": "internal"})


class _PodmanEvent(Struct, rename="pascal"):
    """A line of `podman events --format json`."""

    id: str = field(default="", name="ID")
    name: str = ""
    status: str = ""
    type: str = ""


def _of_podman(line: bytes) -> RuntimeEvent:
    said = msgspec.json.decode(line, type=_PodmanEvent)
    return RuntimeEvent(said.type, said.status, said.id, said.name)


@asynccontextmanager
async def _command_events(runtime: str) -> AsyncIterator[AsyncIterator[RuntimeEvent]]:
    """By the command line, where there is no socket. It does not say when it has begun, hence its --since, nor that the
    daemon is there, hence the question before it.
    """
    await _ask_command(runtime)
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = COMMANDS[runtime]
    running = await asyncio.create_subprocess_exec(
        *command, stdin=null, stdout=pipe, stderr=null, limit=EVENT_BYTES_MAX
    )
    try:
        yield _lines(runtime, running)
    finally:
        await _end(running)


async def _ask_command(runtime: str) -> None:
    """Whether the daemon answers its own command. Raises DockerAway with the command's own words."""
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        asked = await asyncio.create_subprocess_exec(runtime, "ps", "-q", stdin=null, stdout=null, stderr=pipe)
    except OSError as why:
        raise DockerAway(f"cannot run {runtime}: {why.strerror}") from why
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            _, complaint = await asked.communicate()
    except TimeoutError:
        raise DockerAway(f"{runtime} ps does not answer within {ANSWER_S_MAX:g} s") from None
    finally:
        await _end(asked)
    if asked.returncode != 0:
        raise DockerAway(refusal(runtime, complaint) or f"{runtime} ps fails")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


async def _lines(runtime: str, running: asyncio.subprocess.Process) -> AsyncIterator[RuntimeEvent]:
    assert running.stdout is not None
    read = _of_podman if runtime == "podman" else RuntimeEvent.of_docker
    try:
        while line := await running.stdout.readline():
            with contextlib.suppress(msgspec.DecodeError):
                yield read(line)
    except ValueError as why:
        raise DockerAway(str(why)) from why
    raise DockerAway(f"{' '.join(COMMANDS[runtime][:2])} has ended")
