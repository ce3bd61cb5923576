"""Records: the facts that nodes tell each other.

Rules of this file
  1. A record is an envelope around an opaque body. The body travels and is stored as the bytes its writer made, so a
     kind or a field that this version does not know is kept and relayed unharmed, and only its use is skipped.
  2. Bodies are msgpack maps keyed by field name. Fields are only ever added, always with a default.
  3. Identifiers are raw bytes; addresses are text in the form that `ipaddress` prints (`192.168.0.100/24`), MACs are
     lower-case colon text. Both are checked where they enter (`body_of`), so a reader may trust what it gets.

Two sorts of record, told apart by `Kind.shared`
  owned    node, block, endpoint: exactly one writer, ordered by that writer's (epoch, version). Only the owner deletes.
  shared   network, network_removed, vtep, forgotten: facts of the cluster. Any node may write one, nobody's death hides
           it, every node keeps and passes it on as if it were its own. Two versions of one key are merged by `merge`
           in shared.py, a pure function, so every node ends with the same one whatever the order.
"""

from __future__ import annotations

import ipaddress
import re
from enum import IntEnum
from typing import NewType, TypeVar

import msgspec

from .errors import RemoteError
from .limits import BODY_BYTES_MAX, COUNT_MAX, KEY_BYTES_MAX
from .pack import convert, pack, unpack

__all__ = [
    "Block",
    "Body",
    "Endpoint",
    "EndpointId",
    "Forgotten",
    "Kind",
    "Network",
    "NetworkId",
    "NetworkRemoved",
    "Node",
    "NodeId",
    "Record",
    "Vtep",
    "body_of",
    "check_record",
    "encode_body",
    "is_mac",
    "is_name",
    "router_mac",
    "short",
]

NodeId = NewType("NodeId", bytes)  # 16 bytes: the first 128 bits of SHA-256(public key)
NetworkId = NewType("NetworkId", bytes)  # 16 random bytes, chosen by the creator
EndpointId = NewType("EndpointId", bytes)  # 16 random bytes, chosen by the owner


def short(identifier: bytes) -> str:
    """The 12 hex digits that people see."""
    return identifier.hex()[:12]


class Kind(IntEnum):
    """What a record is about. Numbers are wire format: never reuse one."""

    NODE = 1
    NETWORK = 2
    NETWORK_REMOVED = 3
    BLOCK = 4
    ENDPOINT = 5
    VTEP = 6
    FORGOTTEN = 7

    @property
    def shared(self) -> bool:
        """True for a fact of the cluster, False for a fact that its writer owns."""
        return is_shared(self)


# Kinds 64..127 are reserved for shared facts of later versions, so that an older agent knows how to keep them.
SHARED_KINDS = frozenset({2, 3, 6, 7}) | frozenset(range(64, 128))


def is_shared(kind: int) -> bool:
    """Whether records of this (perhaps unknown) kind are facts of the cluster."""
    return kind in SHARED_KINDS


class Record(msgspec.Struct, frozen=True, array_like=True):
    """The envelope. `kind` is a plain int so that an unknown kind can be carried."""

    writer: NodeId
    epoch: int
    version: int
    kind: int
    key: bytes
    body: bytes
    deleted: bool = False
    life: int = 0  # of a tombstone: the seconds it still had when it was sent


def check_record(record: Record) -> Record:
    """The envelope's own limits; RemoteError when one is broken."""
    sizes = len(record.writer) == 16 and 0 < len(record.key) <= KEY_BYTES_MAX and len(record.body) <= BODY_BYTES_MAX
    counts = 0 <= record.epoch <= COUNT_MAX and 0 < record.version <= COUNT_MAX
    numbers = counts and 0 < record.kind < 128 and 0 <= record.life <= COUNT_MAX
    if not (sizes and numbers):
        raise RemoteError("record_invalid", f"kind {record.kind} version {record.version}")
    return record


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """Owned, key = node id: how to reach a node and what it can do."""

    name: str
    control_host: str
    control_port: int
    data_host: str
    data_port: int = 4789
    features: tuple[str, ...] = ()
    version: str = ""
    router_mac: str = ""


def router_mac(node: NodeId) -> str:
    """From which MAC a host's gateways send: locally administered, and like no container's (02:42:...)."""
    return (b"\x0a" + node[:5]).hex(":")


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """Shared, key = network id: immutable except for `labels`."""

    id: bytes
    name: str
    vni: int
    subnets: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    ip_ranges: tuple[str, ...] = ()
    aux: dict[str, str] = {}
    mtu: int = 1450
    internal: bool = False
    ipv6: bool = False
    ipam: str = "strict"
    vlan: str = "drop"
    labels: dict[str, str] = {}
    created_by: bytes = b""


class NetworkRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """Shared, key = network id: wins over the network for ever."""

    id: bytes


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Owned, key = network id + prefix text: a piece of a subnet that its writer hands out from.

    `state`: claimed (asking the others), held (may allocate), released (given back; the record is then deleted).
    `loans`: address text -> borrower's node id + 8 bytes that number the loan: single addresses lent to other nodes.
    """

    network: bytes
    prefix: str
    state: str
    loans: dict[str, bytes] = {}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Owned, key = endpoint id: an interface of a container. Its place is its writer; join on `Node` for the VTEP."""

    id: bytes
    network: bytes
    name: str
    mac: str
    addresses: tuple[str, ...]  # with the prefix length: 192.168.0.100/24
    aliases: tuple[str, ...] = ()
    target: str = ""
    flags: tuple[str, ...] = ()  # "allow-spoof", "service", ...
    allow_addresses: tuple[str, ...] = ()  # CIDRs that may move here by gratuitous ARP
    supersedes: bytes = b""  # endpoint id that this one took a fixed address over from (--take-over)
    labels: dict[str, str] = {}


class Vtep(msgspec.Struct, frozen=True, kw_only=True):
    """Shared, key = network id + "address:port": a foreign VTEP (kernel vxlan, OVS, a switch)."""

    network: bytes
    address: str
    port: int = 4789
    macs: tuple[str, ...] = ()


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """Shared, key = node id: a fence. Records of `node` with an epoch up to `epoch` are void for ever."""

    node: bytes
    epoch: int


Body = Node | Network | NetworkRemoved | Block | Endpoint | Vtep | Forgotten
_BodyT = TypeVar("_BodyT", bound=Body)

BODY_TYPES: dict[int, type[Body]] = {
    Kind.NODE: Node,
    Kind.NETWORK: Network,
    Kind.NETWORK_REMOVED: NetworkRemoved,
    Kind.BLOCK: Block,
    Kind.ENDPOINT: Endpoint,
    Kind.VTEP: Vtep,
    Kind.FORGOTTEN: Forgotten,
}

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def is_name(text: str) -> bool:
    """Whether `text` may name a node, a network or an endpoint."""
    return _NAME.fullmatch(text) is not None


def is_mac(text: str) -> bool:
    """Whether `text` is a MAC in the only spelling that records have."""
    return _MAC.fullmatch(text) is not None


def encode_body(body: Body) -> bytes:
    """The bytes of a body, as its writer stores and sends them."""
    return pack(body)


def body_of(record: Record, kind: type[_BodyT]) -> _BodyT:
    """Decode and check a body; raises RemoteError and changes nothing when it does not fit its kind."""
    body = convert(unpack(record.body, BODY_BYTES_MAX), kind)
    try:
        _check(record, body)
    except ValueError as error:
        raise RemoteError("body_invalid", f"{kind.__name__}: {error}") from error
    return body


def _check(record: Record, body: Body) -> None:
    """The values that a type cannot express. ValueError when one is wrong."""
    match body:
        case Node():
            _require(len(record.key) == 16 and record.key == record.writer, "node: key is not its writer")
            _name(body.name)
            for host, port in ((body.control_host, body.control_port), (body.data_host, body.data_port)):
                ipaddress.ip_address(host)
                _require(0 < port < 65536, "port")
            _require(not body.router_mac or is_mac(body.router_mac), "node: router MAC")
        case Network():
            _check_network(record, body)
        case NetworkRemoved():
            _require(len(body.id) == 16 and record.key == body.id, "key is not the id")
        case Block():
            _require(str(ipaddress.ip_network(body.prefix)) == body.prefix, "block: prefix")
            _require(record.key == body.network + body.prefix.encode() and len(body.network) == 16, "block: key")
            _require(body.state in ("claimed", "held", "released"), "block: state")
            for address, borrower in body.loans.items():
                _require(str(ipaddress.ip_address(address)) == address, "block: loan")
                _require(len(borrower) == 24, "block: borrower")
        case Endpoint():
            _check_endpoint(record, body)
        case Vtep():
            ipaddress.ip_address(body.address)
            _require(len(body.network) == 16 and 0 < body.port < 65536, "vtep")
            _require(record.key == body.network + f"{body.address}:{body.port}".encode(), "vtep: key")
            _require(all(map(is_mac, body.macs)), "vtep: mac")
        case Forgotten():
            _require(len(body.node) == 16 and record.key == body.node and 0 <= body.epoch <= COUNT_MAX, "forgotten")


def _check_network(record: Record, body: Network) -> None:
    _require(len(body.id) == 16 and record.key == body.id, "network: key is not the id")
    _name(body.name)
    _require(0 < body.vni < 1 << 24 and 576 <= body.mtu <= 65535, "network: vni or mtu")
    _require(body.ipam in ("strict", "available") and body.vlan in ("drop", "pass"), "network: ipam or vlan")
    for prefix in (*body.subnets, *body.ip_ranges):
        ipaddress.ip_network(prefix)
    for address in (*body.gateways, *body.aux.values()):
        ipaddress.ip_address(address)


def _check_endpoint(record: Record, body: Endpoint) -> None:
    _require(len(body.id) == 16 and record.key == body.id and len(body.network) == 16, "endpoint: key is not the id")
    _name(body.name)
    _require(is_mac(body.mac), "endpoint: mac")
    for address in body.addresses:
        ipaddress.ip_interface(address)
    for prefix in body.allow_addresses:
        ipaddress.ip_network(prefix)


def _name(text: str) -> None:
    _require(is_name(text), "name")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
