"""What a run measured, as it is kept: a file of JSON with every raw sample and all that a reader needs to judge it.

Rules of this file
  1. Raw samples only; figures are computed from them when they are shown (figures.py), so that old files can be read
     by better arithmetic. Fields are only added.
  2. What has no figure is there by name: a missing peer with why, a failed reading with what was said.
  3. A run that was broken off says so (`complete`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

__all__ = [
    "AGAIN", "FORMAT", "Failure", "Machine", "MeterInfo", "PeerInfo", "Run", "Sample", "Series", "Settings",
    "Unreadable", "load", "save",
]  # fmt: skip

FORMAT = 1
AGAIN = "again"
"""The peer's name of vxlanu's second series, on the same path: what differs between the two is noise (A/A)."""


class Unreadable(Exception):
    """A file that holds no run of this format."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What figures depend on."""

    cpu: str
    cores: int
    caches: str
    memory_mib: int
    hypervisor: str
    """Its vendor or `yes`; empty on bare metal."""
    kernel: str
    clock_source: str
    congestion: str
    """Of TCP, in a new namespace."""
    mitigations: dict[str, str]
    """Those of the CPU's weaknesses that the kernel works against."""
    compiler: str
    python: str

    def line(self) -> str:
        """For captions."""
        virtual = f", virtual ({self.hypervisor})" if self.hypervisor else ""
        return f"{self.cores} x {self.cpu}{virtual}, {self.memory_mib / 1024:.0f} GiB, Linux {self.kernel}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the scene was set up, and how often it was measured."""

    underlay: str
    family: str
    mtu: int
    agent_flags: tuple[str, ...] = ()
    rounds: int = 0
    seconds: int = 0
    """Of a meter that knows a duration; 0: each its own."""

    def line(self) -> str:
        """For titles and captions."""
        flags = f", agents with {' '.join(self.agent_flags)}" if self.agent_flags else ""
        return f"underlay {self.underlay}, {self.family.replace('ip', 'IP')}, MTU {self.mtu}{flags}"


class PeerInfo(msgspec.Struct, frozen=True):
    """Who was measured; `missing` says why not, otherwise."""

    name: str
    title: str
    version: str = ""
    missing: str = ""
    mtu: int = 0
    """Inside of its tunnel."""


class MeterInfo(msgspec.Struct, frozen=True):
    """What was measured."""

    name: str
    title: str
    unit: str
    higher_is_better: bool


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reading."""

    round: int
    value: float
    also: dict[str, float] = {}
    steal: float = 0.0
    """The share of all CPUs' time that the hypervisor kept for others meanwhile."""
    seconds: float = 0.0
    detail: dict[str, object] = {}


class Failure(msgspec.Struct, frozen=True):
    """A reading that gave no figure."""

    round: int
    why: str


class Series(msgspec.Struct):
    """All readings of one meter on one peer's path."""

    meter: str
    peer: str
    samples: list[Sample] = []
    failures: list[Failure] = []
    hopeless: bool = False
    """There can be no figure: the meter does not apply to the path."""


class Run(msgspec.Struct, kw_only=True):
    """One alternating run: ratios inside it count, and nothing across runs."""

    format: int = FORMAT
    date: str
    version: str
    commit: str
    """Of vxlanu's clone, with `-dirty` where it differed; empty outside a clone."""
    machine: Machine
    offloads: dict[str, bool]
    """Of the underlay's cables, by ethtool's names."""
    in_use: str = ""
    """Kernel offloads that both of vxlanu's agents used from the first round to the last, by their own names (`vxlanu
    status`)."""
    tools: dict[str, str]
    settings: Settings
    peers: list[PeerInfo]
    meters: list[MeterInfo]
    series: list[Series]
    complete: bool = True

    def of(self, meter: str, peer: str) -> Series | None:
        """The series, if there is one."""
        return next((it for it in self.series if (it.meter, it.peer) == (meter, peer)), None)

    def failed(self) -> Iterator[Series]:
        """Those that lack a figure which there should be."""
        return (it for it in self.series if it.failures and not it.hopeless)


def save(run: Run, path: Path) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    partial.replace(path)


def load(path: Path) -> Run:
    """The inverse of `save`.

    Raises:
        Unreadable: it is none, or of a later format; the text names the file.
    """
    try:
        run = msgspec.json.decode(path.read_bytes(), type=Run)
    except (OSError, msgspec.MsgspecError) as error:
        raise Unreadable(f"{path}: {error}") from error
    if run.format > FORMAT:
        raise Unreadable(f"{path}: format {run.format}, and {FORMAT} is the latest that is known here")
    return run
