"""Transfers between containers of a lab, as tests write them; `traffic.py` is what runs inside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

from lab_ns import poll

from vxlanu.lab.topology import Lab

TRY_S = 2  # of a ping, for which there is time for several
UDP_TRIES = 3  # what is lost each time is lost by us
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


def all_arrive(lab: Lab, sender: str, receiver: str, address: str, count: int, size: int) -> bool:
    """Whether `count` UDP datagrams of random bytes arrive, each as it was sent.

    Again if some did not: a queue that all namespaces share may have been full (sockets.py). With others, or too many,
    nothing is tried again.
    """
    for _ in range(UDP_TRIES):
        with ready(lab, receiver, "receive", "udp", address, 5002, 60) as listening:
            sent = once(lab, sender, "send", "udp", address, 5002, count, size, size)
            came = answer_of(listening)
        if came == sent or int(came["bytes"]) >= int(sent["bytes"]):
            return came == sent
    return False


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


def pings(lab: Lab, place: str, address: str, *, count: int = 1, wait: int = 10) -> bool:
    """Whether `count` echo requests are answered, one after the other, each within `wait` seconds.

    A neighbour that does not answer ends a ping after three seconds, whatever it was told: so it is asked again.
    `ping -c COUNT` would give the last one two round trips only, once others were answered.
    """
    asked = ["ping", "-n", "-q", "-c", "1", "-W", str(min(wait, TRY_S)), address]

    def answered() -> bool:
        return any(lab.exec(place, asked, check=False).returncode == 0 for _ in range(max(1, wait // TRY_S)))

    return all(answered() for _ in range(count))


def pairs(items: Sequence[str]) -> list[tuple[str, str]]:
    """Every ordered pair."""
    return [(one, other) for one in items for other in items if one != other]
