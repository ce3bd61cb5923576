"""The service manager's protocol against a socket that reads, one that does not, and variables that make no sense."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vxlanu.agent import supervisor as module
from vxlanu.agent.run import run
from vxlanu.agent.supervisor import Supervisor
from vxlanu.config import AgentConfig
from vxlanu.errors import BadRequest

FAR = 1 << 20  # no descriptor has this number


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(notified: socket.socket) -> list[str]:
    """All messages so far; the descriptors that came with them are closed."""
    found = []
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(notified, 4096, 8)
        except BlockingIOError:
            return found
        found.append(message.decode())
        for fd in fds:
            os.close(fd)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def fill(supervisor: Supervisor) -> int:
    """Tell it things until its socket takes no more; how many messages that were."""
    count = 0
    while not supervisor._waiting:
        supervisor.status(str(count))
        count += 1
    return count


def test_variables_that_are_no_numbers_are_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = str(os.getpid())
    said = {"LISTEN_PID": pid, "LISTEN_FDS": "two", "WATCHDOG_USEC": "-1s", "WATCHDOG_PID": pid, "HOME": "/"}
    found = Supervisor.from_environment(said)
    assert (found.taken, found.watchdog_s, found.listens) == ({}, 0.0, False)
    assert said == {"HOME": "/"}


def test_descriptors_that_were_not_passed_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    high = os.dup2(reader, 900)
    monkeypatch.setattr(module, "FIRST_FD", high)  # 900 is open, 901 is not
    said = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "data-0:tap-1:tap-2"}
    found = Supervisor.from_environment(dict(said))
    assert found.taken == {"data-0": high}
    for fd in (reader, writer, high):
        os.close(fd)


def test_what_a_busy_supervisor_does_not_take_waits_in_order(notified: socket.socket) -> None:
    async def scene() -> None:
        supervisor = Supervisor(str(notified.getsockname()))
        count = fill(supervisor)
        reader, writer = os.pipe()
        supervisor.keep("tap", reader)
        os.close(reader)  # it waits in a duplicate
        supervisor.ready("late")
        told: list[str] = []
        async with asyncio.timeout(10):
            while not told or not told[-1].startswith("READY=1"):
                told += heard(notified)
                await asyncio.sleep(0)
        assert told[:count] == [f"STATUS={number}" for number in range(count)]
        assert told[count:] == ["FDSTORE=1\nFDNAME=tap", "READY=1\nSTATUS=late"]
        os.close(writer)

    asyncio.run(scene())


def test_a_supervisor_that_reads_nothing_costs_no_memory_and_one_wait_at_the_end(
    notified: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)

    async def scene() -> None:
        supervisor = Supervisor(str(notified.getsockname()))
        fill(supervisor)
        before = len(supervisor._waiting)
        for _ in range(1000):
            supervisor.alive()
        assert len(supervisor._waiting) == before
        for number in range(200):  # each of which would be waited for
            supervisor.keep(f"tap-{number}", 0)
        gc.collect()  # what earlier tests left open would be closed in between
        open_before = descriptors()
        supervisor.stopping()
        assert not supervisor._waiting
        assert descriptors() == open_before - 200

    asyncio.run(scene())
    assert [record.message for record in caplog.records] == ["the service manager does not answer"]


@pytest.mark.parametrize("fd", [FAR, "read end"])
def test_a_ready_fd_that_cannot_be_written_is_refused_before_anything_is_opened(tmp_path: Path, fd: int | str) -> None:
    reader, writer = os.pipe()
    number = reader if isinstance(fd, str) else fd
    config = AgentConfig(name="h", state_dir=str(tmp_path / "state"), socket=str(tmp_path / "s"), ready_fd=number)
    with pytest.raises(BadRequest, match="no descriptor of that number was passed") as refused:
        run(config, lambda: config)
    assert refused.value.exit == 2 and not (tmp_path / "state").exists()
    os.close(reader)
    os.close(writer)
