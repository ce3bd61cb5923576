"""What crosses the sockets between agent, helper and child.

Rules of this file
  1. Values only: nothing here opens, enters or sends.
  2. A request is one SOCK_SEQPACKET message, msgpack, at most REQUEST_BYTES, with the answer socket and then the target
     namespace (if any) as its descriptors. An answer is a stream that ends with the child: msgpack, at most
     ANSWER_BYTES, any descriptors beside its first byte. An answer cut short is a crash of the child.
  3. Errors are typed by blame; raising one means that the child has left nothing behind.

Both ends are forks of one program, so the shapes have no version.
"""

from __future__ import annotations

import os
from typing import ClassVar, Generic, TypeVar

import msgspec

from vxlanu.errors import BadRequest, Conflict, NotFound, Refused, TryAgain, VxlanuError

R = TypeVar("R")

REQUEST_BYTES = 64 * 1024  # an endpoint with a few hundred addresses; the kernel takes one message whole
ANSWER_BYTES = 32 * 1024 * 1024  # a host with a full Internet routing table, some 1.2 million routes, fits
DESCRIPTORS_MAX = 64  # queues of one TAP, sockets of one gateway; SCM_MAX_FD is 253
TUN_F_CSUM = 0x01  # we take frames whose checksum is still to be filled in
TUN_F_TSO = 0x02 | 0x04 | 0x08  # TCP super-frames over IPv4 and IPv6, and those whose first segment has CWR
TUN_F_USO = 0x20 | 0x40  # UDP super-frames over IPv4 and IPv6; the kernel takes the two together only
TAP_QUEUE_FRAMES = 1000  # txqueuelen: what the kernel keeps while the agent restarts, super-frames of 64 KB at worst
TAP_QUEUE_SEGMENTS = 4000  # where TCP comes in segments: at 1000 slow start lost 2 % of them, at 2000 and more none


def temporary_name(tag: str) -> str:
    """The name under which a TAP is born, in a namespace where nobody looks."""
    return f"t-{tag}"


def egress_name(tag: str) -> str:
    """Both ends of a target's egress: the name of the host's, the altname of the one inside."""
    return f"e-{tag}"


def alternative_name(tag: str) -> str:
    """The name by which a TAP is found again, whatever the container calls it (14 of IFNAMSIZ-1 = 15 characters)."""
    return f"v-{tag}"


def moved_name(tag: str) -> str:
    """The name of a TAP that waits for a runtime to move it (nobody of another origin is called so)."""
    return f"vx{tag}"


# ---------------------------------------------------------------- requests


class Question(msgspec.Struct, Generic[R], frozen=True):
    """A request that is answered by an R."""


