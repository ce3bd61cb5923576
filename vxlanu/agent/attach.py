"""Attach and detach: what a person asks for by name.

Rules of this file
  1. A name, a target and an interface are taken the moment they are checked, with no await in between, so that two
     requests at once cannot both pass.
  2. The steps themselves, and their undoing, are those of every endpoint (endpoint_life).
"""

from __future__ import annotations

import ipaddress
import logging
import re
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from vxlanu.addresses import is_address
from vxlanu.agent import lookup
from vxlanu.agent.addressing import check_mac, mac_of, other_subnets, take_address
from vxlanu.agent.agent import Agent
from vxlanu.agent.endpoint_life import begin, connect, take_down
from vxlanu.agent.journal import LocalRow
from vxlanu.api.schema import Attach
from vxlanu.control.core.records import Endpoint, EndpointId, NetworkId, is_mac, is_name
from vxlanu.control.core.view import EndpointView, NetworkState, NetworkView
from vxlanu.endpoints import LocalEndpoint
from vxlanu.errors import BadRequest, Conflict, NotFound, Refused, near
from vxlanu.gateway.published import Published
from vxlanu.gateway.published import parse as parse_published
from vxlanu.netns import Target, resolve
from vxlanu.nsopen import NamespaceMissing

log = logging.getLogger("vxlanu.attach")

IFNAME_BYTES_MAX = 15  # IFNAMSIZ without its terminating zero


@dataclass(frozen=True, slots=True)
class Plan:
    """An attach whose words have been checked against the records, nothing done yet."""

    endpoint: EndpointId
    network: NetworkView
    target: Target
    name: str
    wanted: Attach
    published: tuple[Published, ...]


async def attach(agent: Agent, wanted: Attach, again: EndpointId | None = None) -> EndpointId:
    """Give a target an interface in a network; returns once the endpoint is known to the network's hosts.

    `again`: the id of an intent whose container has come back.
    """
    plan = await _plan(agent, wanted, again)
    key = plan.endpoint.hex()
    if again is not None and key not in agent.intents:
        raise NotFound(f"attach {wanted.target}", "detached meanwhile", name="not_attached")
    row = LocalRow.of(plan.endpoint, plan.network.id, plan.target, wanted.ifname)
    agent.journal.rows[key] = row
    agent.names_in_use.add((plan.network.id, plan.name))
    try:
        await _carry_out(agent, plan, row)
    finally:
        agent.names_in_use.discard((plan.network.id, plan.name))
    if key in agent.journal.rows:  # else it has ended already
        await agent.intents.write(plan.endpoint, plan.network.id, plan.name, plan.target, wanted)
    await agent.names.settle()
    log.info("attached %s to %s", plan.name, plan.network.name, extra={"event": "attached"})
    return plan.endpoint


async def _carry_out(agent: Agent, plan: Plan, row: LocalRow) -> None:
    """Every step, each with its undoing."""
    async with AsyncExitStack() as undo:
        await begin(agent, row, undo)
        undo.push_async_callback(agent.egress.leave, plan.endpoint.hex())
        body = await _addressed(agent, plan, undo)
        opened = await agent.endpoints.open(
            plan.endpoint.hex(),
            plan.target,
            mac=body.mac,
            mtu=plan.network.body.mtu,
            addresses=body.addresses,
            ifname=plan.wanted.ifname,
            onlink=other_subnets(plan.network.body, body),
        )
        await _way_out(agent, plan, body, opened)
        await connect(agent, body, opened, undo)
        undo.pop_all()


async def _way_out(agent: Agent, plan: Plan, body: Endpoint, opened: LocalEndpoint) -> None:
    """The second interface, after the first has its name; an internal network has none."""
    if plan.network.body.internal:
        return
    try:
        await agent.egress.join(opened.endpoint_id, plan.target, body.addresses, plan.published)
    except BaseException:
        opened.close_fds()
        await agent.endpoints.close(opened.endpoint_id)
        raise


