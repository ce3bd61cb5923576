"""The agent as a whole: `status`, and what `vxlanu` alone prints.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct

from .names import NameCounters
from .networks import Network
from .tables import Vtep
from .traffic import Counters, Drop


class Offload(Struct):
    """One offload of `--offload`; `why` it is not in use."""

    name: str
    in_use: bool
    why: str = ""


class Status(Struct):
    """`vxlanu status`. `ip_forward_since_unix`: when this agent switched the host's forwarding on; None: it did not."""

    name: str
    id: str
    epoch: int
    version: str
    state: str
    uptime_s: float
    advertise: str
    control_port: int
    data_port: int
    keyed: bool
    workers: int
    offload: str
    members: dict[str, int]
    networks: int
    endpoints: int
    local_endpoints: int
    state_dir: str
    socket: str
    pid: int
    warnings: list[str] = []
    malformed_control: int = 0
    wrong_key: int = 0
    offloads: list[Offload] = []
    names: NameCounters | None = None
    ip_forward_since_unix: float | None = None


class Overlay(Struct):
    """One network as `vxlanu` alone shows it. `hosts` have endpoints in it; `local` are this host's, by name.

    `counters` and `drops` are of this host, and only where it has endpoints in the network.
    """

    network: Network
    hosts: int
    local: list[str] = []
    counters: Counters | None = None
    drops: list[Drop] = []


class Tunnel(Struct):
    """One VTEP that this host exchanges frames with. `counters` are as the VTEP sees them, all networks together."""

    vtep: Vtep
    counters: Counters
    last_traffic_s: float | None = None


class Overview(Status):
    """What `vxlanu` alone prints."""

    overlays: list[Overlay] = []
    tunnels: list[Tunnel] = []
