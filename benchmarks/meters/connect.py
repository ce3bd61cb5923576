"""Connections in a second: TCP, one after the other, a byte there and a byte back in each (connect_load.c)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.meters import SPARE_S, MeterFailed, Reading
from benchmarks.meters.program import listening, program
from benchmarks.scene import Path

__all__ = ["Connect"]

PORT = "11113"


@dataclass(frozen=True, slots=True)
class Connect:
    """For `seconds`, by one client."""

    seconds: float = 2.0

    name = "connect"
    title = "TCP connections, one by one"
    unit = "1/s"
    higher_is_better = True

    def read(self, path: Path) -> Reading:
        load = program("connect_load")
        command = [load, "connect", path.address, PORT, f"{self.seconds * 1000:.0f}"]
        with listening(path, [load, "serve", PORT]):
            done = path.lab.exec(path.sender, command, timeout_s=self.seconds + SPARE_S, check=False)
        if done.returncode != 0:
            raise MeterFailed(f"{' '.join(command)}: {done.stderr}")
        said = json.loads(done.stdout)
        return Reading(said["connections"] / said["seconds"], 2 * said["connections"], dict(said))
