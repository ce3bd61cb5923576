"""From HTTP to the agent: each route decodes one struct, asks the service, and encodes one struct.

Rules of this file
  1. No decision is made here: a route names a method of `Service` and the struct of its body.
  2. A body is size-checked by the server and decoded strictly: an unknown or ill-typed field is the caller's error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
from aiohttp import web

from vxlanu.api import schema
from vxlanu.api.kv import kv
from vxlanu.api.schema import Items
from vxlanu.errors import BadRequest

T = TypeVar("T")
U = TypeVar("U")

log = logging.getLogger("vxlanu.api")


class Service(Protocol):
    """What the agent can be asked. Every method may raise a `VxlanuError`, which then changed nothing."""

    async def status(self) -> schema.Status: ...
    async def overview(self) -> schema.Overview: ...
    async def networks(self, wanted: list[str]) -> list[schema.Network]: ...
    async def create_network(self, wanted: schema.NetworkCreate) -> schema.Network: ...
    async def network(self, ref: str) -> schema.NetworkDetail: ...
    async def remove_network(self, ref: str) -> schema.Network: ...
    async def prune_networks(self, wanted: list[str]) -> list[schema.Network]: ...
    async def pools(self, network: str) -> list[schema.AddressPool]: ...
    async def reclaim(self, wanted: schema.Reclaim) -> list[schema.Reclaimed]: ...
    async def endpoints(self, network: str) -> list[schema.Endpoint]: ...
    async def attach(self, wanted: schema.Attach) -> schema.EndpointDetail: ...
    async def endpoint(self, ref: str) -> schema.EndpointDetail: ...
    async def detach(self, network: str, target: str) -> schema.Endpoint: ...
    async def namespaces(self) -> list[schema.Namespace]: ...
    async def members(self) -> list[schema.Member]: ...
    async def join(self, wanted: schema.Join) -> schema.Joined: ...
    async def leave(self) -> schema.Left: ...
    async def forget(self, ref: str) -> schema.Member: ...
    async def vteps(self) -> list[schema.Vtep]: ...
    async def add_vtep(self, wanted: schema.VtepAdd) -> schema.VtepAdded: ...
    async def remove_vtep(self, network: str, address: str) -> schema.Vtep: ...
    async def links(self, reference: str) -> list[schema.Link]: ...
    async def fdb(self, network: str) -> list[schema.FdbEntry]: ...
    async def neighbors(self, network: str) -> list[schema.Neighbor]: ...
    async def drops(self) -> list[schema.Drop]: ...
    async def stats(self) -> list[schema.Counters]: ...
    async def netcheck(self, member: str) -> schema.Netcheck: ...
    async def verify(self) -> schema.Verify: ...
    async def why(self, target: str, source: str) -> schema.Why: ...
    async def dns_query(self, name: str, rtype: str, network: str) -> schema.NameAnswer: ...
    async def events(self, names: list[str], network: str, endpoint: str) -> Stream: ...
    async def keys(self, prefix: str) -> tuple[int, list[schema.KeyValue]]: ...
    async def keys_changed(self, index: int, patience_s: float) -> int: ...
    async def capture(self, wanted: schema.CaptureWanted) -> CaptureStream: ...
    async def stop_capture(self, number: str) -> schema.CaptureStopped: ...


class Stream(Protocol):
    """Events on their way to one reader."""

    ended: bool

    async def take(self, patience_s: float) -> list[schema.Event]: ...
    def close(self) -> None: ...


class CaptureStream(Protocol):
    """A capture file on its way to one reader."""

    number: str

    async def read(self, patience_s: float) -> bytes | None: ...
    def stop(self) -> schema.CaptureStopped: ...
    def close(self) -> None: ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
READER_CHECKED_S = 5.0  # how soon a reader that is gone is noticed when nothing happens
CAPTURE_CHECKED_S = 0.5  # the same of a capture: there are few places


def answer(body: object, status: int = 200) -> web.Response:
    """A struct as one line of JSON."""
    return web.Response(body=msgspec.json.encode(body) + b"\n", status=status, content_type="application/json")


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequest("request", str(error), name="bad_request") from error


def _wanted(request: web.Request, name: str) -> str:
    value = request.query.get(name, "")
    if not value:
        raise BadRequest("request", f"the query needs {name}=…", name="bad_request")
    return value


def _list(question: Callable[[], Awaitable[list[T]]]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return answer(Items(await question()))

    return handle


def _list_by(name: str, question: Callable[[str], Awaitable[list[T]]]) -> Handler:
    """A list that one word in the query may narrow."""

    async def handle(request: web.Request) -> web.Response:
        return answer(Items(await question(request.query.get(name, ""))))

    return handle


def _list_of_network(question: Callable[[str], Awaitable[list[T]]]) -> Handler:
    return _list_by("network", question)


def _filtered(question: Callable[[list[str]], Awaitable[list[T]]]) -> Handler:
    """A list that any number of ?filter=KEY=VALUE narrow."""

    async def handle(request: web.Request) -> web.Response:
        return answer(Items(await question(request.query.getall("filter", []))))

    return handle


def _get(question: Callable[[], Awaitable[object]]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return answer(await question())

    return handle


def _by_ref(question: Callable[[str], Awaitable[object]]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return answer(await question(request.match_info["ref"]))

    return handle


def _get_by(name: str, question: Callable[[str], Awaitable[object]]) -> Handler:
    """A question with one word in the query that may be left out."""

    async def handle(request: web.Request) -> web.Response:
        return answer(await question(request.query.get(name, "")))

    return handle


def _with(kind: type[T], question: Callable[[T], Awaitable[object]]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return answer(await question(await _body(request, kind)))

    return handle


def _list_with(kind: type[T], question: Callable[[T], Awaitable[list[U]]]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return answer(Items(await question(await _body(request, kind))))

    return handle


def _by_query(first: str, second: str, question: Callable[[str, str], Awaitable[object]]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return answer(await question(_wanted(request, first), _wanted(request, second)))

    return handle


def _why(service: Service) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return answer(await service.why(_wanted(request, "target"), request.query.get("from", "")))

    return handle


def _dns(service: Service) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        said = request.query
        return answer(await service.dns_query(_wanted(request, "name"), said.get("type", ""), said.get("network", "")))

    return handle


def _events(service: Service) -> Handler:
    """JSON lines until the reader goes or the agent stops; what a slow reader costs is the stream's to bound."""

    async def handle(request: web.Request) -> web.StreamResponse:
        names = [name for name in request.query.get("event", "").split(",") if name]
        stream = await service.events(names, request.query.get("network", ""), request.query.get("endpoint", ""))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            await response.prepare(request)
            while not (stream.ended or request.transport is None or request.transport.is_closing()):
                for event in await stream.take(READER_CHECKED_S):
                    await response.write(msgspec.json.encode(event) + b"\n")
        except ConnectionError:
            pass  # the reader went
        finally:
            stream.close()
        return response

    return handle


