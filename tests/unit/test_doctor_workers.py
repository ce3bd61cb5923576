"""How long workers wait for a CPU, as the kernel counts it, of processes that look like an agent's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from lab_ns import poll
from needs import require

from vxlanu.doctor.facts import Workers
from vxlanu.doctor.workers import LOOK_S, workers

PROGRAM = """
import ctypes, os, select, sys
name, nice, does = sys.argv[1:]
ctypes.CDLL(None).prctl(15, name.encode())  # PR_SET_NAME
os.nice(int(nice))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print("ready", flush=True)
while does == "spin" and not select.select([sys.stdin], [], [], 0)[0]:
    pass
sys.stdin.read()
"""


@contextmanager
def process(name: str, nice: int, does: str) -> Iterator[int]:
    """On the first CPU, until the block, or the one that runs it, ends."""
    command = [sys.executable, "-c", PROGRAM, name, str(nice), does]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        yield running.pid


@pytest.fixture(autouse=True)
def counted() -> None:
    require("schedstat")


def look_shows(pid: int, what: Callable[[Workers], bool]) -> None:
    """Some look does; one alone may be of a time in which the machine did something else."""

    def look() -> bool:
        looks.append(workers(pid))
        assert looks[-1] is not None and looks[-1].seconds >= LOOK_S
        return what(looks[-1])

    looks: list[Workers | None] = []
    poll(look, what="a look that shows it", story=lambda: "\n".join(map(str, looks)))


def test_a_worker_waits_while_a_busy_process_of_more_weight_has_its_cpu() -> None:
    with process("vx-worker-00", 10, "spin") as pid, process("busy", 0, "spin"):
        look_shows(pid, lambda seen: seen.waited_s > max(seen.seconds / 2, 2 * seen.ran_s))  # 1024 against 110


def test_one_that_sleeps_neither_runs_nor_waits() -> None:
    with process("vx-worker-00", 0, "sleep") as pid:
        look_shows(pid, lambda seen: max(seen.ran_s, seen.waited_s) < 0.1)


def test_a_process_without_workers_or_none_says_nothing() -> None:
    with process("another", 0, "sleep") as pid:
        assert workers(pid) is None
    assert workers(None) is None
