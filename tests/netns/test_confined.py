"""The agent confined as its unit says: all that a service of ours does, it does in there (confined.py: how).

    c1  c2        containers, in blue
    ──────
      h1 ───── h2      h1: the agent; h2: a machine that is no member and knows h1's address alone
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket

import pytest
from egress_scene import CLIENT, SERVER
from lab_ns import Namespace, Namespaces, Underlay, poll, run
from needs import require
from service_unit import Unit

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
VXLANU = str(Path(sys.executable).with_name("vxlanu"))
CONFINED = ROOT / "tests/confined.py"
DOCKER_SOCKET = "/run/docker/plugins/vxlanu.sock"
OUTSIDE = Underlay.v4(2)
NAME = "c2.blue.vxlanu.internal"
ACTIVATE = b"POST /Plugin.Activate HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Confined:
    """A service that runs, and the two machines."""

    unit: Unit
    host: Namespace
    outside: Namespace

    def path(self, inside: str) -> Path:
        """A file as the service sees it."""
        assert self.unit.process is not None
        return Path(f"/proc/{self.unit.process.pid}/root{inside}")

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`vxlanu WORDS`, to its end."""
        socket = str(self.path("/run/vxlanu/agent.sock"))
        return subprocess.run([VXLANU, *words, "--socket", socket], capture_output=True, text=True, check=False)

    def attach(self, container: Namespace, *words: str) -> str:
        """Into blue; its address there."""
        done = self.call("attach", "blue", container.name, *words, "--json")
        assert done.returncode == 0, done.stderr + self.unit.story()
        return str(json.loads(done.stdout)["addresses"][0]).partition("/")[0]

    def said(self, pattern: str) -> str:
        """The one line of the log, once it is there."""
        poll(lambda: re.search(pattern, self.unit.log.read_text()), what=pattern, story=self.unit.story)
        [line] = [line for line in self.unit.log.read_text().splitlines() if re.search(pattern, line)]
        return line


@pytest.fixture
def confined(
    namespaces: Namespaces, underlay: Callable[..., Underlay], tmp_path: Path
) -> Iterator[Callable[[str], Confined]]:
    """`confined(without)`: the agent under its own unit, of which that text is left out; blue is there."""
    require("native", "ping", "dig", "nft", "unshare", "setpriv")
    with ExitStack() as stack:

        def start(without: str = "") -> Confined:
            text = run(VXLANU, "agent", "--print-unit")
            assert without in text
            unit, configuration = tmp_path / "vxlanu.service", tmp_path / "agent.toml"
            unit.write_text(text.replace(without, ""))
            configuration.write_text(f'advertise = "{Underlay.v4(1)}"\ndocker = "{DOCKER_SOCKET}"\n')
            host, outside = underlay(2).hosts
            seen = [str(tree) for tree in (ROOT, Path(sys.prefix)) if tree.parts[:2] == ("/", "tmp")]
            words = [sys.executable, str(CONFINED), str(unit), str(configuration), *seen]
            command = host.command("unshare", "--mount", "--propagation", "slave", "--", *words)
            service = Confined(stack.enter_context(Unit(tmp_path, command)), host, outside)
            service.unit.start()
            done = service.call("network", "create", "blue", "--subnet", "192.168.0.0/24")
            assert done.returncode == 0, done.stderr + service.unit.story()
            return service

        yield start


def dig(container: Namespace, name: str, *words: str) -> str:
    """What the gateway of blue answers."""
    asked = ("dig", "+short", "+tries=1", f"+time={words[0] if words else 20}", "@192.168.0.1", name)
    return container.run(*asked, check=False).strip()


def test_everything_goes_inside_the_confinement(confined: Callable[..., Confined], namespaces: Namespaces) -> None:
    service = confined()
    read_only = {at: bool(os.statvfs(service.path(at)).f_flag & os.ST_RDONLY) for at in ("/", "/usr", "/etc/netns")}
    assert read_only == {"/": True, "/usr": True, "/etc/netns": False}, "not confined at all"
    one, two = namespaces.make("c"), namespaces.make("c")
    service.attach(one, "--name", "c1", "--publish", "80:8000")
    address = service.attach(two, "--name", "c2")
    poll(lambda: one.pings(address, wait=1), what="a ping between containers", story=service.unit.story)
    poll(lambda: dig(one, NAME) == address, what="an answer with its address", story=service.unit.story)
    told = service.path(f"/etc/netns/{one.name}/resolv.conf").read_text()
    assert "nameserver 192.168.0.1\n" in told
    poll(lambda: one.pings(OUTSIDE, wait=1), what="a ping to the outside", story=service.unit.story)
    serving = one.start(sys.executable, "-c", SERVER, "tcp", "8000")  # until its namespace goes
    assert serving.stdout is not None
    assert serving.stdout.readline() == "{}\n"
    asked = (sys.executable, "-c", CLIENT, "tcp", Underlay.v4(1), "80", "20")
    assert service.outside.run(*asked).strip() == OUTSIDE
    assert docker_asks(service.path(DOCKER_SOCKET)) == {"NetworkDriver", "IpamDriver"}
    assert service.unit.process is not None
    assert os.getpriority(os.PRIO_PROCESS, service.unit.process.pid) < 0, "it may"
    assert not re.search(" (warning|error) |Traceback", service.unit.log.read_text()), service.unit.story()


def docker_asks(path: Path) -> set[str]:
    """What the plugin says that it is."""
    with Socket(AF_UNIX) as asking, asking.makefile("rb") as answer:
        asking.connect(str(path))
        asking.sendall(ACTIVATE)
        return set(json.loads(answer.read().partition(b"\r\n\r\n")[2])["Implements"])


def test_without_its_capability_no_port_below_1024(confined: Callable[..., Confined], namespaces: Namespaces) -> None:
    service = confined("CAP_NET_BIND_SERVICE ")
    one, two, third = (namespaces.make("c") for _ in range(3))
    service.attach(one, "--name", "c1")
    address = service.attach(two, "--name", "c2")
    poll(lambda: one.pings(address, wait=1), what="a ping between containers", story=service.unit.story)
    refused = service.call("attach", "blue", third.name, "--publish", "80:8000")
    assert refused.returncode == 6 and refused.stderr.count("\n") == 1 and "80" in refused.stderr, refused
    service.attach(third, "--publish", "8080:8000")
    assert "53" in service.said("no names are answered at the gateway")
    assert "Traceback" not in service.unit.log.read_text()
    assert dig(one, NAME, "1") != address
