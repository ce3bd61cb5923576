"""Namespaces that only a descriptor holds, and sockets in them: what the gateway of a network is made of.

agent ── fd ──► namespace that forwards        no name, no process: gone with the last descriptor
agent ◄─ fds ── sockets bound inside
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_ns import Namespace, Namespaces, poll, run

from vxlanu.nsopen import AddressFailed, NamespaceHelper
from vxlanu.nsopen.wire import ListLinks, NewNamespace, OpenSockets

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def helper() -> Iterator[NamespaceHelper]:
    started = NamespaceHelper.start()
    yield started
    started.close()


def inside(namespace: int, *command: str) -> str:
    return run("nsenter", f"--net=/proc/{os.getpid()}/fd/{namespace}", "--", *command)


def test_it_forwards_and_names_no_better_way(helper: NamespaceHelper) -> None:
    namespace = helper.call_sync(NewNamespace())
    try:
        assert os.fstat(namespace).st_ino != Path("/proc/self/ns/net").stat().st_ino
        assert [(link.name, link.up) for link in helper.call_sync(ListLinks(), namespace)] == [("lo", True)]
        names = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.send_redirects")
        assert inside(namespace, "sysctl", "-n", *names).split() == ["1", "1", "0"]
    finally:
        os.close(namespace)


def test_it_ends_with_its_descriptor_and_a_tap_in_it_too(helper: NamespaceHelper, namespaces: Namespaces) -> None:
    """One end of a veth is inside: the other one shows from outside when the namespace has ended."""
    witness = namespaces.make("w")
    namespace = helper.call_sync(NewNamespace())
    witness.ip("link", "add", "outside", "type", "veth", "peer", "name", "inside")
    run("ip", "-n", witness.name, "link", "set", "inside", "netns", f"/proc/{os.getpid()}/fd/{namespace}")
    assert "outside" in witness.ip("link")
    os.close(namespace)
    poll(lambda: "outside" not in witness.ip("link"), what="the namespace has ended", story=witness.story)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def listening(namespace: Namespace) -> list[str]:
    return sorted(line.split()[4] for line in namespace.run("ss", "-Hlntu").splitlines())


def test_sockets_are_bound_inside_and_answer_there(helper: NamespaceHelper, namespaces: Namespaces) -> None:
    target = namespaces.make("g")
    addresses = ("192.0.2.1", "2001:db8::1")
    for address, length in zip(addresses, (32, 128), strict=True):
        target.ip("addr", "add", f"{address}/{length}", "dev", "lo")
    with target.path.open() as namespace:
        opened = asyncio.run(helper.open_sockets(namespace.fileno(), addresses, 53))
    try:
        assert listening(target) == sorted(2 * ["192.0.2.1:53", "[2001:db8::1]:53"])
        assert not any(os.get_inheritable(fd) or os.get_blocking(fd) for fd in opened.udp + opened.tcp)
        for fd, address in zip(opened.udp, addresses, strict=True):
            with socket.socket(fileno=os.dup(fd)) as ours:
                assert ours.getsockname()[:2] == (address, 53)
                script = f"import socket; socket.create_connection(({address!r}, 53), 30).close()"
                target.run("python3", "-c", script)
    finally:
        opened.close()
    poll(lambda: not listening(target), what="nobody to listen: the child that made them has its own until it ends")


def test_an_address_that_is_not_there_is_refused_and_nothing_stays_open(
    helper: NamespaceHelper, namespaces: Namespaces
) -> None:
    target = namespaces.make("g")
    target.ip("addr", "add", "192.0.2.1/32", "dev", "lo")
    gc.collect()  # what earlier tests left open would be closed in between
    before = descriptors()
    with target.path.open() as namespace:
        for wrong in ("192.0.2.9", "no address"):
            with pytest.raises(AddressFailed, match=wrong):
                helper.call_sync(OpenSockets(("192.0.2.1", wrong), 53), namespace.fileno())
    assert listening(target) == []
    assert descriptors() == before
