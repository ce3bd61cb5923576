"""What the forwarding tables hold, as values.

Rules of this file
  1. Values only: they are compared by `verify`, put into sets, printed. No id of the C side appears.
  2. Addresses are text as `ipaddress` prints it, MACs lower-case colon text; only `packed` knows the 16 bytes of
     the boundary.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What the fast path must know of a network. `conflict`: another network owns the VNI, frames are refused."""

    vni: int
    mtu: int
    vlan_pass: bool = False
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class PortConfig:
    """A local endpoint's port: what it is and what it may send."""

    mac: str
    mtu: int
    allowed: tuple[str, ...] = ()
    """Addresses and prefixes that are its own, as CIDR or plain addresses."""
    floating: tuple[str, ...] = ()
    """Prefixes that may move to it by gratuitous ARP (`--allow-address`)."""
    allow_spoof: bool = False
    allow_server: bool = False
    """May send what only routers and DHCP servers send."""
    unicast_only: bool = False
    """Gets no broadcast or multicast, and sends none."""


GATEWAY = "gateway:"  # before a network's id in hex: the key of its gateway's port, as an endpoint's id is of its port


@dataclass(frozen=True, slots=True)
class PortRef:
    """A local endpoint by its id in hex, or the gateway of a network."""

    endpoint: str

    @classmethod
    def of_gateway(cls, network: bytes) -> PortRef:
        """The port behind which this host serves the network's gateway."""
        return cls(GATEWAY + network.hex())

    @property
    def is_gateway(self) -> bool:
        return self.endpoint.startswith(GATEWAY)

    def __str__(self) -> str:
        return "port of the gateway" if self.is_gateway else f"port {self.endpoint[:12]}"


@dataclass(frozen=True, slots=True)
class VtepRef:
    """A VTEP by its outer address."""

    address: str
    port: int = 4789

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"vtep {host}:{self.port}"


Destination = PortRef | VtepRef


@dataclass(frozen=True, slots=True)
class Member:
    """A VTEP of a network: may send to it, gets its floods if `flood`, is learned from if `foreign`."""

    vtep: VtepRef
    flood: bool = True
    foreign: bool = False

    def __str__(self) -> str:
        return f"{self.vtep}{' flood' if self.flood else ''}{' foreign' if self.foreign else ''}"


@dataclass(frozen=True, slots=True)
class FdbRow:
    """A programmed FDB entry; None: it leads to an id that nothing here owns."""

    mac: str
    to: Destination | None


@dataclass(frozen=True, slots=True)
class NeighborRow:
    """A programmed neighbour entry. `router`: answers say that it is one (the R bit of ND)."""

    address: str
    mac: str
    router: bool = False


@dataclass(frozen=True, slots=True)
class SoftRow:
    """A MAC that traffic taught us. `kind` is learned, pending or blocked; `left_s` until it expires."""

    mac: str
    vtep: VtepRef | None
    kind: str
    left_s: float


class EventKind(Enum):
    """What workers report."""

    PORT_GONE = "port_gone"
    PORT_CLOSED = "port_closed"
    FDB_MISS = "fdb_miss"
    NEIGHBOR_MISS = "neighbor_miss"
    MAC_LEARNED = "mac_learned"
    MAC_PENDING = "mac_pending"
    MAC_CONFLICT = "mac_conflict"
    PATH_MTU = "path_mtu"
    ADDRESS_MOVED = "address_moved"
    VTEP_UNKNOWN = "vtep_unknown"
    SOCKET_ERROR = "socket_error"
    VTEP_DEMOTED = "vtep_demoted"
    INJECT_REFUSED = "inject_refused"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Event:
    """One report; what does not apply is empty."""

    kind: EventKind
    network: bytes = b""
    endpoint: str = ""
    vtep: VtepRef | None = None
    mac: str = ""
    address: str = ""
    reason: str = ""
    value: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the fast path would do with a frame. `act`: drop, port, vtep, flood, reply, absorb; `reason` of a drop.

    `to`: of port and vtep. `copies`: of a flood. `answered`: its sender gets an ICMP error.
    """

    act: str
    reason: str = ""
    to: Destination | None = None
    copies: int = 0
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters of the engine, a network, a port or a VTEP. "in" is into the switch, "out" is out of it."""

    in_frames: int = 0
    in_bytes: int = 0
    out_frames: int = 0
    out_bytes: int = 0
    encapsulated: int = 0
    decapsulated: int = 0
    arp_answered: int = 0
    nd_answered: int = 0
    absorbed: int = 0
    flooded: int = 0
    arp_nd_underlay: int = 0
    pending_passed: int = 0
    reserved_bits: int = 0
    events_lost: int = 0
    sends_refused: int = 0
    injected: int = 0
    drops: dict[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """Frames that were not delivered, all reasons together."""
        return sum(self.drops.values())


def packed(address: str) -> bytes:
    """16 bytes: IPv6, or IPv4 as ::ffff:a.b.c.d."""
    parsed = ipaddress.ip_address(address)
    return parsed.packed if parsed.version == 6 else b"\0" * 10 + b"\xff\xff" + parsed.packed


def packed_prefix(prefix: str) -> tuple[bytes, int]:
    """The 16 bytes of a prefix and its length counted in 128 bits."""
    network = ipaddress.ip_network(prefix, strict=False)
    return packed(str(network.network_address)), network.prefixlen + (96 if network.version == 4 else 0)


def address_text(address: bytes) -> str:
    """The text of 16 bytes; empty for all zeroes."""
    parsed = ipaddress.IPv6Address(address)
    if not int(parsed):
        return ""
    return str(parsed.ipv4_mapped or parsed)


def packed_mac(mac: str) -> bytes:
    """6 bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(mac: bytes) -> str:
    """Lower-case colon text; empty for all zeroes."""
    return mac.hex(":") if any(mac) else ""
