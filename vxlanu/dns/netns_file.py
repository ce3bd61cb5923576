"""/etc/netns/NAME/resolv.conf: what a program finds as /etc/resolv.conf in a namespace of ip-netns(8).

    # Made by vxlanu (agent 0f1e2d3c4b5a), which removes it again. Without this line it is left alone.
    nameserver 192.168.0.1
    search vxlanu.internal
    options no-tld-query

`ip netns exec` lays the file over /etc/resolv.conf. In several networks a namespace has the gateway of each as a
server, and looks into each network's names before those of all: a gateway refuses the names of other networks, so the
next is asked. A single label is looked for below vxlanu.internal alone: there `not found` is said at once, where
without a domain it would be refused, which the C library takes for a passing failure.

Rules of this file
  1. A file that is not ours is never touched, nor one behind a link. Ours says so in its first line, with the agent's
     id: several agents of one machine (a lab) see the same directory.
  2. What is wanted is a state, not a history: `settle` makes it so, also after a crash, for the first one looks at all.
     A later one looks at what is wanted otherwise since: to read all files again for each of a thousand endpoints
     would be most of the time that it takes to attach one.
  3. A new file is written beside and linked to its name when it is whole, which never takes the place of another: a
     file without its first line would be nobody's, and stay. Beside is above the directories of namespaces, of which
     `ip netns exec` lays every file over /etc.
  4. One that is there is changed in place, which keeps its owner and mode: `ip netns exec` holds it open in shells that
     run. Nor is it emptied first, so its first line never goes.
  5. It blocks, for as long as the disk does: call it from a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vxlanu.dns.zone import ZONE

__all__ = ["ETC_NETNS", "NetnsFiles", "Served", "text_of"]

ETC_NETNS = Path("/etc/netns")
SERVERS_MAX = 3  # as in the C library
_HEAD_BYTES = 200
_MODE = 0o644  # as any resolv.conf, whatever the agent's umask


@dataclass(frozen=True, slots=True)
class Served:
    """One network of a namespace: its name and the address that answers."""

    network: str
    gateway: str


def text_of(agent: str, served: Sequence[Served]) -> str:
    """The file of a namespace in these networks."""
    domains = [f"{it.network.lower()}.{ZONE}" for it in served[:SERVERS_MAX]] if len(served) > 1 else []
    return "\n".join(
        [
            f"{_mark(agent)}, which removes it again. Without this line it is left alone.",
            *(f"nameserver {it.gateway}" for it in served[:SERVERS_MAX]),
            " ".join(("search", *domains, ZONE)),
            "options no-tld-query\n",
        ]
    )


def _mark(agent: str) -> str:
    return f"# Made by vxlanu (agent {agent})"


class NetnsFiles:
    """The files of one agent, known by the beginning of its node id."""

    def __init__(self, agent: str, root: Path = ETC_NETNS) -> None:
        self._agent = agent
        self._root = root
        self._beside = root / f".resolv.conf.{agent}"
        self._ours: set[str] | None = None  # None: not yet looked
        self._settled: dict[str, Sequence[Served]] = {}  # what we wrote last, into files of ours
        self.left_alone: set[str] = set()
        """Namespaces that have a file of somebody else's, and keep it."""

    def found(self) -> list[Path]:
        """Every file of this agent that is there, one that a crash left unfinished included."""
        files = [file for file in sorted(self._root.glob("*/resolv.conf")) if self._is_ours(file)]
        return files + [self._beside] * self._beside.exists()

    def settle(self, wanted: Mapping[str, Sequence[Served]]) -> None:
        """Make the files those of `wanted` (name of a namespace: its networks), and no others of ours.

        Raises:
            OSError: the directory cannot be written; what could be done is done.
        """
        if self._ours is None:
            self._beside.unlink(missing_ok=True)
            self._ours = {file.parent.name for file in self.found()}
        with contextlib.ExitStack() as failures:
            for name in self._ours - wanted.keys():
                self._settled.pop(name, None)
                with self._later(failures):
                    self.remove(self._root / name / "resolv.conf")
                    self._ours.discard(name)
            self.left_alone &= wanted.keys()
            for name, served in wanted.items():
                if self._settled.get(name) == served:
                    continue
                self._settled.pop(name, None)
                with self._later(failures):
                    if self._write(name, text_of(self._agent, served)):
                        self._settled[name] = served

    @staticmethod
    @contextlib.contextmanager
    def _later(failures: contextlib.ExitStack) -> Iterator[None]:
        """One that fails keeps no other from being settled; it is raised in the end."""
        try:
            yield
        except OSError as error:
            failures.callback(_throw, error)

    def _write(self, name: str, text: str) -> bool:
        """Whether the file is ours, and says that now."""
        file = self._root / name / "resolv.conf"
        if file.is_symlink() or (file.exists() and not self._is_ours(file)):
            self.left_alone.add(name)
            return False
        self.left_alone.discard(name)
        assert self._ours is not None
        self._ours.add(name)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            self._make(file, text)
        elif file.read_text() != text:
            with file.open("r+") as opened:
                opened.write(text)
                opened.truncate()
        return name not in self.left_alone

    def _make(self, file: Path, text: str) -> None:
        """A new file, whole or not at all."""
        data = text.encode()
        with self._beside.open("xb", buffering=0) as beside:
            try:
                os.fchmod(beside.fileno(), _MODE)
                if os.write(beside.fileno(), data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._beside))
                os.fsync(beside.fileno())  # else a name may outlive a power cut without its text
                os.link(self._beside, file)
            except FileExistsError:
                self.left_alone.add(file.parent.name)
            finally:
                self._beside.unlink(missing_ok=True)

    def remove(self, file: Path) -> None:
        """A file of ours, and the directories that are empty without it."""
        if self._is_ours(file):
            file.unlink()
        for directory in (file.parent, self._root):
            with contextlib.suppress(OSError):
                directory.rmdir()

    def _is_ours(self, file: Path) -> bool:
        try:
            if file.is_symlink() or not file.is_file():
                return False
            with file.open(errors="replace") as opened:
                return opened.read(_HEAD_BYTES).startswith(_mark(self._agent))
        except OSError:
            return False


def _throw(error: OSError) -> None:
    raise error
