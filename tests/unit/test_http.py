"""The door for scripts that spoke to Consul: what strangers may cost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from vxlanu.api.http import HttpServer
from vxlanu.api.schema import KeyValue

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Keys:
    """A cluster without records."""

    async def keys(self, prefix: str) -> tuple[int, list[KeyValue]]:
        return 1, []

    async def keys_changed(self, index: int, patience_s: float) -> int:
        return index


def serving(scene: Callable[[int], Awaitable[None]]) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        server = HttpServer(f"127.0.0.1:{port}")
        server.open()
        await server.start(Keys(), list)
        try:
            await asyncio.wait_for(scene(port), 60)  # type: ignore[arg-type]  # a coroutine
        finally:
            await server.close()

    asyncio.run(run())


async def status(stream: Stream, path: str = "/v1/kv/x") -> str:
    """The first line of the answer; the rest is read over."""
    reader, writer = stream
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    [length] = [line.partition(":")[2] for line in head.splitlines() if line.lower().startswith("content-length")]
    await reader.readexactly(int(length))
    return head.splitlines()[0].split()[1]


async def is_ended(stream: Stream) -> bool:
    try:
        return await stream[0].read() == b""
    except ConnectionResetError:
        return True


def test_who_only_connects_makes_room_and_who_asks_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vxlanu.api.http.CONNECTIONS_MAX", 4)

    async def scene(port: int) -> None:
        async def connect() -> Stream:
            return await asyncio.open_connection("127.0.0.1", port)

        asking = [await connect()]
        assert await status(asking[0]) == "404"
        silent = [await connect() for _ in range(3)]
        for gone in silent:
            asking.append(await connect())
            assert await status(asking[-1]) == "404"
            assert await is_ended(gone)
        assert await is_ended(await connect()), "all have asked: the newest goes"
        assert [await status(it) for it in asking] == ["404"] * 4
        asking.pop(0)[1].close()
        while True:
            again = await connect()
            try:
                assert await status(again) == "404", "there is room again"
                break
            except (asyncio.IncompleteReadError, ConnectionError):
                await asyncio.sleep(0.01)  # the server has not yet seen that one went
        for _, writer in (*asking, *silent, again):
            writer.close()

    serving(scene)


def test_a_number_of_any_length_is_the_askers_mistake() -> None:
    async def scene(port: int) -> None:
        stream = await asyncio.open_connection("127.0.0.1", port)
        assert [await status(stream, f"/v1/kv/x?index={it}") for it in ("9" * 5000, "x", "7")] == ["400", "400", "404"]
        stream[1].close()

    serving(scene)
