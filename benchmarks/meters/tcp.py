"""Bulk TCP by iperf3: what the receiver got."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.meters import SPARE_S, MeterFailed, Reading
from benchmarks.scene import Path

__all__ = ["Bulk", "Said", "iperf3", "steady"]

SETTLE_S = 0.5
"""For a stream to get up to its rate."""

Said = dict[str, dict[str, dict[str, float]]]
"""Of what iperf3 -J says, the part that is read here."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """`streams` TCP connections for `seconds`; `direction` is forth, back or both (the sum of both then)."""

    streams: int = 1
    direction: str = "forth"
    seconds: int = 2

    @property
    def name(self) -> str:
        return f"tcp-{self.streams}" + ("" if self.direction == "forth" else f"-{self.direction}")

    @property
    def title(self) -> str:
        count = f"{self.streams} stream{'s' * (self.streams > 1)}"
        return f"TCP, {count}" + ("" if self.direction == "forth" else f", {self.direction}")

    unit = "Gbit/s"
    higher_is_better = True

    def read(self, path: Path) -> Reading:
        flags = {"forth": [], "back": ["--reverse"], "both": ["--bidir"]}[self.direction]
        said = iperf3(path, self.seconds, ["-P", str(self.streams), *flags])
        sums = [said["end"]["sum_received"]]
        if self.direction == "both":
            sums.append(said["end"]["sum_received_bidir_reverse"])
        detail: dict[str, object] = {
            "retransmits": said["end"]["sum_sent"].get("retransmits"),
            "congestion": said["end"].get("sender_tcp_congestion"),
        }
        return Reading(sum(it["bits_per_second"] for it in sums) / 1e9, sum(int(it["bytes"]) for it in sums), detail)


@contextmanager
def iperf3_server(path: Path) -> Iterator[None]:
    """A server at the path's end that is ready for one client."""
    with path.lab.running(path.receiver, ["iperf3", "-s", "-1", "--forceflush"]) as server:
        assert server.stdout and server.stderr
        while "listening" not in (line := server.stdout.readline()):
            if not line:
                raise MeterFailed(f"iperf3 -s: {server.stderr.read()}")
        yield


def iperf3_client(path: Path, flags: Sequence[str]) -> list[str]:
    """The command of the client."""
    return ["iperf3", "-c", path.address, "-J", *flags]


def iperf3_said(command: Sequence[str], stdout: str, stderr: str) -> Said:
    """What a client said. Raises MeterFailed."""
    try:
        said = json.loads(stdout)
    except ValueError as error:
        raise MeterFailed(f"{' '.join(command)}: {stderr or stdout}") from error
    if "error" in said:
        raise MeterFailed(f"{' '.join(command)}: {said['error']}")
    found: Said = said
    return found


def iperf3(path: Path, seconds: int, flags: Sequence[str]) -> Said:
    """Run a server and one client over the path. Return: what the client said (iperf3 -J). Raises MeterFailed."""
    command = iperf3_client(path, ["-t", str(seconds), *flags])
    with iperf3_server(path):
        done = path.lab.exec(path.sender, command, timeout_s=seconds + SPARE_S, check=False)
    return iperf3_said(command, done.stdout, done.stderr)


@contextmanager
def steady(path: Path, gigabits: float, seconds: float) -> Iterator[list[float]]:
    """One paced stream for at least so long, begun when the block begins and over with it. The list is filled then:
    what the receiver got, in bit/s. Raises MeterFailed."""
    command = iperf3_client(path, ["-t", f"{math.ceil(seconds + 2 * SETTLE_S)}", "-b", f"{gigabits * 1e9:.0f}"])
    reached: list[float] = []
    with iperf3_server(path), path.lab.running(path.sender, command) as client:
        time.sleep(SETTLE_S)
        yield reached
        stdout, stderr = client.communicate(timeout=seconds + SPARE_S)
        reached.append(float(iperf3_said(command, stdout, stderr)["end"]["sum_received"]["bits_per_second"]))
