"""Which meters there are, and which of them a command takes unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

from benchmarks.meters import Meter
from benchmarks.meters.connect import Connect
from benchmarks.meters.cpu import CpuPerGbit, CpuPerPackets
from benchmarks.meters.memory import Memory
from benchmarks.meters.rtt import PingPong
from benchmarks.meters.tcp import Bulk
from benchmarks.meters.udp import Udp

__all__ = ["METERS", "PLAN", "SETS", "Planned", "Unknown", "chosen", "meters"]

_ALL: tuple[Meter, ...] = (
    *(Bulk(streams, direction) for direction in ("forth", "back", "both") for streams in (1, 4, 16)),
    *(Udp(size) for size in (64, 512, 1400, 0)),
    Udp(1400, segment=True),
    *(PingPong(protocol, load) for load in (0.0, 1.0) for protocol in ("tcp", "udp")),
    Connect(),
    CpuPerGbit(),
    CpuPerPackets(),
    Memory(),
)
METERS: Mapping[str, Meter] = {it.name: it for it in _ALL}

SETS: Mapping[str, tuple[str, ...]] = {
    "short": ("tcp-1", "tcp-4", "udp-64", "rtt-tcp", "cpu-2g"),
    "bulk": ("tcp-1", "tcp-4", "tcp-16"),
    "compare": ("tcp-1", "tcp-4", "udp-64", "udp-1400-segment", "rtt-tcp", "rtt-udp", "connect", "cpu-2g", "memory"),
    "net": tuple(METERS),
}
"""`short` is `make bench`, `compare` what bars and plots need, `net` everything."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a report."""

    underlay: str
    meters: tuple[str, ...]
    peers: tuple[str, ...] = ("vxlanu", "veth", "kernel")
    """Empty: all."""
    flags: tuple[str, ...] = ()
    """Of the agents."""


PLAN = (
    Planned("offload", ("tcp-1", "tcp-4", "rtt-tcp", "cpu-2g", "memory"), peers=()),
    Planned("offload", ("tcp-4-both", "udp-64", "udp-1400-segment", "udp-imix", "rtt-udp", "connect")),
    Planned("plain", ("tcp-1", "tcp-4", "udp-64", "udp-1400-segment")),
    Planned("nic", ("tcp-1", "tcp-4")),
    Planned("offload", ("tcp-1", "tcp-4"), flags=("--offload", "inject")),
)


class Unknown(ValueError):
    """A name that there is not; the text has those that there are."""


def chosen(what: str, names: str, known: Iterable[str], usual: Iterable[str] = ()) -> list[str]:
    """Names of a comma-separated option in the order of `known`; `all` is all of them, and nothing `usual`.

    Raises:
        Unknown: one of them is none.
    """
    there = list(known)
    if not names:
        return list(usual)
    wanted = set(there) if names == "all" else {name.strip() for name in names.split(",")} - {""}
    if strangers := sorted(wanted - set(there)):
        raise Unknown(f"no {what} {', '.join(strangers)}; there are: {', '.join(there)}")
    return [name for name in there if name in wanted]


def meters(names: Iterable[str], seconds: int = 0) -> list[Meter]:
    """Those of that name; with `seconds`, each that has a duration lasts so long."""
    found = [METERS[name] for name in names]
    return [_lasting(it, seconds) for it in found] if seconds else found


def _lasting(meter: Meter, seconds: int) -> Meter:
    if is_dataclass(meter) and "seconds" in {field.name for field in fields(meter)}:
        lasting: Meter = replace(meter, seconds=seconds)
        return lasting
    return meter