async def _plan(agent: Agent, wanted: Attach, again: EndpointId | None) -> Plan:
    """Check every word of the request; from here to the journal's row nothing is awaited."""
    _check_words(wanted)
    published = parse_published(wanted.publish)
    network = await known_network(agent, wanted.network)
    check_mtu(agent, network)
    if published and network.body.internal:
        why = f"{network.name} is internal: nothing leads in"
        raise Refused(f"--publish {wanted.publish[0]}", why, name="no_egress")
    target = await resolve(wanted.target)
    what = f"attach {wanted.target}"
    if network.state is NetworkState.REMOVING:
        raise Conflict(what, f"network {network.name} is being removed", name="network_removing")
    for key, row in agent.journal.rows.items():
        if row.network == network.id and (row.device, row.inode) == (target.device, target.inode):
            raise Conflict(
                what,
                f"attached to {network.name} already (endpoint {key[:12]})",
                hint=f"vxlanu detach {network.name} {wanted.target}",
                name="already_attached",
            )
    name = wanted.name or _default_name(target)
    holder = next(iter(agent.view.named(network.id, name)), None)
    if holder is not None or (network.id, name) in agent.names_in_use:
        place = f" on {holder.owner_name}" if holder else ""
        raise Conflict(what, f"{network.name} has an endpoint {name}{place}", hint="--name NAME", name="name_taken")
    endpoint = again or agent.intents.place_for(network.id, target) or EndpointId(secrets.token_bytes(16))
    return Plan(endpoint, network, target, name, wanted, published)


def _check_words(wanted: Attach) -> None:
    """The values that a type cannot express."""
    for option, text in (("ip", wanted.ip), ("ip6", wanted.ip6)):
        version = 4 if option == "ip" else 6
        if text and not is_address(text, version):
            raise BadRequest(f"--{option} {text}", f"not an IPv{version} address", hint="an address without a prefix")
    if wanted.mac and (not is_mac(wanted.mac.lower()) or int(wanted.mac[:2], 16) & 1):
        raise BadRequest(f"--mac {wanted.mac}", "not the MAC of one station", hint="02:42:…, six bytes")
    for name in filter(None, (wanted.name, *wanted.aliases)):
        if not is_name(name):
            raise BadRequest(f"name {name}", "letters, digits, . _ - and at most 128 of them")
    if len(wanted.ifname.encode()) > IFNAME_BYTES_MAX or re.search(r"[/\s:]", wanted.ifname):
        raise BadRequest(f"--ifname {wanted.ifname}", f"not an interface name of at most {IFNAME_BYTES_MAX} bytes")
    for prefix in wanted.allow_addresses:
        try:
            ipaddress.ip_network(prefix)
        except ValueError as error:
            raise BadRequest(f"--allow-address {prefix}", str(error)) from error


async def known_network(agent: Agent, reference: str, patience_s: float = 1.0) -> NetworkView:
    """The network, after asking a peer if nobody here has heard of it."""
    try:
        return lookup.network(agent.view, reference)
    except NotFound:
        await agent.control.refresh(patience_s)
        return lookup.network(agent.view, reference)


def check_mtu(agent: Agent, network: NetworkView) -> None:
    """Raises Conflict where this host's underlay cannot carry the network's frames."""
    fits = agent.underlay.mtu - agent.underlay.overhead
    if network.body.mtu > fits:
        raise Conflict(
            f"network {network.name}",
            f"its MTU is {network.body.mtu}, and {agent.underlay.ifname} here carries {fits} inside VXLAN",
            hint=f"a network with --mtu {fits}, or a larger MTU on {agent.underlay.ifname}",
            name="mtu_too_large",
        )


def _default_name(target: Target) -> str:
    """What the user calls the target, where that is a name."""
    if target.kind == "pid":
        return f"pid-{target.pid}"
    text = target.text.rpartition(":")[2] if target.kind in ("docker", "podman") else target.text
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text.rpartition("/")[2]).lstrip("_.-") or "endpoint"


