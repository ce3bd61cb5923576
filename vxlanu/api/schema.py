"""The shapes that cross the API: what a client sends and what the agent answers.

Rules of this file
  1. Every body of /v1 is a struct here, and nothing else is. Golden files in the tests pin them; fields are only added.
  2. snake_case, units in names, ids as lower-case hex, addresses as text. A list answers {"items": [...]}.
  3. No behaviour and no import beyond msgspec, so that a command-line call stays quick.

Routes (each answers 200 with the struct named, or an ErrorReply with the status of its class)
  GET    /v1/status                                  Status
  GET    /v1/overview                                Overview
  GET    /v1/networks                                Items[Network]
  POST   /v1/networks            NetworkCreate       Network
  POST   /v1/networks/prune                          Items[Network]     all without endpoints; answers those removed
  GET    /v1/networks/{ref}                          NetworkDetail      ref: name, NAME~ID4, or id prefix
  DELETE /v1/networks/{ref}                          Network
  GET    /v1/endpoints[?network=REF]                 Items[Endpoint]
  POST   /v1/endpoints           Attach              EndpointDetail
  GET    /v1/endpoints/{ref}                         EndpointDetail     ref: NAME, NAME.NETWORK, id prefix, IP or MAC
  DELETE /v1/endpoints?network=REF&target=TARGET     Endpoint
  GET    /v1/namespaces                              Items[Namespace]
  GET    /v1/members                                 Items[Member]
  POST   /v1/members/join        Join                Joined
  POST   /v1/members/leave                           Left
  DELETE /v1/members/{ref}                           Member             forget: ref is a name or an id prefix
  GET    /v1/vteps                                   Items[Vtep]
  POST   /v1/vteps               VtepAdd             VtepAdded
  DELETE /v1/vteps?network=REF&address=IP[:PORT]     Vtep
  GET    /v1/links[?ref=REF]                         Items[Link]        ref: a network, or an endpoint
  GET    /v1/fdb[?network=REF]                       Items[FdbEntry]
  GET    /v1/neighbors[?network=REF]                 Items[Neighbor]
  GET    /v1/drops                                   Items[Drop]
  GET    /v1/stats                                   Items[Counters]
  GET    /v1/netcheck[?member=REF]                   Netcheck           takes seconds: it waits for the members
  GET    /v1/verify                                  Verify
  GET    /v1/why?target=REF[&from=REF]               Why                target: NAME, NAME.NETWORK, IP or MAC
  GET    /v1/events[?event=NAME,…][&network=REF][&endpoint=NAME]   a stream of Event, one a line (api/events.py)
  POST   /v1/captures            CaptureWanted       a stream of pcapng; the header Capture-Id names it
  DELETE /v1/captures/{id}                           CaptureStopped     what it has is still streamed, then it ends
"""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct, field

T = TypeVar("T")


class Items(Struct, Generic[T]):
    """The body of every list."""

    items: list[T]


class ErrorBody(Struct):
    """One failure: stable name, exit code of its class, and the three parts of the line a user reads."""

    name: str
    exit: int
    what: str
    why: str
    try_: str = field(name="try", default="")
    detail: dict[str, str] = {}


class ErrorReply(Struct):
    """The body of every answer that is not 2xx."""

    error: ErrorBody


class Network(Struct):
    """One row of `network ls`. `state` is active, removing or conflict."""

    id: str
    name: str
    vni: int
    subnets: list[str]
    mtu: int
    endpoints: int
    scope: str = "global"
    state: str = "active"


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
    """`network inspect`: the record, and which hosts and endpoints it has."""

    gateways: list[str] = []
    ip_range: str = ""
    aux: dict[str, str] = {}
    ipv6: bool = False
    internal: bool = True
    ipam: str = "strict"
    vlan: str = "drop"
    labels: dict[str, str] = {}
    created_by: str = ""
    hosts: list[str] = []
    members: list[Endpoint] = []
    conflict_with: str = ""


class Endpoint(Struct):
    """One row of `endpoint ls`. `state` is up, down (its host is dead), or conflict; `down_s` says since when."""

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


class Counters(Struct):
    """Traffic of one thing: `scope` is host, network, endpoint or vtep; frames and bytes as the thing sees them."""

    scope: str
    name: str
    network: str = ""
    id: str = ""
    sent_frames: int = 0
    sent_bytes: int = 0
    received_frames: int = 0
    received_bytes: int = 0
    encapsulated_frames: int = 0
    decapsulated_frames: int = 0
    flooded_frames: int = 0
    arp_answered: int = 0
    nd_answered: int = 0
    arp_nd_underlay: int = 0
    dropped_frames: int = 0


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


class Drop(Struct):
    """Frames that were not delivered, under one reason; `text` is its sentence."""

    reason: str
    frames: int
    scope: str
    name: str
    network: str = ""
    text: str = ""


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


class Offload(Struct):
    """One offload of `--offload`; `why` it is not in use."""

    name: str
    in_use: bool
    why: str = ""


class Status(Struct):
    """`vxlanu status`."""

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
