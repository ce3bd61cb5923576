"""A lab, and how its hosts' way to the outside looks from every side of it.

`outside` is an address on the underlay of a machine that is no member.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import Popen

from lab_ns import poll
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

    def asked(self, place: str, address: str, port: int, protocol: str = "tcp", wait: int = 60) -> str:
        """What a server answers, which is the address that it sees; empty if nobody does, however often asked."""
        command = [words()[0], "-c", CLIENT, protocol, address, str(port), str(min(wait, 10))]
        end = time.monotonic() + wait
        while not (said := self.lab.exec(place, command, check=False).stdout.strip()) and time.monotonic() < end:
            pass
        return said

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
        """What is broken on a host inside the block stays broken: its agent stands, and whatever it began is done.

        Who stands for some seconds is dead for the others; nobody is any more when this ends.
        """
        agent = int(self.lab.vxlanu(host, "status")["pid"])
        self.lab.signal_agent(host, signal.SIGSTOP)
        try:
            poll(lambda: self._stands(host, agent), what=f"the agent of {host} to stand", story=self.lab.story)
            yield
        finally:
            self.lab.signal_agent(host, signal.SIGCONT)
        poll(self._all_alive, what="every member to be alive", story=self.lab.story)

    def _stands(self, host: str, agent: int) -> bool:
        """Whether an agent is stopped, its helper waits for a request, and nobody is at work for either.

        Asked in this order: who stands asks for nothing more, and whom the helper had forked by then is seen.
        """
        if self._state(agent) != "T":
            return False
        [helper] = self.lab.exec(host, ["pgrep", "-P", str(agent), "-x", "vxlanu-ns"]).stdout.split()
        waits = self._state(int(helper)) == "S"
        others = [child for child in (*self._children(agent), *self._children(int(helper))) if child != int(helper)]
        return waits and all(self._state(child) in ("", "Z") for child in others)

    def _state(self, process: int) -> str:
        """As in proc(5); empty: it is gone."""
        try:
            return self.lab.path(Path(f"/proc/{process}/stat")).read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""

    def _children(self, process: int) -> list[int]:
        tasks = self.lab.path(Path(f"/proc/{process}/task"))
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]

    def _all_alive(self) -> bool:
        seen = [row for host in self.lab.hosts() for row in self.lab.vxlanu(host, "member", "ls")]
        return all(row["state"] == "alive" for row in seen)

    def traces(self, host: str) -> tuple[list[str], bool]:
        """What of egress there is on a host: links, and whether there are rules."""
        links = sorted(name for name in self.links(host) if name == "vxlanu_gw" or name.startswith("e-"))
        return links, self.lab.exec(host, TABLE, check=False).returncode == 0
