"""What comes to Docker's plugin socket and is no request, requests that nobody waits for any more, and what a stop
leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
import uvloop

from vxlanu.runtimes.docker import absence, shapes
from vxlanu.runtimes.docker.absence import StandIn, standing
from vxlanu.runtimes.docker.server import Made, Server, method

WAIT_S = 60.0


async def _nothing(_: shapes.NetworkAsked) -> shapes.Empty:
    return shapes.Empty()


async def _status(path: Path, body: bytes) -> int:
    return int((await _said(path, body)).split()[1])


async def _said(path: Path, body: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    head = f"POST /Some.Method HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    said = await reader.read()
    writer.close()
    return said


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


@pytest.mark.parametrize("in_thread", [False, True], ids=["in_the_loop", "in_a_thread"])
def test_what_was_done_while_the_loop_was_held_up_is_told(tmp_path: Path, in_thread: bool) -> None:
    """The time is over before whoever waits for it has had its turn; what a thread has done is noticed even later."""
    patience_s = 0.05
    undone: list[str] = []

    async def undo() -> None:
        undone.append("undone")

    async def work(_: shapes.NetworkAsked) -> Made:
        done = asyncio.get_running_loop().run_in_executor(None, time.sleep, 0) if in_thread else asyncio.sleep(0)
        time.sleep(2 * patience_s)  # noqa: ASYNC251  # a loop that is held up
        await done
        return Made(shapes.Empty(), undo)

    async def scene() -> bytes:
        server = Server(tmp_path / "vxlanu.sock")
        server.open()
        await server.start({"Some.Method": method(shapes.NetworkAsked, work, patience_s)})
        said = await _said(tmp_path / "vxlanu.sock", b'{"NetworkID":"a"}')
        await server.close()
        return said

    async def bounded() -> bytes:
        async with asyncio.timeout(60):
            return await scene()

    assert b'"Err"' not in uvloop.run(bounded())
    assert not undone


def _stand_in(folder: Path) -> StandIn:
    state = folder / "lock"
    state.touch()
    return StandIn(folder / "vxlanu.sock", state)


def test_a_stop_whose_stand_in_was_just_killed_leaves_another_on_the_same_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own socket is closed by then."""
    monkeypatch.setattr(absence, "ANSWER_S", WAIT_S)  # the heir is a Python that starts, on a busy machine
    path, one = tmp_path / "vxlanu.sock", _stand_in(tmp_path)

    async def scene() -> None:
        server = Server(path, one)
        server.open()
        await server.start({"Some.Method": method(shapes.NetworkAsked, _nothing)})
        assert await _status(path, b'{"NetworkID":"a"}') == 200
        killed = one.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, killed, os.WEXITED | os.WNOWAIT)
        heir = await server.close("it was stopped", ["one"])
        assert heir is not None and heir != killed
        assert await asyncio.to_thread(standing, path) == heir
        assert await _status(path, b'{"NetworkID":"a"}') == 503
        os.kill(heir, signal.SIGTERM)
        assert one._left is not None
        assert one._left.wait(WAIT_S) == 0
        assert not path.exists()

    asyncio.run(asyncio.wait_for(scene(), WAIT_S))


def test_a_network_made_during_the_stop_is_too_late_for_a_stand_in(tmp_path: Path) -> None:
    """The file has gone with the first look, and must not be told to stay."""
    path, networks = tmp_path / "vxlanu.sock", set[str]()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: shapes.NetworkAsked) -> shapes.Empty:
        begun.set()
        await go_on.wait()
        networks.add("one")
        return shapes.Empty()

    async def scene() -> None:
        one = _stand_in(tmp_path)
        server = Server(path, one)
        server.open()
        await server.start({"Some.Method": method(shapes.NetworkAsked, work, WAIT_S)})
        asking = asyncio.ensure_future(_status(path, b'{"NetworkID":"a"}'))
        await begun.wait()
        closing = asyncio.ensure_future(server.close("it was stopped", networks))
        while path.exists():
            await asyncio.sleep(0)
        go_on.set()
        assert await closing is None
        assert networks == {"one"}
        assert one.pid is None
        await asyncio.wait({asking})
        asking.exception()  # whether it was answered in time is not the question here

    asyncio.run(asyncio.wait_for(scene(), WAIT_S))


def test_a_network_that_goes_during_the_stop_leaves_no_stand_in(tmp_path: Path) -> None:
    path, networks = tmp_path / "vxlanu.sock", {"one"}
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: shapes.NetworkAsked) -> shapes.Empty:
        begun.set()
        await go_on.wait()
        networks.clear()
        return shapes.Empty()

    async def scene() -> None:
        one = _stand_in(tmp_path)
        server = Server(path, one)
        server.open()
        await server.start({"Some.Method": method(shapes.NetworkAsked, work, WAIT_S)})
        asking = asyncio.ensure_future(_status(path, b'{"NetworkID":"a"}'))
        await begun.wait()
        closing = asyncio.ensure_future(server.close("it was stopped", networks))
        with pytest.raises(IndexError):  # the connection has ended, without an answer
            await asking
        assert path.exists(), "the control: with a network it would stay"
        await asyncio.wait({closing}, timeout=0.5)
        assert not closing.done(), "what is at work may change what stays"
        go_on.set()
        assert await closing is None
        assert one.pid is None
        assert not path.exists()

    asyncio.run(asyncio.wait_for(scene(), WAIT_S))
