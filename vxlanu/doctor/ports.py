"""A reader: who holds a port here. The kernel's socket tables, the processes behind them, kernel vxlan devices.

A kernel vxlan device's socket belongs to no process. The device may be in another namespace than
its socket (Docker Swarm's overlay networks are), so named namespaces are looked into for one with that port and its
socket elsewhere (IFLA_LINK_NETNSID).

Rules of this file
  1. It reads, and judges nothing. What may not be looked at is left out.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vxlanu.doctor.facts import Holder
from vxlanu.doctor.tools import Json, listed, run_json

__all__ = ["holders"]

NAMESPACES = ("/run/docker/netns", "/run/netns")
NAMESPACES_MAX = 64
TCP_LISTEN = "0A"


@dataclass(frozen=True)
class _Socket:
    protocol: str
    port: int
    address: str
    inode: int


def holders(ports: Iterable[int]) -> list[Holder]:
    """Everybody on these ports, by UDP or listening by TCP."""
    wanted = set(ports)
    found = [it for protocol in ("udp", "tcp") for it in _sockets(protocol) if it.port in wanted]
    processes = _processes({it.inode for it in found})
    rows = [_holder(it, processes.get(it.inode)) for it in found]
    return list(dict.fromkeys(rows))


def _holder(it: _Socket, process: tuple[int, str] | None) -> Holder:
    if process is not None:
        return Holder(it.protocol, it.port, "process", process[1], process[0], address=it.address)
    if it.protocol == "udp":
        for namespace in ["", *_namespaces()]:
            names = [name for name, port in _vxlan_devices(namespace) if port == it.port]
            if names:
                return Holder("udp", it.port, "vxlan", ", ".join(names), namespace=namespace)
    if os.geteuid():
        return Holder(it.protocol, it.port, "process", "a process of another user", address=it.address)
    return Holder(it.protocol, it.port, "kernel")


def _sockets(protocol: str) -> Iterator[_Socket]:
    for table in (protocol, f"{protocol}6"):
        try:
            rows = Path("/proc/self/net", table).read_text().splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6
        for row in rows:
            fields = row.split()
            address, _, port = fields[1].partition(":")
            if protocol == "udp" or fields[3] == TCP_LISTEN:
                yield _Socket(protocol, int(port, 16), _address(address), int(fields[9]))


def _address(text: str) -> str:
    """The kernel prints each 32-bit word in the host's order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _processes(inodes: set[int]) -> dict[int, tuple[int, str]]:
    """Socket inode to (pid, name)."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, tuple[int, str]] = {}
    if not wanted:
        return found
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            links = {_target(entry) for entry in (process / "fd").iterdir()}
            for link in links & wanted.keys():
                found.setdefault(wanted[link], (int(process.name), (process / "comm").read_text().strip()))
        except OSError:
            continue  # it ended, or is not ours to look into
    return found


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def _namespaces() -> list[str]:
    found: list[str] = []
    for folder in NAMESPACES:
        try:
            found += sorted(str(entry) for entry in Path(folder).iterdir())
        except OSError:
            continue
    return found[:NAMESPACES_MAX]


def _vxlan_devices(namespace: str) -> Iterator[tuple[str, int]]:
    """Names and ports, of those here, or of those in a namespace by path whose sockets are in another one."""
    inside = ["nsenter", f"--net={namespace}"] if namespace else []
    answer, _ = run_json([*inside, "ip", "-json", "-details", "link", "show", "type", "vxlan"])
    for link in listed(answer):
        if not namespace or "link_netnsid" in link:
            yield str(link.get("ifname", "")), _port(link)


def _port(link: dict[str, Json]) -> int:
    info = link.get("linkinfo")
    data = info.get("info_data") if isinstance(info, dict) else None
    port = data.get("port") if isinstance(data, dict) else None
    return port if isinstance(port, int) else 0
