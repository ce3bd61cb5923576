"""From what happens in the agent to the events that its readers get.

How it works
  Records and members: while somebody listens, a picture of networks and endpoints is kept as readers see them. A change
  of records is compared with it, so an event says what has become different, whatever the order in which records came.
  The fast path: its events are passed on under their names. Drops and path MTUs are compared once a second.

Rules of this file
  1. It changes nothing but its own pictures, and without readers it does nothing at all.
  2. Loud things are summed up: drops at most once in DROPS_EVERY_S for a network and reason. The first burst is told
     at once.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from vxlanu.agent.drops import Tally
from vxlanu.agent.feed import Feed
from vxlanu.agent.lookup import state_word
from vxlanu.api.schema import Event
from vxlanu.control.core.effects import Changed, MemberChanged, State
from vxlanu.control.core.records import NetworkId, short
from vxlanu.control.core.view import NetworkView
from vxlanu.dataplane import Event as Report
from vxlanu.dataplane import EventKind, PortRef, VtepRef
from vxlanu.gateway.service import GATEWAY_NAME

if TYPE_CHECKING:  # the agent holds its observer
    from vxlanu.agent.agent import Agent

DROPS_EVERY_S = 10.0
LEARNED_MAX = 4096  # MACs whose VTEP is remembered, to tell moved from learned

Networks = dict[bytes, tuple[str, str, int]]
"""Name, state, VNI."""

PASSED_ON = {
    EventKind.MAC_LEARNED,
    EventKind.MAC_PENDING,
    EventKind.MAC_CONFLICT,
    EventKind.ADDRESS_MOVED,
    EventKind.VTEP_UNKNOWN,
    EventKind.VTEP_DEMOTED,
    EventKind.SOCKET_ERROR,
    EventKind.PORT_GONE,
}


GONE = (State.DEAD, State.LEFT, State.GONE)


class _Place(NamedTuple):
    """What an event says of an endpoint; a difference here is an event."""

    name: str
    network: str
    node: str
    addresses: tuple[str, ...]
    mac: str
    vtep: str
    state: str


class Observer:
    """Watches one agent for `feed`."""

    def __init__(self, agent: Agent, feed: Feed) -> None:
        self._agent = agent
        self._feed = feed
        self._networks: Networks = {}
        self._endpoints: dict[bytes, dict[str, _Place]] = {}
        self._mtus: dict[str, int] = {}
        self._drops = Tally(agent.dataplane, DROPS_EVERY_S)
        self._learned: OrderedDict[tuple[bytes, str], str] = OrderedDict()
        feed.on_first = self._picture

    def _picture(self) -> None:
        """How things are, without a word."""
        views = self._agent.view.networks()
        self._networks = {view.id: _shown(view) for view in views}
        self._endpoints = {view.id: self._endpoints_of(view.id) for view in views}
        self._mtus = self._paths()
        self._drops.begin()
        self._learned.clear()

    # records and members

    def changed(self, change: Changed) -> None:
        """Some records are others."""
        if not self._feed.listened:
            return
        if any(kind == "network" for kind, _, _ in change.keys):
            self._compare_networks()
        for network in {network for kind, network, _ in change.keys if kind == "endpoint"}:
            self._compare_endpoints(network)

    def member(self, effect: MemberChanged) -> None:
        """A member went from one state to another, and its endpoints with it."""
        if not self._feed.listened:
            return
        after = effect.after.value if effect.after else "forgotten"
        was = effect.before.value if effect.before else ""
        self._feed.tell(Event("member", node=effect.name, state=after, was=was))
        for network, known in list(self._endpoints.items()):
            if any(one.node == effect.name for one in known.values()):
                self._compare_endpoints(network)

    def _compare_networks(self) -> None:
        before, self._networks = self._networks, {view.id: _shown(view) for view in self._agent.view.networks()}
        for network, (name, state, vni) in self._networks.items():
            if network not in before:
                self._feed.tell(Event("network_created", network=name, state=state, vni=vni))
            elif before[network][:2] != (name, state):
                self._feed.tell(Event("network_changed", network=name, state=state, was=before[network][1], vni=vni))
        for network in before.keys() - self._networks.keys():
            self._compare_endpoints(network)
            name, state, vni = before[network]
            self._feed.tell(Event("network_removed", network=name, was=state, vni=vni))

    def _compare_endpoints(self, network: bytes) -> None:
        before, now = self._endpoints.get(network, {}), self._endpoints_of(network)
        self._endpoints[network] = now
        for key in before.keys() - now.keys():
            self._tell_endpoint("endpoint_removed", before[key])
        for key, one in now.items():
            if key not in before:
                self._tell_endpoint("endpoint_added", one)
            elif before[key] != one:
                self._tell_endpoint("endpoint_changed", one, before[key].state)
        if not now:
            self._endpoints.pop(network)

    def _endpoints_of(self, network: bytes) -> dict[str, _Place]:
        return {
            view.body.id.hex(): _Place(
                name=view.body.name,
                network=self._networks.get(network, (short(network), "", 0))[0],
                node=view.owner_name,
                addresses=view.body.addresses,
                mac=view.body.mac,
                vtep=node.data_host if (node := self._agent.view.node(view.owner)) else "",
                state="down" if view.owner_state in GONE else "conflict" if view.lost else "up",
            )
            for view in self._agent.view.endpoints(NetworkId(network))
        }

    def _tell_endpoint(self, name: str, one: _Place, was: str = "") -> None:
        self._feed.tell(
            Event(
                name,
                network=one.network,
                endpoint=one.name,
                node=one.node,
                addresses=list(one.addresses),
                mac=one.mac,
                vtep=one.vtep,
                state=one.state if name != "endpoint_removed" else "",
                was=was if was != one.state else "",
            )
        )

    # the fast path

    def reported(self, report: Report) -> None:
        """An event of a worker."""
        if not self._feed.listened:
            return
        if report.lost:
            self._feed.tell(Event("lost", lost=report.lost))
        if report.kind not in PASSED_ON:
            return
        network = self._networks.get(report.network, ("", "", 0))[0]
        vtep, was = _text(report.vtep) if report.vtep else "", ""
        name = report.kind.value
        if report.kind is EventKind.MAC_LEARNED:
            was = self._learn(report.network, report.mac, vtep)
            name = "mac_moved" if was and was != vtep else name
        failed = report.kind in (EventKind.VTEP_DEMOTED, EventKind.SOCKET_ERROR, EventKind.PORT_GONE)
        self._feed.tell(
            Event(
                name,
                network=network,
                endpoint=self._endpoint_name(report.endpoint),
                mac="" if failed else report.mac,
                vtep=vtep,
                was=was if name == "mac_moved" else "",
                addresses=[report.address] if report.address and not failed else [],
                reason=report.reason,
                error=os.strerror(report.value) if failed else "",
            )
        )

    def _learn(self, network: bytes, mac: str, vtep: str) -> str:
        """Remember where a MAC is; returns where it was."""
        was = self._learned.pop((network, mac), "")
        self._learned[network, mac] = vtep
        if len(self._learned) > LEARNED_MAX:
            self._learned.popitem(last=False)
        return was

    def _endpoint_name(self, key: str) -> str:
        if PortRef(key).is_gateway:
            return GATEWAY_NAME
        return next((known[key].name for known in self._endpoints.values() if key in known), key[:12])

    # once a second

    def look(self, now: float) -> None:
        """Compare what makes no event of its own; `now` is monotonic."""
        if not self._feed.listened:
            return
        before, self._mtus = self._mtus, self._paths()
        for vtep, mtu in self._mtus.items():
            was = before.get(vtep, 0)
            if was != mtu and was:
                self._feed.tell(Event("path_mtu", vtep=vtep, mtu=mtu, mtu_was=was))
        for loss in self._drops.look(now):
            name = self._networks.get(loss.network, ("", "", 0))[0]
            self._feed.tell(Event("drops", network=name, reason=loss.reason, frames=loss.frames, seconds=loss.seconds))

    def _paths(self) -> dict[str, int]:
        return {_text(vtep): mtu for vtep, mtu in self._agent.dataplane.path_mtus().items()}


def _text(vtep: VtepRef) -> str:
    return str(vtep).removeprefix("vtep ")


def _shown(view: NetworkView) -> tuple[str, str, int]:
    return view.name, state_word(view), view.body.vni
