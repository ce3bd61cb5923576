"""NetworkDriver: Docker's networks, endpoints and interfaces, made of ours.

How it works
  CreateNetwork   remember which of our networks Docker's stands for
  CreateEndpoint  tie the addresses that ipam gave out to Docker's endpoint, choose the MAC
  Join            make the TAP in our own namespace, down and bare, connect it, publish the record; Docker then moves
                  the TAP into the container, and we follow it there
  Leave           withdraw the record; Docker moves the TAP back
  DeleteEndpoint  take everything down; the addresses come back by ReleaseAddress

Rules of this file
  1. Leave, DeleteEndpoint and DeleteNetwork are idempotent: after a crash dockerd sends those of endpoints long gone.
  2. Requests for one endpoint or network are done one after the other, also when Docker has stopped waiting for the
     first. What came too late is undone only as long as the ledger has the very row that it put: a repetition puts the
     row anew, and so makes what it tells Docker of its own.
  3. The TAP stays until DeleteEndpoint, since Docker takes it back first and keeps its name until it has.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from weakref import WeakValueDictionary

import msgspec
import msgspec.structs

from vxlanu.agent.addressing import check_mac, mac_of, other_subnets
from vxlanu.agent.agent import Agent
from vxlanu.agent.attach import check_mtu, known_network
from vxlanu.agent.endpoint_life import begin, connect, take_down
from vxlanu.agent.journal import LocalRow
from vxlanu.control.core.records import Endpoint, EndpointId, NetworkId, is_mac
from vxlanu.control.core.view import NetworkState, NetworkView
from vxlanu.endpoints import waiting_name
from vxlanu.errors import BadRequest, Conflict, NotFound, Refused
from vxlanu.netns import own, sandbox
from vxlanu.runtimes.docker import pools, shapes
from vxlanu.runtimes.docker.ipam import plain
from vxlanu.runtimes.docker.ledger import DockerAddress, DockerEndpoint, DockerNetwork, Ledger
from vxlanu.runtimes.docker.moves import follow
from vxlanu.runtimes.docker.server import Made

log = logging.getLogger("vxlanu.docker")

GENERIC = "com.docker.network.generic"
NAME_DIGITS = 12  # of Docker's id, as Docker shows it


class Driver:
    """Networks and endpoints for Docker."""

    def __init__(self, agent: Agent, ledger: Ledger) -> None:
        self._agent = agent
        self._ledger = ledger
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, docker_id: str) -> asyncio.Lock:
        """What all who change an endpoint of Docker's hold meanwhile; there as long as somebody has it."""
        lock = self._turns.get(docker_id)
        if lock is None:
            lock = self._turns[docker_id] = asyncio.Lock()
        return lock

    # networks

    async def create_network(self, asked: shapes.CreateNetwork) -> shapes.Empty | Made:
        """Remember a network of Docker's; whatever would not work is refused now, while the user looks."""
        async with self.turn(asked.network_id):
            network, subnets = await self._meant(asked)
            known = asked.network_id in self._ledger.networks
            row = DockerNetwork(
                docker_id=asked.network_id, network=network.id, name=network.body.name, subnets=tuple(subnets)
            )
            await self._ledger.put(row)
        short = asked.network_id[:NAME_DIGITS]
        log.info("Docker network %s is %s", short, network.name, extra={"event": "docker_network"})
        return shapes.Empty() if known else Made(shapes.Empty(), lambda: self._undo_network(row))

    async def _meant(self, asked: shapes.CreateNetwork) -> tuple[NetworkView, list[str]]:
        """Ours that Docker's is to stand for, and the subnets that it named."""
        data = [*(asked.ipv4_data or ()), *(asked.ipv6_data or ())]
        _check_ipam(data)
        options = _generic(asked.options)
        pools.check_options(options)
        subnets = [str(pools.prefix(each.pool)) for each in data]
        if pools.OPTION in options:
            network = await known_network(self._agent, options[pools.OPTION], pools.ASK_PEER_S)
        else:
            network = await pools.with_subnets(self._agent, subnets)
        _check_agreement(network, data, subnets)
        check_mtu(self._agent, network)
        return network, subnets

    async def _undo_network(self, row: DockerNetwork) -> None:
        async with self.turn(row.docker_id):
            if self._ledger.networks.get(row.docker_id) is row:
                await self._ledger.drop(row)

    async def delete_network(self, asked: shapes.NetworkAsked) -> shapes.Empty:
        """Forget it; ours stays."""
        async with self.turn(asked.network_id):
            row = self._ledger.networks.get(asked.network_id)
            if row is not None:
                await self._ledger.drop(row)
        return shapes.Empty()

    def _network(self, docker_id: str) -> NetworkView:
        """Ours, for an endpoint that is to be; one that was made again under its name and subnets will do."""
        row = self._ledger.networks.get(docker_id)
        if row is None:
            why = "the agent does not know it: its state directory is another"
            hint = "docker network rm, then create it again"
            raise NotFound(f"Docker network {docker_id[:NAME_DIGITS]}", why, hint=hint, name="no_docker_network")
        view = self._agent.view
        again = (it for it in view.networks() if it.name == row.name and set(row.subnets) <= set(it.body.subnets))
        network = view.network(NetworkId(row.network)) or next(again, None)
        if network is None:
            raise pools.removed(row.name, row.subnets[0] if row.subnets else "")
        if network.state is NetworkState.REMOVING:
            raise Conflict(f"network {network.name}", "it is being removed", name="network_removing")
        return network

    # endpoints

    async def create_endpoint(self, asked: shapes.CreateEndpoint) -> shapes.EndpointCreated | Made:
        """Tie addresses that were asked for to Docker's endpoint; answers with the MAC if Docker has none."""
        async with self.turn(asked.endpoint_id):
            network = self._network(asked.network_id)
            wanted = asked.interface or shapes.Interface()
            known = self._ledger.endpoints.get(asked.endpoint_id)
            if known is None:
                row = await self._create(asked, network, wanted)
            else:
                row = msgspec.structs.replace(known)
                self._ledger.put_soon(row)
        answer = shapes.EndpointCreated(shapes.Interface(mac_address="" if wanted.mac_address else row.mac))
        return answer if known is not None else Made(answer, lambda: self._undo_endpoint(row))

    async def _undo_endpoint(self, row: DockerEndpoint) -> None:
        async with self.turn(row.docker_id):
            if self._ledger.endpoints.get(row.docker_id) is row:
                await self.forget(row)

    async def _create(
        self, asked: shapes.CreateEndpoint, network: NetworkView, wanted: shapes.Interface
    ) -> DockerEndpoint:
        what = f"network {network.name}"
        leases = [self._lease(network, text) for text in (wanted.address, wanted.address_ipv6) if text]
        if not leases:
            raise BadRequest(what, "an endpoint needs an address")
        mac = wanted.mac_address.lower() or mac_of(leases[0].address)
        if not is_mac(mac) or int(mac[:2], 16) & 1:
            raise BadRequest(f"--mac-address {wanted.mac_address}", "not the MAC of one station")
        check_mac(self._agent, network.id, mac, what)
        row = DockerEndpoint(
            docker_id=asked.endpoint_id,
            docker_network=asked.network_id,
            endpoint=secrets.token_bytes(16),
            network=network.id,
            name=asked.endpoint_id[:NAME_DIGITS],
            mac=mac,
            addresses=tuple(lease.address for lease in leases),
        )
        tied = [msgspec.structs.replace(lease, docker_endpoint=row.docker_id) for lease in leases]
        await self._ledger.put(row, *tied)
        return row

    def _lease(self, network: NetworkView, text: str) -> DockerAddress:
        """The lease that an address of Docker's came from, and that no other endpoint has."""
        address = plain(text)
        lease = self._ledger.address(network.id, address)
        if lease is None:
            auxiliary = address in network.body.aux.values()
            why = "an auxiliary address of the network" if auxiliary else "not given out by us"
            raise Conflict(f"address {address}", why, hint="another --ip, or none", name="address_reserved")
        if lease.docker_endpoint:
            why = f"Docker's endpoint {lease.docker_endpoint[:NAME_DIGITS]} has it"
            raise Conflict(f"address {address}", why, hint="another --ip, or none", name="address_in_use")
        return lease

    async def delete_endpoint(self, asked: shapes.EndpointAsked) -> shapes.Empty:
        """Take it down, whatever has become of it."""
        async with self.turn(asked.endpoint_id):
            row = self._ledger.endpoints.get(asked.endpoint_id)
            if row is not None:
                await self.forget(row)
        return shapes.Empty()

    async def forget(self, row: DockerEndpoint) -> None:
        """Nothing is left of it but its addresses, which are free to be given back."""
        await take_down(self._agent, row.endpoint.hex())
        untied = [msgspec.structs.replace(it, docker_endpoint="") for it in self._ledger.addresses_of(row.docker_id)]
        self._ledger.put_soon(*untied)
        await self._ledger.drop(row)

    async def operational_info(self, asked: shapes.EndpointAsked) -> shapes.EndpointInfo:
        """What a person would look for next."""
        row = self._ledger.endpoints.get(asked.endpoint_id)
        if row is None:
            return shapes.EndpointInfo({})
        key = row.endpoint.hex()
        local = self._agent.opened.get(key)
        return shapes.EndpointInfo({"vxlanu.endpoint": key, "vxlanu.ifname": local.ifname if local else ""})

    # interfaces

    async def join(self, asked: shapes.Join) -> shapes.Joined | Made:
        """Make the interface and tell the cluster of it; what Docker does next needs nothing of us."""
        async with self.turn(asked.endpoint_id):
            row = self._ledger.endpoints.get(asked.endpoint_id)
            if row is None:
                raise NotFound(f"endpoint {asked.endpoint_id[:NAME_DIGITS]}", "Docker has not created it")
            network = self._network(asked.network_id)
            check_mtu(self._agent, network)
            self._check_once(row, network, asked.sandbox_key)
            body = _record(row)
            key, known = row.endpoint.hex(), bool(row.sandbox)
            if key not in self._agent.opened:
                await self._connect(row, network, body, asked.sandbox_key)
            elif self._agent.view.endpoint(EndpointId(row.endpoint)) is None:
                await self._agent.control.put_endpoint(body)  # it had left
            row = msgspec.structs.replace(row, sandbox=asked.sandbox_key)
            self._ledger.put_soon(row)  # the journal has the path as well, from before the record
            self._agent.spawn(follow(self._agent, row))
        answer = _joined(network, body, key)
        return answer if known else Made(answer, lambda: self._undo_join(row))

    async def _undo_join(self, row: DockerEndpoint) -> None:
        async with self.turn(row.docker_id):
            if self._ledger.endpoints.get(row.docker_id) is row:
                await self._leave(row)

    def _check_once(self, row: DockerEndpoint, network: NetworkView, sandbox_key: str) -> None:
        """A container has one interface in a network of ours, also if two of Docker's stand for it."""
        for other in self._ledger.endpoints.values():
            same = other.sandbox and other.sandbox == sandbox_key and other.network == network.id
            if same and other.docker_id != row.docker_id:
                why = f"the container has an interface in it already (endpoint {other.name})"
                raise Conflict(f"network {network.name}", why, name="already_attached")

    async def _connect(self, row: DockerEndpoint, network: NetworkView, body: Endpoint, sandbox_key: str) -> None:
        key = row.endpoint.hex()
        place = sandbox(body.target, sandbox_key)
        async with AsyncExitStack() as undo:
            await begin(self._agent, LocalRow.of(row.endpoint, row.network, place, ""), undo)
            opened = await self._agent.endpoints.open(
                key, own(), mac=row.mac, mtu=network.body.mtu, addresses=(), bare=True
            )
            await connect(self._agent, body, opened, undo)
            undo.pop_all()

    async def leave(self, asked: shapes.EndpointAsked) -> shapes.Empty:
        """Nobody reaches it any more; its TAP waits for Docker to take it back."""
        async with self.turn(asked.endpoint_id):
            row = self._ledger.endpoints.get(asked.endpoint_id)
            if row is not None and row.sandbox:
                await self._leave(row)
        return shapes.Empty()

    async def _leave(self, row: DockerEndpoint) -> None:
        self._agent.endpoints.returned(row.endpoint.hex())
        self._ledger.put_soon(msgspec.structs.replace(row, sandbox=""))
        await self._agent.control.delete_endpoint(EndpointId(row.endpoint))


