"""Transfers between containers of a lab, as tests write them; `traffic.py` is what runs inside."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

from lab_ns import poll

from vxlanu.lab.topology import Lab

TRY_S = 2  # of a ping, for which there is time for several
ECHO_S = 10  # what is not answered by then never will be
UDP_TRIES = 3  # what is lost each time is lost by us
SEED = 11
SCRIPT = Path(__file__).with_name("traffic.py")
Answer = dict[str, int | str | bool]


def words(*arguments: object) -> list[str]:
    """The command line of traffic.py."""
    return [sys.executable, "-I", str(SCRIPT), *map(str, arguments)]


def answer_of(process: Popen[str]) -> Answer:
    """The next line of JSON that a process prints; its stderr when it printed none."""
    assert process.stdout and process.stderr
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"{process.args}: {process.stderr.read()}")
    answer: Answer = json.loads(line)
    return answer


def once(lab: Lab, place: str, *arguments: object) -> Answer:
    """Run traffic.py to its end."""
    answer: Answer = json.loads(lab.exec(place, words(*arguments)).stdout)
    return answer


@contextmanager
def ready(lab: Lab, place: str, *arguments: object) -> Iterator[Popen[str]]:
    """Run traffic.py and enter the block once it says that it is ready."""
    with lab.running(place, words(*arguments)) as process:
        assert answer_of(process) == {"ready": True}
        yield process


def datagrams(
    lab: Lab, sender: str, receiver: str, address: str, count: int, size: int
) -> tuple[Answer, Answer]:
    """Send `count` UDP datagrams of random bytes: what was sent, and what arrived.

    Again if whole ones are missing: a queue that all namespaces share may have been full (sockets.py). If as many came,
    or one was cut or grew, nothing is tried again.
    """
    for _ in range(UDP_TRIES):
        with ready(lab, receiver, "receive", "udp", address, 5002, 60) as listening:
            sent = once(lab, sender, "send", "udp", address, 5002, count, SEED, size)
            came = answer_of(listening)
        lacking = int(sent["bytes"]) - int(came["bytes"])
        if lacking <= 0 or lacking % size:
            break
    return sent, came


@contextmanager
def watching(lab: Lab, place: str, tag: bytes, interface: str = "eth0") -> Iterator[Callable[[], int]]:
    """A function that says how many frames with `tag` in them have come in at an interface of `place` so far."""
    command = lab.command(place, words("watch", interface, tag.hex()))
    with Popen(command, env=lab.environment(place), stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as process:
        asking = process.stdin
        assert asking

        def seen() -> int:
            asking.write("\n")
            asking.flush()
            return int(answer_of(process)["frames"])

        assert answer_of(process) == {"ready": True}
        try:
            yield seen
        finally:
            process.kill()


def exactly(count: int, seen: Callable[[], int]) -> bool:
    """Whether so many frames came and no more: those that must not come are sent before the `count` that must."""
    poll(lambda: seen() >= count, what=f"{count} frames")
    return seen() == count


def pings(lab: Lab, place: str, address: str, *, count: int = 1, wait: int = 60) -> bool:
    """Whether `count` echoes come back, one after the other, each asked for again until `wait` seconds have passed.

    A neighbour that does not answer ends a ping after three seconds, a missing route at once, whatever it was told.
    """

    def answered() -> bool:
        end = time.monotonic() + wait
        while not _echoed(lab, place, address, min(wait, TRY_S)):
            if time.monotonic() >= end:
                return False
        return True

    return all(answered() for _ in range(count))


def echoes(lab: Lab, place: str, address: str, count: int) -> int:
    """How many of `count` echo requests are answered, each sent once: for tests whose subject is loss.

    They may allow for one that was lost where all namespaces share a queue (sockets.py).
    `ping -c COUNT` would give the last one two round trips only, once others were answered.
    """
    return sum(_echoed(lab, place, address, ECHO_S) for _ in range(count))


def know_each_other(lab: Lab, address: dict[str, str], *pair: str) -> None:
    """Have two containers be permanent neighbours, whose kernels never ask again, nor give up when nobody answers."""
    for name, other in (pair, pair[::-1]):
        mac = json.loads(lab.exec(other, ["ip", "-j", "link", "show", "eth0"]).stdout)[0]["address"]
        lab.exec(name, ["ip", "neigh", "replace", address[other], "lladdr", mac, "dev", "eth0", "nud", "permanent"])


def _echoed(lab: Lab, place: str, address: str, wait: int) -> bool:
    asked = ["ping", "-n", "-q", "-c", "1", "-W", str(wait), address]
    return lab.exec(place, asked, check=False).returncode == 0


def pairs(items: Sequence[str]) -> list[tuple[str, str]]:
    """Every ordered pair."""
    return [(one, other) for one in items for other in items if one != other]