def _capture(service: Service) -> Handler:
    """pcapng until the capture ends or its reader goes."""

    async def handle(request: web.Request) -> web.StreamResponse:
        wanted = await _body(request, schema.CaptureWanted)
        stream = await service.capture(wanted)
        headers = {"Content-Type": "application/x-pcapng", "Capture-Id": stream.number}
        response = web.StreamResponse(headers=headers)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(wanted.duration_s, stream.stop) if wanted.duration_s else None
        try:
            await response.prepare(request)
            while not (request.transport is None or request.transport.is_closing()):
                piece = await stream.read(CAPTURE_CHECKED_S)
                if piece == b"":
                    break
                if piece:
                    await response.write(piece)
        except ConnectionError:
            pass  # the reader went
        except Exception:
            if not response.prepared or request.transport is None:
                raise
            log.exception("a capture broke off", extra={"event": "api_failed"})
            request.transport.abort()  # no end: the reader sees that it is not whole
        finally:
            if timer is not None:
                timer.cancel()
            stream.close()
        return response

    return handle


def routes(service: Service) -> list[web.RouteDef]:
    """The table at the head of `schema`, as code."""
    return [
        web.get("/v1/status", _get(service.status)),
        web.get("/v1/overview", _get(service.overview)),
        web.get("/v1/networks", _filtered(service.networks)),
        web.post("/v1/networks", _with(schema.NetworkCreate, service.create_network)),
        web.post("/v1/networks/prune", _filtered(service.prune_networks)),
        web.get("/v1/networks/{ref}", _by_ref(service.network)),
        web.delete("/v1/networks/{ref}", _by_ref(service.remove_network)),
        web.get("/v1/endpoints", _list_of_network(service.endpoints)),
        web.post("/v1/endpoints", _with(schema.Attach, service.attach)),
        web.get("/v1/endpoints/{ref}", _by_ref(service.endpoint)),
        web.delete("/v1/endpoints", _by_query("network", "target", service.detach)),
        web.get("/v1/namespaces", _list(service.namespaces)),
        web.get("/v1/members", _list(service.members)),
        web.post("/v1/members/join", _with(schema.Join, service.join)),
        web.post("/v1/members/leave", _get(service.leave)),
        web.delete("/v1/members/{ref}", _by_ref(service.forget)),
        web.get("/v1/vteps", _list(service.vteps)),
        web.post("/v1/vteps", _with(schema.VtepAdd, service.add_vtep)),
        web.delete("/v1/vteps", _by_query("network", "address", service.remove_vtep)),
        web.get("/v1/links", _list_by("ref", service.links)),
        web.get("/v1/fdb", _list_of_network(service.fdb)),
        web.get("/v1/neighbors", _list_of_network(service.neighbors)),
        web.get("/v1/pools", _list_of_network(service.pools)),
        web.post("/v1/pools/reclaim", _list_with(schema.Reclaim, service.reclaim)),
        web.get("/v1/drops", _list(service.drops)),
        web.get("/v1/stats", _list(service.stats)),
        web.get("/v1/netcheck", _get_by("member", service.netcheck)),
        web.get("/v1/verify", _get(service.verify)),
        web.get("/v1/why", _why(service)),
        web.get("/v1/dns", _dns(service)),
        web.get("/v1/events", _events(service)),
        web.get("/v1/kv/{key:.*}", kv(service)),
        web.post("/v1/captures", _capture(service)),
        web.delete("/v1/captures/{ref}", _by_ref(service.stop_capture)),
    ]
