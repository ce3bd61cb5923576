"""`ipam reclaim`: addresses that nobody uses and nobody will give back.

Two sorts
  of a member    its blocks and claims, and what it borrowed. It is fenced, as by `member forget`: whatever it has said
                 up to now is void for ever. Should it come back, it holds no block; its containers keep their
                 addresses unless others have got them meanwhile, and then it is its containers that lose them.
  of this host   an address that the journal has for an endpoint which has no record here, is not being attached, waits
                 for no container and is not Docker's. No crash is known to leave one.

Rules of this file
  1. A member that answers is never touched. One that is only dead may sit behind a broken link and use its addresses,
     so it must be named. Unnamed go those that the cluster has given up: they left, were dead for 72 h, or another runs
     at their address and port.
  2. Nothing is done where this host sees only a minority of the members that stay: then it may be the one cut off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from vxlanu.agent import lookup
from vxlanu.agent.agent import Agent
from vxlanu.agent.refusals import as_error
from vxlanu.api.schema import Reclaim, Reclaimed
from vxlanu.control.core.effects import State
from vxlanu.control.core.errors import Refusal
from vxlanu.control.core.records import EndpointId, NetworkId, NodeId, short
from vxlanu.control.core.view import ID_DIGITS_MIN
from vxlanu.errors import BadRequest, Conflict, NotFound, TryAgain

__all__ = ["is_reclaimable", "reclaim", "unused_leases"]

log = logging.getLogger("vxlanu.reclaim")

LIVE = (State.ALIVE, State.SUSPECT)
GIVEN_UP = (State.LEFT, State.GONE)


@dataclass(frozen=True, slots=True)
class _Unused:
    """A lease of this host without an endpoint."""

    network: NetworkId
    endpoint: EndpointId
    address: str


async def reclaim(agent: Agent, wanted: Reclaim) -> list[Reclaimed]:
    """What was, or with `dry_run` would be, free again. Raises VxlanuError, and has then changed nothing."""
    chosen = {_meant(agent, reference): reference for reference in wanted.members}
    nodes = list(chosen) or _given_up(agent)
    unused = [] if chosen else unused_leases(agent)
    rows = [row for node in nodes for row in _rows_of(agent, node)]
    rows += [_own_row(agent, lease) for lease in unused]
    _refuse_minority(agent, nodes)
    if wanted.dry_run:
        return rows
    for node in {NodeId(bytes.fromhex(row.holder_id)) for row in rows} & set(nodes):
        name = _name(agent, node)
        try:
            await agent.control.forget(node)
        except Refusal as refusal:
            raise as_error(refusal, f"reclaim {name}") from refusal
        log.info("reclaimed the addresses of %s", name, extra={"event": "reclaimed"})
    for lease in unused:
        await agent.control.release(lease.network, lease.endpoint)
        log.info("reclaimed %s, which no endpoint has", lease.address, extra={"event": "reclaimed"})
    return rows


def is_reclaimable(state: State) -> bool:
    """Whether a holder's blocks can be had back."""
    return state not in LIVE


def unused_leases(agent: Agent, network: NetworkId | None = None) -> list[_Unused]:
    """Addresses of this host (of one network) that belong to nothing that it knows."""
    docker = agent.docker.ledger.addresses.values() if agent.docker else agent.docker_before
    theirs = {row.lease for row in docker}
    found = []
    for known, endpoint, address in agent.control.core.leases():
        key = endpoint.hex()
        used = key in agent.journal.rows or key in agent.intents or endpoint in theirs
        if network in (None, known) and not used and agent.control.core.own_endpoint(endpoint) is None:
            found.append(_Unused(known, endpoint, address))
    return found


def _given_up(agent: Agent) -> list[NodeId]:
    """Members that hold or borrow something and will not come back. One that was never met is not among them: its
    records may have come before the news of it."""
    holders = {view.owner for view in agent.view.blocks()} | {node for _, _, node in _loans(agent)}
    members = {node: agent.view.member(node) for node in sorted(holders)}
    return [node for node, member in members.items() if member is not None and member.state in GIVEN_UP]


