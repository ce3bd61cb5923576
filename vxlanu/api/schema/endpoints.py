"""Endpoints, and the namespaces that could hold one.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct

from .traffic import Counters, Drop


class Endpoint(Struct):
    """One row of `endpoint ls`. `state` is up, down (its host is dead: `down_s` says since when), conflict, or waiting:
    the container does not run, and is attached again when it does; this only its own host shows.
    """

    id: str
    name: str
    network: str
    network_id: str
    addresses: list[str]
    mac: str
    node: str
    vtep: str
    target: str
    state: str = "up"
    down_s: float | None = None
    local: bool = False
    aliases: list[str] = []


class Attach(Struct, forbid_unknown_fields=True):
    """`attach NETWORK TARGET`: TARGET is an ip-netns name, a /path, pid:N, docker:NAME or podman:NAME."""

    network: str
    target: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    name: str = ""
    aliases: list[str] = []
    ifname: str = ""
    allow_spoof: bool = False
    allow_addresses: list[str] = []
    take_over: bool = False
    publish: list[str] = []


class EndpointDetail(Endpoint):
    """`endpoint inspect`; the part after `mtu` is known only on the endpoint's own host.

    `ifindex` is the interface's in the container, `port_index` that of its other end, the port of this host's switch.
    """

    mtu: int = 1450
    ifname: str = ""
    ifindex: int = 0
    netns_path: str = ""
    netns_inode: int = 0
    allow_spoof: bool = False
    allow_addresses: list[str] = []
    counters: Counters | None = None
    drops: list[Drop] = []
    port_index: int | None = None
    interface_state: str = ""
    interface_mtu: int = 0
    interface_addresses: list[str] = []
    routes: list[EndpointRoute] = []
    egress: WayOut | None = None


class WayOut(Struct):
    """The interface by which an endpoint's container reaches the outside, shared by all its endpoints."""

    ifname: str
    address: str
    mac: str
    gateway: str
    published: list[str] = []


class EndpointRoute(Struct):
    """A route in the container that leaves by the endpoint's interface."""

    destination: str
    gateway: str = ""
    source: str = ""
    metric: int = 0


class Namespace(Struct):
    """One row of `netns ls`. `kind` is name (ip netns) or pid; `pid` and `command` are of its first process."""

    target: str
    kind: str
    path: str
    inode: int
    pid: int = 0
    command: str = ""
    processes: int = 0
    endpoints: list[str] = []
