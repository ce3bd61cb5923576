"""What a lab is made of: names, addresses, paths, and the commands that build it.

Rules of this file
  1. Pure: it decides, the supervisor acts. The same plan gives the same commands.
  2. Names are for people: hosts h1, h2, ...; containers c1-1, c1-2, ... on host 1. They need no lab id, because every
     lab has namespaces of its own; the lab id is in the address under which the supervisor is found.

The topology, for two hosts with one container each:

      namespace h1                namespace underlay              namespace h2
     +----------------+        +--------------------+        +----------------+
     | vxlanu agent   |        |  bridge "underlay" |        |   vxlanu agent |
     |           eth0 +--veth--+ h1              h2 +--veth--+ eth0           |
     +----------------+        +--------------------+        +----------------+
       10.97.0.1  fd97::1         no address: a wire           10.97.0.2  fd97::2
     namespace c1-1: empty until `vxlanu attach NETWORK c1-1` on h1 (c2-1 on h2 likewise)

`underlay` is the supervisor's own network namespace. It has no address and no route, so nothing leaves the lab.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

UNDERLAY = "underlay"
RUN = Path("/run/vxlanu-lab")
"""Inside the supervisor's mount namespace only, where /run is a tmpfs of its own: it dies with the supervisor."""

HOSTS_MAX = 200
"""One /24 of underlay addresses, with room for addresses that a test adds."""
CONTAINERS_MAX = 1000
"""Per host; a namespace costs the kernel about 100 KB and five milliseconds."""
CONTROL_PORT = 7946

_CONTAINER = re.compile(r"c([1-9][0-9]*)-[A-Za-z0-9_.-]+")
_LAB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Plan:
    """One lab. `agent` replaces the command that is started on every host (its flags are appended to it)."""

    lab: str
    hosts: int = 3
    containers: int = 2
    underlay: str = "ipv4"
    mtu: int = 1500
    agent: tuple[str, ...] = ()
    agent_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _LAB_ID.fullmatch(self.lab):
            raise ValueError(f"lab id {self.lab!r}: letters, digits, '.', '_' and '-', at most 32")
        if not 1 <= self.hosts <= HOSTS_MAX:
            raise ValueError(f"{self.hosts} hosts: between 1 and {HOSTS_MAX}")
        if not 0 <= self.containers <= CONTAINERS_MAX:
            raise ValueError(f"{self.containers} containers a host: between 0 and {CONTAINERS_MAX}")
        if self.underlay not in ("ipv4", "ipv6"):
            raise ValueError(f"underlay {self.underlay!r}: ipv4 or ipv6")

    def to_json(self) -> str:
        """The plan as the supervisor gets it on its command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        fields["agent"] = tuple(fields["agent"])
        fields["agent_flags"] = tuple(fields["agent_flags"])
        return cls(**fields)

    def host_names(self) -> list[str]:
        """h1, h2, ..."""
        return [f"h{i}" for i in range(1, self.hosts + 1)]

    def container_names(self) -> list[str]:
        """All containers of all hosts, in order."""
        return [f"c{i}-{j}" for i in range(1, self.hosts + 1) for j in range(1, self.containers + 1)]

    def advertise(self, host: str) -> str:
        """The underlay address that the agent of `host` announces."""
        return underlay_address(host, self.underlay)

    def build_commands(self) -> list[list[str]]:
        """The commands that build everything but the agents, for the supervisor's namespaces."""
        commands = [
            ["ip", "link", "set", "lo", "up"],
            ["ip", "link", "add", UNDERLAY, "mtu", str(self.mtu), "type", "bridge", "mcast_snooping", "0"],
            ["ip", "link", "set", UNDERLAY, "addrgenmode", "none", "up"],
        ]
        for host in self.host_names():
            commands += self._host_commands(host)
        return [*commands, containers_command(self.container_names())]

    def _host_commands(self, host: str) -> list[list[str]]:
        in_host = ["ip", "-n", host]
        return [
            ["ip", "netns", "add", host],
            ["ip", "link", "add", host, "mtu", str(self.mtu), "type", "veth",
             "peer", "name", "eth0", "mtu", str(self.mtu), "netns", host],
            ["ip", "link", "set", host, "master", UNDERLAY, "addrgenmode", "none", "up"],
            [*in_host, "link", "set", "lo", "up"],
            [*in_host, "link", "set", "eth0", "up"],
            [*in_host, "address", "add", underlay_address(host, "ipv4") + "/24", "dev", "eth0"],
            [*in_host, "address", "add", underlay_address(host, "ipv6") + "/64", "dev", "eth0", "nodad"],
        ]  # fmt: skip

    def agent_command(self, host: str, default: tuple[str, ...], extra: tuple[str, ...] = ()) -> list[str]:
        """The agent of `host`; everybody joins through h1, h1 through h2. A flag given twice counts the second time."""
        seeds = {"h1", "h2"} & set(self.host_names()) - {host}
        joins = [part for seed in sorted(seeds) for part in ("--join", self.advertise(seed))]
        return [
            *(self.agent or (*default, "agent")),
            "--config", str(RUN / "agent.toml"), "--name", host, "--advertise", self.advertise(host), *joins,
            "--state-dir", str(RUN / host / "state"), "--socket", str(agent_socket(host)),
            "--profile", "local", "--key-file", str(RUN / "cluster.key"), "--log-level", "info",
            *self.agent_flags, *extra,
        ]  # fmt: skip


def containers_command(names: Sequence[str]) -> list[str]:
    """What makes containers: each a namespace with its loopback up, as a runtime would hand it over.

    One shell for all of them: a program started from Python costs three times as much as one from a shell.
    """
    script = 'for name; do ip netns add "$name"; ip -n "$name" link set lo up; done'
    return ["/bin/sh", "-ec", script, "sh", *names]


def underlay_address(host: str, family: str) -> str:
    """h7 is 10.97.0.7 and fd97::7."""
    number = int(host.removeprefix("h"))
    return f"10.97.0.{number}" if family == "ipv4" else f"fd97::{number:x}"


def agent_socket(host: str) -> Path:
    """Where the agent of `host` listens, as seen from inside the lab."""
    return RUN / host / "agent.sock"


def agent_log(host: str) -> Path:
    """What the agents of `host` have written since the lab is up, as seen from inside the lab."""
    return RUN / host / "agent.log"


def host_of(name: str) -> str:
    """The host of a container, or the host itself; empty when the name is neither (`underlay`)."""
    if match := _CONTAINER.fullmatch(name):
        return f"h{match[1]}"
    return name if name.startswith("h") and name[1:].isdigit() else ""


def partition_rules(port: int = CONTROL_PORT) -> str:
    """nft rules that cut a host's control port, both ways, and leave its data port alone."""
    block = f"th dport {port} drop; meta l4proto {{ tcp, udp }} th sport {port} drop;"
    return f"""table inet vxlanu_lab {{
  chain in {{ type filter hook input priority 0; meta l4proto {{ tcp, udp }} {block} }}
  chain out {{ type filter hook output priority 0; meta l4proto {{ tcp, udp }} {block} }}
}}
"""
