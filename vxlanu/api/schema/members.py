"""Members of the cluster, and the ways to them.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct


class Member(Struct):
    """One row of `member ls`. `state` is alive, suspect, dead or left; `since_s` its age."""

    id: str
    name: str
    address: str
    control_port: int
    data_port: int
    state: str
    since_s: float
    epoch: int
    incarnation: int
    version: str
    endpoints: int
    self: bool = False
    rtt_ms: float | None = None


class Join(Struct, forbid_unknown_fields=True):
    """`member join HOST[:PORT]…`."""

    addresses: list[str]


class Joined(Struct):
    """Which of the addresses answered; the others are retried for ever."""

    reached: list[str]
    retrying: list[str]


class Left(Struct):
    """`member leave`: how many members heard the good-bye."""

    name: str
    told: int


class Reach(Struct):
    """The ways between this host and one member. A way is open, silent (sent, and did not arrive), refused, unknown
    (nothing was observed: the member could not be asked or could not answer), or what the kernel says against it.

    `data_out_bytes`, `data_in_bytes`: the longest probe, as an outer IP packet, that arrived (0: none or unknown).
    """

    id: str
    name: str
    state: str
    address: str
    control_port: int
    data_address: str
    data_port: int
    version: str
    answered: bool
    control_udp_out: str
    control_udp_in: str
    control_tcp_out: str
    control_tcp_in: str
    data_out: str
    data_in: str
    data_out_bytes: int = 0
    data_in_bytes: int = 0
    route_mtu: int = 0


class Netcheck(Struct):
    """`netcheck`: `needed_bytes` is the longest outer packet that a network of this host makes, `needed_by` which."""

    node: str
    address: str
    ifname: str
    control_port: int
    data_port: int
    needed_bytes: int
    link_mtu: int
    took_s: float
    needed_by: str = ""
    members: list[Reach] = []
