"""Whoever is cancelled ends, also in the very turn of the loop in which what it waits for has come.

Before Python 3.12 `asyncio.wait_for` swallows such a cancellation (CPython issue 86296): a task that then goes round
its loop again is waited for without end when the agent stops. `asyncio.timeout` does not; the other is banned.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest
import uvloop

from vxlanu.nsopen import NamespaceHelper, client, syscalls, wire

ANSWER_S = 1.5  # a busy machine may do nothing for a while before the answer is given
TURNS = 12
"""More than any answer takes from its descriptor to whoever waits for it; the last ones come after the end."""


class Helper:
    """A namespace helper whose answers the test gives."""

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        child = subprocess.Popen(["sleep", "600"])
        self.asked = NamespaceHelper(child.pid, ours)

    def answer(self) -> None:
        _, fds, _ = syscalls.receive_fds(self._theirs, wire.REQUEST_BYTES, 2)
        with socket.socket(fileno=fds[0]) as back:
            back.sendall(msgspec.msgpack.encode(wire.Links([])))

    def close(self) -> None:
        self._theirs.close()
        self.asked.close()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def swallowed(wait: Callable[[], Awaitable[object]], come: Callable[[], None], after: int) -> bool | None:
    """Whether a task that waits was cancelled `after` turns since its answer came, and goes on; None: it had ended."""
    task = asyncio.ensure_future(wait())
    await turns(3)
    come()
    await turns(after)
    if not task.cancel():
        return None
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return not task.cancelled()


def by_helper() -> list[bool | None]:
    async def story() -> list[bool | None]:
        helper = Helper()
        try:
            return [await swallowed(helper.asked.links, helper.answer, after) for after in range(TURNS)]
        finally:
            helper.close()

    return asyncio.run(story())


def test_no_answer_of_the_namespace_helper_swallows_a_cancellation() -> None:
    seen = by_helper()
    assert True not in seen
    assert seen[0] is False and seen[-1] is None, "positive control: cancelled before the answer and after it"


def test_an_answer_that_comes_as_the_time_ends_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio.timeout drops what came in the turn in which the time ends, so whoever uses it looks once more."""
    receive = client._Answer.receive

    def receive_slowly(answer: client._Answer) -> None:
        receive(answer)
        if answer.ended:
            time.sleep(ANSWER_S + 0.1)  # the loop stands: its next turn begins with the end of the time

    async def story() -> list[wire.Link]:
        helper = Helper()
        try:
            asked = asyncio.ensure_future(helper.asked._call(wire.ListLinks(), None, ANSWER_S))
            await asyncio.sleep(0)
            helper.answer()
            return await asked
        finally:
            helper.close()

    monkeypatch.setattr(client._Answer, "receive", receive_slowly)
    assert uvloop.run(story()) == []


@pytest.mark.skipif("sys.version_info >= (3, 12)", reason="mended there")
def test_the_way_of_old_does_swallow_one() -> None:
    """Positive control: the turns are so small that the fault is met."""

    async def story() -> list[bool | None]:
        seen = []
        for after in range(TURNS):
            come = asyncio.Event()
            seen.append(await swallowed(lambda it=come: asyncio.wait_for(it.wait(), 5), come.set, after))
        return seen

    assert True in asyncio.run(story())