def _meant(agent: Agent, reference: str) -> NodeId:
    """The member that is to be given up, also one that no list shows any more. Raises for one that answers."""
    what = f"reclaim {reference}"
    holders = {view.owner: view.owner_name for view in agent.view.blocks() if is_reclaimable(view.owner_state)}
    begun = [node for node in holders if len(reference) >= ID_DIGITS_MIN and node.hex().startswith(reference.lower())]
    matching = [node for node, name in holders.items() if name == reference] or begun
    try:
        member = lookup.member(agent.view, reference)
    except NotFound:
        if not matching:
            raise
        if len(matching) > 1:
            several = ", ".join(f"{holders[node]} {short(node)}" for node in sorted(matching))
            raise BadRequest(what, f"ambiguous: {several}", hint="more digits of the id", name="ambiguous") from None
        return matching[0]
    if member.state in LIVE:
        why = f"{member.name} is {member.state.value}; only one that is gone for good is reclaimed"
        earlier = next((node for node in sorted(matching) if node != member.id), None)
        hint = f"vxlanu ipam reclaim {short(earlier)}, an earlier {member.name}" if earlier else "vxlanu member ls"
        raise Conflict(what, why, hint=hint, name="member_alive")
    return member.id


def _refuse_minority(agent: Agent, nodes: Iterable[NodeId]) -> None:
    """Rule 2. Members that stay: all that did not leave and are not to be reclaimed, ourselves included."""
    going = set(nodes)
    staying = [it for it in agent.view.members() if it.id not in going and it.state is not State.LEFT]
    away = [it.name for it in staying if it.state not in LIVE]
    if going and 2 * (len(staying) - len(away)) <= len(staying):
        seen = len(staying) - len(away)
        why = f"this host sees {seen} of the {len(staying)} members that would stay, and may itself be cut off"
        raise TryAgain("reclaim", why, hint=f"on another host, or name these too: {' '.join(away)}", name="minority")


def _rows_of(agent: Agent, node: NodeId) -> Iterator[Reclaimed]:
    """A member's blocks, and what it borrowed of others' that stay."""
    member = agent.view.member(node)
    state = member.state.value if member else State.GONE.value
    networks: dict[bytes, str] = {network.id: network.name for network in agent.view.networks()}
    addresses: dict[bytes, list[str]] = {}
    for one in agent.view.endpoints():
        if one.owner == node:
            addresses.setdefault(one.body.network, []).extend(one.body.addresses)

    def row(network: bytes, prefix: str, word: str) -> Reclaimed:
        inside = [it for it in addresses.get(network, ()) if ip_interface(it).ip in ip_network(prefix)]
        name = networks.get(network, short(network))
        return Reclaimed(name, network.hex(), prefix, word, _name(agent, node), node.hex(), state, len(inside))

    for view in agent.view.blocks():
        if view.owner == node:
            yield row(view.body.network, view.body.prefix, view.body.state)
    for network, address, borrower in _loans(agent):
        if borrower == node:
            yield row(network, address, "lent")


def _loans(agent: Agent) -> Iterator[tuple[bytes, str, NodeId]]:
    for view in agent.view.blocks():
        for address, tag in view.body.loans.items():
            yield view.body.network, address, NodeId(tag[:16])


def _own_row(agent: Agent, lease: _Unused) -> Reclaimed:
    network, me = agent.view.network(lease.network), agent.control.core.node
    name = network.name if network else short(lease.network)
    return Reclaimed(name, lease.network.hex(), lease.address, "unused", agent.config.name, me.hex(), "alive", 0)


def _name(agent: Agent, node: NodeId) -> str:
    member = agent.view.member(node)
    return member.name if member else short(node)
