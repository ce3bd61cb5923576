"""The unix socket that serves the API.

Rules of this file
  1. Every failure leaves as an ErrorReply; a bug leaves as one too, and in the log with its traceback.
  2. A stop gives requests a moment, then cuts them short. What they had half made they undo with parts of the agent
     that are closed after the server, so `close` returns when the last of them has ended.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from vxlanu.api.listener import Listener
from vxlanu.api.routes import Service, answer, routes
from vxlanu.errors import BadRequest, NotFound, VxlanuError

log = logging.getLogger("vxlanu.api")

BODY_BYTES_MAX = 64 * 1024  # the largest request, a network with all its options, is some 10 KB
_UCRED = struct.Struct("3i")


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn whatever goes wrong into the reply that the client understands."""
    try:
        return await handler(request)
    except VxlanuError as error:
        log.info("refused %s %s: %s", request.method, request.path, error, extra={"event": "api_refused"})
        return answer(error.reply(), error.status)
    except web.HTTPRequestEntityTooLarge:
        return answer(BadRequest("request", f"longer than {BODY_BYTES_MAX} bytes", name="bad_request").reply(), 413)
    except web.HTTPException as error:
        return answer(NotFound(f"{request.method} {request.path}", error.reason, name="no_route").reply(), error.status)
    except Exception as error:
        log.exception("failed %s %s", request.method, request.path, extra={"event": "api_failed"})
        fault = VxlanuError("agent", f"internal error: {type(error).__name__}: {error}", hint="the agent's log")
        return answer(fault.reply(), fault.status)


@web.middleware
async def _log_peer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Who asked for a change: the uid and pid that the kernel vouches for."""
    if request.method != "GET":
        peer = request.transport.get_extra_info("socket") if request.transport else None
        if peer is not None:
            pid, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            log.info("%s %s by uid %d pid %d", request.method, request.path_qs, uid, pid, extra={"event": "api_change"})
    return await handler(request)


class ApiServer:
    """One listening socket. `open` before the agent announces itself, `start` when it can answer, `close` last."""

    def __init__(self, path: Path) -> None:
        self._listener = Listener(path, "--socket PATH", shared=True)
        self._runner: web.AppRunner | None = None
        self._at_work: set[asyncio.Task[object]] = set()

    def open(self) -> None:
        """Bind the socket file. Raises Refused."""
        self._listener.open()

    async def start(self, service: Service) -> None:
        """Serve until `close`."""
        app = web.Application(middlewares=[self._count, errors, _log_peer], client_max_size=BODY_BYTES_MAX)
        app.add_routes(routes(service))
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener.socket).start()

    @web.middleware
    async def _count(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Who is at work: aiohttp cancels what is late at a stop, and waits for none of it."""
        task = asyncio.current_task()
        assert task is not None
        self._at_work.add(task)
        try:
            return await handler(request)
        finally:
            self._at_work.discard(task)

    async def close(self) -> None:
        """Stop serving and take the file away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._at_work:
            await asyncio.wait(self._at_work)
        self._listener.close()
