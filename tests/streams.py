"""Transfers between containers of a lab, as tests write them; `traffic.py` is what runs inside."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from vxlanu.lab.topology import Lab

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


def pings(lab: Lab, place: str, address: str, *, count: int = 1, wait: int = 2) -> bool:
    """Whether every one of `count` echo requests is answered."""
    return lab.exec(place, ["ping", "-n", "-q", "-i", "0.2", "-c", str(count), "-W", str(wait), address],
                    check=False).returncode == 0  # fmt: skip


def pairs(items: Sequence[str]) -> list[tuple[str, str]]:
    """Every ordered pair."""
    return [(one, other) for one in items for other in items if one != other]