async def _addressed(agent: Agent, plan: Plan, undo: AsyncExitStack) -> Endpoint:
    """Take the addresses and put the record together; taking is undone by releasing."""
    network, wanted, what = plan.network, plan.wanted, f"attach {plan.wanted.target}"
    take = partial(take_address, agent, network.id, plan.endpoint, take_over=wanted.take_over)
    kept = {address.partition("/")[0] for address in agent.control.addresses_of(network.id, plan.endpoint)}
    if not kept:
        undo.push_async_callback(agent.control.release, network.id, plan.endpoint)
    elif not kept.issuperset(filter(None, (wanted.ip, wanted.ip6))):
        await agent.control.release(network.id, plan.endpoint)  # it asks for others than were kept for it
    addresses = []
    if lookup.subnet_of(network.body, 4) or wanted.ip:
        addresses.append(await take(wanted.ip, what, ipv6=False))
    if lookup.subnet_of(network.body, 6) or wanted.ip6:
        addresses.append(await take(wanted.ip6, what, ipv6=True))
    mac = wanted.mac.lower() or mac_of(addresses[0])
    if not wanted.take_over:
        check_mac(agent, network.id, mac, what)
    return Endpoint(
        id=plan.endpoint,
        network=network.id,
        name=plan.name,
        mac=mac,
        addresses=tuple(addresses),
        aliases=tuple(wanted.aliases),
        target=wanted.target,
        flags=("allow-spoof",) if wanted.allow_spoof else (),
        allow_addresses=tuple(wanted.allow_addresses),
        supersedes=_superseded(agent, network.id, addresses) if wanted.take_over else b"",
    )


def _superseded(agent: Agent, network: NetworkId, addresses: list[str]) -> bytes:
    for address in addresses:
        holder = agent.view.winner(network, address.split("/")[0])
        if holder is not None:
            return holder.body.id
    return b""


async def detach(agent: Agent, network_reference: str, target_text: str) -> EndpointView:
    """Take a target's interface in a network away."""
    network = lookup.network(agent.view, network_reference)
    inode = await _identity(target_text)
    for key, row in list(agent.journal.rows.items()):
        leaving = agent.leaving.get(key)
        view = agent.view.endpoint(EndpointId(row.endpoint)) or (leaving.view if leaving else None)
        names = (row.text, view.body.target if view else row.text)  # Docker's events may have told another since
        if row.network == network.id and (target_text in names or (row.device, row.inode) == inode):
            if view is None:
                continue  # still being attached
            if row.kind == "plugin":
                hint = f"docker network disconnect NETWORK {view.body.target.removeprefix('docker:')}"
                raise Conflict(f"detach {target_text}", "Docker attached it", hint=hint, name="attached_by_docker")
            await agent.intents.erase(key)
            await take_down(agent, key)
            log.info("detached %s from %s", view.body.name, network.name, extra={"event": "detached"})
            return view
    if waiting := agent.intents.waiting_for(network.id, target_text):
        gone = agent.intents.as_endpoint(waiting)
        await agent.intents.end(waiting)
        log.info("detached %s from %s", gone.body.name, network.name, extra={"event": "detached"})
        return gone
    raise _not_attached(agent, network, target_text)


def _not_attached(agent: Agent, network: NetworkView, target_text: str) -> NotFound:
    """Says whether an endpoint has the target's text for its name, here or on another host."""
    endpoints = list(agent.view.endpoints(network.id))
    here = {it.body.name: it.body.target for it in endpoints if it.id.hex() in agent.journal.rows}
    elsewhere = [it for it in endpoints if target_text in (it.body.target, it.body.name)]
    if target_text in here:
        why = f"that is the endpoint's name, its target is {here[target_text]}"
        hint = f"vxlanu detach {network.name} {here[target_text]}"
    else:
        why = f"not attached to {network.name} on this host"
        if elsewhere:
            why += f"; {elsewhere[0].owner_name} has an endpoint of that name"
        hint = near(target_text, here.values()) or "vxlanu endpoint ls"
    return NotFound(f"detach {target_text}", why, hint=hint, name="not_attached")


async def _identity(target_text: str) -> tuple[int, int]:
    """Which namespace the text leads to now; (0, 0) when it is gone, which is no reason not to detach."""
    try:
        target = await resolve(target_text)
    except (NamespaceMissing, BadRequest):
        return (0, 0)
    return (target.device, target.inode)
