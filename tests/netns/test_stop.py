"""A stop ends in time and leaves what a stop leaves, whatever the agent was about.

    c1         a container
    h1         its host, with an agent; in its namespace also a resolver that never answers
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from asking import ask
from lab_ns import Namespace, Namespaces, Underlay, pids_in, poll
from needs import require
from service_unit import Unit

from vxlanu.agent.deadline import CLOSED_S

pytestmark = pytest.mark.netns

VXLANU = str(Path(sys.executable).with_name("vxlanu"))
RESOLVER_S = 90  # that long the C library waits for ours
SILENT = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
    resolver.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while data := resolver.recv(4096):
        print(data[:2].hex(), flush=True)
"""
WITH_RESOLVER = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


class Host:
    """h1: where its agent runs, its unit, and the socket to ask it."""

    def __init__(self, namespace: Namespace, unit: Unit, place: Path) -> None:
        self.namespace, self.unit, self.socket = namespace, unit, place / "agent.sock"

    def ask(self, *arguments: str) -> dict[str, object]:
        said = ask(str(self.socket), self.socket, *arguments)
        return said if isinstance(said, dict) else {"items": said}

    def log(self) -> str:
        return self.unit.log.read_text(errors="replace")


@pytest.fixture
def host(
    namespaces: Namespaces, underlay: Callable[..., Underlay], tmp_path: Path
) -> Iterator[Callable[..., Host]]:
    """`host(*flags, before=())`: h1 with its agent running, `before` in front of its command."""
    require("native")
    with ExitStack() as stack:

        def build(*flags: str, before: tuple[str, ...] = ()) -> Host:
            [namespace] = underlay(1).hosts
            told = ["--name", "h1", "--profile", "local", "--advertise", Underlay.v4(1), *flags]
            told += ["--state-dir", str(tmp_path / "state"), "--socket", str(tmp_path / "agent.sock")]
            unit = stack.enter_context(Unit(tmp_path, namespace.command(*before, VXLANU, "agent", *told)))
            return Host(namespace, unit, tmp_path)

        yield build


def test_a_resolver_that_does_not_answer_holds_up_no_stop(host: Callable[..., Host], tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"nameserver 127.0.0.1\noptions timeout:{RESOLVER_S // 3} attempts:3\n")
    h1 = host(
        *("--join", "seed.vxlanu.test"), before=("unshare", "-m", "sh", "-c", WITH_RESOLVER, "sh", str(resolv))
    )
    h1.namespace.ip("link", "set", "lo", "up")
    with h1.namespace.start(sys.executable, "-c", SILENT) as resolver:
        try:
            assert resolver.stdout and resolver.stdout.readline() == "ready\n"
            h1.unit.start()
            assert resolver.stdout.readline(), "a question, which stays open"
            begun = time.monotonic()
            assert h1.unit.stop() == 0, h1.unit.story()
            assert time.monotonic() - begun < RESOLVER_S / 2, h1.unit.story()
        finally:
            resolver.kill()
    assert "stopped without waiting any longer for: " in h1.log()
    assert CLOSED_S < RESOLVER_S / 2


def test_a_stop_in_the_middle_of_an_attach_ends_and_leaves_nothing_of_it(
    host: Callable[..., Host], namespaces: Namespaces
) -> None:
    h1, c1 = host(), namespaces.make("c")
    h1.unit.start()
    h1.ask("network", "create", "blue", "--subnet", "192.168.0.0/24")
    before = c1.ip("-j", "link", "show")
    helper = helper_of(h1)
    os.kill(helper, signal.SIGSTOP)  # which then answers nobody
    attaching = subprocess.Popen(
        [VXLANU, "attach", "blue", c1.name, "--socket", str(h1.socket)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        poll(lambda: "POST /v1/endpoints" in h1.log(), what="the request", story=h1.unit.story)
        h1.unit.signal(signal.SIGTERM)
        attaching.communicate(timeout=60)
        assert attaching.returncode != 0
    finally:
        attaching.kill()
        os.kill(helper, signal.SIGCONT)
    assert h1.unit.process is not None
    assert h1.unit.process.wait(60) == 0, h1.unit.story()
    assert not re.search(r"^[0-9:.]+ error ", h1.log(), re.MULTILINE), h1.unit.story()
    poll(lambda: not pids_in({h1.namespace.inode, c1.inode}), what="its helper's end, and that of the helper's child")
    h1.unit.start()
    assert h1.ask("endpoint", "ls") == {"items": []}
    assert json.loads(c1.ip("-j", "link", "show")) == json.loads(before)
    h1.ask("attach", "blue", c1.name)  # the control: nothing is in the way of another
    assert len(json.loads(c1.ip("-j", "link", "show"))) == len(json.loads(before)) + 2
    assert h1.unit.stop() == 0


def helper_of(host: Host) -> int:
    """The pid of its namespace helper."""
    assert host.unit.process is not None
    children = Path(f"/proc/{host.unit.process.pid}/task/{host.unit.process.pid}/children").read_text().split()
    found = [int(pid) for pid in children if _name_of(pid) == "vxlanu-ns\n"]
    assert len(found) == 1, found
    return found[0]


def _name_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except FileNotFoundError:  # it has ended meanwhile
        return ""
