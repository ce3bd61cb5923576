"""A data plane of real parts for tests: engines in host namespaces, TAPs in container namespaces.

Rules of this file
  1. It programs engines as the agent would, through the boundary alone, and knows nothing of agents or records.
  2. A TAP is born in its host's namespace and moved into the container, as in production: so it does not pin it.
  3. Sockets are opened inside a namespace and then used from the test's own thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from inside import inside as in_network
from lab_ns import Namespace, Namespaces, Underlay, poll

from vxlanu._native import ffi, lib

if TYPE_CHECKING:
    from vxlanu._native import Counters, Engine

T = TypeVar("T")

TUNSETIFF, TUNSETVNETLE, TUNSETOFFLOAD, TUNSETQUEUE = 0x400454CA, 0x400454DC, 0x400454D0, 0x400454D9
TUNSETSTEERINGEBPF = 0x800454E0
TAP_FLAGS = 0x0002 | 0x1000 | 0x4000 | 0x0100  # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
IFF_DETACH_QUEUE = 0x0400
TUN_F_CSUM, TUN_F_USO = 1, 0x20 | 0x40
TUN_F_ALL = TUN_F_CSUM | TUN_F_USO | 0x02 | 0x04 | 0x08  # TSO4, TSO6, TSO_ECN; USO4 and USO6 since Linux 6.2
VNI = 256
REASONS = [ffi.string(lib.vx_reason_name(number)).decode() for number in range(lib.vx_reason_count())]


def inside(namespace: Namespace, work: Callable[[], T]) -> T:
    """What `work` returns, run by a thread that entered `namespace`."""
    return in_network(namespace.path, work)


def address(text: str) -> bytes:
    """The 16-byte form of an address."""
    if ":" in text:
        return socket.inet_pton(socket.AF_INET6, text)
    return bytes(10) + b"\xff\xff" + socket.inet_aton(text)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def open_tap(name: str, offload: int = TUN_F_ALL, detached: bool = False) -> int:
    """One queue of a TAP as the agent opens it."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_FLAGS))
    fcntl.ioctl(fd, TUNSETVNETLE, struct.pack("i", 1))
    try:
        fcntl.ioctl(fd, TUNSETOFFLOAD, offload)
    except OSError:
        fcntl.ioctl(fd, TUNSETOFFLOAD, offload & ~TUN_F_USO)
    if detached:
        fcntl.ioctl(fd, TUNSETQUEUE, struct.pack("16xH22x", IFF_DETACH_QUEUE))
    return fd


def open_queues(name: str, workers: int, offload: int, steered: bool) -> list[int]:
    """A queue for each worker; with several, one more that all write by and none reads."""
    read = [open_tap(name, offload) for _ in range(workers)]
    if workers == 1:
        return read
    if steered:
        program = lib.vx_steer_program(workers)
        assert program >= 0, os.strerror(-program)
        fcntl.ioctl(read[0], TUNSETSTEERINGEBPF, struct.pack("i", program))
        os.close(program)
    return [*read, open_tap(name, offload, detached=True)]


def new_engine(host: Namespace, own: str, workers: int = 1, **more: int) -> Engine | int:
    """An engine bound to `own`, or the negative errno that its making gave. `more`: other fields of vx_config."""
    made = ffi.new("vx_engine **")
    fields = {"address": address(own), "data_port": 4789, "workers": workers, "offloads": lib.VX_OFFLOAD_ALL} | more
    config = ffi.new("vx_config *", fields)
    error = inside(host, lambda: lib.vx_engine_new(config, made))
    return error if error else made[0]


@dataclass
class Container:
    """A namespace with one TAP, and the port that it is on its host's engine."""

    namespace: Namespace
    mac: str
    v4: str
    v6: str
    port: int = -1


