"""Network namespaces for tests: make, enter, wire up, clean away.

Rules of this file
  1. Names are unique to this process (`vxt<pid>-<n>…`), so two runs on one machine never meet.
  2. Nothing is killed by program name: what runs in a namespace is found by the namespace's inode.
  3. Tests wait with `poll`, which tells the story when it gives up; nothing sleeps for a time.

The underlay that `Underlay.build` makes:

        h1            h2            h3          hosts: namespaces, interface u0
     u0 │.1        u0 │.2        u0 │.3         10.89.0.N/24, fd89::N/64, both without DAD
        └──────┬──────┴──────┬──────┘
          p1 ──┴── br0 ──────┴── p3             bridge in a namespace of its own: no host interface is touched
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

RUN_NETNS = Path("/run/netns")
ETC_NETNS = Path("/etc/netns")
_counter = itertools.count(1)
_environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C"}


def poll(
    condition: Callable[[], T], *, timeout: float = 60.0, what: str = "", story: Callable[[], str] | None = None
) -> T:
    """The first true value of `condition`, asked again and again; after `timeout` an AssertionError with `story`.

    What is dear to ask is asked less often: or the asking would take the processor from what is waited for.

    `timeout` is for a machine that does nothing else right either: it says that the test failed, never how fast
    something has to be.
    """
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        if (now := time.monotonic()) >= deadline:
            told = f"\n{story()}" if story else ""
            raise AssertionError(f"after {timeout} s still not: {what or condition!r} (last: {value!r}){told}")
        time.sleep(min(max(0.01, now - asked), 0.2))


def run(*command: str, check: bool = True, timeout: float = 30.0, stdin: str | None = None) -> str:
    """Run a program, return what it printed; a failure carries all of its output."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout, env=_environment, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def kernel_has_link_kind(kind: str, *options: str) -> bool:
    """Whether this kernel makes links of `kind`; tried in a namespace that lives only for the question."""
    name = f"vxt{os.getpid()}-{next(_counter)}probe"
    run("ip", "netns", "add", name)
    try:
        asked = ["ip", "-n", name, "link", "add", "probe0", "type", kind, *options]
        return subprocess.run(asked, capture_output=True, env=_environment, check=False).returncode == 0
    finally:
        run("ip", "netns", "del", name)


def pids_in(inodes: set[int]) -> list[int]:
    """Every process, ourselves left out, whose network namespace is one of `inodes`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if (entry / "ns/net").stat().st_ino in inodes:
                found.append(int(entry.name))
        except OSError:
            continue  # it ended while we looked
    return found


@dataclass(frozen=True)
class Namespace:
    """One named network namespace."""

    name: str
    inode: int

    @property
    def path(self) -> Path:
        return RUN_NETNS / self.name

    def command(self, *command: str) -> list[str]:
        """`command` as it must be started to run inside; nsenter, because `ip netns exec` would remount /sys."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, *command: str, check: bool = True, timeout: float = 30.0, stdin: str | None = None) -> str:
        return run(*self.command(*command), check=check, timeout=timeout, stdin=stdin)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program inside and leave it running; it dies at the latest with the namespace."""
        return subprocess.Popen(
            self.command(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment
        )

    def ip(self, *arguments: str, check: bool = True) -> str:
        return run("ip", "-n", self.name, *arguments, check=check)

    def pings(self, address: str, *, wait: int = 60) -> bool:
        """Whether an echo comes back from `address`, asked for again until `wait` seconds have passed."""
        asked = self.command("ping", "-n", "-q", "-c", "1", "-W", str(min(wait, 2)), address)
        end = time.monotonic() + wait
        while subprocess.run(asked, capture_output=True, env=_environment, check=False).returncode != 0:
            if time.monotonic() >= end:
                return False
        return True

    def story(self) -> str:
        """Links, addresses and neighbours, for a test that failed."""
        parts = [self.ip("-s", "link", check=False), self.ip("addr", check=False), self.ip("neigh", check=False)]
        return f"--- {self.name}\n" + "\n".join(parts)


class Namespaces:
    """Makes namespaces and takes them away again, with whatever runs in them."""

    def __init__(self) -> None:
        self._made: dict[str, Namespace] = {}
        self._names: list[str] = []  # also of those that were deleted

    def make(self, label: str = "") -> Namespace:
        name = f"vxt{os.getpid()}-{next(_counter)}{label}"
        run("ip", "netns", "add", name)
        self._names.append(name)
        made = Namespace(name, (RUN_NETNS / name).stat().st_ino)
        self._made[name] = made
        made.ip("link", "set", "lo", "up")
        return made

    def delete(self, namespace: Namespace) -> None:
        """Take one away now, killing what runs in it: the way a container's namespace ends."""
        self._made.pop(namespace.name, None)
        _kill_inside({namespace.inode})
        run("ip", "netns", "del", namespace.name, check=False)

    def close(self) -> None:
        _kill_inside({made.inode for made in self._made.values()})
        for name in list(self._made):
            run("ip", "netns", "del", name, check=False)
        self._made.clear()
        for name in self._names:
            _remove_resolv_conf(ETC_NETNS / name)
        self._names.clear()


