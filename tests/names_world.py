"""A few hosts and their endpoints, as the control plane's own view shows them: what names are computed from."""

from __future__ import annotations

import hashlib
import ipaddress
import random
from collections.abc import Sequence

from vxlanu.control.core.config import PROFILES
from vxlanu.control.core.effects import State
from vxlanu.control.core.index import Index
from vxlanu.control.core.members import Member, MemberTable
from vxlanu.control.core.out import Outbox
from vxlanu.control.core.records import (
    Block,
    Endpoint,
    EndpointId,
    Kind,
    Network,
    NetworkId,
    NodeId,
    Record,
    encode_body,
)
from vxlanu.control.core.view import View
from vxlanu.control.core.wire import Wire


def identity(name: str) -> bytes:
    """The same 16 bytes for the same name."""
    return hashlib.sha256(name.encode()).digest()[:16]


class World:
    """Records and members without a cluster; `view` is the real one."""

    def __init__(self) -> None:
        out = Outbox(Wire(None, random.Random(0)))
        self.index = Index(out)
        self.members = MemberTable(NodeId(identity("h1")), PROFILES["local"], out)
        self.view = View(self.index, self.members)
        self._versions = 0
        self._records: dict[bytes, Record] = {}

    def node(self, name: str, state: State = State.ALIVE) -> None:
        """A member comes, or is in another state now."""
        number = int.from_bytes(identity(name)[:2], "big")
        member = Member(NodeId(identity(name)), name, (f"10.0.{number >> 8}.{number & 255}", 7946), (1, 1), 0, state, 0)
        self.members.by_id[member.id] = member

    def network(self, name: str, *subnets: str, internal: bool = False) -> Network:
        body = Network(id=identity(name), name=name, vni=300, subnets=subnets, internal=internal)
        self._add("h1", Kind.NETWORK, body.id, encode_body(body))
        return body

    def endpoint(
        self, node: str, network: str, name: str, *addresses: str, aliases: Sequence[str] = (), beside: bool = False
    ) -> bytes:
        """An endpoint comes, or is another now; `beside` what another host says of it."""
        body = Endpoint(
            id=EndpointId(identity(f"{network}/{name}")),
            network=NetworkId(identity(network)),
            name=name,
            mac="02:42:" + identity("".join(addresses[:1]))[:4].hex(":"),  # of the first, as attach does
            addresses=tuple(str(ipaddress.ip_interface(address)) for address in addresses),
            aliases=tuple(aliases),
        )
        if beside:
            self._records.pop(body.id)
        self._add(node, Kind.ENDPOINT, body.id, encode_body(body))
        return body.id

    def block(self, node: str, network: str, prefix: str, loans: dict[str, str] | None = None) -> None:
        """A host holds a block; `loans`: which of its addresses other hosts have."""
        lent = {address: identity(borrower) + bytes(8) for address, borrower in (loans or {}).items()}
        body = Block(network=identity(network), prefix=prefix, state="held", loans=lent)
        self._add(node, Kind.BLOCK, body.network + prefix.encode(), encode_body(body))

    def gone(self, endpoint: bytes) -> None:
        if endpoint in self._records:
            self.index.remove(self._records.pop(endpoint))

    def _add(self, node: str, kind: Kind, key: bytes, body: bytes) -> None:
        self.gone(key)
        self._versions += 1
        record = Record(NodeId(identity(node)), 1, self._versions, int(kind), key, body)
        self._records[key] = record
        self.index.add(record)
