"""Networks: what is asked for, a row of the list, and the whole of one.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct

from .endpoints import Endpoint


class Network(Struct):
    """One row of `network ls`. `state` is active, removing or conflict.

    `scope` is global, or local: the bridge by which this host's containers reach the outside, which has VNI 0.
    """

    id: str
    name: str
    vni: int
    subnets: list[str]
    mtu: int
    endpoints: int
    scope: str = "global"
    state: str = "active"
    labels: dict[str, str] = {}


class NetworkCreate(Struct, forbid_unknown_fields=True):
    """`network create`; what is left out is chosen by the agent (DESIGN.md 4)."""

    name: str
    subnets: list[str] = []
    gateways: list[str] = []
    ip_range: str = ""
    aux: dict[str, str] = {}
    vni: int | None = None
    mtu: int | None = None
    ipv6: bool = False
    internal: bool = False
    ipam: str = "strict"
    vlan: str = "drop"
    labels: dict[str, str] = {}


class NetworkDetail(Network):
    """`network inspect`: the record, and which hosts and endpoints it has.

    `options` and `ports` (as published, with who answers) are of the bridge, whose members are targets.
    """

    gateways: list[str] = []
    ip_range: str = ""
    aux: dict[str, str] = {}
    ipv6: bool = False
    internal: bool = True
    ipam: str = "strict"
    vlan: str = "drop"
    created_by: str = ""
    hosts: list[str] = []
    members: list[Endpoint] = []
    conflict_with: str = ""
    options: dict[str, str] = {}
    ports: list[str] = []
