"""Request and response by sockperf's ping-pong: one message under way, half of its round trip, idle and under load.

The value is the median; p90, p99, p99.9 and the longest are further rows, from the same messages. sockperf leaves out
its warm-up and the first and last 50 ms. RTT/2 is what sockperf reports; one way may take longer than the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path as File
from tempfile import TemporaryDirectory

from benchmarks.meters import SPARE_S, MeterFailed, Reading
from benchmarks.meters.tcp import steady
from benchmarks.scene import Path

__all__ = ["PingPong", "percentile", "tail"]

PORT = "11111"
READY_S = 10.0
FEWEST = 1000
TAIL_STEPS = 10


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest of the samples, in order, that at least `part` of them do not exceed (nearest rank)."""
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)]


def tail(ordered: Sequence[float]) -> list[tuple[float, float]]:
    """(part, value) for a plot whose axis is logarithmic in what is left: ten points for each further nine, to the
    longest."""
    points = []
    step = 0
    while (left := 10 ** (-step / TAIL_STEPS)) * len(ordered) >= 1:
        points.append((1 - left, percentile(ordered, 1 - left)))
        step += 1
    return [*points, (1.0, ordered[-1])]


@dataclass(frozen=True, slots=True)
class PingPong:
    """`load`: Gbit/s of a TCP stream beside it, in the same direction as the request; 0 for none."""

    protocol: str = "tcp"
    load: float = 0.0
    size: int = 64
    seconds: int = 2

    unit = "µs"
    higher_is_better = False

    @property
    def name(self) -> str:
        return f"rtt-{self.protocol}" + (f"-under-{self.load:g}g" if self.load else "")

    @property
    def title(self) -> str:
        return f"{self.protocol.upper()} RTT/2, {self.size} B" + (f", under {self.load:g} Gbit/s" if self.load else "")

    def read(self, path: Path) -> Reading:
        reached: list[float] = []
        with ExitStack() as stack:
            if self.load:
                reached = stack.enter_context(steady(path, self.load, self.seconds + 1))
            samples = self._ping_pong(path)
        ordered = sorted(samples)
        detail: dict[str, object] = {"messages": len(ordered), "tail": tail(ordered)}
        if self.load:
            detail["load_reached_gbits"] = reached[0] / 1e9
        parts = {"p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        also = {name: percentile(ordered, part) for name, part in parts.items()}
        return Reading(percentile(ordered, 0.5), 2 * self.size * len(ordered), detail, also)

    def _ping_pong(self, path: Path) -> list[float]:
        flags = ["-i", path.address, "-p", PORT] + ["--tcp"] * (self.protocol == "tcp")
        with TemporaryDirectory() as folder, path.lab.running(path.receiver, ["sockperf", "server", *flags]):
            self._wait_for_server(path)
            log = File(folder, "log.csv")
            command = ["sockperf", "ping-pong", *flags, "-m", str(self.size), "-t", str(self.seconds)]
            command += ["--full-log", str(log)]
            done = path.lab.exec(path.sender, command, timeout_s=self.seconds + SPARE_S, check=False)
            samples = latencies(log.read_text()) if log.exists() else []
        if done.returncode != 0 or len(samples) < FEWEST:
            raise MeterFailed(f"{' '.join(command)}: {len(samples)} messages: {done.stdout[-500:]}{done.stderr}")
        return samples

    def _wait_for_server(self, path: Path) -> None:
        """It says that it listens before it does, so the kernel is asked."""
        deadline = time.monotonic() + READY_S
        asked = ["ss", "-Hln", "-t" if self.protocol == "tcp" else "-u", "sport", "=", f":{PORT}"]
        while not path.lab.exec(path.receiver, asked).stdout.strip():
            if time.monotonic() > deadline:
                raise MeterFailed(f"sockperf server does not listen after {READY_S:.0f} s; is it installed?")


def latencies(log: str) -> list[float]:
    """The fourth column of sockperf's full log, in µs: half a round trip."""
    rows = log.partition("latency(usec)\n")[2].splitlines()
    return [float(row.split(",")[3]) for row in rows if row.count(",") == 3]