class TapQueues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the descriptors of a TAP are opened; the same for all TAPs of an agent.

    count        that are read: one per worker; without `multi_queue` one
    write_queue  one more, detached, by which all workers write (native/net.h: vx_port_writer); needs `multi_queue`
    multi_queue  IFF_MULTI_QUEUE, set even for one queue, since the device keeps it all its life
    steering     both directions of a flow on the queue of one worker, where the kernel lets us; with `count` > 1
    vnet_hdr     IFF_VNET_HDR: frames have a virtio header
    offloads     TUN_F_ bits that the fast path can take; needs `vnet_hdr`
    """

    count: int = 1
    write_queue: bool = False
    multi_queue: bool = True
    steering: bool = False
    vnet_hdr: bool = True
    offloads: int = TUN_F_CSUM

    @property
    def frames(self) -> int:
        """txqueuelen: frames that the kernel keeps until they are read."""
        return TAP_QUEUE_FRAMES if self.vnet_hdr and self.offloads & TUN_F_TSO else TAP_QUEUE_SEGMENTS


class TapPlan(Question["OpenTap"], frozen=True, forbid_unknown_fields=True, tag="create_tap"):
    """Make a TAP in the target namespace.

    tag        the endpoint's id, 12 hex digits: makes the names
    ifname     name inside the target; empty: the lowest free ethN
    addresses  with prefix length, "192.168.0.100/24"
    onlink     prefixes reached directly through the interface besides those of the addresses
    bare       named `moved_name`, down and without addresses: a runtime moves it, and gives it the rest
    """

    tag: str
    mac: str
    mtu: int
    addresses: tuple[str, ...] = ()
    ifname: str = ""
    onlink: tuple[str, ...] = ()
    queues: TapQueues = TapQueues()
    bare: bool = False


class AdoptTap(Question["OpenTap"], frozen=True, forbid_unknown_fields=True, tag="adopt_tap"):
    """Open a TAP again that an earlier agent left in the target namespace.

    Whether it has several queues was settled when it was made: one that has not gets a single descriptor.
    """

    tag: str
    queues: TapQueues = TapQueues()


class DeleteTap(Question["bool"], frozen=True, forbid_unknown_fields=True, tag="delete_tap"):
    """Delete a TAP in the target namespace, whoever has it open."""

    tag: str


class EgressGround(Question["GroundFacts"], frozen=True, forbid_unknown_fields=True, tag="egress_ground"):
    """Make the host's side of egress what it should be, in the agent's own namespace: bridge, ports, forwarding.

    mac       by which the bridge is known as ours
    gateway   the bridge's address with prefix length, "172.18.0.1/16"
    tags      of the targets whose ports belong there; none: bridge and ports go
    loopback  whether the host may reach containers from 127.0.0.0/8
    underlay  an interface that leads out of the host, whatever shows of it
    """

    bridge: str
    mac: str
    gateway: str
    tags: tuple[str, ...] = ()
    loopback: bool = False
    underlay: str = ""


class EgressWire(Question["WireFacts"], frozen=True, forbid_unknown_fields=True, tag="egress_wire"):
    """Join the target to the bridge: a veth, addressed, with the default route through it.

    A target that has an IPv4 default route already keeps it, and gets nothing; a veth that is there gets what it lacks.
    """

    tag: str
    bridge: str
    mac: str
    address: str
    gateway: str


class EgressCut(Question["bool"], frozen=True, forbid_unknown_fields=True, tag="egress_cut"):
    """Take the veth of a target away, by its end in the agent's own namespace."""

    tag: str


class WayOut(msgspec.Struct, frozen=True):
    """A target's way out, as it was made; and where its namespace is: `path`, if that is still `device` and `inode`."""

    tag: str
    ifname: str
    address: str
    path: str
    device: int
    inode: int


class EgressLook(Question["list[str]"], frozen=True, forbid_unknown_fields=True, tag="egress_look"):
    """Which of the ways out, by tag, are inside of their targets not what they should be. One child for all of them:
    it opens the namespaces by itself, one after the other, where the privilege to go from one to the next is there."""

    ways: tuple[WayOut, ...]


class ProbeTap(Question["TapFeatures"], frozen=True, forbid_unknown_fields=True, tag="probe_tap"):
    """What this kernel's TAPs can do, tried on one that nobody gets."""


class ListLinks(Question["list[Link]"], frozen=True, forbid_unknown_fields=True, tag="links"):
    """All interfaces of the target, or of the agent's own namespace."""


class ListAddresses(Question["list[InterfaceAddress]"], frozen=True, forbid_unknown_fields=True, tag="addresses"):
    """All addresses of the target, or of the agent's own namespace."""


class ListRoutes(Question["list[Route]"], frozen=True, forbid_unknown_fields=True, tag="routes"):
    """The unicast routes of every table."""


class AskRoute(Question["RouteTo | None"], frozen=True, forbid_unknown_fields=True, tag="route_to"):
    """The way to one address."""

    address: str


class AskPaths(Question["dict[str, int]"], frozen=True, forbid_unknown_fields=True, tag="path_mtus"):
    """The largest packet that leaves towards each address."""

    addresses: tuple[str, ...]


class UplinkFacts(msgspec.Struct, frozen=True, tag="uplink"):
    """A TAP as OpenUplink made it, and the interface by which its frames leave; its descriptor travels beside."""

    ifname: str
    index: int
    uplink_ifname: str
    uplink: int


class OpenUplink(Question["OpenedUplink"], frozen=True, forbid_unknown_fields=True, tag="open_uplink"):
    """Make a TAP whose frames leave by the interface `ifname`."""

    ifname: str


class AskHops(Question["NextHops"], frozen=True, forbid_unknown_fields=True, tag="next_hops"):
    """By which neighbour of the uplink each address is reached from `source`, as long as the TAP leads to it."""

    addresses: tuple[str, ...]
    opened: UplinkFacts
    source: str