@dataclass
class Host:
    """An engine and what it was told."""

    namespace: Namespace
    own: str
    engine: Engine
    network: int
    containers: list[Container] = field(default_factory=list)
    vteps: dict[str, int] = field(default_factory=dict)
    _members: dict[int, int] = field(default_factory=dict)

    def counters(self, kind: int = 0, number: int = 0) -> Counters:
        read = ffi.new("vx_counters *")
        assert lib.vx_counters_read(self.engine, kind, number, read) == 0
        return read

    def drops(self, kind: int = 0, number: int = 0) -> dict[str, int]:
        counts = self.counters(kind, number).drops
        return {name: counts[at] for at, name in enumerate(REASONS) if counts[at]}

    def events(self) -> list[tuple[int, int, bytes, int]]:
        """(kind, port, address, value) of every event so far."""
        taken = ffi.new("vx_event[]", 256)
        count = lib.vx_engine_events(self.engine, taken, 256)
        return [(e.kind, e.port, bytes(ffi.buffer(e.address)), e.value) for e in (taken[i] for i in range(count))]

    def add_vtep(self, own: str, flags: int, data_port: int = 4789) -> int:
        number = lib.vx_vtep_add(self.engine, address(own), data_port, 0)
        assert number >= 0
        self.vteps[own] = number
        self._members[number] = flags
        members = ffi.new("vx_member[]", [{"vtep": v, "flags": f} for v, f in self._members.items()])
        assert lib.vx_network_vteps(self.engine, self.network, members, len(self._members)) == 0
        return number

    def attach(
        self, namespaces: Namespaces, container: Container, mtu: int = 1450, offload: int = TUN_F_ALL
    ) -> Container:
        """Give a container its TAP, and the engine the port."""
        inner, born = container.namespace, f"t{len(self.containers)}"
        workers = lib.vx_engine_workers(self.engine)
        steered = bool(lib.vx_engine_offloads(self.engine) & lib.VX_OFFLOAD_STEERING)
        fds = inside(self.namespace, lambda: open_queues(born, workers, offload, steered))
        flags = lib.VX_PORT_WRITE_QUEUE if workers > 1 else 0
        self.namespace.ip("link", "set", born, "netns", inner.name)
        inner.ip("link", "set", born, "name", "eth0", "address", container.mac, "mtu", str(mtu))
        inner.ip("addr", "add", f"{container.v4}/24", "dev", "eth0")
        inner.ip("addr", "add", f"{container.v6}/64", "dev", "eth0", "nodad")
        inner.ip("link", "set", "eth0", "up")
        poll(lambda: inner.ip("-6", "route", "show", "table", "local", "to", container.v6), what="its own IPv6 address")
        container.port = lib.vx_port_add(self.engine, self.network, mac(container.mac), mtu, flags, fds, len(fds))
        assert container.port >= 0
        own: list[Mapping[str, int | bytes]] = [
            {"address": address(a), "length": 128} for a in (container.v4, container.v6)
        ]
        assert lib.vx_port_allow(self.engine, container.port, ffi.new("vx_prefix[]", own), len(own)) == 0
        self.containers.append(container)
        return container

    def learn(self, container: Container, kind: int, number: int) -> None:
        """Set the records of a container: where its MAC is, and which MAC has its addresses."""
        bytes_ = mac(container.mac)
        assert lib.vx_fdb_set(self.engine, self.network, bytes_, kind, number) == 0
        for own in (container.v4, container.v6):
            assert lib.vx_neighbor_set(self.engine, self.network, address(own), bytes_, 0) == 0

    def story(self) -> str:
        read = self.counters()
        named = {n: getattr(read, n) for n in ("in_frames", "out_frames", "encapsulated", "decapsulated", "flooded")}
        return f"{self.own}: {named} drops {self.drops()}"


