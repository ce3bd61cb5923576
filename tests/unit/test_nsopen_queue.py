"""Requests to the namespace helper wait for their turn: no more children at once than processors can serve in time."""

from __future__ import annotations

import asyncio
import os
import socket

import msgspec

from vxlanu.nsopen import NamespaceHelper, client, syscalls, wire

REQUESTS = 256


class Children:
    """In the helper's place: every request is held until the test has it answered."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self.at_work: list[socket.socket] = []
        self.most = 0
        control.setblocking(False)
        asyncio.get_running_loop().add_reader(control, self._begin)

    def _begin(self) -> None:
        _, fds, _ = syscalls.receive_fds(self._control, wire.REQUEST_BYTES, 2)
        self.at_work.append(socket.socket(fileno=fds[0]))
        self.most = max(self.most, len(self.at_work))

    def end_one(self) -> None:
        with self.at_work.pop(0) as answer:
            answer.sendall(msgspec.msgpack.encode(wire.Links([])))


async def turns() -> None:
    """Until the loop has done all that it could."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_hundreds_ask_at_once_and_a_few_are_at_work() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        child = os.fork()
        if child == 0:
            os.execvp("sleep", ["sleep", "600"])
        helper = NamespaceHelper(child, ours)
        try:
            children = Children(theirs)
            asked = [asyncio.ensure_future(helper.links()) for _ in range(REQUESTS)]
            for ended in range(REQUESTS):
                await turns()
                assert len(children.at_work) == min(client.AT_ONCE, REQUESTS - ended)
                children.end_one()
            assert await asyncio.gather(*asked) == [[]] * REQUESTS
            assert children.most == client.AT_ONCE <= max(4, 2 * len(os.sched_getaffinity(0)))
        finally:
            asyncio.get_running_loop().remove_reader(theirs)
            theirs.close()
            helper.close()

    asyncio.run(story())
