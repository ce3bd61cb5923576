"""The facade: one state machine, in the shape of aioquic's connection.

    core.receive_datagram(data, addr, now)          what came in
    core.stream_opened / stream_message / stream_closed
    core.handle_timer(now)  when  core.next_timer() is due
    core.effects()                                  what shall be done about it (effects.py)

plus the local requests: put, delete, create_network, remove_network, publish, allocate, release, join, leave, forget.
Every input may add effects; take them after every input, and ask for the timer again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from .choose import overlapping
from .config import Config, Rng, Row
from .effects import Address, Effect, State, StreamId
from .errors import LocalError, Refusal, RemoteError
from .inbox import Inbox
from .messages import Surveyed
from .parts import Parts
from .records import (
    Block,
    Body,
    Endpoint,
    EndpointId,
    Forgotten,
    Kind,
    Network,
    NetworkId,
    NetworkRemoved,
    Node,
    NodeId,
    Record,
    Vtep,
    body_of,
    encode_body,
    is_shared,
)
from .rows import load, next_epoch, own_records
from .view import View

__all__ = ["Core"]

_T = TypeVar("_T")
_LEAVE_SECONDS = 2.0
_EXPIRE_INTERVAL = 60.0
FENCE_AHEAD = 1 << 16  # a forgotten node may have restarted out of our sight: its fence reaches that far beyond


class Core:
    """One node's control plane."""

    def __init__(self, config: Config, rows: Iterable[Row], rng: Rng, now: float) -> None:
        """Start from the rows persisted earlier (none: a new node). The new epoch is among the first effects.

        Cached records of others are in the view at once: forwarding needs no peer.
        """
        self._config = config if config.data_host else replace(config, data_host=config.control_host)
        rows = list(rows)
        self.node: NodeId = config.node
        self.epoch: int = next_epoch(rows)
        self._parts = Parts(config, rng, now, (self.epoch, 0))
        self._inbox = Inbox(self._parts, rng)
        self._left_at: float | None = None
        self._next_expiry = now + _EXPIRE_INTERVAL
        self.view: View = self._parts.view
        load(rows, self._parts, now)
        fence = self._parts.index.forgotten.get(self.node, -1)
        fenced = fence >= self.epoch - 1
        self.epoch = max(self.epoch, fence + 1)
        self._parts.swim.me.stamp = (self.epoch, 0)
        self._take_up(own_records(rows), fenced)

    # what comes in

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Any bytes at all; what is wrong is counted in `counters`, never raised."""
        self._inbox.datagram(data, addr, now)
        self._after(now)

    def stream_opened(self, stream: StreamId, addr: Address, now: float) -> None:
        """A stream that we asked for is connected, or one was accepted (the shell numbers those 2, 4, 6, ...)."""
        self._parts.exchanges.opened(stream, addr, self._parts.door.hello(), now)

    def stream_message(self, stream: StreamId, data: bytes, now: float) -> None:
        """One frame."""
        self._inbox.frame(stream, data, now)
        self._after(now)

    def stream_closed(self, stream: StreamId, now: float) -> None:
        """It ended, or could not be opened."""
        self._inbox.abandon(stream, "closed", now)
        self._after(now)

    def seeds_resolved(self, addresses: Iterable[Address], now: float) -> None:
        """The answer to ResolveSeeds; may be empty."""
        self._parts.door.seeds_resolved(list(addresses), now)
        self._after(now)

    def next_timer(self) -> float:
        """When `handle_timer` wants to be called next."""
        parts = self._parts
        times = [self._next_expiry, parts.swim.next_timer(), parts.probe.next_timer(), parts.door.next_timer()]
        times.append(parts.ipam.next_timer())
        for optional in (parts.exchanges.next_timer(), parts.pusher.next_timer(), self._inbox.next_timer()):
            if optional is not None:
                times.append(optional)
        return min(times)

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`; being late is harmless."""
        parts = self._parts
        for part in (parts.swim, parts.probe, parts.door, parts.ipam, parts.pusher, self._inbox):
            part.handle_timer(now)
        if now >= self._next_expiry:
            self._next_expiry = now + _EXPIRE_INTERVAL
            parts.owned.expire(now)
            parts.ipam.sweep(now)
        self._after(now)

    def effects(self) -> list[Effect]:
        """Take what is to be done; the list is empty afterwards."""
        return self._parts.out.take()

    # what we want

    def put(self, kind: Kind, key: bytes, body: Body, now: float) -> Record:
        """Write an owned record (Kind.ENDPOINT: key = endpoint id). Persisted durably, pushed to every alive member."""
        if is_shared(kind):
            raise LocalError("not_owned", kind.name)
        record = self._parts.writer.put(kind, key, body, now)
        self._after(now)
        return record

    def own_endpoint(self, endpoint: EndpointId) -> Endpoint | None:
        """The endpoint that we wrote under this id."""
        return self._parts.index.endpoints.get((endpoint, self.node))

    def delete(self, kind: Kind, key: bytes, now: float) -> Record | None:
        """Delete an owned record; None if there was none."""
        record = self._parts.writer.delete(kind, key, now)
        self._after(now)
        return record

    def create_network(self, network: Network, now: float) -> Record:
        """Write a network. Raises Refusal: name_taken, vni_in_use, subnet_overlaps."""
        for view in self.view.networks():
            if view.name == network.name:
                raise Refusal("name_taken", network.name, f"network {view.id.hex()[:12]} has this name")
            if view.body.vni == network.vni:
                raise Refusal("vni_in_use", str(network.vni), f"network {view.name} has it", view.name)
            for subnet in network.subnets:
                other = overlapping(subnet, view.body.subnets)
                if other is not None:
                    raise Refusal("subnet_overlaps", subnet, f"network {view.name} has {other}", view.name)
        record = self._parts.writer.put_shared(Kind.NETWORK, network.id, network, now)
        self._after(now)
        return record

    def remove_network(self, network: NetworkId, now: float) -> Record:
        """Remove a network for ever. Raises Refusal: not_found, network_in_use (endpoints exist, hidden ones apart)."""
        view = self.view.network(network)
        if view is None or self.view.is_removed(network):
            raise Refusal("not_found", network.hex()[:12], "no such network")
        users = self.view.endpoints(network)
        if users:
            names = ", ".join(user.body.name for user in users[:5])
            raise Refusal("network_in_use", view.name, f"{len(users)} endpoints: {names}")
        record = self._parts.writer.put_shared(Kind.NETWORK_REMOVED, network, NetworkRemoved(id=network), now)
        self._removed(network, now)
        self._after(now)
        return record

    def put_vtep(self, vtep: Vtep, now: float) -> Record:
        """Write a foreign VTEP of a network. Raises Refusal: not_found."""
        if self.view.network(NetworkId(vtep.network)) is None:
            raise Refusal("not_found", vtep.network.hex()[:12], "no such network")
        record = self._parts.writer.put_shared(Kind.VTEP, _vtep_key(vtep.network, vtep.address, vtep.port), vtep, now)
        self._after(now)
        return record

    def remove_vtep(self, network: NetworkId, address: str, port: int, now: float) -> Record:
        """Remove a foreign VTEP. Raises Refusal: not_found."""
        known = [vtep for vtep in self.view.vteps(network) if (vtep.address, vtep.port) == (address, port)]
        if not known:
            raise Refusal("not_found", f"{address}:{port}", "no such VTEP in this network")
        record = self._parts.writer.delete_shared(Kind.VTEP, _vtep_key(network, address, port), now)
        self._after(now)
        return record

    def publish(
        self, request: int, records: Iterable[Record], network: NetworkId | None, deadline: float, now: float
    ) -> None:
        """Emit Published once every alive member (`network`: every alive host of it) confirmed, or at `deadline`."""
        audience = set(self.view.hosts(network, (State.ALIVE,))) if network is not None else None
        self._parts.pusher.watch(request, list(records), audience, deadline, now)

    def allocate(
        self,
        request: int,
        network: NetworkId,
        endpoint: EndpointId,
        now: float,
        *,
        wanted: str | None = None,
        subnet: str = "",
        ipv6: bool = False,
        take_over: bool = False,
    ) -> None:
        """Ask for an address; ends in Allocated(request) or AllocationRefused(request). Repeating it for one endpoint
        yields the same address. `wanted` without a prefix length. `subnet`: one of the network's, from which alone it
        may come. Without it `ipv6` (or a v6 `wanted`) picks from the v6 subnets.
        """
        self._parts.ipam.allocate(request, network, endpoint, wanted, subnet, ipv6, take_over, now)
        self._after(now)

    def release(self, network: NetworkId, endpoint: EndpointId, now: float) -> None:
        """Give back every address of this endpoint; each rests 60 s."""
        self._parts.ipam.release(network, endpoint, now)
        self._after(now)

    def addresses_of(self, network: NetworkId, endpoint: EndpointId) -> tuple[str, ...]:
        """What is kept for one of our endpoints, with a record or without."""
        return self._parts.ipam.addresses_of(network, endpoint)

    def leases(self) -> list[tuple[NetworkId, EndpointId, str]]:
        """Network, endpoint and address of all that this node has given out or borrowed."""
        return self._parts.ipam.leased()

    def free_addresses(self, network: NetworkId) -> int:
        """How many IPv4 addresses this node could hand out now without asking anyone."""
        return self._parts.ipam.free_addresses(network)

    def join(self, addresses: Iterable[Address], now: float) -> None:
        """Try these peers now (and again until one answers)."""
        self._parts.door.join(list(addresses), now)
        self._after(now)

    def add_seeds(self, names: Iterable[str]) -> None:
        """Seeds that `ResolveSeeds` asks for from now on, with the configured ones."""
        self._parts.door.seed_names = tuple(dict.fromkeys((*self._parts.door.seed_names, *names)))

    def refresh(self, now: float) -> bool:
        """Begin an exchange with a random alive member; False if there is none. Ends in Exchanged."""
        peer = self._parts.door.random_peer()
        if peer is not None:
            self._parts.exchanges.begin(peer, now, again=True)
        return peer is not None

    def joined(self) -> bool:
        """Whether we take part: an exchange was completed, or there was nobody to meet."""
        return self._parts.swim.started

    def leave(self, now: float) -> None:
        """Delete what we own, say goodbye. `has_left()` turns true when enough peers heard it or nobody is there."""
        if self._left_at is not None:
            return
        self._left_at = now
        log = self._parts.owned.logs[self.node]
        for record in list(log.live()):
            if record.kind != Kind.NODE:
                self._parts.writer.delete(Kind(record.kind), record.key, now)
        self._parts.ipam.leave()
        self._parts.swim.leave(now)
        self._after(now)

    def has_left(self, now: float) -> bool:
        """Whether the process may end without being missed."""
        return self._left_at is not None and (not self._parts.pusher.busy() or now >= self._left_at + _LEAVE_SECONDS)

    def forget(self, node: NodeId, now: float) -> Record:
        """Erase a dead or left member and its blocks everywhere. Raises Refusal: not_found, member_alive."""
        member = self._parts.table.by_id.get(node)
        log = self._parts.owned.logs.get(node)
        if node == self.node or (member is not None and member.state in (State.ALIVE, State.SUSPECT)):
            raise Refusal("member_alive", member.name if member is not None else self._config.name, "stop it first")
        if member is None and log is None:
            raise Refusal("not_found", node.hex()[:12], "no such member")
        seen = max(member.stamp[0] if member is not None else 0, log.epoch if log is not None else 0)
        fence = Forgotten(node=node, epoch=seen + FENCE_AHEAD)
        record = self._parts.writer.put_shared(Kind.FORGOTTEN, node, fence, now, version=fence.epoch)
        self._fence(record)
        self._after(now)
        return record

    def ask_survey(self, node: NodeId, number: int, length: int) -> None:
        """Ask a member, by a datagram, which ways lead from it to us; ends in SurveyAnswered, or in nothing."""
        self._parts.surveys.ask(node, number, length)

    def survey_question(self, number: int, length: int) -> bytes:
        """The same question as one frame of a stream."""
        return self._parts.surveys.question(number, length)

    def survey_reply(self, data: bytes) -> Surveyed | None:
        """The answer in a frame that came back; None if it is none."""
        try:
            found = self._parts.out.wire.open_frame(data)
        except RemoteError:
            return None
        return found if isinstance(found, Surveyed) else None

    def answer_survey(self, node: NodeId, found: Surveyed, now: float) -> None:
        """Answer SurveyAsked."""
        for stream in self._parts.surveys.answer(node, found.survey, found):
            self._parts.exchanges.end(stream, now)

    def counters(self) -> dict[str, int]:
        """Totals by name: datagrams, messages, and every reason for which something was refused."""
        return dict(self._parts.out.counters)

    # inside

    def _take_up(self, mine: list[Record], fenced: bool) -> None:
        """Begin an epoch with the records that outlive the last one. A fence voids our blocks, not our endpoints."""
        parts = self._parts
        parts.out.persist("meta", b"epoch", self.epoch.to_bytes(8, "big"), durable=True)
        kept: list[Record] = [self._node_record()]
        for record in mine:
            if record.kind == Kind.NODE:
                continue
            if record.kind == Kind.BLOCK and (fenced or not _is_held(record)):
                parts.out.erase("own", bytes((record.kind,)) + record.key, durable=True)
                continue
            kept.append(record)
        parts.owned.begin(self.epoch, kept)

    def _node_record(self) -> Record:
        config = self._config
        node = Node(
            name=config.name,
            control_host=config.control_host,
            control_port=config.control_port,
            data_host=config.data_host,
            data_port=config.data_port,
            features=config.features,
            version=config.version,
            router_mac=config.router_mac,
        )
        return Record(self.node, self.epoch, 1, Kind.NODE, self.node, encode_body(node))

    def _after(self, now: float) -> None:
        """What one input set off in another part."""
        parts = self._parts
        for record in _drain(parts.exchanges.news):
            if record.kind == Kind.FORGOTTEN:
                self._fence(record)
            elif record.kind == Kind.NETWORK_REMOVED:
                self._removed(NetworkId(record.key), now)
        for network in {key[1] for key in parts.out.touched() if key[0] == "endpoint"} & parts.index.removed:
            self._removed(NetworkId(network), now)
        for address in _drain(parts.swim.clones):
            parts.door.doubt(address, now)
        if parts.swim.stale_epoch >= self.epoch:
            self._renew(parts.swim.stale_epoch + 1, now)
        for node in _drain(parts.table.not_alive):
            parts.pusher.gone(node, now)
        if parts.swim.started and self._announced < self.epoch:
            self._announced = self.epoch
            log = parts.owned.logs[self.node]
            parts.pusher.push(log.records[Kind.NODE, self.node], log.base, now)

    _announced = -1  # the epoch whose node record was pushed: peers that lack the rest of the epoch fetch it then

    def _renew(self, epoch: int, now: float) -> None:
        """Others know an epoch of ours that we do not, or fenced us: go beyond it."""
        self._parts.ipam.claims.withdraw_all(now)
        mine = list(self._parts.owned.logs[self.node].live())
        fenced = self._parts.index.forgotten.get(self.node, -1) >= self.epoch
        self.epoch = epoch
        self._take_up(mine, fenced)
        self._parts.swim.restamp(epoch, now)

    def _fence(self, record: Record) -> None:
        """A node was forgotten."""
        epoch = self._parts.index.forgotten.get(NodeId(record.key))
        if epoch is not None:
            self._parts.swim.fence(NodeId(record.key), epoch)
            self._parts.owned.fence(NodeId(record.key), epoch)

    def _removed(self, network: NetworkId, now: float) -> None:
        """A network was removed: when nobody uses it any more, so are our block and leases of it."""
        parts = self._parts
        if parts.index.populated(network):
            return
        for (owner, prefix), _ in list(parts.index.blocks.get(network, {}).items()):
            if owner == self.node:
                parts.writer.delete(Kind.BLOCK, network + prefix.encode(), now)
        parts.ipam.network_gone(network)
        parts.shared.compact(network)


def _drain(items: list[_T]) -> list[_T]:
    taken = items[:]
    items.clear()
    return taken


def _is_held(record: Record) -> bool:
    return body_of(record, Block).state == "held"


def _vtep_key(network: bytes, address: str, port: int) -> bytes:
    return network + f"{address}:{port}".encode()
