"""`vxlanu capture` on h1 of a lab, running beside a test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from lab_ns import poll

from vxlanu.lab.topology import Lab

PATIENCE_S = 60.0


class Capturing:
    """One `vxlanu capture` on h1 that has begun."""

    def __init__(self, lab: Lab, *arguments: str | Path) -> None:
        command = lab.command("h1", ["vxlanu", "capture", *map(str, arguments)])
        self.process = Popen(command, env=lab.environment("h1"), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
        assert self.process.stderr
        self.first = self.process.stderr.readline()

    def refused(self) -> None:
        self.process.communicate(timeout=PATIENCE_S)
        assert "as many captures run" in self.first, self.first

    def signal(self, number: signal.Signals) -> None:
        """To the command itself, which is the child of the program that entered the host."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        os.kill(int(children.read_text().split()[0]), number)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Exit code, output and complaints, after a signal or by itself."""
        if number is not None:
            self.signal(number)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err


def begun(lab: Lab, *arguments: str | Path) -> Capturing | None:
    """None: there is no place, since one that was killed gives its back only when the agent has noticed."""
    made = Capturing(lab, *arguments)
    return made if made.first.startswith("capturing on ") else made.refused()


@contextmanager
def capturing(lab: Lab, *arguments: str | Path) -> Iterator[Capturing]:
    made = poll(lambda: begun(lab, *arguments), what="a place for the capture")
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()
