"""The bodies of the API's lists: the view and the counters, put into the shapes of `schema`.

Rules of this file
  1. It reads; it changes nothing and waits for nothing.
  2. Every list is sorted, so that two calls on the same state print the same.
  3. A list costs one pass over the view, not one for each row: it is made on the loop, of thousands of rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from vxlanu import __version__
from vxlanu.agent import ladder, lookup, losses
from vxlanu.agent.agent import Agent
from vxlanu.agent.egress import way_out
from vxlanu.api import schema
from vxlanu.api.http import is_local
from vxlanu.control.core.effects import State
from vxlanu.control.core.records import NetworkId, NodeId, short
from vxlanu.control.core.view import EndpointView, MemberView, NetworkView
from vxlanu.dataplane import Destination, PortRef, SoftRow, Totals, VtepRef
from vxlanu.dataplane.reading import REASON_TEXTS
from vxlanu.gateway.service import GATEWAY_NAME, Service
from vxlanu.runtimes.intents import Intent

_SOFT_LIFE_S = {"learned": 300.0, "pending": 5.0}  # as native/limits.h has them


def network(agent: Agent, view: NetworkView) -> schema.Network:
    """One row of `network ls`."""
    return schema.Network(
        id=view.id.hex(),
        name=view.name,
        vni=view.body.vni,
        subnets=list(view.body.subnets),
        mtu=view.body.mtu,
        endpoints=len(agent.view.endpoints(view.id)),
        state=lookup.state_word(view),
        labels=dict(view.body.labels),
    )


def network_detail(agent: Agent, view: NetworkView) -> schema.NetworkDetail:
    """`network inspect`."""
    row, body = network(agent, view), view.body
    rival = agent.view.network(view.conflict_with) if view.conflict_with else None
    return schema.NetworkDetail(
        **{name: getattr(row, name) for name in row.__struct_fields__},
        gateways=list(body.gateways),
        ip_range=", ".join(body.ip_ranges),
        aux=dict(body.aux),
        ipv6=body.ipv6,
        internal=body.internal,
        ipam=body.ipam,
        vlan=body.vlan,
        created_by=_name(agent, NodeId(body.created_by)),
        hosts=sorted(_name(agent, node) for node in agent.view.hosts(view.id)),
        members=endpoints(agent, agent.view.endpoints(view.id)),
        conflict_with=f"{rival.name} {short(rival.id)}" if rival else "",
    )


def _name(agent: Agent, node: NodeId) -> str:
    found = agent.view.member(node)
    return found.name if found else short(node)


def endpoint(agent: Agent, view: EndpointView) -> schema.Endpoint:
    """One endpoint as a row."""
    place = agent.view.network(NetworkId(view.body.network))
    return _endpoint_row(agent, view, place.name if place else "")


def endpoints(agent: Agent, views: Iterable[EndpointView]) -> list[schema.Endpoint]:
    """`endpoint ls`."""
    names = _network_names(agent)
    return [_endpoint_row(agent, view, names.get(view.body.network, "")) for view in views]


def waiting(agent: Agent, intents: Iterable[Intent]) -> list[schema.Endpoint]:
    """The endpoints of containers that are attached again when they run again."""
    rows = endpoints(agent, (agent.intents.as_endpoint(intent) for intent in intents))
    for row in rows:
        row.state = "waiting"
    return rows


def _network_names(agent: Agent) -> dict[bytes, str]:
    return {view.id: view.name for view in agent.view.networks()}


def _endpoint_row(agent: Agent, view: EndpointView, network_name: str) -> schema.Endpoint:
    body, node = view.body, agent.view.node(view.owner)
    down = view.owner_state in (State.DEAD, State.LEFT, State.GONE)
    return schema.Endpoint(
        id=body.id.hex(),
        name=body.name,
        network=network_name or short(body.network),
        network_id=body.network.hex(),
        addresses=list(body.addresses),
        mac=body.mac,
        node=view.owner_name,
        vtep=node.data_host if node else "",
        target=body.target,
        state="down" if down else "conflict" if view.lost else "up",
        down_s=_seconds_since(view.owner_since) if down else None,
        local=view.owner == agent.control.core.node,
        aliases=list(body.aliases),
    )


def _seconds_since(since: float) -> float:
    """Age of something that the control plane stamped with its monotonic clock."""
    return round(max(0.0, time.monotonic() - since), 1)


def endpoint_detail(agent: Agent, view: EndpointView) -> schema.EndpointDetail:
    """`endpoint inspect`."""
    row, key = endpoint(agent, view), view.body.id.hex()
    place = agent.view.network(NetworkId(view.body.network))
    local, journalled = agent.opened.get(key), agent.journal.rows.get(key)
    totals = agent.dataplane.port_totals(key) if local else None
    return schema.EndpointDetail(
        **{name: getattr(row, name) for name in row.__struct_fields__},
        mtu=place.body.mtu if place else 0,
        ifname=local.ifname if local else "",
        ifindex=local.ifindex if local else 0,
        netns_path=journalled.path if journalled else "",
        netns_inode=journalled.inode if journalled else 0,
        allow_spoof="allow-spoof" in view.body.flags,
        allow_addresses=list(view.body.allow_addresses),
        counters=counters("endpoint", row.name, totals, row.network, row.id) if totals else None,
        drops=drops_of(totals, "endpoint", row.name, row.network) if totals else [],
        egress=way_out(agent, key) if journalled else None,
    )


def members(agent: Agent, views: Sequence[MemberView]) -> list[schema.Member]:
    """`member ls`."""
    counted = Counter(it.owner for it in agent.view.endpoints())
    return [_member_row(view, counted[view.id]) for view in views]


def _member_row(view: MemberView, endpoints_of_it: int) -> schema.Member:
    return schema.Member(
        id=view.id.hex(),
        name=view.name,
        address=view.address[0],
        control_port=view.address[1],
        data_port=view.node.data_port if view.node else 0,
        state=view.state.value,
        since_s=_seconds_since(view.since),
        epoch=view.epoch,
        incarnation=view.incarnation,
        version=view.node.version if view.node else "",
        endpoints=endpoints_of_it,
        self=view.me,
        rtt_ms=None if view.rtt is None else round(view.rtt * 1000, 3),
    )


def vteps(agent: Agent) -> list[schema.Vtep]:
    """All VTEPs: the members', and the static ones."""
    used = {ref.address: facts for ref, facts in agent.dataplane.vteps().items()}
    names = _network_names(agent)
    rows = []
    for view in agent.view.members():
        if view.node is None:
            continue
        mtu = used[view.node.data_host][1] if view.node.data_host in used else 0
        networks = sorted(names[it] for it in agent.view.networks_of(view.id) if it in names)
        state = "self" if view.me else view.state.value
        rows.append(
            schema.Vtep(
                view.node.data_host, view.node.data_port, "gossip", view.name, state, networks, path_mtu=mtu
            )
        )
    for body in agent.view.vteps():
        mtu = used[body.address][1] if body.address in used else 0
        name = names.get(NetworkId(body.network), short(body.network))
        rows.append(
            schema.Vtep(body.address, body.port, "static", "", "static", [name], list(body.macs), path_mtu=mtu)
        )
    return rows


