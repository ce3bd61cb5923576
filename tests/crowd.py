"""Many endpoints on one host of a lab, for tests of scale: attach, reach and detach all, and what that costs.

    h1: every container of the crowd        h2: c2-1, from which they are reached

Rules of this file
  1. What it costs is looked at from outside where that is possible: descriptors and memory by /proc, interfaces by
     the kernel, in every namespace that the lab has a name or a process for. Only table entries are the agents' word.
  2. Requests go to the API's socket, some at a time, as a runtime that starts many containers sends them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from asking import client
from lab_ns import poll

from vxlanu.api.schema import Attach, NetworkCreate
from vxlanu.lab.plan import UNDERLAY, agent_socket
from vxlanu.lab.topology import Lab

NETWORK = "blue"
SUBNET = "10.66.0.0/16"
AT_ONCE = 4
HOSTS = ("h1", "h2")
GIVE_UP_S = 240.0
"""A ping leaves two neighbour entries, and the kernel has 1024 (net.ipv4.neigh.default.gc_thresh3) for all namespaces
together: a thousand endpoints are reached no faster than it takes old ones away, in 50 s or so."""

REACH = """
printf '%s\\n' "$@" | xargs -P 25 -I ADDRESS sh -c 'ping -n -q -c 1 -W 2 ADDRESS >/dev/null || echo ADDRESS'
"""
COUNT_LINKS = """
import ctypes, glob, os
seen, links = set(), 0
for path in glob.glob("/run/netns/*") + glob.glob("/proc/[0-9]*/ns/net"):
    try:
        place = os.open(path, os.O_RDONLY)
    except OSError:
        continue  # a process that has ended since the list was made
    inode = os.fstat(place).st_ino
    if inode not in seen and ctypes.CDLL(None).setns(place, 0) == 0:
        links += len(open("/proc/self/net/dev").readlines()) - 2
        seen.add(inode)
    os.close(place)
print(links)
"""

R = TypeVar("R")


GATEWAY, OTHER_ROUTER = 2, 1
"""Table entries beside those of endpoints: the gateway's address and our router's MAC, the other host's router."""


def entries_with(endpoints: int) -> dict[str, int]:
    """Table entries of each host with c2-1 and so many others: a neighbour and an FDB entry each."""
    return dict.fromkeys(HOSTS, 2 * (endpoints + 1) + GATEWAY + OTHER_ROUTER)


@dataclass(frozen=True)
class Footprint:
    """What may not grow: interfaces of the whole lab, and by host the descriptors of each process and table entries.

    `passing` are the descriptors of the helper's children, each of which ends with the request that it is for.
    """

    links: int
    descriptors: dict[str, list[int]]
    passing: dict[str, list[int]]
    entries: dict[str, int]


def processes(lab: Lab, host: str) -> list[int]:
    """The agent of a host and its children, as the machine numbers them; not their children, which come and go."""
    return _lasting_and_passing(lab, host)[0]


def _lasting_and_passing(lab: Lab, host: str) -> tuple[list[int], list[int]]:
    """The agent of a host and its children, and the children of these."""
    parents, inside = {}, Path(f"/proc/{lab.pid}/ns/mnt").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            space = (entry / "ns/mnt").readlink()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if space == inside and str(agent_socket(host)).encode() in words:
            parents[int(entry.name)] = parent
    lasting = sorted(pid for pid, parent in parents.items() if parents.get(parent) not in parents)
    return lasting, sorted(parents.keys() - set(lasting))


class Crowd:
    """`size` containers on h1 of a lab of two hosts, with a network for them that h2 is in."""

    def __init__(self, lab: Lab, size: int) -> None:
        self.lab = lab
        self.names = [f"c1-crowd{number}" for number in range(1, size + 1)]
        self._api = client(lab, "h1")
        lab.create_container(*self.names)
        self._api.network_create(NetworkCreate(name=NETWORK, subnets=[SUBNET], internal=True))
        client(lab, "h2").attach(Attach(network=NETWORK, target="c2-1"))

    def attach_all(self) -> list[str]:
        """Their addresses."""
        attached = self._at_once(lambda name: self._api.attach(Attach(network=NETWORK, target=name)).value)
        return [endpoint.addresses[0].split("/")[0] for endpoint in attached]

    def detach_all(self) -> None:
        self._at_once(lambda name: self._api.detach(NETWORK, name))

    def _at_once(self, work: Callable[[str], R]) -> list[R]:
        with ThreadPoolExecutor(AT_ONCE) as workers:
            return list(workers.map(work, self.names))

    def wait_reached(self, addresses: list[str]) -> None:
        """Until every one has answered a ping from h2; who has answered is not asked again."""
        missing = addresses

        def all_reached() -> bool:
            nonlocal missing
            missing = self.lab.exec("c2-1", ["sh", "-c", REACH, "sh", *missing]).stdout.split()
            return not missing

        poll(all_reached, timeout=GIVE_UP_S, what="everyone to answer", story=lambda: f"{missing}\n{self.lab.story()}")

    def settled_footprint(self) -> Footprint:
        """Twice the same, and no child at work: an exchange between the agents is a descriptor more for a moment."""
        seen = [self.footprint()]

        def still() -> bool:
            seen.append(self.footprint())
            return seen[-2] == seen[-1] and not any(seen[-1].passing.values())

        poll(still, timeout=GIVE_UP_S, what="two looks alike", story=lambda: f"{seen}\n{self.lab.story()}")
        return seen[-1]

    def footprint(self) -> Footprint:
        counted = self.lab.exec(UNDERLAY, [sys.executable, "-I", "-S", "-c", COUNT_LINKS]).stdout
        pids = {host: _lasting_and_passing(self.lab, host) for host in HOSTS}
        return Footprint(
            links=int(counted),
            descriptors={host: _descriptors(lasting) for host, (lasting, _) in pids.items()},
            passing={host: _descriptors(passing) for host, (_, passing) in pids.items()},
            entries={host: self._entries(host) for host in HOSTS},
        )

    def _entries(self, host: str) -> int:
        api = client(self.lab, host)
        differences = api.verify().value.differences
        assert not differences, f"{differences}\n{self.lab.story()}"
        return len(api.fdb(NETWORK).value.items) + len(api.neighbors(NETWORK).value.items)

    def wait_for(self, wanted: Footprint) -> None:
        """Until everything is as it was: a device goes some milliseconds after its last descriptor."""
        poll(lambda: self.footprint() == wanted, timeout=GIVE_UP_S, what=f"{wanted} again",
             story=lambda: f"but it is {self.footprint()}\n{self.lab.story()}")  # fmt: skip

    def memory_kb(self) -> dict[str, list[int]]:
        """What is resident, of each process."""
        return {host: [_resident_kb(pid) for pid in processes(self.lab, host)] for host in HOSTS}


def _descriptors(pids: list[int]) -> list[int]:
    """Of each process that has not ended meanwhile."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
    return found


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