def _remove_resolv_conf(directory: Path) -> None:
    """What an agent wrote for a namespace and could not remove, being killed before."""
    (directory / "resolv.conf").unlink(missing_ok=True)
    for empty in (directory, ETC_NETNS):
        with contextlib.suppress(OSError):
            empty.rmdir()


def _kill_inside(inodes: set[int]) -> None:
    def gone() -> bool:
        inside = [pid for pid in pids_in(inodes) if not _is_zombie(pid)]
        for pid in inside:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not inside

    poll(gone, what="every process in the namespaces is dead")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@dataclass
class Underlay:
    """Hosts that share an Ethernet segment of their own."""

    switch: Namespace
    hosts: list[Namespace] = field(default_factory=list)

    @classmethod
    def build(cls, namespaces: Namespaces, hosts: int, mtu: int = 1500) -> Underlay:
        made = cls(namespaces.make("sw"))
        made.switch.ip("link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        made.switch.ip("link", "set", "br0", "up")
        for number in range(1, hosts + 1):
            made._join(namespaces.make(f"h{number}"), number, mtu)
        poll(lambda: made._ports_in("forwarding") == hosts, what="the bridge forwards", story=made.switch.story)
        return made

    def _ports_in(self, state: str) -> int:
        """How many ports of the bridge are in a state: linkwatch tells it of a cable up to a second later."""
        ports = json.loads(self.switch.ip("-d", "-j", "link", "show", "master", "br0"))
        return sum(port["linkinfo"]["info_slave_data"]["state"] == state for port in ports)

    def _join(self, host: Namespace, number: int, mtu: int) -> None:
        self.switch.run(
            "ip",
            "-batch",
            "-",
            stdin=f"link add p{number} mtu {mtu} type veth peer name u0 mtu {mtu} netns {host.name}\n"
            f"link set p{number} master br0 up\n",
        )
        host.run(
            "ip",
            "-batch",
            "-",
            stdin=f"addr add {self.v4(number)}/24 dev u0\naddr add {self.v6(number)}/64 dev u0 nodad\nlink set u0 up\n",
        )
        self.hosts.append(host)

    @staticmethod
    def v4(number: int) -> str:
        """The IPv4 underlay address of host `number`, counted from 1."""
        return f"10.89.0.{number}"

    @staticmethod
    def v6(number: int) -> str:
        """The IPv6 underlay address of host `number`, counted from 1."""
        return f"fd89::{number}"

    def cut(self, number: int) -> None:
        """Pull the cable of host `number`."""
        self.switch.ip("link", "set", f"p{number}", "down")

    def mend(self, number: int) -> None:
        self.switch.ip("link", "set", f"p{number}", "up")