def fdb(agent: Agent, networks: list[NetworkView]) -> list[schema.FdbEntry]:
    """The FDB as the workers see it, and what traffic taught them."""
    rows: list[schema.FdbEntry] = []
    for view in _programmed(agent, networks):
        for entry in agent.dataplane.fdb(view.id):
            rows.append(_fdb_entry(agent, view, entry.mac, entry.to, "record", None))
        for soft in agent.dataplane.soft(view.id):
            rows.append(_fdb_entry(agent, view, soft.mac, soft.vtep, soft.kind, soft_age(soft)))
    return sorted(rows, key=lambda row: (row.network, not row.local, row.mac))


def soft_age(soft: SoftRow) -> float | None:
    """Seconds since traffic last taught it."""
    return _SOFT_LIFE_S[soft.kind] - soft.left_s if soft.kind in _SOFT_LIFE_S else None


def _programmed(agent: Agent, networks: list[NetworkView]) -> list[NetworkView]:
    here = set(agent.dataplane.networks())
    return [view for view in networks if view.id in here]


def _fdb_entry(
    agent: Agent, view: NetworkView, mac: str, to: Destination | None, origin: str, age_s: float | None
) -> schema.FdbEntry:
    holder, router = agent.view.winner(view.id, mac), agent.view.router(view.id, mac)
    if isinstance(to, PortRef) and to.is_gateway:
        endpoint, node = GATEWAY_NAME, agent.config.name
    elif holder is None and router is not None:
        endpoint, node = GATEWAY_NAME, _name(agent, router)
    else:
        endpoint, node = (holder.body.name, holder.owner_name) if holder else ("", "")
    return schema.FdbEntry(
        network=view.name,
        mac=mac,
        endpoint=endpoint,
        node=node,
        vtep=to.address if isinstance(to, VtepRef) else "",
        local=isinstance(to, PortRef),
        origin=origin,
        age_s=age_s,
    )


