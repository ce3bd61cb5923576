"""Forwarding as programmed: VTEPs, links, FDB and neighbours, and the questions put to them.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct


class Vtep(Struct):
    """One row of `vtep ls`. `kind` is gossip or static; a static one names the networks it serves."""

    address: str
    port: int
    kind: str
    node: str
    state: str
    networks: list[str]
    macs: list[str] = []
    path_mtu: int = 0


class VtepAdd(Struct, forbid_unknown_fields=True):
    """`vtep add NETWORK IP[:PORT]`: a VTEP that does not gossip (kernel vxlan, OVS, a switch)."""

    network: str
    address: str
    port: int = 4789
    macs: list[str] = []


class VtepAdded(Vtep):
    """The new row, and the commands that the other side needs (iproute2)."""

    commands: list[str] = []


class LinkPort(Struct):
    """The TAP of a local endpoint, as the kernel has it in the container. `state`: up, down, no carrier, or gone.

    `ring_full_frames`: what the kernel lost because nobody read the TAP in time; `port_index`: of this host's switch.
    """

    endpoint: str
    target: str
    state: str
    mac: str
    ifname: str = ""
    ifindex: int = 0
    port_index: int | None = None
    mtu: int = 0
    queue_length: int = 0
    queues: int = 0
    gso_max_bytes: int = 0
    ring_full_frames: int = 0


class Link(Struct):
    """A network as ip-link(8) shows a vxlan device. `state`: up, down (no endpoint of this host), or conflict.

    `ttl` auto is the host's default; `tos` ecn: the inner ECN field, DSCP 0; `learning`: from foreign VTEPs only.
    """

    network: str
    network_id: str
    state: str
    vni: int
    local: str
    dev: str
    data_port: int
    source_port_min: int
    source_port_max: int
    mtu: int
    workers: int
    vteps: int
    ageing_s: int
    gso_max_bytes: int
    vlan: str = "drop"
    learning: bool = False
    proxy: bool = True
    udp_checksum: bool = True
    ttl: str = "auto"
    tos: str = "ecn"
    offloads: list[str] = []
    ports: list[LinkPort] = []


class FdbEntry(Struct):
    """MAC to port or VTEP. `origin` is record, learned (from a foreign VTEP) or pending (gossip is late)."""

    network: str
    mac: str
    endpoint: str
    node: str
    vtep: str
    local: bool
    origin: str = "record"
    age_s: float | None = None


class Neighbor(Struct):
    """Address to MAC, as the ARP and ND proxy answers it."""

    network: str
    address: str
    mac: str
    endpoint: str
    node: str
    state: str = "permanent"


class Difference(Struct):
    """One table key whose programmed value is not what the records say."""

    network: str
    table: str
    key: str
    programmed: str
    expected: str


class Verify(Struct):
    """`verify`: empty `differences` is the only good answer."""

    checked: int
    differences: list[Difference]


class WhyStep(Struct):
    """One table asked: neighbor, fdb, vtep, route; network when it is not here at all; switch: the fast path's own
    word. `why` says what is missing."""

    step: str
    ok: bool
    what: str
    source: str = ""
    age_s: float | None = None
    why: str = ""


class Why(Struct):
    """`why`: whom frames to `target` reach. The first step that is not ok is the last; `local`: on this host."""

    target: str
    network: str
    vni: int
    endpoint: str
    node: str
    address: str
    mac: str
    local: bool
    vtep: str
    steps: list[WhyStep]
