"""Many at once: how fairly senders share, what a flood costs a neighbour, what idle endpoints cost a busy pair.

    c1-1 … c1-64 ─ h1 ── underlay ── h2 ─ c2-1 … c2-64      each container of h1 sends to its counterpart

Rules of this file
  1. Payload is counted by the receivers, of all flows over the same time (meters/crowd_load.c). All send as much as
     they can.
  2. Fairness is Jain's index, (Σx)² / n Σx²: 1 when all have the same, 1/n when one has all. Of a mixture it is taken
     of each kind by itself: TCP gives way where something is lost and UDP does not, so that between the two it would
     judge TCP. What each kind has together stands beside it.
  3. Whoever floods also keeps a CPU busy, on which a neighbour cannot run then, whatever carries its frames. So a flood
     is compared with the same program that floods a cable of its own, which leads nowhere (`idle flood`); what is lost
     to both together stands beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.figures import STEAL_MAX
from benchmarks.machine import machine
from benchmarks.meters import SPARE_S, MeterFailed
from benchmarks.meters.processes import machine_cpu
from benchmarks.meters.program import program
from benchmarks.results import Unreadable
from benchmarks.rounds import order
from benchmarks.scene import HOSTS
from benchmarks.underlay import set_underlay
from vxlanu.api.client import Client
from vxlanu.api.schema import Attach, NetworkCreate
from vxlanu.cli.render import table
from vxlanu.lab.plan import UNDERLAY, agent_socket
from vxlanu.lab.topology import Lab

__all__ = [
    "HEADER", "SCENARIOS", "Crowd", "Finding", "Flow", "carried", "fairness", "findings_table", "flood",
    "idle_endpoints", "jain", "load_findings", "save_findings",
]  # fmt: skip

NETWORK, SUBNET, EVERYONE = "crowd", "10.68.0.0/16", "10.68.255.255"
SENDERS, ENDPOINTS = 64, 1000
AT_ONCE = 4
BROADCAST_BYTES = 64  # in crowd_load.c too
WARMUP_S = 1.0
TRIES = 3
CALM, CALM_S = 0.9, 60.0
"""How idle, and how long that is waited for: new containers tell all others of their groups (MLD) and seek routers."""
Progress = Callable[[str], None]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Flow:
    """One sender: `tcp` or `udp` to the place that has the address, or `broadcast`."""

    kind: str
    sender: str
    receiver: str
    address: str
    rate: int = 0
    """Datagrams a second; 0: as many as go."""

    def line(self) -> str:
        return f"{self.kind} {self.sender} {self.receiver} {self.address} {self.rate}\n"


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure for each round, and what it should be at least; 0: nothing is promised of it."""

    title: str
    values: tuple[float, ...]
    bound: float
    beside: str
    """What else a reader wants to know."""
    topic: str = "Crowds"
    """The heading in NOTES.md under which stands what limits."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def held(self) -> bool:
        return self.median >= self.bound

    def cells(self) -> tuple[str, ...]:
        """A row of a table, under HEADER."""
        wanted = f"≥ {self.bound:g}, {'held' if self.held else 'missed'}" if self.bound else ""
        spread = f"{min(self.values):.3f} to {max(self.values):.3f}"
        return self.title, f"{self.median:.3f}", spread, str(len(self.values)), wanted, self.beside


HEADER = ("WHAT", "MEDIAN", "FROM TO", "ROUNDS", "WANTED", "BESIDE")


class Crowd:
    """A lab of two hosts whose containers are all in one network."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        agents = {host: Client(str(lab.path(agent_socket(host)))) for host in HOSTS}
        agents["h1"].network_create(NetworkCreate(name=NETWORK, subnets=[SUBNET], internal=True))

        def attach(name: str) -> tuple[str, str]:
            attached = agents[f"h{name[1]}"].attach(Attach(network=NETWORK, target=name)).value
            return name, attached.addresses[0].split("/")[0]

        with ThreadPoolExecutor(AT_ONCE) as workers:
            self.addresses = dict(workers.map(attach, lab.containers()))

    @classmethod
    @contextmanager
    def up(cls, containers: int, underlay: str, word: str = "") -> Iterator[Crowd]:
        """With so many containers on each host; `word` tells two crowds of one process apart."""
        with Lab(2, containers, lab=f"crowd{word}-{os.getpid()}") as lab:
            set_underlay(lab, underlay, HOSTS)
            yield cls(lab)

    def flow(self, kind: str, number: int, rate: int = 0) -> Flow:
        """From the container of that number on h1 to its counterpart."""
        return Flow(kind, f"c1-{number}", f"c2-{number}", self.addresses[f"c2-{number}"], rate)


