"""What is inside this host's namespaces: an endpoint's interface as the kernel has it, and which namespaces there are.

Rules of this file
  1. It looks and changes nothing. A namespace that ends while it is looked at is left out, which is no error.
  2. What takes long is done off the loop: /proc has thousands of processes on some hosts.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec.structs

from vxlanu.agent.agent import Agent
from vxlanu.agent.links import state_of
from vxlanu.api.schema import EndpointDetail, EndpointRoute, Namespace
from vxlanu.control.core.records import EndpointId, NetworkId
from vxlanu.errors import VxlanuError
from vxlanu.netns import RUN_NETNS

PROC = Path("/proc")

Identity = tuple[int, int]
"""Device and inode of a namespace."""


async def with_interface(agent: Agent, detail: EndpointDetail) -> EndpointDetail:
    """The same, with what the kernel says of the interface in the container; only for an endpoint of this host."""
    local = agent.opened.get(detail.id)
    if local is None:
        return detail
    try:
        with local.target.open() as namespace:
            links, addresses, routes = await asyncio.gather(
                agent.helper.links(namespace), agent.helper.addresses(namespace), agent.helper.routes(namespace)
            )
    except VxlanuError:
        return detail  # its end is on the way
    link = next((link for link in links if link.index == local.ifindex), None)
    return msgspec.structs.replace(
        detail,
        ifname=link.name if link else detail.ifname,
        port_index=agent.dataplane.port_index(detail.id),
        interface_state=state_of(link),
        interface_mtu=link.mtu if link else 0,
        interface_addresses=[f"{it.address}/{it.prefix}" for it in addresses if it.ifindex == local.ifindex],
        routes=[
            EndpointRoute(it.destination, it.gateway, it.source, it.metric)
            for it in routes
            if it.ifindex == local.ifindex and not it.destination.startswith("fe80:")
        ],
    )


async def namespaces(agent: Agent) -> list[Namespace]:
    """Every network namespace of this host but the agent's own, each with the target that `attach` takes."""
    found = await asyncio.to_thread(scan, RUN_NETNS, PROC)
    for row in agent.journal.rows.values():
        view = agent.view.endpoint(EndpointId(row.endpoint), NetworkId(row.network))
        place = agent.view.network(NetworkId(row.network))
        here = found.get((row.device, row.inode))
        if view is not None and place is not None and here is not None:
            here.endpoints.append(f"{view.body.name}.{place.name}")
    rows = [msgspec.structs.replace(row, endpoints=sorted(row.endpoints)) for row in found.values()]
    return sorted(rows, key=lambda row: (row.kind != "name", row.pid, row.target))


def scan(names: Path, processes: Path) -> dict[Identity, Namespace]:
    """Those that have a name of ip-netns(8), and those that only a process holds, by its lowest number."""
    own = _identity(processes / "self" / "ns" / "net")
    found: dict[Identity, Namespace] = {}
    for path in sorted(names.iterdir()) if names.is_dir() else ():
        identity = _identity(path)
        if identity and identity != own and identity not in found:
            found[identity] = Namespace(path.name, "name", str(path), identity[1])
    numbers = sorted(int(entry.name) for entry in processes.iterdir() if entry.name.isdigit())
    for number in numbers:
        path = processes / str(number) / "ns" / "net"
        identity = _identity(path)
        if identity is None or identity == own:
            continue
        row = found.setdefault(identity, Namespace(f"pid:{number}", "pid", str(path), identity[1]))
        row.processes += 1
        if not row.pid:
            row.pid, row.command = number, _command(processes / str(number) / "comm")
    return found


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None  # it ended, or is not ours to look into
    return status.st_dev, status.st_ino


def _command(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
