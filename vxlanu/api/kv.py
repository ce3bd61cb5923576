"""GET /v1/kv: the records in the manner of Consul's KV store, read-only.

    /v1/kv/KEY              the one key, as a list of one; with ?raw its value alone
    /v1/kv/PREFIX?recurse   every key that begins with PREFIX
    /v1/kv/PREFIX?keys      their names; with &separator=/ up to the next separator behind PREFIX
    …&index=N&wait=30s      answered once something is different from what came with X-Consul-Index: N

Rules of this file
  1. What Consul's own documentation says of GET /v1/kv holds, but for what needs a writer or a data centre: ?dc,
     ?stale, ?consistent, ?token are taken and mean nothing. A key of Docker's ends in a slash; without it it is found
     too.
  2. Nothing there is 404 with X-Consul-Index, as clients of Consul expect it; the body is our error.
  3. Many may wait, each costs one look at the records per RENDER_EVERY_S of changes at most.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
from aiohttp import web

from vxlanu.api.schema import KeyValue
from vxlanu.errors import BadRequest, NotFound, TryAgain

__all__ = ["KeySource", "kv"]

WAIT_S = 300.0  # Consul's default, and its maximum below
WAIT_MAX_S = 600.0
RENDER_EVERY_S = 0.2
WAITING_MAX = 128
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
INDEX = "X-Consul-Index"
CHECKED_S = 5.0  # how soon a reader that is gone is noticed


class KeySource(Protocol):
    """Where the keys come from."""

    async def keys(self, prefix: str) -> tuple[int, list[KeyValue]]:
        """The index of now, and every key that begins with `prefix`, sorted."""
        ...

    async def keys_changed(self, index: int, patience_s: float) -> int:
        """The index as soon as it is not `index` any more, or after `patience_s`."""
        ...


def kv(source: KeySource) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The route's handler."""
    waiting = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal waiting
        asked, patience = _number(request, "index"), _patience(request)
        answer = await _answer(source, request)
        if not asked or asked != answer.index:
            return _response(request, answer)
        if waiting >= WAITING_MAX:
            raise TryAgain("kv", f"{WAITING_MAX} requests wait already", hint="end one", name="too_many_readers")
        waiting += 1
        try:
            return _response(request, await _changed(source, request, answer, time.monotonic() + patience))
        finally:
            waiting -= 1

    return handle


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a question gets at one index; no body: there is nothing."""

    index: int
    body: bytes | None
    kind: str = "application/json"


async def _changed(source: KeySource, request: web.Request, before: _Answer, end: float) -> _Answer:
    """The first answer that is another one than `before`; the same, when the time is over or its reader has gone."""
    answer = before
    while (left := end - time.monotonic()) > 0 and not _gone(request):
        if await source.keys_changed(answer.index, min(left, CHECKED_S)) == answer.index:
            continue
        answer = await _answer(source, request)
        if answer.body != before.body:
            break
        await asyncio.sleep(RENDER_EVERY_S)
    return answer


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _answer(source: KeySource, request: web.Request) -> _Answer:
    wanted, query = request.match_info["key"], request.query
    index, found = await source.keys(wanted)
    if "keys" in query:
        names = _up_to([it.key for it in found], wanted, query.get("separator", ""))
        return _Answer(index, msgspec.json.encode(names) + b"\n" if names else None)
    if "recurse" not in query:
        found = [it for it in found if it.key == wanted] or [it for it in found if it.key == f"{wanted}/"]
        if found and "raw" in query:
            return _Answer(index, base64.b64decode(found[0].value), "text/plain")
    return _Answer(index, msgspec.json.encode(found) + b"\n" if found else None)


def _response(request: web.Request, answer: _Answer) -> web.Response:
    """With its index, also where there is nothing: clients of Consul ask for it."""
    headers, body, status = {INDEX: str(answer.index)}, answer.body, 200
    if body is None:
        what, detail = f"key {request.match_info['key']}", {"index": str(answer.index)}
        error = NotFound(what, "there is no such key", hint="vxlanu kv ls", name="no_key", detail=detail)
        body, status = msgspec.json.encode(error.reply()) + b"\n", error.status
    return web.Response(body=body, status=status, headers=headers, content_type=answer.kind)


def _up_to(names: list[str], prefix: str, separator: str) -> list[str]:
    """Names cut behind the first separator after the prefix, each once."""
    if not separator:
        return names
    cut: dict[str, None] = {}
    for name in names:
        head, found, _ = name[len(prefix) :].partition(separator)
        cut[prefix + head + found] = None
    return list(cut)


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "0") or "0"
    if re.fullmatch(r"\d{1,20}", text, re.ASCII) is None:
        raise BadRequest(f"?{name}={text[:32]}", "not a number", name="bad_request")
    return int(text)


def _patience(request: web.Request) -> float:
    """?wait as Consul spells durations: 10s, 5m, 100ms."""
    text = request.query.get("wait", "")
    if not text:
        return WAIT_S
    said = re.fullmatch(r"(\d{1,9})(ms|s|m|h|)", text, re.ASCII)
    if said is None:
        raise BadRequest(f"?wait={text}", "not a duration", hint="10s, 5m", name="bad_request")
    return min(int(said[1]) * UNITS_S[said[2]], WAIT_MAX_S)
