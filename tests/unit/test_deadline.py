"""A stop has a time limit that nothing can stretch: not a task, not a thread, not the log, not the loop itself."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from importlib.resources import files
from queue import SimpleQueue

import pytest

from vxlanu.agent.deadline import CLOSED_S, SAY_S, STOP_S, Deadline
from vxlanu.errors import Refused
from vxlanu.runtimes.docker.server import WORK_S

PATIENCE_S = 60.0
NEVER_S = 3600.0
PAGE = 4096


TAKEN = Refused("name h1", "held by a live node at 192.0.2.1", hint="--name N", name="name_taken")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer to say the line than an agent may."""
    monkeypatch.setattr("vxlanu.agent.deadline.SAY_S", PATIENCE_S)


class Left:
    """What the process would have ended with."""

    def __init__(self, stop_s: float, closed_s: float) -> None:
        self._statuses: SimpleQueue[int] = SimpleQueue()
        self.deadline = Deadline(stop_s, closed_s, self._statuses.put)

    def status(self) -> int:
        return self._statuses.get(timeout=PATIENCE_S)

    def alive(self) -> bool:
        return self._statuses.empty()


def test_the_line_names_tasks_and_threads_and_where_they_are(caplog: pytest.LogCaptureFixture) -> None:
    left = Left(0.01, NEVER_S)
    begun: SimpleQueue[None] = SimpleQueue()
    over: SimpleQueue[None] = SimpleQueue()

    def stands() -> None:
        begun.put(None)
        over.get(timeout=PATIENCE_S)

    async def goes_round() -> None:
        await deep()

    async def deep() -> None:
        await asyncio.Event().wait()

    async def scene() -> int:
        left.deadline.of(asyncio.get_running_loop())
        task = asyncio.create_task(goes_round())
        thread = asyncio.create_task(asyncio.to_thread(stands))
        await asyncio.to_thread(begun.get, timeout=PATIENCE_S)
        left.deadline.begin()
        status = await asyncio.to_thread(left.status)
        over.put(None)
        await thread
        task.cancel()
        return status

    assert asyncio.run(scene()) == 0
    [line] = [it.message for it in caplog.records if getattr(it, "event", "") == "stop_cut"]
    assert re.search(r"task \S+goes_round in Event\.wait", line), line
    assert re.search(r"thread asyncio_\d in \S*stands \(test_deadline\.py\)", line), line
    assert "thread deadline" not in line, "its own"


def test_nobody_who_was_not_told_to_stop_is_ended_and_a_second_word_gives_no_more_time() -> None:
    quiet, twice = Left(0.0, 0.0), Left(0.3, NEVER_S)
    begun = time.monotonic()
    twice.deadline.begin()
    while twice.alive():
        twice.deadline.begin()
        time.sleep(0.01)
        assert time.monotonic() - begun < PATIENCE_S
    assert quiet.alive()


def test_when_all_is_closed_less_is_waited_for_and_the_failure_is_told(caplog: pytest.LogCaptureFixture) -> None:
    left = Left(NEVER_S, 0.01)
    left.deadline.begin()
    left.deadline.closed(TAKEN)
    assert left.status() == Refused.exit != 0
    assert any("name h1: held by a live node" in it.message for it in caplog.records)


def test_a_failure_is_told_though_the_close_after_it_hangs(caplog: pytest.LogCaptureFixture) -> None:
    left = Left(0.3, NEVER_S)
    left.deadline.begin(TAKEN)
    left.deadline.begin()  # SIGTERM, meanwhile
    assert left.status() == Refused.exit != 0
    assert any("name h1: held by a live node" in it.message for it in caplog.records)


def test_the_process_ends_where_there_is_no_room_for_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    left = Left(0.3, NEVER_S)

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    left.deadline.begin()
    assert left.status() == 0



def test_systemd_waits_longer_than_that_and_docker_not_so_long() -> None:
    unit = files("vxlanu.share").joinpath("vxlanu.service").read_text()
    [said] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert WORK_S < STOP_S
    assert int(said) > STOP_S + SAY_S
    assert CLOSED_S < STOP_S


STUCK = """
import asyncio, fcntl, logging, os, signal, sys
from unittest.mock import Mock
import uvloop
from vxlanu.agent import deadline as module
from vxlanu.agent.deadline import Deadline
from vxlanu.agent.life import _on_signals
logging.basicConfig(stream=sys.stderr, level="INFO")

async def main():
    deadline = Deadline(0.2)
    deadline.of(asyncio.get_running_loop())
    _on_signals(Mock(stopping=asyncio.Event()), deadline)
    if sys.argv[1] == "log":
        os.write(1, b"ready")
        while True:  # nobody reads: the loop stands in write(2), with the log's lock
            logging.info("x" * 64)
    module.SAY_S = 60.0  # a busy machine
    asyncio.get_running_loop().call_soon(os.write, 1, b"ready")  # when this waits
    await asyncio.Event().wait()

uvloop.run(main())
"""


@pytest.mark.parametrize("where", ["log", "task"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_that_stands_still_in_a_full_log_is_ended_too(where: str, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout and process.stderr
    try:
        assert os.read(process.stdout.fileno(), 5) == b"ready"
        if where == "log":
            _until_full(process.stderr.fileno())
        assert process.poll() is None, "the control: it does not end by itself"
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        said = process.stderr.read().decode()
        assert ("in Event.wait, thread MainThread in " in said) is (where == "task"), said[-500:]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _until_full(pipe: int) -> None:
    """There is room for some lines at most."""
    waiting, end = array.array("i", [0]), time.monotonic() + PATIENCE_S
    while fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) - waiting[0] > PAGE:
        assert time.monotonic() < end
        time.sleep(0.01)
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)