@dataclass
class Bench:
    """Hosts on an underlay, all in one network."""

    namespaces: Namespaces
    underlay: Underlay
    hosts: list[Host]

    @classmethod
    @contextlib.contextmanager
    def of(
        cls, namespaces: Namespaces, hosts: int = 2, strangers: int = 0, ipv6: bool = False, **more: int
    ) -> Iterator[Bench]:
        """Hosts 1..n with engines that know each other and each other's containers; 10.7.0.HC is container C of H.

        Behind them on the underlay come `strangers`: hosts without an engine.
        `more`: per_host, workers, offloads, underlay_mtu.
        """
        underlay = Underlay.build(namespaces, hosts + strangers, more.get("underlay_mtu", 1500))
        mtu = more.get("underlay_mtu", 1500) - (70 if ipv6 else 50)
        workers, per_host = more.get("workers", 1), more.get("per_host", 1)
        offloads = more.get("offloads", lib.VX_OFFLOAD_ALL)
        bench = cls(namespaces, underlay, [])
        own = [underlay.v6(n) if ipv6 else underlay.v4(n) for n in range(1, hosts + 1)]
        try:
            for at, namespace in enumerate(underlay.hosts[:hosts]):
                engine = new_engine(namespace, own[at], workers, offloads=offloads)
                assert not isinstance(engine, int), os.strerror(-engine)
                bench.hosts.append(Host(namespace, own[at], engine, lib.vx_network_add(engine, VNI, mtu, 0)))
                assert inside(namespace, lambda engine=engine: lib.vx_engine_start(engine)) == 0  # threads stay there
            for number, host in enumerate(bench.hosts, 1):
                bench._populate(host, number, per_host, mtu)
            bench._introduce()
            yield bench
        finally:
            for host in bench.hosts:
                lib.vx_engine_free(host.engine)

    def _populate(self, host: Host, number: int, per_host: int, mtu: int) -> None:
        for at in range(1, per_host + 1):
            text = f"02:42:0a:07:00:{number}{at}"
            inner = self.namespaces.make(f"c{number}{at}")
            container = Container(inner, text, f"10.7.0.{number}{at}", f"fd07::{number}{at}")
            host.attach(self.namespaces, container, mtu)

    def _introduce(self) -> None:
        for host in self.hosts:
            for other in self.hosts:
                if other is not host:
                    host.add_vtep(other.own, lib.VX_MEMBER_FLOOD)
                at_port, at_vtep = lib.VX_AT_PORT, lib.VX_AT_VTEP
                for c in other.containers:
                    host.learn(c, *((at_port, c.port) if other is host else (at_vtep, host.vteps[other.own])))

    @property
    def containers(self) -> list[Container]:
        return [container for host in self.hosts for container in host.containers]

    def story(self) -> str:
        return "\n".join(host.story() for host in self.hosts)


def kernel_vxlan(host: Namespace, own: str, peer: str, mtu: int = 1450) -> None:
    """A kernel vxlan device with an address of the overlay, which floods to one peer and learns."""
    host.ip(
        *("link", "add", "vx0", "address", "02:00:00:00:00:99", "mtu", str(mtu), "type", "vxlan"),
        *("id", str(VNI), "dstport", "4789", "local", own, "remote", peer),
    )
    host.ip("addr", "add", "10.7.0.99/24", "dev", "vx0")
    host.ip("addr", "add", "fd07::99/64", "dev", "vx0", "nodad")
    host.ip("link", "set", "vx0", "up")


def settled(namespaces: list[Namespace]) -> None:
    """Wait until link-local addresses stand: their detection would add ND frames to what a test counts."""
    poll(lambda: not any("tentative" in ns.ip("-6", "addr") for ns in namespaces), what="no tentative address")


def transfer(server: Namespace, client: Namespace, to: str, payload: bytes) -> bytes:
    """What arrives at a TCP server in one namespace when a client in another sends `payload` to it."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    listener = inside(server, lambda: socket.create_server((to, 0), family=family))
    arrived = bytearray()

    def receive() -> None:
        connection, _ = listener.accept()
        connection.settimeout(60)
        with connection, contextlib.suppress(TimeoutError):
            while chunk := connection.recv(65536):
                arrived.extend(chunk)

    listener.settimeout(60)
    receiver = threading.Thread(target=receive)
    receiver.start()
    sender = inside(client, lambda: socket.socket(family, socket.SOCK_STREAM))
    with listener, sender:
        sender.settimeout(60)
        sender.connect((to, listener.getsockname()[1]))
        sender.sendall(payload)
        sender.shutdown(socket.SHUT_WR)
        receiver.join(120)
    return bytes(arrived)
