"""A client of Docker's API, of what vxlanu asks: containers, networks, events. Podman's socket answers the same.

Rules of this file
  1. Never on the way of a request that Docker makes to its plugin: it holds locks while it waits for our answer, and
     would wait for itself (moby/libnetwork #813).
  2. Every answer is bounded in time and size before it is decoded; fields that are not used are not looked at.
  3. Paths carry no version: the daemon then speaks its own, and an old client's number is not refused by a new one.

One connection per request: these are few, and a daemon that was restarted meanwhile is met with a fresh one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct, field

__all__ = [
    "DAEMONLESS",
    "Container",
    "DockerApi",
    "DockerAway",
    "DockerRefused",
    "Joined",
    "Network",
    "RuntimeEvent",
    "refusal",
    "socket_of",
]

ANSWER_S_MAX = 10.0  # a busy dockerd takes seconds to inspect
ANSWER_BYTES_MAX = 32 << 20  # a list of thousands of containers with their labels
EVENT_BYTES_MAX = 1 << 20  # one event carries every label of its container
EVENTS_BACK_S = 2  # asked for again at each connect: the daemon subscribes a moment after it has answered

_T = TypeVar("_T")

HOST_VARIABLES = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}
SOCKETS = {"docker": ("docker.sock",), "podman": ("podman/podman.sock",)}
DAEMONLESS = ("podman",)  # the command does what is asked itself; a socket may be there, and lead to nobody


class DockerAway(Exception):
    """Nobody answers on the socket, or not in time: the daemon is down, starting, or stuck."""


class DockerRefused(Exception):
    """The daemon's answer is no; `status` is HTTP's."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Pascal(Struct, rename="pascal"):
    """The spelling of Docker's fields."""


class _State(_Pascal):
    pid: int = 0


class _Config(_Pascal):
    hostname: str = ""


class Joined(_Pascal):
    """A container's place in one network. `dns_names` holds all names since 25.0, `aliases` before."""

    network_id: str = field(default="", name="NetworkID")
    endpoint_id: str = field(default="", name="EndpointID")
    aliases: list[str] | None = None
    dns_names: list[str] | None = field(default=None, name="DNSNames")


class _NetworkSettings(_Pascal):
    networks: dict[str, Joined] | None = None


class Container(_Pascal):
    """One container, as inspected. `pid` is 0 unless it runs."""

    id: str = field(name="Id")
    name: str = ""
    state: _State = field(default_factory=_State)
    config: _Config = field(default_factory=_Config)
    network_settings: _NetworkSettings = field(default_factory=_NetworkSettings)

    @property
    def networks(self) -> list[Joined]:
        """The networks that it is connected to."""
        return list((self.network_settings.networks or {}).values())


class _Listed(_Pascal):
    id: str = field(name="Id")


class Network(_Pascal):
    """One network as listed."""

    id: str = field(name="Id")
    name: str = ""
    driver: str = ""
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class _Actor(_Pascal):
    id: str = field(default="", name="ID")
    attributes: dict[str, str] | None = None


class _DockerEvent(_Pascal):
    type: str = ""
    action: str = ""
    actor: _Actor = field(default_factory=_Actor)


class RuntimeEvent(Struct, frozen=True):
    """What a runtime says has happened. `container` is an id; `attributes` are Docker's."""

    kind: str  # container, network
    action: str
    container: str = ""
    name: str = ""
    attributes: Mapping[str, str] = {}

    @classmethod
    def of_docker(cls, line: bytes) -> RuntimeEvent:
        """From one line of /events. msgspec.DecodeError when it is none."""
        said = msgspec.json.decode(line, type=_DockerEvent)
        attributes = said.actor.attributes or {}
        if said.type == "network":
            return cls("network", said.action, attributes.get("container", ""), "", attributes)
        return cls(said.type, said.action, said.actor.id, attributes.get("name", ""), attributes)


def socket_of(runtime: str) -> Path | None:
    """Where the runtime's API answers: what its own client would take; None where that is no socket."""
    said = os.environ.get(HOST_VARIABLES[runtime], "")
    if said:
        path = Path(said.removeprefix("unix://"))
        return path if said.startswith("unix://") and path.is_socket() else None
    # A socket that this user may not open is somebody else's runtime.
    return next((path for path in _sockets(runtime) if os.access(path, os.R_OK | os.W_OK)), None)