def neighbors(agent: Agent, networks: list[NetworkView]) -> list[schema.Neighbor]:
    """What the ARP and ND proxy answers."""
    rows = []
    for view in _programmed(agent, networks):
        for entry in agent.dataplane.neighbors(view.id):
            holder = agent.view.winner(view.id, entry.address)
            endpoint, node = (holder.body.name, holder.owner_name) if holder else ("", "")
            if entry.router:
                endpoint, node = GATEWAY_NAME, agent.config.name
            rows.append(schema.Neighbor(view.name, entry.address, entry.mac, endpoint, node))
    return sorted(rows, key=lambda row: (row.network, ":" in row.address, row.address))


def drops_of(totals: Totals, scope: str, name: str, network_name: str = "") -> list[schema.Drop]:
    """What one thing lost, the most frequent reason first."""
    return [
        schema.Drop(reason, frames, scope, name, network_name, REASON_TEXTS[reason])
        for reason, frames in sorted(totals.drops.items(), key=lambda item: -item[1])
    ]


def drops(agent: Agent, lost_in_rings: dict[str, int]) -> list[schema.Drop]:
    """Every loss: of the host as a whole, then of each network, each local endpoint, each gateway.

    `lost_in_rings`: what the kernel lost before the fast path saw it, by port.
    """
    views = agent.view.networks()
    gateways = _gateways(agent, views)
    networks = {key: agent.journal.rows[key].network for key in lost_in_rings if key in agent.journal.rows}
    networks |= {service.key: service.network for service, _ in gateways}
    rows = drops_of(_with_lost(agent.dataplane.totals(), sum(lost_in_rings.values())), "host", agent.config.name)
    for view in _programmed(agent, views):
        lost = sum(count for key, count in lost_in_rings.items() if networks.get(key) == view.id)
        totals = _with_lost(agent.dataplane.network_totals(view.id), lost)
        rows += drops_of(totals, "network", view.name, view.name)
    for row in _local_endpoints(agent):
        totals = _with_lost(agent.dataplane.port_totals(row.id), lost_in_rings.get(row.id, 0))
        rows += drops_of(totals, "endpoint", row.name, row.network)
    for service, network_name in gateways:
        totals = _with_lost(agent.dataplane.port_totals(service.key), lost_in_rings.get(service.key, 0))
        rows += drops_of(totals, "gateway", GATEWAY_NAME, network_name)
    return rows


def _gateways(agent: Agent, networks: Iterable[NetworkView]) -> list[tuple[Service, str]]:
    """The gateways that are served here, each with the name of its network."""
    names: dict[bytes, str] = {view.id: view.name for view in networks}
    return [(it, names.get(it.network, short(it.network))) for it in agent.services.standing()]


def _local_endpoints(agent: Agent) -> list[schema.Endpoint]:
    """Those of this host that have a port, by id."""
    here = [view for view in agent.view.endpoints() if view.id.hex() in agent.opened]
    return sorted(endpoints(agent, here), key=lambda row: row.id)


def _with_lost(totals: Totals, lost: int) -> Totals:
    """The same, with frames that the kernel lost in a TAP's ring."""
    if not lost:
        return totals
    return replace(totals, drops=totals.drops | {losses.REASON: totals.drops.get(losses.REASON, 0) + lost})