def carried(lab: Lab, flows: Sequence[Flow], seconds: float) -> list[float]:
    """Gbit/s of each flow, all at once. Again where the hypervisor took too much meanwhile, TRIES times in all.

    Raises:
        MeterFailed: the program ended without a figure.
    """
    command = [program("crowd_load"), str(WARMUP_S), str(seconds)]
    asked = "".join(flow.line() for flow in flows)
    for _ in range(TRIES):
        before = machine_cpu()
        done = lab.exec(UNDERLAY, command, text=asked, timeout_s=WARMUP_S + seconds + SPARE_S, check=False)
        if done.returncode != 0:
            raise MeterFailed(done.stderr.strip() or f"crowd_load: status {done.returncode}")
        if machine_cpu().stolen_since(before) <= STEAL_MAX:
            break
    said = json.loads(done.stdout)
    return [8e-9 * octets / float(said["seconds"]) for octets in said["octets"]]


def jain(shares: Sequence[float]) -> float:
    """The index; 0 if nobody has anything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def fairness(rounds: int, seconds: float, underlay: str, progress: Progress, senders: int = SENDERS) -> list[Finding]:
    """Jain's index of senders of TCP, of UDP, and of half as many of each."""
    numbers = range(1, senders + 1)
    with Crowd.up(senders, underlay) as crowd:
        of_kinds = {
            "TCP": [crowd.flow("tcp", number) for number in numbers],
            "UDP": [crowd.flow("udp", number) for number in numbers],
            "mixed": [crowd.flow("tcp" if number % 2 else "udp", number) for number in numbers],
        }
        calm()
        found = alternate(of_kinds, lambda name: carried(crowd.lab, of_kinds[name], seconds), rounds, progress)
    half = senders // 2
    return [
        _shares(f"Jain's index, {senders} TCP senders", found["TCP"]),
        _shares(f"Jain's index, {senders} UDP senders", found["UDP"]),
        _shares(f"Jain's index, {half} TCP senders beside {half} of UDP", [rates[0::2] for rates in found["mixed"]]),
        _shares(f"Jain's index, {half} UDP senders beside {half} of TCP", [rates[1::2] for rates in found["mixed"]]),
    ]


def _shares(title: str, rates: Sequence[Sequence[float]]) -> Finding:
    together = statistics.median(sum(it) for it in rates)
    return Finding(title, tuple(jain(it) for it in rates), 0.9, f"{together:.2f} Gbit/s together")


def flood(rounds: int, seconds: float, underlay: str, progress: Progress, rate: int = 10_000) -> list[Finding]:
    """What is left of one TCP stream while another container of its host broadcasts."""
    with Crowd.up(3, underlay) as crowd:
        _cable_to_nowhere(crowd.lab, "c1-3")
        alone = crowd.flow("tcp", 1)
        beside = {
            "alone": [alone],
            "flood": [alone, Flow("broadcast", "c1-2", "-", EVERYONE)],
            "idle flood": [alone, Flow("broadcast", "c1-3", "-", "10.69.0.255")],
            "paced": [alone, Flow("broadcast", "c1-2", "-", EVERYONE, rate)],
        }
        calm()
        found = alternate(beside, lambda name: carried(crowd.lab, beside[name], seconds), rounds, progress)
    sent = f"{statistics.median(it[1] for it in found['flood']) * 1e9 / 8 / BROADCAST_BYTES:,.0f} frames a second"
    streams = {name: [it[0] for it in readings] for name, readings in found.items()}
    own = "the sender's own CPU time"
    left = partial(_left, topic="Flood")
    return [
        left("TCP beside a flood, to an idle flood", streams, "flood", "idle flood", 0.85, sent),
        left(f"TCP beside a flood of {rate:,} a second, to TCP alone", streams, "paced", "alone", 0.85),
        left("TCP beside a flood, to TCP alone", streams, "flood", "alone", 0, f"with {own}"),
        left("TCP beside an idle flood, to TCP alone", streams, "idle flood", "alone", 0, f"{own} alone"),
    ]


