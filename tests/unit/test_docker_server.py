"""What comes to Docker's plugin socket and is no request, and requests that nobody waits for any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vxlanu.runtimes.docker import shapes
from vxlanu.runtimes.docker.server import Made, Server, method


async def _nothing(_: shapes.NetworkAsked) -> shapes.Empty:
    return shapes.Empty()


async def _status(path: Path, body: bytes) -> int:
    reader, writer = await asyncio.open_unix_connection(str(path))
    head = f"POST /Some.Method HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    said = await reader.read()
    writer.close()
    return int(said.split()[1])


def test_a_body_that_cannot_be_decoded_is_the_askers_mistake(tmp_path: Path) -> None:
    path = tmp_path / "vxlanu.sock"
    bodies = (b'{"NetworkID":"\xff"}', b'{"NetworkID":"a","More":' + b"[" * 100_000, b"{", b'{"NetworkID":1}')

    async def scene() -> None:
        server = Server(path)
        server.open()
        await server.start({"Some.Method": method(shapes.NetworkAsked, _nothing)})
        try:
            assert [await _status(path, body) for body in bodies] == [400] * len(bodies)
            assert await _status(path, b'{"NetworkID":"a"}') == 200, "the control"
        finally:
            await server.close()

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_stop_waits_for_what_is_at_work_and_undoes_what_docker_will_not_hear_of(tmp_path: Path) -> None:
    story: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: shapes.NetworkAsked) -> Made:
        begun.set()
        await go_on.wait()
        story.append("made")
        return Made(shapes.Empty(), undo)

    async def undo() -> None:
        story.append("undone")

    async def scene() -> None:
        server = Server(tmp_path / "vxlanu.sock")
        server.open()
        await server.start({"Some.Method": method(shapes.NetworkAsked, work, 60.0)})
        asking = asyncio.ensure_future(_status(tmp_path / "vxlanu.sock", b'{"NetworkID":"a"}'))
        await begun.wait()
        closing = asyncio.ensure_future(server.close())
        with pytest.raises(IndexError):  # the connection has ended, without an answer
            await asking
        await asyncio.wait({closing}, timeout=0.5)
        assert not closing.done(), "its work goes on, with what the agent would close next"
        go_on.set()
        await closing
        assert story == ["made", "undone"]

    asyncio.run(asyncio.wait_for(scene(), 60))
