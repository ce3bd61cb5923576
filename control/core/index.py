"""The index: decoded bodies, and the ways to find them. Kept in step with the records, never more than them.

Rules of this file
  1. A body is decoded once, when its record becomes visible. One that cannot be decoded (a newer kind, or wrong) is
     counted and stays out of every answer; its record is kept and relayed all the same.
  2. Whoever touches an entry says which questions changed (`Changed` keys).
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import TypeVar

from .effects import ChangeKey
from .errors import RemoteError
from .out import Outbox
from .records import (
    BODY_TYPES,
    Block,
    Body,
    Endpoint,
    Forgotten,
    Network,
    NetworkRemoved,
    Node,
    NodeId,
    Record,
    Vtep,
    body_of,
    is_shared,
)

__all__ = ["Claimant", "Index"]

_K = TypeVar("_K")
_V = TypeVar("_V")
Claimant = tuple[bytes, NodeId]  # endpoint id, its writer


class Index:
    """What the view asks."""

    def __init__(self, out: Outbox) -> None:
        self.networks: dict[bytes, Network] = {}
        self.removed: set[bytes] = set()
        self.nodes: dict[NodeId, Node] = {}
        self.routers: defaultdict[str, set[NodeId]] = defaultdict(set)  # router MAC -> who says that it is theirs
        self.endpoints: dict[Claimant, Endpoint] = {}
        self.claims_of: dict[Claimant, tuple[str, ...]] = {}  # MAC and addresses, without prefix lengths
        self.endpoints_of: defaultdict[bytes, set[Claimant]] = defaultdict(set)  # network -> claimants
        self.claimants_of: defaultdict[bytes, set[Claimant]] = defaultdict(set)  # endpoint id -> claimants
        self.networks_of: defaultdict[NodeId, defaultdict[bytes, int]] = defaultdict(lambda: defaultdict(int))
        self.claims: defaultdict[tuple[bytes, str], set[Claimant]] = defaultdict(set)  # (network, address or MAC)
        self.blocks: defaultdict[bytes, dict[tuple[NodeId, str], Block]] = defaultdict(dict)
        self.vteps: defaultdict[bytes, dict[bytes, Vtep]] = defaultdict(dict)
        self.forgotten: dict[NodeId, int] = {}
        self._bodies: dict[tuple[bytes, int, bytes], Body] = {}
        self._out = out

    def populated(self, network: bytes) -> bool:
        """Whether any endpoint of this network is known, hidden or not."""
        return bool(self.endpoints_of.get(network))

    def add(self, record: Record) -> None:
        """A record becomes visible, in place of an older one of its key."""
        self.remove(record)
        kind = BODY_TYPES.get(record.kind)
        if kind is None:
            self._out.counters["unknown_kind"] += 1
            return
        try:
            body = body_of(record, kind)
        except RemoteError as error:
            self._out.counters[error.name] += 1
            return
        self._bodies[_slot(record)] = body
        self._enter(record.writer, record.key, body, True)
        self._out.changed(*_keys(record, body))

    def remove(self, record: Record) -> None:
        """The record of this key is no longer visible."""
        body = self._bodies.pop(_slot(record), None)
        if body is not None:
            self._enter(record.writer, record.key, body, False)
            self._out.changed(*_keys(record, body))

    def _enter(self, writer: NodeId, key: bytes, body: Body, present: bool) -> None:
        match body:
            case Node():
                _put(self.nodes, writer, body, present)
                if body.router_mac:
                    _mark(self.routers, body.router_mac, writer, present)
            case Network():
                _put(self.networks, body.id, body, present)
            case NetworkRemoved():
                (self.removed.add if present else self.removed.discard)(body.id)
            case Block():
                _put(self.blocks[body.network], (writer, body.prefix), body, present)
            case Endpoint():
                self._enter_endpoint(writer, body, present)
            case Vtep():
                _put(self.vteps[body.network], key, body, present)
            case Forgotten():
                _put(self.forgotten, NodeId(body.node), body.epoch, present)

    def _enter_endpoint(self, writer: NodeId, body: Endpoint, present: bool) -> None:
        claimant = (body.id, writer)
        _put(self.endpoints, claimant, body, present)
        _mark(self.endpoints_of, body.network, claimant, present)
        _mark(self.claimants_of, body.id, claimant, present)
        claims = (body.mac, *(str(ipaddress.ip_interface(address).ip) for address in body.addresses))
        _put(self.claims_of, claimant, claims, present)
        for claim in claims:
            _mark(self.claims, (body.network, claim), claimant, present)
        counts = self.networks_of[writer]
        counts[body.network] += 1 if present else -1
        if not counts[body.network]:
            del counts[body.network]


def _put(table: dict[_K, _V], key: _K, value: _V, present: bool) -> None:
    if present:
        table[key] = value
    else:
        table.pop(key, None)


def _mark(table: defaultdict[_K, set[_V]], key: _K, value: _V, present: bool) -> None:
    """Into or out of a set; an empty set leaves the table."""
    if present:
        table[key].add(value)
        return
    table[key].discard(value)
    if not table[key]:
        del table[key]


def _slot(record: Record) -> tuple[bytes, int, bytes]:
    """Shared facts have one slot per key, whoever wrote them."""
    return (b"" if is_shared(record.kind) else record.writer, record.kind, record.key)


def _keys(record: Record, body: Body) -> list[ChangeKey]:
    match body:
        case Node():
            return [("node", record.writer, b"")]
        case Network() | NetworkRemoved():
            return [("network", body.id, b"")]
        case Block():
            return [("block", body.network, record.key)]
        case Endpoint():
            return [("endpoint", body.network, body.id)]
        case Vtep():
            return [("vtep", body.network, record.key)]
        case Forgotten():
            return [("member", body.node, b"")]