def refusal(runtime: str, complaint: bytes) -> str:
    """Why its command failed, in one line: that its socket may not be opened, else its own last one, if any."""
    closed = [path for path in _sockets(runtime) if not os.access(path, os.R_OK | os.W_OK)]
    if closed and runtime not in DAEMONLESS:
        return f"{closed[0]} may not be opened by user {os.getuid()}, only by its group ({_group(closed[0])})"
    lines = complaint.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _group(path: Path) -> str:
    try:
        return path.group()
    except KeyError:  # one without a name
        return str(path.stat().st_gid)


def _sockets(runtime: str) -> list[Path]:
    """Those that are there, at the places where they usually are."""
    places = [Path("/run")]
    if os.getuid() != 0:
        places.insert(0, Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"))
    return [path for place in places for name in SOCKETS[runtime] if (path := place / name).is_socket()]


class DockerApi:
    """The API on one socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def container(self, reference: str) -> Container:
        """By name or id. DockerRefused with status 404 when there is none."""
        said = await self._ask("GET", f"/containers/{quote(reference, safe='')}/json")
        found = _decoded(said, Container)
        found.name = found.name.removeprefix("/")
        return found

    async def running(self) -> list[str]:
        """The ids of all containers that run."""
        return [it.id for it in _decoded(await self._ask("GET", "/containers/json"), list[_Listed])]

    async def networks(self) -> list[Network]:
        """All networks."""
        return _decoded(await self._ask("GET", "/networks"), list[Network])

    async def create_network(self, body: Mapping[str, object]) -> None:
        """Docker calls the driver from within. DockerRefused with status 409 when the name is taken."""
        await self._ask("POST", "/networks/create", json.dumps(body).encode())

    async def remove_network(self, identity: str) -> None:
        """DockerRefused with status 403 or 409 while containers use it; 404 when it has gone."""
        await self._ask("DELETE", f"/networks/{quote(identity, safe='')}")

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[RuntimeEvent]]:
        """The stream of events of containers and networks, open when this is entered; ends by DockerAway."""
        filters = json.dumps({"type": ["container", "network"]})
        asked = {"filters": filters, "since": str(int(time.time()) - EVENTS_BACK_S)}
        async with self._session(aiohttp.ClientTimeout(total=None)) as session, _plain_errors():
            async with asyncio.timeout(ANSWER_S_MAX):  # a stuck daemon accepts, too; its events may take any time
                answer = await session.get("http://docker/events", params=asked)
            async with answer:
                if answer.status != 200:
                    raise DockerRefused(answer.status, answer.reason or "")
                yield _events(answer)

    def _session(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(str(self.path))
        return aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=EVENT_BYTES_MAX)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body else {}
        async with (
            self._session(aiohttp.ClientTimeout(total=ANSWER_S_MAX)) as session,
            _plain_errors(),
            session.request(method, f"http://docker{path}", data=body, headers=headers) as answer,
        ):
            said = await _bounded(answer)
            if answer.status >= 400:
                raise DockerRefused(answer.status, _complaint(said) or answer.reason or str(answer.status))
            return said


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[RuntimeEvent]:
    with contextlib.suppress(aiohttp.ClientPayloadError):  # it ends in the middle when the daemon does
        while line := await answer.content.readline():
            with contextlib.suppress(msgspec.DecodeError):  # of a kind that is to come
                yield RuntimeEvent.of_docker(line)
    raise DockerAway("the stream of events has ended")


@asynccontextmanager
async def _plain_errors() -> AsyncIterator[None]:
    try:
        yield
    except TimeoutError as why:
        raise DockerAway(f"no answer within {ANSWER_S_MAX:g} s") from why
    except OSError as why:
        raise DockerAway(why.strerror or str(why)) from why
    except (ValueError, aiohttp.ClientError) as why:  # ValueError: a line longer than EVENT_BYTES_MAX
        raise DockerAway(str(why)) from why


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    said = bytearray()
    async for piece in answer.content.iter_any():
        said += piece
        if len(said) > ANSWER_BYTES_MAX:
            raise DockerAway(f"an answer of more than {ANSWER_BYTES_MAX >> 20} MiB")
    return bytes(said)


def _complaint(said: bytes) -> str:
    try:
        return msgspec.json.decode(said, type=dict[str, str]).get("message", "")
    except msgspec.DecodeError:
        return said[:200].decode(errors="replace").strip()


def _decoded(said: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(said, type=kind)
    except msgspec.DecodeError as why:
        raise DockerAway(f"an answer that is not Docker's: {why}") from why
