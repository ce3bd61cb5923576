"""Connections in a second: TCP, one after the other, a byte there and a byte back in each (connect_load.c)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.meters import MeterFailed, Reading
from benchmarks.meters.program import program
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
        with path.lab.running(path.receiver, [load, "serve", PORT]) as server:
            assert server.stdout and server.stderr
            if "listening" not in server.stdout.readline():
                raise MeterFailed(f"connect_load serve: {server.stderr.read()}")
            done = path.lab.exec(path.sender, command, check=False)
        if done.returncode != 0:
            raise MeterFailed(f"{' '.join(command)}: {done.stderr}")
        said = json.loads(done.stdout)
        return Reading(said["connections"] / said["seconds"], 2 * said["connections"], dict(said))