class NewNamespace(Question["int"], frozen=True, forbid_unknown_fields=True, tag="new_namespace"):
    """Make a namespace that forwards, which lives as long as the descriptor that is answered."""


class OpenSockets(Question["OpenedSockets"], frozen=True, forbid_unknown_fields=True, tag="sockets"):
    """Bind a UDP and a listening TCP socket to `port` of each address of the target."""

    addresses: tuple[str, ...]
    port: int


Request = (
    TapPlan
    | AdoptTap
    | DeleteTap
    | EgressGround
    | EgressWire
    | EgressCut
    | EgressLook
    | ProbeTap
    | ListLinks
    | ListAddresses
    | ListRoutes
    | AskRoute
    | AskPaths
    | OpenUplink
    | AskHops
    | NewNamespace
    | OpenSockets
)


# ---------------------------------------------------------------- answers


class TapFacts(msgspec.Struct, frozen=True, tag="tap"):
    """A TAP as the kernel shows it in the target namespace; its descriptors travel beside."""

    ifname: str
    ifindex: int
    mac: str
    mtu: int
    namespace_inode: int
    created: bool
    write_queue: bool


class OpenTap(msgspec.Struct, frozen=True):
    """A TAP and its queue descriptors, which belong to whoever holds this value: non-blocking, close-on-exec.

    `write_queue`: the last one is a detached queue, only to be written to.
    """

    ifname: str
    ifindex: int
    mac: str
    mtu: int
    namespace_inode: int
    fds: tuple[int, ...]
    write_queue: bool = False


class OpenedUplink(msgspec.Struct, frozen=True):
    """The uplink TAP; the descriptor belongs to whoever holds this value, and with it the TAP ends."""

    facts: UplinkFacts
    fd: int


class NextHop(msgspec.Struct, frozen=True):
    """Who gets frames for an address. `mac` is empty while nobody knows it; `source` is the uplink's own."""

    via: str
    mac: str
    source: str


class NextHops(msgspec.Struct, frozen=True, tag="next_hops"):
    """Of the addresses that are reached by the uplink; or `unable`: why it takes no tunnelled super-frames now.

    `broken`: since the TAP does not lead there any more; another one would. `carrier`: routes are passed over while
    their link has no carrier, and no message tells of a route that counts again.
    """

    items: dict[str, NextHop]
    unable: str = ""
    broken: bool = False
    carrier: bool = False


class NamespaceMade(msgspec.Struct, frozen=True, tag="namespace"):
    """Its descriptor travels beside."""


class SocketsMade(msgspec.Struct, frozen=True, tag="sockets"):
    """Their descriptors travel beside: as many UDP sockets, then as many TCP sockets."""

    count: int


class OpenedSockets(msgspec.Struct, frozen=True):
    """Sockets in the order of the addresses asked for, which belong to whoever holds this value: non-blocking,
    close-on-exec. They hold their namespace as long as they are open."""

    udp: tuple[int, ...]
    tcp: tuple[int, ...]

    def close(self) -> None:
        for fd in self.udp + self.tcp:
            os.close(fd)


class GroundFacts(msgspec.Struct, frozen=True, tag="egress_ground"):
    """What was found and done.

    mended   what was not as it should be, in words
    missing  tags that have no port, or nothing that is up behind it: for a child to wire
    outward  names of the interfaces that lead out of the host, not to other containers or guests on it
    forwarding  the host did not forward, and does now
    """

    mended: tuple[str, ...]
    missing: tuple[str, ...]
    outward: tuple[str, ...] = ()
    forwarding: bool = False


class WireFacts(msgspec.Struct, frozen=True, tag="egress_wire"):
    """The interface in the target; an empty name: the target has a way out of its own. `mended`: what it lacked."""

    ifname: str
    ifindex: int
    mended: tuple[str, ...] = ()


class Lacking(msgspec.Struct, frozen=True, tag="lacking"):
    items: list[str]


class TapFeatures(msgspec.Struct, frozen=True, tag="tap_features"):
    """`lacking`: which of vnet-hdr, tso, uso, mq and steering cannot be had from this kernel, and how that showed."""

    lacking: dict[str, str]