def _check_ipam(data: list[shapes.PoolData]) -> None:
    """Docker's own IPAM would give the same addresses on every host."""
    foreign = next((each for each in data if each.address_space != pools.SPACE), None)
    if foreign is not None or not data:
        subnet = foreign.pool if foreign is not None else "SUBNET"
        why = "its addresses come from Docker's own IPAM, which would give the same ones on every host"
        hint = f"docker network create -d vxlanu --ipam-driver vxlanu --subnet {subnet} NAME"
        raise Refused("docker network", why, hint=hint, name="foreign_ipam")


def _generic(options: shapes.Options) -> dict[str, str]:
    """The user's -o options; what is not a text is none of ours."""
    raw = (options or {}).get(GENERIC)
    try:
        values = msgspec.json.decode(raw, type=dict[str, object] | None) if raw is not None else {}
    except msgspec.DecodeError as error:
        raise BadRequest("docker network", f"its options are no object: {error}") from error
    return {key: value for key, value in (values or {}).items() if isinstance(value, str)}


def _check_agreement(network: NetworkView, data: list[shapes.PoolData], subnets: list[str]) -> None:
    """What Docker was told must be what the cluster has."""
    for subnet in subnets:
        if subnet not in network.body.subnets:
            why = f"its subnets are {', '.join(network.body.subnets)}, not {subnet}"
            hint = f"--ipam-opt {pools.OPTION}={network.name} as well, or --subnet {network.body.subnets[0]}"
            raise Conflict(f"network {network.name}", why, hint=hint, name="subnet_differs")
    for each in data:
        for name, text in (each.aux_addresses or {}).items():
            if plain(text) not in network.body.aux.values():
                why = "auxiliary addresses are the vxlanu network's, the same on all hosts"
                hint = f"vxlanu network create {network.name} --aux {name}={plain(text)}"
                raise Conflict(f"--aux-address {name}={plain(text)}", why, hint=hint, name="aux_differs")


def _record(row: DockerEndpoint) -> Endpoint:
    """Until Docker's events tell the container's name, its endpoint goes by Docker's id."""
    return Endpoint(
        id=row.endpoint,
        network=row.network,
        name=row.name,
        mac=row.mac,
        addresses=row.addresses,
        target=f"docker:{row.name}",
    )


def _joined(network: NetworkView, body: Endpoint, key: str) -> shapes.Joined:
    return shapes.Joined(
        shapes.InterfaceName(waiting_name(key)),
        static_routes=[shapes.StaticRoute(subnet) for subnet in other_subnets(network.body, body)],
        disable_gateway_service=network.body.internal,
    )
