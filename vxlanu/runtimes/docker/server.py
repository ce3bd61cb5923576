"""The socket that dockerd asks on.

Rules of this file
  1. Every request is answered within ANSWER_S, and NOTICE_S, with what was asked for or with the reason why not:
     dockerd holds locks meanwhile. Work that takes longer goes on, also when we are told to stop; what it has made is
     undone, since Docker was told that it failed. A repetition of what was done before makes nothing, and has nothing
     to undo.
     What a busy host may take longer for is given WORK_S, the kernel's work at Join and the claim of a block of
     addresses: a container that starts late is better than one that does not (seen with 100 at once on two CPUs).
  2. A body is bounded before it is read, and decoded to the struct of its method; what fails is one sentence.
  3. A method that we do not have is 404, which Docker takes for "not implemented".
  4. The file goes when we go: Docker waits 15 s for a socket on which nobody answers, with every driver's user. Where
     it cannot go, since we were killed, or Docker would wait for it all the same, the stand-in answers (absence.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from aiohttp import web

from vxlanu.api.listener import Listener
from vxlanu.errors import BadRequest, NotFound, TryAgain, VxlanuError
from vxlanu.runtimes.docker.absence import StandIn, standing
from vxlanu.runtimes.docker.shapes import Failed

log = logging.getLogger("vxlanu.docker")

ANSWER_S = 0.9
NOTICE_S = 0.05  # a loop that was held up learns that the time is over before it learns what was done meanwhile
WORK_S = 10.0
BODY_BYTES_MAX = 256 * 1024  # the largest request, an endpoint with hundreds of published ports, is some 50 KB
CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"

Q = TypeVar("Q", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Made:
    """An answer, and what undoes what this very request has made for it, should Docker not hear of it."""

    answer: msgspec.Struct
    undo: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Method:
    """What a request of one name is, what does it, and how long Docker may wait."""

    kind: type[msgspec.Struct]
    run: Callable[[msgspec.Struct], Awaitable[msgspec.Struct | Made]]
    patience_s: float


def method(
    kind: type[Q], run: Callable[[Q], Awaitable[msgspec.Struct | Made]], patience_s: float = ANSWER_S
) -> Method:
    """A method whose function takes the very struct that is decoded for it."""
    return Method(kind, run, patience_s)  # type: ignore[arg-type]  # `_answer` decodes `kind`, so `run` gets a Q


class Server:
    """Methods by name on one socket. `open` early, `start` when everything can be answered, `close` last."""

    def __init__(self, path: Path, stand_in: StandIn | None = None) -> None:
        self._stand_in = stand_in
        self._listener = Listener(
            path, "--docker=PATH", shared=False, gives_way=lambda path: standing(path) is not None
        )
        self._runner: web.AppRunner | None = None
        self._methods: dict[str, Method] = {}
        self._at_work: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Bind the file; who connects from now on waits for `start`, or for the stand-in. Raises Refused."""
        self._listener.open()
        if self._stand_in is not None:
            self._stand_in.start(self._listener.socket)

    async def start(self, methods: dict[str, Method]) -> None:
        """Answer until `close`."""
        self._methods = methods
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{name:.*}", self._handle)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=1.0, lingering_time=1.0
        )
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener.socket).start()

    async def close(self, why: str = "", networks: Collection[str] = ()) -> int | None:
        """Stop, and wait for what is still at work. The file goes, unless there are `networks`, by Docker's ids, with
        which it would ask for us: then the stand-in tells it why we end. Its pid.

        What is at work may change `networks`. Where there were none the file is gone, and nothing can stay.
        """
        heir = self._stand_in if networks else None
        if heir is None:
            self._listener.unlink()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._at_work:
            await asyncio.wait(self._at_work)
        stays = heir.stay(why, networks) if heir is not None and networks else None
        if stays is not None:
            self._listener.leave()
        if self._stand_in is not None:
            self._stand_in.end()
        self._listener.close()
        return stays

    async def _handle(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            chosen = self._methods.get(name) if request.method == "POST" else None
            if chosen is None:
                raise NotFound(f"{request.method} /{name}", "not implemented", name="no_method")
            return _reply(await self._answer(name, chosen, await request.read()), 200)
        except web.HTTPRequestEntityTooLarge:
            error: VxlanuError = BadRequest(name, f"longer than {BODY_BYTES_MAX} bytes", name="bad_request")
            return _failure(name, error, 413)
        except NotFound as why:
            return _failure(name, why, 404 if why.name == "no_method" else 200)
        except BadRequest as why:
            return _failure(name, why, 400 if why.name == "bad_request" else 200)
        except VxlanuError as why:
            return _failure(name, why, 200)
        except Exception as why:
            log.exception("failed %s", name, extra={"event": "docker_failed"})
            fault = VxlanuError("agent", f"internal error: {type(why).__name__}: {why}", hint="the agent's log")
            return _failure(name, fault, 500)

    async def _answer(self, name: str, chosen: Method, body: bytes) -> msgspec.Struct:
        try:
            asked = msgspec.json.decode(body or b"{}", type=chosen.kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
            raise BadRequest(name, str(why), name="bad_request") from why
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[msgspec.Struct] = loop.create_future()
        task = loop.create_task(self._do(name, chosen, asked, answer))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        try:
            for seconds in (chosen.patience_s, NOTICE_S):
                await asyncio.wait({answer}, timeout=seconds)
            if answer.done():
                return answer.result()
            late = f"not done within {chosen.patience_s:g} s"
            raise TryAgain(name, late, hint="again in a moment; vxlanu doctor")
        finally:
            answer.cancel()  # whoever does it learns by this that Docker will not hear of it

    async def _do(
        self, name: str, chosen: Method, asked: msgspec.Struct, answer: asyncio.Future[msgspec.Struct]
    ) -> None:
        """Do it. Who has stopped waiting has cancelled `answer` and tells Docker that it failed: make that true."""
        try:
            done = await chosen.run(asked)
            if not answer.done():
                answer.set_result(done.answer if isinstance(done, Made) else done)
                return
            log.warning("%s came too late for Docker", name, extra={"event": "docker_late"})
            if isinstance(done, Made):
                await done.undo()
        except Exception as why:
            if not answer.done():
                answer.set_exception(why)
            elif isinstance(why, VxlanuError):
                log.info("%s failed too late for Docker: %s", name, why, extra={"event": "docker_late"})
            else:
                log.exception("%s failed too late for Docker", name, extra={"event": "docker_failed"})


def _reply(answer: msgspec.Struct, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type=CONTENT_TYPE)


def _failure(name: str, error: VxlanuError, status: int) -> web.Response:
    log.info("refused %s: %s", name, error, extra={"event": "docker_refused"})
    return _reply(Failed(error.line(), error.line()), status)