def counters(scope: str, name: str, totals: Totals, network_name: str = "", identity: str = "") -> schema.Counters:
    """Frames as the thing itself sees them: what an endpoint sends comes in at the switch."""
    return schema.Counters(
        scope=scope,
        name=name,
        network=network_name,
        id=identity,
        sent_frames=totals.in_frames,
        sent_bytes=totals.in_bytes,
        received_frames=totals.out_frames,
        received_bytes=totals.out_bytes,
        encapsulated_frames=totals.encapsulated,
        decapsulated_frames=totals.decapsulated,
        flooded_frames=totals.flooded,
        arp_answered=totals.arp_answered,
        nd_answered=totals.nd_answered,
        arp_nd_underlay=totals.arp_nd_underlay,
        dropped_frames=totals.dropped,
        injected_frames=totals.injected,
    )


def stats(agent: Agent) -> list[schema.Counters]:
    """Traffic of the host, its networks, its endpoints, the gateways it serves, and towards each VTEP."""
    rows = [counters("host", agent.config.name, agent.dataplane.totals())]
    views = agent.view.networks()
    for view in _programmed(agent, views):
        rows.append(counters("network", view.name, agent.dataplane.network_totals(view.id), view.name, view.id.hex()))
    for row in _local_endpoints(agent):
        rows.append(counters("endpoint", row.name, agent.dataplane.port_totals(row.id), row.network, row.id))
    for service, network_name in _gateways(agent, views):
        rows.append(counters("gateway", GATEWAY_NAME, agent.dataplane.port_totals(service.key), network_name))
    for ref, (totals, _) in sorted(agent.dataplane.vteps().items(), key=lambda item: item[0].address):
        rows.append(counters("vtep", ref.address, totals))
    return rows


def status(agent: Agent) -> schema.Status:
    """What `vxlanu` alone prints."""
    core, view = agent.control.core, agent.view
    states: dict[str, int] = {}
    for it in view.members():
        states[it.state.value] = states.get(it.state.value, 0) + 1
    counted = core.counters()
    rungs = agent.ladder.rungs(agent.dataplane) + agent.injection.rungs()
    return schema.Status(
        name=agent.config.name,
        id=core.node.hex(),
        epoch=core.epoch,
        version=__version__,
        state="running",
        uptime_s=round(time.monotonic() - agent.started, 1),
        advertise=agent.underlay.address,
        control_port=agent.config.control_port,
        data_port=agent.config.data_port,
        keyed=bool(agent.config.key_file),
        workers=agent.dataplane.workers,
        offload=",".join(it.name for it in rungs if it.in_use) or "off",
        offloads=rungs,
        names=schema.NameCounters(agent.names.served, **asdict(agent.names.counters)),
        members=states,
        networks=len(view.networks()),
        endpoints=len(view.endpoints()),
        local_endpoints=len(agent.opened),
        state_dir=agent.config.state_dir,
        socket=agent.config.socket,
        pid=agent.pid,
        warnings=_warnings(agent),
        malformed_control=counted.get("malformed", 0),
        wrong_key=counted.get("wrong_key", 0),
        ip_forward_since_unix=agent.egress.ledger.forwarding_since,
    )


def _warnings(agent: Agent) -> list[str]:
    warnings = []
    if not agent.config.key_file:
        warnings.append("the control channel is clear: anyone who reaches the control port may join (vxlanu key gen)")
    if agent.config.http and not is_local(agent.config.http):
        warnings.append(f"http at {agent.config.http}: anyone who reaches it may read the records")
    if agent.wrong_key:
        warnings.append(f"refused {agent.wrong_key}")
    if agent.helper.restarts:
        times = "once" if agent.helper.restarts == 1 else f"{agent.helper.restarts} times"
        warnings.append(f"the namespace helper ended {times} and was started again: see the log")
    for network, why in agent.services.refused().items():
        name = _network_names(agent).get(network, short(network))
        lost = f"the gateway of {name} is not served"
        if agent.services.get(network) is not None:
            lost = f"names of {name} are not answered"
        warnings.append(f"{lost} here: {why}")
    return warnings + agent.egress.warnings() + ladder.warnings(agent.ladder, agent.dataplane)