class Link(msgspec.Struct, frozen=True):
    """One interface. `kind` is empty for a physical one; `udp_port` is that of a vxlan device, else 0."""

    index: int
    name: str
    altnames: tuple[str, ...]
    kind: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    udp_port: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0
    queue_length: int = 0
    queues: int = 0
    gso_max_bytes: int = 0


class InterfaceAddress(msgspec.Struct, frozen=True):
    """One address; `scope` as ip(8) prints it: global, link, host, site."""

    ifname: str
    ifindex: int
    address: str
    prefix: int
    scope: str


class Route(msgspec.Struct, frozen=True):
    """One unicast route; `destination` is a prefix, `0.0.0.0/0` and `::/0` being the default ones."""

    destination: str
    gateway: str
    ifindex: int
    source: str
    metric: int
    table: int


class RouteTo(msgspec.Struct, frozen=True):
    """The kernel's answer to "how do I reach it": the source address it would take, and the way out."""

    source: str
    gateway: str
    ifindex: int
    ifname: str
    mtu: int


class Deleted(msgspec.Struct, frozen=True, tag="deleted"):
    """Whether there was something to delete."""

    existed: bool


class Links(msgspec.Struct, frozen=True, tag="links"):
    items: list[Link]


class Addresses(msgspec.Struct, frozen=True, tag="addresses"):
    items: list[InterfaceAddress]


class Routes(msgspec.Struct, frozen=True, tag="routes"):
    items: list[Route]


class RouteAnswer(msgspec.Struct, frozen=True, tag="route"):
    route: RouteTo | None


class PathsAnswer(msgspec.Struct, frozen=True, tag="paths"):
    items: dict[str, int]


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """An error of this file by its stable name, to be raised at the caller's."""

    name: str
    what: str
    why: str
    hint: str = ""

    def error(self) -> VxlanuError:
        kind = next((kind for kind in ERRORS if kind.default_name == self.name), KernelRefused)
        return kind(self.what, self.why, hint=self.hint)


Answer = (
    TapFacts
    | UplinkFacts
    | NextHops
    | NamespaceMade
    | SocketsMade
    | TapFeatures
    | GroundFacts
    | WireFacts
    | Lacking
    | Deleted
    | Links
    | Addresses
    | Routes
    | RouteAnswer
    | PathsAnswer
    | Failure
)


# ---------------------------------------------------------------- errors


class NamespaceMissing(NotFound):
    """The target is not there, or is not the namespace it was."""

    default_name: ClassVar[str] = "namespace_missing"


class TapMissing(NotFound):
    """No TAP of that id in the target."""

    default_name: ClassVar[str] = "tap_missing"


class InterfaceTaken(Conflict):
    """The target has an interface of that name already, or has been given this endpoint already."""

    default_name: ClassVar[str] = "interface_taken"


class TapBusy(Conflict):
    """Another process has the TAP open."""

    default_name: ClassVar[str] = "tap_busy"


class BridgeTaken(Conflict):
    """The host has a device of the bridge's name that is not ours."""

    default_name: ClassVar[str] = "bridge_taken"


class AddressFailed(BadRequest):
    """The kernel does not take the address, route, MAC, MTU or interface name."""

    default_name: ClassVar[str] = "address_failed"


class TunMissing(Refused):
    """/dev/net/tun is not there or not ours to open."""

    default_name: ClassVar[str] = "tun_missing"


class PermissionMissing(Refused):
    """The agent may not enter the target or configure links there."""

    default_name: ClassVar[str] = "permission_missing"


class KernelRefused(VxlanuError):
    """A refusal that nothing above names: our bug, or a kernel without the feature."""

    default_name: ClassVar[str] = "kernel_refused"


class HelperGone(VxlanuError):
    """The helper, or the child at work on this request, ended without an answer."""

    default_name: ClassVar[str] = "helper_gone"


class HelperTimeout(TryAgain):
    """The child did not answer in time; it has been told to undo its work."""

    default_name: ClassVar[str] = "helper_timeout"


ERRORS: tuple[type[VxlanuError], ...] = (
    NamespaceMissing,
    TapMissing,
    InterfaceTaken,
    TapBusy,
    BridgeTaken,
    AddressFailed,
    TunMissing,
    PermissionMissing,
    KernelRefused,
)
