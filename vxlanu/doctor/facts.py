"""What was found out about a host, as values. None, or a reason beside an empty value, says that it could not be.

Rules of this file
  1. Facts, no judgements: numbers and names as the kernel has them. Findings (host.py, network.py) say what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vxlanu.api.schema import Netcheck, Network, Status
from vxlanu.doctor.firewall import Chain

__all__ = [
    "Clock", "Conntrack", "Facts", "File", "Firewall", "Holder", "Host", "PluginSocket", "Settings", "Tun",
    "Workers",
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What the agent here runs with, or would run with."""

    data_port: int = 4789
    control_port: int = 7946
    state_dir: str = "/var/lib/vxlanu"
    key_file: str = ""
    address: str = ""
    ifname: str = ""
    link_mtu: int | None = None


@dataclass(frozen=True)
class File:
    """A file or directory: None where it is not there; `error` where it cannot be looked at."""

    path: str
    mode: int | None = None
    owner: int | None = None
    writable: bool = False
    error: str = ""


@dataclass(frozen=True)
class Tun:
    """/dev/net/tun. `error`: why it cannot be opened; `lacking`: which offloads TAPs here do not have, and why."""

    file: File
    error: str = ""
    lacking: dict[str, str] | None = None


@dataclass(frozen=True)
class Holder:
    """Who has a port. kind: process, vxlan (a kernel device), kernel (a socket without a process); `namespace`: where
    the device is, if not here."""

    protocol: str
    port: int
    kind: str
    name: str = ""
    pid: int = 0
    namespace: str = ""
    address: str = ""


@dataclass(frozen=True)
class Firewall:
    """`chains` of every tool. `unread`: what could not be asked. `front_end`: firewalld, ufw or none."""

    chains: tuple[Chain, ...] = ()
    unread: str = ""
    front_end: str = ""


@dataclass(frozen=True)
class Conntrack:
    """Flows to the data port that conntrack holds, and how full its table is."""

    data_port_flows: int
    count: int
    maximum: int


@dataclass(frozen=True)
class PluginSocket:
    """Where dockerd looks for us, and who answers there: agent, stand-in (in place of one that has gone), nobody, or
    somebody else."""

    path: str
    by: str
    pid: int = 0


@dataclass(frozen=True)
class Clock:
    """Whether the kernel's clock is disciplined, and how wrong it may be."""

    synchronised: bool
    error_us: int


@dataclass(frozen=True)
class Workers:
    """What the agent's workers, taken together, had of the CPUs while `seconds` passed, and how long they waited."""

    seconds: float
    ran_s: float
    waited_s: float


@dataclass(frozen=True)
class Host:
    """The kernel's switches. `capabilities`: of the agent, else ours."""

    kernel: tuple[int, int, int] = (0, 0, 0)
    release: str = ""
    uid: int = 0
    capabilities: frozenset[str] = frozenset()
    whose: str = "this command"
    rmem_max: int | None = None
    max_user_namespaces: int | None = None
    unprivileged_userns_clone: int | None = None
    apparmor_restricts_userns: int | None = None
    neighbors: int | None = None
    neighbors_max: int | None = None
    ip_forward: int | None = None


@dataclass(frozen=True)
class Facts:
    """Everything."""

    settings: Settings = field(default_factory=Settings)
    host: Host = field(default_factory=Host)
    tun: Tun = field(default_factory=lambda: Tun(File("/dev/net/tun")))
    holders: tuple[Holder, ...] = ()
    firewall: Firewall = field(default_factory=Firewall)
    conntrack: Conntrack | None = None
    workers: Workers | None = None
    clock: Clock | None = None
    plugin: PluginSocket | None = None
    config_error: str = ""
    key: File | None = None
    state_dir: File = field(default_factory=lambda: File("/var/lib/vxlanu"))
    status: Status | None = None
    agent_error: str = ""
    networks: tuple[Network, ...] = ()
    netcheck: Netcheck | None = None
    netcheck_error: str = ""
