"""Bulk TCP by iperf3: what the receiver got."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.meters import MeterFailed, Reading
from benchmarks.scene import Path

__all__ = ["Bulk", "iperf3"]

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
        said = iperf3(path, ["-t", str(self.seconds), "-P", str(self.streams), *flags])
        sums = [said["end"]["sum_received"]]
        if self.direction == "both":
            sums.append(said["end"]["sum_received_bidir_reverse"])
        detail: dict[str, object] = {
            "retransmits": said["end"]["sum_sent"].get("retransmits"),
            "congestion": said["end"].get("sender_tcp_congestion"),
        }
        return Reading(sum(it["bits_per_second"] for it in sums) / 1e9, sum(int(it["bytes"]) for it in sums), detail)


def iperf3(path: Path, flags: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Run a server and one client over the path. Return: what the client said (iperf3 -J). Raises MeterFailed."""
    with path.lab.running(path.receiver, ["iperf3", "-s", "-1", "--forceflush"]) as server:
        assert server.stdout and server.stderr
        while "listening" not in (line := server.stdout.readline()):
            if not line:
                raise MeterFailed(f"iperf3 -s: {server.stderr.read()}")
        command = ["iperf3", "-c", path.address, "-J", *flags]
        done = path.lab.exec(path.sender, command, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError as error:
        raise MeterFailed(f"{' '.join(command)}: {done.stderr or done.stdout}") from error
    if "error" in said:
        raise MeterFailed(f"{' '.join(command)}: {said['error']}")
    found: dict[str, dict[str, dict[str, float]]] = said
    return found
