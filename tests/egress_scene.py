"""A lab, and how its hosts' way to the outside looks from every side of it.

`outside` is an address on the underlay of a machine that is no member.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from subprocess import Popen

from streams import words

from vxlanu.lab.topology import Completed, Lab
from vxlanu.lab.topology import Json as Body

__all__ = ["AUDIT_S", "Scene"]

AUDIT_S = 60  # what is promised within 10 s, on a machine that is busy
TABLE = ["nft", "list", "table", "inet", "vxlanu"]
SERVER = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
own = socket.socket(socket.AF_INET, kind)
own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, sys.argv[1] == "tcp")  # connections of an earlier one linger
own.bind(("0.0.0.0", int(sys.argv[2])))
if sys.argv[1] == "tcp":
    own.listen()
print("{}", flush=True)
while True:
    if sys.argv[1] == "tcp":
        peer, source = own.accept()
        peer.sendall(source[0].encode())
        peer.close()
    else:
        _, source = own.recvfrom(100)
        own.sendto(source[0].encode(), source)
"""
CLIENT = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
own = socket.socket(socket.AF_INET, kind)
own.settimeout(float(sys.argv[4]))
own.connect((sys.argv[2], int(sys.argv[3])))
if sys.argv[1] == "udp":
    own.send(b"?")
print(own.recv(100).decode())
"""


class Scene:
    """The lab, and how it looks from outside."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        members = {row["name"]: row["address"] for row in lab.vxlanu("h1", "member", "ls")}
        self.host = {name: str(address) for name, address in members.items()}
        self.outside = self.host["h1"].rpartition(".")[0] + ".250"
        lab.exec("underlay", ["ip", "addr", "replace", f"{self.outside}/24", "dev", "underlay"])

    def asked(self, place: str, address: str, port: int, protocol: str = "tcp", wait: int = 10) -> str:
        """What a server answers, which is the address that it sees; empty if nobody does."""
        command = [words()[0], "-c", CLIENT, protocol, address, str(port), str(wait)]
        return self.lab.exec(place, command, check=False).stdout.strip()

    def serving(self, place: str, port: int, protocol: str = "tcp") -> AbstractContextManager[Popen[str]]:
        return self.lab.running(place, [words()[0], "-c", SERVER, protocol, str(port)])

    def attach(self, network: str, container: str, *options: str) -> dict[str, Body]:
        body = self.lab.vxlanu(f"h{container[1]}", "attach", network, container, *options)
        assert isinstance(body, dict)
        return body

    def refused(self, host: str, *words: str) -> Completed:
        return self.lab.exec(host, ["vxlanu", *words], check=False)

    def links(self, place: str) -> dict[str, Body]:
        """Interfaces by name."""
        return {link["ifname"]: link for link in json.loads(self.lab.exec(place, ["ip", "-d", "-j", "addr"]).stdout)}

    def way_out(self, container: str) -> str:
        """The address of a container's eth1."""
        found: list[str] = re.findall(
            r"inet (\S+)/16", self.lab.exec(container, ["ip", "addr", "show", "eth1"]).stdout
        )
        [address] = found
        return address

    @contextmanager
    def unmended(self, host: str) -> Iterator[None]:
        """The agent of a host does nothing inside the block, so what is broken there stays broken."""
        self.lab.signal_agent(host, signal.SIGSTOP)
        try:
            yield
        finally:
            self.lab.signal_agent(host, signal.SIGCONT)

    def traces(self, host: str) -> tuple[list[str], bool]:
        """What of egress there is on a host: links, and whether there are rules."""
        links = sorted(name for name in self.links(host) if name == "vxlanu_gw" or name.startswith("e-"))
        return links, self.lab.exec(host, TABLE, check=False).returncode == 0
