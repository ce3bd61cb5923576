"""A peer's program: found by name, run in the foreground of a lab, its words kept in a file of the lab.

Rules of this file
  1. Nothing of the machine is touched: configuration, sockets and logs are below RUN in the lab's own /run, and the
     program dies with the stack that it was started on, at the latest with the lab.
  2. A program that is missing is a FileNotFoundError that names the package of Debian; one that ends is an
     error that has its last words.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vxlanu.errors import VxlanuError
from vxlanu.lab.topology import Lab, children_of, poll

__all__ = ["Program", "make_folder", "program", "start", "version_of"]

RUN = Path("/run/peers")
UP_S = 120.0  # dockerd on a busy machine; who ends before is not waited for
LINES_TOLD = 15


@dataclass(frozen=True, slots=True)
class Program:
    """One that was started; process id and log as they are out here."""

    name: str
    pid: int
    log: Path

    def told(self) -> str:
        """What it has said last."""
        return f"--- {self.name}\n{_end(self.log)}"


def program(name: str, package: str) -> str:
    """Where a program is. Raises FileNotFoundError."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise FileNotFoundError(f"{name} is not installed (Debian: {package})")
    return found


def version_of(name: str, package: str, flag: str = "--version") -> str:
    """The first thing in what it says of itself that looks like a version. Raises FileNotFoundError."""
    said = subprocess.run([program(name, package), flag], capture_output=True, text=True, check=False)
    number = re.search(r"\bv?(\d[\w.+~-]*)", said.stdout + said.stderr)
    return number[1] if number else "unknown"


def make_folder(lab: Lab, name: str) -> Path:
    """A new folder of the lab for one peer on one host; its path is the one inside."""
    folder = RUN / name
    lab.path(folder).mkdir(parents=True, mode=0o700)
    return folder


def start(
    stack: ExitStack, lab: Lab, place: str, words: Sequence[str], *, log: Path, until: Callable[[], bool]
) -> Program:
    """Run a program until the stack ends, and return as soon as `until()` says that it is up. Raises VxlanuError.

    Its name is that of its log.
    """
    name = f"{log.stem} on {place}"
    logged = ["sh", "-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh", str(log), *words]
    process = stack.enter_context(lab.running(place, logged))
    file = lab.path(log)

    def settled() -> bool:
        return process.poll() is not None or (file.exists() and until())

    poll(settled, f"{name} to be up", UP_S, lambda: _end(file))
    if process.poll() is not None:
        last = _end(file).rpartition("\n")[2]
        raise VxlanuError(name, f"ended with status {process.returncode}: {last}", detail={"story": _end(file)})
    return Program(name, children_of(process.pid)[0], file)


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LINES_TOLD:]) if log.exists() else ""
