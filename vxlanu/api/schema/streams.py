"""What flows: events, and captures.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct


class Event(Struct, omit_defaults=True):
    """One line of /v1/events: what does not apply is left out. `event` is a name of vxlanu.api.events."""

    event: str
    unix_s: float = 0.0
    network: str = ""
    endpoint: str = ""
    node: str = ""
    state: str = ""
    was: str = ""
    addresses: list[str] = []
    mac: str = ""
    vtep: str = ""
    vni: int = 0
    mtu: int = 0
    mtu_was: int = 0
    reason: str = ""
    frames: int = 0
    seconds: float = 0.0
    error: str = ""
    lost: int = 0


class CaptureWanted(Struct, forbid_unknown_fields=True):
    """`capture`. `references`: endpoints, networks, VTEPs (none: everything). `view`: inner, outer, both; empty: only
    drops if `drops`, else inner, or outer where only VTEPs are named. `count`, `duration_s`, `snaplen`: 0 is no limit.
    """

    references: list[str] = []
    view: str = ""
    direction: str = ""
    drops: bool = False
    reasons: list[str] = []
    count: int = 0
    duration_s: float = 0.0
    snaplen: int = 0


class CaptureStopped(Struct):
    """Frames that are in the stream, or about to be, and frames that did not fit the ring."""

    frames: int
    lost: int
