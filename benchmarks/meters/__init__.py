"""The meters: each measures one thing of a path, with the same client whatever the peer.

A meter raises `MeterFailed` when it has no figure; it never returns one that it does not believe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.scene import Path

__all__ = ["SPARE_S", "Inapplicable", "Meter", "MeterFailed", "Reading"]

SPARE_S = 30.0
"""What a tool may take beyond the time that it was asked to measure for."""


class MeterFailed(Exception):
    """No figure: what was run, and what it said."""


class Inapplicable(MeterFailed):
    """There cannot be a figure for this path: it is not tried again."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure of one path."""

    value: float
    octets: int = 0
    """Payload bytes that the path must have carried for it, for its witnesses to confirm; 0: not to be checked."""
    detail: dict[str, object] = field(default_factory=dict)
    """What else the tool said and a reader or a plot may want: percentiles, loss, raw samples."""
    also: dict[str, float] = field(default_factory=dict)
    """Further figures of the same measurement, in the meter's unit and of its sense, each a row of its own in tables:
    `{"p99": 81.0}` of the meter `rtt-tcp` is the row `rtt-tcp-p99`, titled like the meter with `, p99` behind it."""


class Meter(Protocol):
    """One quantity. Frozen and hashable, so that settings are part of its identity."""

    @property
    def name(self) -> str:
        """Short and stable, for files and options: `tcp-4`, `udp-64`."""

    @property
    def title(self) -> str:
        """For tables: `TCP, 4 streams`."""

    @property
    def unit(self) -> str:
        """`Gbit/s`, `µs`, ..."""

    @property
    def higher_is_better(self) -> bool:
        """What a ratio above one means."""

    def read(self, path: Path) -> Reading:
        """Measure once. Raises MeterFailed."""