def _cable_to_nowhere(lab: Lab, name: str) -> None:
    """An interface with a broadcast address, whose other end nobody listens at."""
    for command in (
        "ip link add nowhere type veth peer name end",
        "ip address add 10.69.0.1/24 dev nowhere",
        "ip link set nowhere up",
        "ip link set end up",
    ):
        lab.exec(name, command.split())


def idle_endpoints(
    rounds: int, seconds: float, underlay: str, progress: Progress, endpoints: int = ENDPOINTS
) -> list[Finding]:
    """A pair with so many endpoints around, to a pair by itself: two labs side by side."""
    with ExitStack() as stack:
        few = stack.enter_context(Crowd.up(1, underlay, "-few"))
        progress(f"{endpoints} endpoints")
        begun = time.monotonic()
        many = stack.enter_context(Crowd.up(endpoints // 2, underlay, "-many"))
        took = time.monotonic() - begun
        calm()
        pairs = {"many": many, "few": few}

        def stream(name: str) -> float:
            return carried(pairs[name].lab, [pairs[name].flow("tcp", 1)], seconds)[0]

        found = alternate(pairs, stream, rounds, progress)
    beside = f"lab up and {len(many.addresses)} attached in {took:.0f} s"
    return [_left(f"TCP of a pair among {endpoints} endpoints, to one alone", found, "many", "few", 0.95, beside)]


def _left(
    title: str,
    streams: Mapping[str, Sequence[float]],
    ours: str,
    base: str,
    bound: float,
    beside: str = "",
    topic: str = "Crowds",
) -> Finding:
    """What is left, by round. Raises MeterFailed."""
    if not all(streams[base]):
        raise MeterFailed(f"{title}: nothing was carried in a round of {base!r}")
    ratios = tuple(mine / others for mine, others in zip(streams[ours], streams[base], strict=True))
    rates = " to ".join(f"{statistics.median(streams[name]):.2f}" for name in (ours, base))
    return Finding(title, ratios, bound, f"{rates} Gbit/s" + (f"; {beside}" if beside else ""), topic)


def alternate(
    names: Mapping[str, object], read: Callable[[str], R], rounds: int, progress: Progress
) -> dict[str, list[R]]:
    """The readings of each name, one a round, everyone first in turn."""
    found: dict[str, list[R]] = {name: [] for name in names}
    for number, name in ((n, name) for n in range(1, rounds + 1) for name in order(list(names), n)):
        progress(f"round {number} of {rounds}: {name}")
        found[name].append(read(name))
    return found


def calm() -> None:
    """Wait until the machine is idle, or for CALM_S; what keeps it busy then is no passing thing."""
    until = time.monotonic() + CALM_S
    while time.monotonic() < until:
        before = machine_cpu()
        time.sleep(1)  # over which it is looked at
        now = machine_cpu()
        if now.busy_since(before) <= (1 - CALM) * now.cpus * (now.at - before.at):
            return


SCENARIOS: Mapping[str, Callable[[int, float, str, Progress], list[Finding]]] = {
    "fairness": fairness, "flood": flood, "endpoints": idle_endpoints,
}  # fmt: skip


def findings_table(findings: Sequence[Finding]) -> Iterator[str]:
    """For a terminal."""
    return table(HEADER, [finding.cells() for finding in findings])


class _Kept(msgspec.Struct):
    findings: list[Finding]


def load_findings(path: Path) -> list[Finding]:
    """The inverse of `save_findings`. Raises Unreadable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept).findings
    except (OSError, msgspec.MsgspecError) as error:
        raise Unreadable(f"{path}: {error}") from error


def save_findings(findings: Sequence[Finding], path: Path) -> None:
    """With the machine that they are of."""
    kept = {"machine": machine(), "findings": findings}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
