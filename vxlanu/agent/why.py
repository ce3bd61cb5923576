"""Why a frame to somebody goes where it goes: each table asked in turn, as a frame of this host would ask it.

    neighbor   address → MAC, from what the ARP and ND proxy answers
    fdb        MAC → port or VTEP, from what is programmed, else from what traffic taught
    vtep       the tunnel end: whose, in which state, how wide the path, when last used
    route      the kernel's way to the VTEP
    switch     what the fast path itself says of such a frame from an endpoint of this host (vxlanu/agent/trial.py)

Rules of this file
  1. The tables that the workers see are read, not the records, which say who should be there and are named as the
     source.
  2. The first step that fails is the last: what follows would be a guess.
  3. The last word is the fast path's: it has guards, policies and path MTUs that no table here shows. So whom ARP and
     ND or a frame to an unknown MAC would reach, by foreign VTEPs, is asked of it too.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass, field

from vxlanu.addresses import is_address
from vxlanu.agent import answers, lookup, trial
from vxlanu.agent.agent import Agent
from vxlanu.api.schema import Why, WhyStep
from vxlanu.control.core.records import NetworkId, is_mac
from vxlanu.control.core.view import EndpointView, NetworkView
from vxlanu.dataplane import PortRef, Verdict, VtepRef
from vxlanu.dataplane.reading import REASON_TEXTS
from vxlanu.errors import NotFound
from vxlanu.gateway.service import GATEWAY_NAME

SHORT = 84  # an echo request of ping(8), as an IP packet


@dataclass(slots=True)
class _Path:
    """What is being found out."""

    agent: Agent
    network: NetworkView
    holder: EndpointView | None
    sender: EndpointView | None = None
    address: str = ""
    mac: str = ""
    to: PortRef | VtepRef | None = None
    steps: list[WhyStep] = field(default_factory=list)

    @property
    def whose(self) -> tuple[str, str]:
        """Endpoint and host that are meant; every host is its own gateway."""
        if self.address in self.network.body.gateways:
            return GATEWAY_NAME, self.agent.config.name
        return (self.holder.body.name, self.holder.owner_name) if self.holder else ("", "")

    def found(self, step: str, what: str, source: str, age_s: float | None = None) -> bool:
        self.steps.append(WhyStep(step, True, what, source, age_s))
        return True

    def missing(self, step: str, what: str, why: str) -> bool:
        self.steps.append(WhyStep(step, False, what, why=why))
        return False


async def why(agent: Agent, target: str, source: str) -> Why:
    """The way to `target`, from the network of the endpoint `source` if one is given."""
    path = _begin(agent, target, source)
    if _programmed(path) and _neighbor(path) and _fdb(path) and _vtep(path) and await _route(path):
        _switch(path)
    vtep = path.to
    endpoint, node = path.whose
    return Why(
        target=target,
        network=path.network.name,
        vni=path.network.body.vni,
        endpoint=endpoint,
        node=node,
        address=path.address,
        mac=path.mac,
        local=isinstance(vtep, PortRef),
        vtep=str(vtep).removeprefix("vtep ") if isinstance(vtep, VtepRef) else "",
        steps=path.steps,
    )


def _begin(agent: Agent, target: str, source: str) -> _Path:
    """Who is meant. With a source also an address or MAC that no record has, which a foreign VTEP may know."""
    holder: EndpointView | None = None
    network = None if source else _of_gateway(agent, target) or _only_place(agent, target)
    if source:
        network = agent.view.network(NetworkId(lookup.endpoint(agent.view, source).body.network))
        holder = _in_network(agent, network, target) if network else None
    elif network is None:
        meant = holder = lookup.endpoint(agent.view, target)
        network = agent.view.network(NetworkId(meant.body.network))
    if network is None:
        raise NotFound(f"endpoint {target}", "its network is not known here yet", hint="again in a while")
    path = _Path(agent, network, holder, _sender(agent, network, source, holder))
    path.mac = holder.body.mac if holder else ""
    if is_mac(target.lower()):
        path.mac = target.lower()
    elif is_address(target):
        path.address = str(ipaddress.ip_address(target))
    elif holder is not None:
        path.address = next((address.split("/")[0] for address in holder.body.addresses), "")
    return path


def _of_gateway(agent: Agent, target: str) -> NetworkView | None:
    """The network whose gateway has this address, one that is here first."""
    if not is_address(target):
        return None
    address, here = str(ipaddress.ip_address(target)), set(agent.dataplane.networks())
    found = [network for network in agent.view.networks() if address in network.body.gateways]
    return min(found, key=lambda network: network.id not in here, default=None)


def _only_place(agent: Agent, target: str) -> NetworkView | None:
    """The network that an address which nobody has would be in; None if somebody has it, or it could be in several."""
    if not is_address(target):
        return None
    address, places = ipaddress.ip_address(target), []
    for network in agent.view.networks():
        if any(address in ipaddress.ip_network(subnet) for subnet in network.body.subnets):
            if agent.view.winner(network.id, str(address)) is not None:
                return None
            places.append(network)
    return places[0] if len(places) == 1 else None


def _sender(agent: Agent, network: NetworkView, source: str, holder: EndpointView | None) -> EndpointView | None:
    """Whose frame is tried: the source if it is here, else the first of this host that is not the target itself."""
    here = [it for it in agent.view.endpoints(network.id) if agent.dataplane.port_index(it.id.hex()) is not None]
    wanted = lookup.endpoint(agent.view, source).id if source else None
    others = [it for it in here if holder is None or it.id != holder.id]
    return next((it for it in others if it.id == wanted), others[0] if others else None)


def _in_network(agent: Agent, network: NetworkView, target: str) -> EndpointView | None:
    if is_mac(target.lower()) or is_address(target):
        return agent.view.winner(network.id, target.lower())
    return lookup.named_in(agent.view, target, network) or lookup.endpoint(agent.view, target)


def _programmed(path: _Path) -> bool:
    if path.holder is not None and path.holder.body.network != path.network.id:
        other = path.agent.view.network(NetworkId(path.holder.body.network))
        place = other.name if other else "another network"
        return path.missing("network", path.network.name, f"{path.holder.body.name} is in {place}, which is apart")
    if path.network.id not in path.agent.dataplane.networks():
        return path.missing("network", path.network.name, "no endpoint of this host is in it, nothing is programmed")
    return True


def _neighbor(path: _Path) -> bool:
    """Skipped when a MAC was asked for."""
    if not path.address:
        return True
    rows = path.agent.dataplane.neighbors(path.network.id)
    row = next((row for row in rows if row.address == path.address), None)
    if row is None:
        question = trial.arp_or_nd_question(path.sender, path.address) if path.sender else None
        asked = path.agent.dataplane.trace(path.sender.id.hex(), question) if path.sender and question else None
        if asked is not None and asked.act == "flood" and asked.copies:
            path.found("neighbor", f"{path.address} asked of {_foreign(asked.copies)}", "flood")
            return False
        return path.missing("neighbor", path.address, "no neighbour has this address: ARP and ND stay unanswered")
    path.mac = row.mac
    return path.found("neighbor", f"{row.address} lladdr {row.mac}", _record(path))


def _record(path: _Path) -> str:
    endpoint, node = path.whose
    if endpoint == GATEWAY_NAME and path.holder is None:
        return f"gateway on {node}"
    return f"record of {node}" if node else "record"


def _fdb(path: _Path) -> bool:
    plane, network = path.agent.dataplane, path.network.id
    row = next((row for row in plane.fdb(network) if row.mac == path.mac), None)
    if row is not None and row.to is not None:
        path.to = row.to
        return path.found("fdb", f"{path.mac} {_to(path, row.to)}", _record(path))
    soft = next((soft for soft in plane.soft(network) if soft.mac == path.mac and soft.vtep), None)
    if soft is None or soft.vtep is None:
        verdict = _tried(path, SHORT)
        if verdict is not None and verdict.act == "flood" and verdict.copies:
            path.found("fdb", f"{path.mac} unknown: sent to {_foreign(verdict.copies)}", "flood")
            return False
        return path.missing("fdb", path.mac, "no port and no VTEP has this MAC")
    path.to = soft.vtep
    if soft.kind == "blocked":
        return path.missing("fdb", path.mac, f"{soft.vtep} used it without a record: blocked")
    age_s = answers.soft_age(soft)
    return path.found("fdb", f"{path.mac} {_to(path, soft.vtep)}", soft.kind, age_s)


def _to(path: _Path, to: PortRef | VtepRef) -> str:
    if isinstance(to, VtepRef):
        return f"dst {str(to).removeprefix('vtep ')}"
    return f"port of {path.holder.body.name}" if path.holder else str(to)


def _vtep(path: _Path) -> bool:
    """Skipped for a port of this host."""
    if not isinstance(path.to, VtepRef):
        return True
    agent, ref, shown = path.agent, path.to, str(path.to).removeprefix("vtep ")
    row = next((row for row in answers.vteps(agent) if (row.address, row.port) == (ref.address, ref.port)), None)
    if row is None:
        return path.missing("vtep", shown, "it belongs to no member and is not static")
    if row.state in ("dead", "left", "gone"):
        return path.missing("vtep", shown, f"its host {row.node} is {row.state}")
    whose = f"{row.node} {row.state}" if row.node else row.state
    width = f" path mtu {row.path_mtu}" if row.path_mtu else ""
    return path.found("vtep", f"{shown} {whose}{width}", row.kind, agent.traffic.age(ref, time.monotonic()))


async def _route(path: _Path) -> bool:
    if not isinstance(path.to, VtepRef):
        return True
    found = await path.agent.helper.route_to(path.to.address)
    if found is None:
        return path.missing("route", path.to.address, "this host has no route there")
    via = f" via {found.gateway}" if found.gateway else ""
    way = f"{path.to.address}{via} dev {found.ifname} src {found.source} mtu {found.mtu}"
    return path.found("route", way, "kernel")


def _switch(path: _Path) -> bool:
    """Two trials, a short packet and the longest of the network; skipped where nobody else is here to send one."""
    mtu = path.network.body.mtu
    short, long = _tried(path, SHORT), _tried(path, mtu)
    if short is None or long is None or path.sender is None:
        return True
    sender = f"from {path.sender.body.name}"
    if short.act == "drop":
        return path.missing("switch", sender, f"dropped as {short.reason}: {REASON_TEXTS.get(short.reason, '')}")
    if short.to != path.to:
        return path.missing("switch", sender, f"goes to {short.to or short.act}, which the tables do not say")
    width = f"up to {mtu} bytes"
    if long.act == "drop":
        width = f"not {mtu} bytes: {long.reason}" + (", its sender is told" if long.answered else "")
    return path.found("switch", f"{sender} passes, {width}", "the fast path")


def _tried(path: _Path, mtu: int) -> Verdict | None:
    """What becomes of a frame of the sender with a packet of `mtu` bytes."""
    if path.sender is None:
        return None
    return path.agent.dataplane.trace(path.sender.id.hex(), trial.packet(path.sender, path.mac, path.address, mtu))


def _foreign(copies: int) -> str:
    return "1 foreign VTEP" if copies == 1 else f"{copies} foreign VTEPs"
