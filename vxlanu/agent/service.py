"""The API's questions, answered: each method is one line of the contract in `vxlanu.api.schema`.

Nothing is decided here. Requests go to networks and attach, lists to answers.
"""

from __future__ import annotations

import asyncio

from vxlanu.agent import answers, attach, dns_query, egress, filters, interior, keys, lookup, losses, networks
from vxlanu.agent.agent import Agent
from vxlanu.agent.feed import Reader
from vxlanu.agent.links import links
from vxlanu.agent.netcheck import everyone
from vxlanu.agent.overview import overview
from vxlanu.agent.pools import pools
from vxlanu.agent.reclaim import reclaim
from vxlanu.agent.refusals import as_error
from vxlanu.agent.why import why
from vxlanu.api import schema
from vxlanu.api.events import EVENTS
from vxlanu.capture.session import Session
from vxlanu.control.core.effects import State
from vxlanu.control.core.errors import LocalError, Refusal
from vxlanu.control.core.records import EndpointId, NetworkId, short
from vxlanu.control.core.view import NetworkView
from vxlanu.errors import BadRequest, Conflict, near

VERIFY_TRIES = 3  # a record may arrive between the two readings; what stays different is a difference
VERIFY_PAUSE_S = 0.05


class AgentService:
    """Implements `vxlanu.api.routes.Service`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def _networks(self, reference: str) -> list[NetworkView]:
        return [lookup.network(self._agent.view, reference)] if reference else self._agent.view.networks()

    async def status(self) -> schema.Status:
        return answers.status(self._agent)

    async def overview(self) -> schema.Overview:
        return overview(self._agent)

    async def networks(self, wanted: list[str]) -> list[schema.Network]:
        rows = [answers.network(self._agent, view) for view in self._agent.view.networks()]
        return filters.chosen(rows + egress.bridge(self._agent), wanted)

    async def create_network(self, wanted: schema.NetworkCreate) -> schema.Network:
        identity = await networks.create(self._agent, wanted)
        view = self._agent.view.network(identity)
        if view is None:
            raise Conflict(f"network {wanted.name}", "removed while it was being made", name="network_removed")
        return answers.network(self._agent, view)

    async def network(self, ref: str) -> schema.NetworkDetail:
        found = egress.bridge_detail(self._agent, ref)
        return found or answers.network_detail(self._agent, lookup.network(self._agent.view, ref))

    async def remove_network(self, ref: str) -> schema.Network:
        if egress.bridge_detail(self._agent, ref):
            why = "it is this host's own, and goes with the last container that uses it"
            raise Conflict(f"network {ref}", why, hint=f"vxlanu network inspect {ref}", name="network_in_use")
        return answers.network(self._agent, await networks.remove(self._agent, ref))

    async def prune_networks(self, wanted: list[str]) -> list[schema.Network]:
        unused = await self.networks([*wanted, "dangling=true", "scope=global"])
        gone = await networks.prune(self._agent, [row.id for row in unused])
        return [answers.network(self._agent, view) for view in gone]

    async def pools(self, network: str) -> list[schema.AddressPool]:
        return pools(self._agent, self._networks(network))

    async def reclaim(self, wanted: schema.Reclaim) -> list[schema.Reclaimed]:
        return await reclaim(self._agent, wanted)

    async def endpoints(self, network: str) -> list[schema.Endpoint]:
        chosen = {view.id for view in self._networks(network)} if network else None
        found = [it for it in self._agent.view.endpoints() if chosen is None or it.body.network in chosen]
        waiting = [it for it in self._agent.intents.waiting() if chosen is None or it.network in chosen]
        return answers.endpoints(self._agent, found) + answers.waiting(self._agent, waiting)

    async def attach(self, wanted: schema.Attach) -> schema.EndpointDetail:
        identity = await attach.attach(self._agent, wanted)
        view = self._agent.view.endpoint(identity)
        if view is None:
            raise Conflict(f"attach {wanted.target}", "its namespace ended meanwhile", name="namespace_ended")
        return answers.endpoint_detail(self._agent, view)

    async def endpoint(self, ref: str) -> schema.EndpointDetail:
        detail = answers.endpoint_detail(self._agent, lookup.endpoint(self._agent.view, ref))
        return await interior.with_interface(self._agent, detail)

    async def namespaces(self) -> list[schema.Namespace]:
        return await interior.namespaces(self._agent)

    async def detach(self, network: str, target: str) -> schema.Endpoint:
        return answers.endpoint(self._agent, await attach.detach(self._agent, network, target))

    async def members(self) -> list[schema.Member]:
        return answers.members(self._agent, self._agent.view.members())

    async def join(self, wanted: schema.Join) -> schema.Joined:
        try:
            await self._agent.control.join(wanted.addresses)
        except (Refusal, LocalError) as refusal:
            raise as_error(refusal, f"join {' '.join(wanted.addresses)}") from refusal
        return schema.Joined(reached=wanted.addresses, retrying=[])

    async def leave(self) -> schema.Left:
        """Say goodbye and end; refused while endpoints of this host are in use."""
        agent = self._agent
        if agent.journal.rows:
            found = [agent.view.endpoint(EndpointId(row.endpoint)) for row in agent.journal.rows.values()]
            shown = ", ".join(f"{it.body.name} ({it.body.target})" for it in found if it)
            raise Conflict("leave", f"this host has endpoints: {shown}", hint="vxlanu detach", name="in_use")
        told = sum(it.state is State.ALIVE and not it.me for it in agent.view.members())
        agent.leave_on_stop = True
        asyncio.get_running_loop().call_later(0.1, agent.stopping.set)  # the answer goes first
        return schema.Left(agent.config.name, told)

    async def forget(self, ref: str) -> schema.Member:
        view = lookup.member(self._agent.view, ref)
        [row] = answers.members(self._agent, [view])
        try:
            await self._agent.control.forget(view.id)
        except Refusal as refusal:
            error = as_error(refusal, f"forget {view.name}")
            if refusal.name == "member_alive":
                error.why = f"it is {view.state.value}; only a member that is dead or has left can be forgotten"
            raise error from refusal
        return row

    async def vteps(self) -> list[schema.Vtep]:
        return answers.vteps(self._agent)

    async def add_vtep(self, wanted: schema.VtepAdd) -> schema.VtepAdded:
        body = await networks.add_vtep(self._agent, wanted)
        network = lookup.network(self._agent.view, body.network.hex())
        return schema.VtepAdded(
            address=body.address,
            port=body.port,
            kind="static",
            node="",
            state="static",
            networks=[network.name],
            macs=list(body.macs),
            commands=networks.commands_for(self._agent, network, body),
        )

    async def remove_vtep(self, network: str, address: str) -> schema.Vtep:
        body = await networks.remove_vtep(self._agent, network, address)
        return schema.Vtep(body.address, body.port, "static", "", "removed", [network], list(body.macs))

    async def links(self, reference: str) -> list[schema.Link]:
        return await links(self._agent, reference)

    async def fdb(self, network: str) -> list[schema.FdbEntry]:
        return answers.fdb(self._agent, self._networks(network))

    async def neighbors(self, network: str) -> list[schema.Neighbor]:
        return answers.neighbors(self._agent, self._networks(network))

    async def drops(self) -> list[schema.Drop]:
        lost = await losses.ring_losses(self._agent)
        return answers.drops(self._agent, {key: lost[key] for key in lost if key in self._agent.journal.rows})

    async def stats(self) -> list[schema.Counters]:
        return answers.stats(self._agent)

    async def netcheck(self, member: str) -> schema.Netcheck:
        chosen = [lookup.member(self._agent.view, member)] if member else everyone(self._agent)
        if any(view.me for view in chosen):
            raise BadRequest(f"netcheck {member}", "that is this host", hint="another member: vxlanu member ls")
        return await self._agent.netcheck.check(chosen)

    async def why(self, target: str, source: str) -> schema.Why:
        return await why(self._agent, target, source)

    async def dns_query(self, name: str, rtype: str, network: str) -> schema.NameAnswer:
        return await dns_query.query(self._agent, name, rtype, network)

    async def events(self, names: list[str], network: str, endpoint: str) -> Reader:
        """A reader that has heard `listening`; unknown names are refused before the stream begins."""
        view = self._agent.view
        for name in names:
            if name not in EVENTS:
                hint = near(name, EVENTS) or "vxlanu events --help"
                raise BadRequest(f"event {name}", "there is none of that name", hint=hint, name="no_event")
        place = lookup.network(view, network) if network else None
        if endpoint:
            chosen = lookup.endpoint(view, endpoint, place)
            endpoint = chosen.body.name
            place = place or view.network(NetworkId(chosen.body.network))
        reader = self._agent.feed.listen(names, place.name if place else "", endpoint)
        reader.greet(self._agent.config.name)
        return reader

    async def keys(self, prefix: str) -> tuple[int, list[schema.KeyValue]]:
        agent, index = self._agent, self._agent.keys.index
        return index, await keys.found(
            agent.view, agent.keys, prefix, agent.docker.network_ids() if agent.docker else {}
        )

    async def keys_changed(self, index: int, patience_s: float) -> int:
        return await self._agent.keys.wait(index, patience_s)

    async def capture(self, wanted: schema.CaptureWanted) -> Session:
        return await self._agent.captures.open(wanted)

    async def stop_capture(self, number: str) -> schema.CaptureStopped:
        return self._agent.captures.stop(number)

    async def verify(self) -> schema.Verify:
        """Compare every table with the full recomputation."""
        for _ in range(VERIFY_TRIES):
            checked, found = self._agent.reconciler.verify()
            if not found:
                break
            await asyncio.sleep(VERIFY_PAUSE_S)
        names: dict[bytes, str] = {view.id: view.name for view in self._agent.view.networks()}
        differences = [
            schema.Difference(
                network=names.get(it.key[1], short(it.key[1])),
                table=it.key[0],
                key=it.key[2],
                programmed=it.programmed,
                expected=it.expected,
            )
            for it in found
        ]
        return schema.Verify(checked, differences)
