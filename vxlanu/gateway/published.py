"""Published ports: what `--publish` says, and who holds a port of the host.

Rules of this file
  1. A port that is published is also bound, by a socket that neither listens nor reads: nobody else can take it while
     its packets are led elsewhere, and whoever has it already is noticed by the kernel itself.
  2. The holder is named: another endpoint of ours, a process, or the kernel.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
from collections.abc import Iterable

import msgspec

from vxlanu.doctor import ports
from vxlanu.errors import BadRequest, Refused

FORM = "[IP:]HOST_PORT:PORT[/tcp|udp]"
PROTOCOLS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_WORDS = re.compile(r"(?:(?P<address>\[[^]]*\]|[^:]*):)?(?P<host_port>\d+):(?P<port>\d+)(?:/(?P<protocol>[a-z]+))?")


class Published(msgspec.Struct, frozen=True, order=True):
    """One port of the host that leads to one of a container; an empty address: every IPv4 address of the host."""

    address: str
    host_port: int
    protocol: str
    port: int

    def text(self) -> str:
        """As it was asked for, with nothing left out."""
        return f"{self.address or '0.0.0.0'}:{self.host_port}:{self.port}/{self.protocol}"


def parse(texts: Iterable[str]) -> tuple[Published, ...]:
    """What the options say.

    Raises:
        BadRequest: a text is none of FORM, or one port is asked for twice.
    """
    found: dict[tuple[str, int, str], Published] = {}
    for text in texts:
        one = _parse(text)
        key = (one.address, one.host_port, one.protocol)
        if key in found:
            raise BadRequest(f"--publish {text}", f"port {one.host_port} of the host is asked for twice")
        found[key] = one
    return tuple(found.values())


def _parse(text: str) -> Published:
    words = _WORDS.fullmatch(text)
    if words is None:
        raise BadRequest(f"--publish {text}", f"not of the form {FORM}", hint="--publish 8080:80")
    protocol = words["protocol"] or "tcp"
    if protocol not in PROTOCOLS:
        raise BadRequest(f"--publish {text}", f"there are tcp and udp, not {protocol}", hint="--publish 5353:53/udp")
    numbers = int(words["host_port"]), int(words["port"])
    for number in numbers:
        if not 0 < number < 65536:
            raise BadRequest(f"--publish {text}", f"{number} is not a port", hint="1 to 65535")
    return Published(_address(text, words["address"] or ""), numbers[0], protocol, numbers[1])


def _address(text: str, said: str) -> str:
    if not said or said == "0.0.0.0":
        return ""
    try:
        address = ipaddress.ip_address(said.strip("[]"))
    except ValueError as error:
        raise BadRequest(f"--publish {text}", f"{said} is not an address", hint=FORM) from error
    if address.version == 6:
        raise BadRequest(f"--publish {text}", "the way out of containers is IPv4 only", hint="an IPv4 address, or none")
    return str(address)


def hold(one: Published) -> socket.socket:
    """Bind the port.

    Raises:
        OSError: the kernel's answer; EADDRINUSE where somebody has it.
    """
    held = socket.socket(socket.AF_INET, PROTOCOLS[one.protocol])
    try:
        held.bind((one.address, one.host_port))
    except OSError:
        held.close()
        raise
    return held


async def hold_all(wanted: Iterable[Published]) -> list[socket.socket]:
    """Bind them all, or none.

    Raises:
        Refused: somebody has one of them; who is named.
        BadRequest: an address is none of this host's.
    """
    held: list[socket.socket] = []
    for one in wanted:
        try:
            held.append(hold(one))
        except OSError as why:
            for other in held:
                other.close()
            raise await _refusal(one, why) from why
    return held


async def _refusal(one: Published, why: OSError) -> BadRequest | Refused:
    what = f"--publish {one.text()}"
    if why.errno == errno.EADDRNOTAVAIL:
        return BadRequest(what, f"{one.address} is no address of this host", hint="ip -4 addr, or no address at all")
    if why.errno != errno.EADDRINUSE:
        return Refused(what, why.strerror or str(why), hint="another port of the host")
    named = f"{one.protocol.upper()} port {one.host_port} of the host is held by {await _holder(one)}"
    return Refused(what, named, hint="another port of the host", name="port_held")


async def _holder(one: Published) -> str:
    """Who it is, as far as this process may see."""
    found = await asyncio.to_thread(ports.holders, [one.host_port])
    for it in found:
        if it.protocol == one.protocol and (not one.address or it.address in ("0.0.0.0", "::", one.address, "")):
            pid = f" (pid {it.pid})" if it.pid else ""
            return f"kernel vxlan device {it.name}" if it.kind == "vxlan" else f"{it.name or 'the kernel'}{pid}"
    return "another socket"
