"""The meters' own programs, on the loopback: what a receiver counts, and what they refuse to measure."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.meters.program import program

HEADER = "=IIII"  # struct header of udp_load.c
MAGIC, DATA, QUESTION, ANSWER = 0x6D657465, 0, 1, 2
COUNTS = ("received", "duplicates", "reordered")


def free_port() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_port:
        any_port.bind(("::", 0))
        return int(any_port.getsockname()[1])


@contextmanager
def receiver() -> Iterator[int]:
    """A receiver of datagrams; its port."""
    port = free_port()
    with subprocess.Popen([program("udp_load"), "receive", str(port)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout and running.stdout.readline() == "listening\n"
        try:
            yield port
        finally:
            running.kill()


@contextmanager
def sender(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
        to.connect(("127.0.0.1", port))
        to.settimeout(60)
        yield to


def send(to: socket.socket, trial: int, *numbers: int) -> None:
    for number in numbers:
        to.send(struct.pack(HEADER, MAGIC, trial % 2**32, DATA, number).ljust(64))


def counted(to: socket.socket, trial: int) -> dict[str, int]:
    to.send(struct.pack(HEADER, MAGIC, trial % 2**32, QUESTION, 0))
    answer = to.recv(2000)
    assert struct.unpack_from(HEADER, answer) == (MAGIC, trial % 2**32, ANSWER, 0)
    return dict(zip(COUNTS, struct.unpack_from("=III", answer, struct.calcsize(HEADER)), strict=True))


def now_us() -> int:
    """A trial's number: now, in microseconds, which is later than the receiver's own beginning."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_what_comes_twice_counts_once_and_what_never_came_does_not() -> None:
    with receiver() as port, sender(port) as to:
        trial = now_us()
        send(to, trial, 0, 1, 1, 5, 3, 64, 5, 1 << 26, 2**32 - 1)
        assert counted(to, trial) == {"received": 5, "duplicates": 2, "reordered": 1}


def test_a_straggler_of_an_earlier_trial_counts_nowhere_and_a_later_one_begins_anew() -> None:
    with receiver() as port, sender(port) as to:
        trial = now_us()
        send(to, trial, 0, 1)
        send(to, trial - 1, 2, 3)
        send(to, trial, 2)
        assert counted(to, trial) == {"received": 3, "duplicates": 0, "reordered": 0}
        send(to, trial + 1, 0)
        assert counted(to, trial + 1) == {"received": 1, "duplicates": 0, "reordered": 0}


def trial_of(port: int, train: str) -> dict[str, float]:
    """What a sender says of a tenth of its 400 datagrams at least; the rest is what a busy machine may keep it from.

    It stays on one CPU, whose queue of the loopback keeps the order.
    """
    own = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    command = [*own, program("udp_load"), "send", "127.0.0.1", str(port), train, "2000", "200", "64"]
    for _ in range(5):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said: dict[str, float] = json.loads(done.stdout or '{"sent": 0}')
        if said["sent"] > 40:
            return said
    raise AssertionError(f"five times too few sent, or no answer: {done}")


@pytest.mark.parametrize("train", ["1", "4"])
def test_all_that_is_sent_over_the_loopback_arrives_and_is_told(train: str) -> None:
    with receiver() as port:
        said = trial_of(port, train)
    assert said["received"] == said["sent"] and said["bytes"] == 64 * said["received"]
    assert said["sent"] <= 2000 * said["seconds"] + int(train)
    assert (said["duplicates"], said["reordered"], said["overflow"], said["refused"]) == (0, 0, 0, 0)


def test_two_receivers_do_not_share_a_port() -> None:
    with receiver() as port:
        command = [program("udp_load"), "receive", str(port)]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1 and second.stderr == f"udp_load: take port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("flows", "why"),
    [
        ("", "read standard input: Invalid argument"),
        ("tcp a b", "read standard input: Invalid argument"),
        ("sctp a b 10.0.0.1 0\n", "send a flow of sctp: Invalid argument"),
        ("tcp none-1 none-2 10.0.0.1 0\n", "namespace none-2: No such file or directory"),
    ],
)
def test_a_crowd_is_not_measured_without_a_flow_that_was_asked_for(flows: str, why: str) -> None:
    command = [program("crowd_load"), "0", "0.1"]
    done = subprocess.run(command, input=flows, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (1, f"crowd_load: {why}\n", "")
