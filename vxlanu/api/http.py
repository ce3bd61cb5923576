"""`agent --http ADDR:PORT`: the keys of the records over TCP, for scripts that spoke to Consul, and nothing else.

Rules of this file
  1. Read-only, and only what every member knows anyway: no status, no paths, no counters, no key.
  2. Off unless asked for. What listens beyond this machine answers whoever reaches it, and is said to do so at start
     and in `status`.
  3. A Host that is a name must be one of this cluster: a web page whose name was made to point here (DNS rebinding)
     may not read what its visitor's machine can reach.
  4. Connections are bounded, since each takes one of the agent's descriptors: where there are too many, the oldest
     that never asked anything goes, else the newest.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from vxlanu.addresses import is_address
from vxlanu.api.kv import KeySource, kv
from vxlanu.api.server import errors
from vxlanu.config import split_host_port
from vxlanu.errors import Refused

__all__ = ["HttpServer", "is_local"]

log = logging.getLogger("vxlanu.http")

CONNECTIONS_MAX = 256  # twice as many as may wait for a change (kv.py)

GREETING = """vxlanu: the records of the cluster, read-only, in the manner of Consul's KV store.
  /v1/kv/?keys                                        every key
  /v1/kv/docker/network/v1.0/endpoint/?recurse        all endpoints
  /v1/kv/vxlanu/network/NAME/arp/?recurse             which MAC has which address
"""


def is_local(address: str) -> bool:
    """Whether --http ADDR:PORT is for this machine alone."""
    host, _ = split_host_port(address)
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


class HttpServer:
    """One listening socket. `open` before the agent announces itself, `start` when it can answer, `close` last."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._heard: set[asyncio.BaseProtocol] = set()
        """Connections that asked something; some have gone."""

    def open(self) -> None:
        """Bind.

        Raises:
            Refused: the port is held, or the address is not one of this host.
        """
        host, port = split_host_port(self.address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
            listener.listen(64)
        except OSError as error:
            listener.close()
            why = error.strerror or str(error)
            raise Refused(f"http {self.address}", why, hint="another --http ADDR:PORT", name="port_held") from error
        listener.setblocking(False)
        self._socket = listener
        if not is_local(self.address):
            log.warning("http at %s answers whoever reaches it", self.address, extra={"event": "http_open"})

    async def start(self, source: KeySource, names: Callable[[], Collection[str]]) -> None:
        """Serve until `close`; `names` are those that this agent may be called by."""
        if self._socket is None:
            raise RuntimeError("open() comes first")
        app = web.Application(middlewares=[errors, self._hear, _host_check(names)], client_max_size=1024)
        app.add_routes([web.get("/", _greet), web.get("/v1/kv/{key:.*}", kv(source))])
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=self._socket)

    def _connection(self) -> asyncio.BaseProtocol:
        """Whoever speaks on a new connection: aiohttp, or nobody."""
        assert self._runner is not None and self._runner.server is not None
        connections = [(it, it.transport) for it in self._runner.server.connections]
        live = [(it, to) for it, to in connections if to is not None and not to.is_closing()]
        if len(live) >= CONNECTIONS_MAX:
            silent = next((to for it, to in live if it not in self._heard), None)
            if silent is None:
                return _Nobody()
            silent.abort()
        return self._runner.server()

    @web.middleware
    async def _hear(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if len(self._heard) >= CONNECTIONS_MAX and self._runner is not None and self._runner.server is not None:
            self._heard.intersection_update(self._runner.server.connections)
        self._heard.add(request.protocol)
        return await handler(request)

    async def close(self) -> None:
        """Stop serving; idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Nobody(asyncio.Protocol):
    """Ends a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _greet(_request: web.Request) -> web.StreamResponse:
    return web.Response(text=GREETING)


def _host_check(names: Callable[[], Collection[str]]) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = split_host_port(request.headers.get("Host", ""))[0].rstrip(".").lower()
        # An address cannot be rebound: a browser that says one was sent to it by that address.
        if not is_address(host) and host not in {"localhost", *(name.lower() for name in names())}:
            hint = "the address, or the name of a member"
            raise Refused(f"host {host or 'unsaid'}", "not a name of this cluster", hint=hint, name="host_unknown")
        return await handler(request)

    return check
