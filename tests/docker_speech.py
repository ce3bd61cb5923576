"""What dockerd says to a network plugin, and what it does to the plugin's interfaces, for tests that need no dockerd.

`Speech` asks an agent of the lab on its plugin socket; `start` and `stop` do to a container's namespace what libnetwork
does (osl/interface_linux.go): move the link, name it, address it, and back.
"""

from __future__ import annotations

import json
import secrets
import socket
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from vxlanu.lab.plan import RUN
from vxlanu.lab.topology import Json, Lab

__all__ = ["SPACE", "Speech", "Started"]

SPACE = "vxlanu"
GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}
TIMEOUT_S = 60.0  # of this client; what the plugin promises is for those who measure


@dataclass(frozen=True)
class Started:
    """A container that runs on a network."""

    container: str
    endpoint: str
    address: str
    link: str


class Speech:
    """Docker of one host of a lab."""

    def __init__(self, lab: Lab, host: str) -> None:
        self.lab, self.host = lab, host
        self.socket = RUN / host / "vxlanu.sock"
        self.network = secrets.token_hex(32)
        self.pool = ""

    def restart_agent(self, *, killed: bool = True) -> None:
        """The host's agent as the plugin, after kill -9 or a stop if it runs."""
        if self.lab.agents()[self.host] is None:
            (self.lab.kill_agent if killed else self.lab.stop_agent)(self.host)
        self.lab.start_agent(self.host, "--docker", str(self.socket))

    def raw(self, method: str, body: bytes, verb: str = "POST") -> tuple[int, dict[str, Json]]:
        """One request, whatever it is; the status and the answer."""
        connection = HTTPConnection("plugin", timeout=TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT_S)
        connection.sock.connect(str(self.lab.path(Path(self.socket))))
        try:
            connection.request(verb, f"/{method}", body, {"Accept": "application/vnd.docker.plugins.v1.2+json"})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def ask(self, method: str, **body: Json) -> dict[str, Json]:
        """The answer to a request, which may be a refusal."""
        status, answer = self.raw(method, json.dumps(body).encode())
        assert status == 200, (method, status, answer)
        return answer

    def must(self, method: str, **body: Json) -> dict[str, Json]:
        """The answer to a request that must succeed."""
        answer = self.ask(method, **body)
        assert not answer.get("Err"), (method, body, answer)
        return answer

    def create_network(self, subnet: str, name: str = "") -> None:
        """`docker network create`."""
        options: Json = {"vxlanu.network": name} if name else {}
        asked = self.must("IpamDriver.RequestPool", AddressSpace=SPACE, Pool=subnet, SubPool="", Options=options)
        self.pool = str(asked["PoolID"])
        gateway = self.must("IpamDriver.RequestAddress", PoolID=self.pool, Address="", Options=GATEWAY)["Address"]
        self.must(
            "NetworkDriver.CreateNetwork",
            NetworkID=self.network,
            Options={"com.docker.network.enable_ipv6": False, "com.docker.network.generic": options},
            IPv4Data=[{"AddressSpace": SPACE, "Gateway": gateway, "Pool": asked["Pool"]}],
            IPv6Data=[],
        )

    def remove_network(self) -> None:
        """`docker network rm`."""
        self.must("IpamDriver.ReleasePool", PoolID=self.pool)
        self.must("NetworkDriver.DeleteNetwork", NetworkID=self.network)

    def take_address(self, wanted: str = "") -> str:
        """With its prefix length."""
        return str(self.must("IpamDriver.RequestAddress", PoolID=self.pool, Address=wanted, Options=None)["Address"])

    def release(self, address: str) -> None:
        self.must("IpamDriver.ReleaseAddress", PoolID=self.pool, Address=address.partition("/")[0])

    def create_endpoint(self, address: str) -> str:
        """Docker's id of it."""
        endpoint = secrets.token_hex(32)
        interface: Json = {"Address": address, "AddressIPv6": "", "MacAddress": ""}
        self.must("NetworkDriver.CreateEndpoint", **self._of(endpoint), Interface=interface, Options={})
        return endpoint

    def join(self, endpoint: str, container: str) -> str:
        """The link that is to be moved."""
        key = f"/run/netns/{container}"
        answer = self.must("NetworkDriver.Join", **self._of(endpoint), SandboxKey=key, Options={})
        name = answer["InterfaceName"]
        assert isinstance(name, dict)
        return str(name["SrcName"])

    def start(self, container: str, wanted: str = "") -> Started:
        """`docker run`: address, endpoint, join, and the link's way into the container."""
        address = self.take_address(wanted)
        endpoint = self.create_endpoint(address)
        link = self.join(endpoint, container)
        self.lab.exec(self.host, ["ip", "link", "set", link, "netns", container])
        for words in (f"link set {link} name eth0", f"addr add {address} dev eth0", "link set eth0 up"):
            self.lab.exec(container, ["ip", *words.split()])
        return Started(container, endpoint, address, link)

    def leave(self, endpoint: str) -> None:
        self.must("NetworkDriver.Leave", **self._of(endpoint))

    def delete_endpoint(self, endpoint: str) -> None:
        self.must("NetworkDriver.DeleteEndpoint", **self._of(endpoint))

    def stop(self, started: Started) -> None:
        """`docker stop`."""
        self.leave(started.endpoint)
        for words in ("link set eth0 down", f"link set eth0 name {started.link}"):
            self.lab.exec(started.container, ["ip", *words.split()])
        # The name of a process's namespace would do for Docker; here it is the host's, by name.
        self.lab.exec(started.container, ["ip", "link", "set", started.link, "netns", self.host])
        self.delete_endpoint(started.endpoint)
        self.release(started.address)

    def _of(self, endpoint: str) -> dict[str, Json]:
        return {"NetworkID": self.network, "EndpointID": endpoint}
