"""Both directions of a flow on the worker that its addresses and ports name, on the host at either end.

c11 ── TAP, 4 queues ── [ 4 workers ] h1 ── underlay ── h2 [ 4 workers ] ── TAP, 4 queues ── c21
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from data_plane import Bench, Container, Host, inside
from lab_ns import Namespaces, poll
from test_offloads import resolve_for_good

from vxlanu._native import lib

pytestmark = pytest.mark.netns

Flow = tuple[tuple[str, int], tuple[str, int]]

ROUNDS = 40  # datagrams each way, a quarter of which is more than anything else in an idle network sends
PORT = 30_000
FACTOR, BITS = 0x9E3779B1, 6  # native/limits.h


def named(one: tuple[str, int], other: tuple[str, int], workers: int) -> int:
    """The worker that a flow belongs to, as steer.c has it."""
    flow = one[1] ^ other[1]
    for address, _ in (one, other):
        packed = ipaddress.ip_address(address).packed
        for at in range(0, len(packed), 4):
            flow ^= int.from_bytes(packed[at : at + 4], "big")
    return ((flow * FACTOR & 0xFFFFFFFF) >> (32 - BITS)) * workers >> BITS


def work(host: Host, workers: int) -> Counter[tuple[int, str]]:
    """Frames that each worker has taken from the container and from the tunnel."""
    read = {worker: host.counters(lib.VX_AT_WORKER, worker) for worker in range(workers)}
    return Counter({(n, "out"): c.encapsulated for n, c in read.items()}) + Counter(
        {(n, "in"): c.decapsulated for n, c in read.items()}
    )


def new_work(host: Host, workers: int, before: Counter[tuple[int, str]]) -> Counter[tuple[int, str]]:
    return work(host, workers) - before


def to_and_fro(one: Container, other: Container, inner: str, port: int) -> Flow:
    """ROUNDS datagrams and their answers between two sockets; their names. `port`: of the first."""
    family = socket.AF_INET6 if inner == "v6" else socket.AF_INET
    with (
        inside(one.namespace, lambda: socket.socket(family, socket.SOCK_DGRAM)) as a,
        inside(other.namespace, lambda: socket.socket(family, socket.SOCK_DGRAM)) as b,
    ):
        for voice, container, own in ((a, one, port), (b, other, PORT)):
            voice.settimeout(60)
            voice.bind((getattr(container, inner), own))
        for _ in range(ROUNDS):
            for source, sink in ((a, b), (b, a)):
                source.sendto(b"word", sink.getsockname()[:2])
                sink.recv(100)
        return a.getsockname()[:2], b.getsockname()[:2]


# Three, which the classes of source ports cannot be divided by, need rounding that all agree on.
@pytest.mark.parametrize(
    ("ipv6", "inner", "workers"),
    [(False, "v4", 4), (False, "v6", 4), (True, "v4", 4), (True, "v6", 4), (False, "v4", 3)],
)
def test_both_directions_of_a_flow_are_one_workers_on_either_host(
    namespaces: Namespaces, ipv6: bool, inner: str, workers: int
) -> None:
    with Bench.of(namespaces, workers=workers, ipv6=ipv6) as bench:
        met = set()
        for flow, busy in flows(bench, inner, workers):
            its = named(*flow, workers)
            assert busy == [{(its, "out"), (its, "in")}] * 2, f"{flow}: {busy}\n{bench.story()}"
            met.add(its)
        assert len(met) > 1, "eight flows of neighbouring ports are not all one worker's"


def test_without_steering_they_are_not(namespaces: Namespaces) -> None:
    with Bench.of(namespaces, workers=4, offloads=lib.VX_OFFLOAD_ALL & ~lib.VX_OFFLOAD_STEERING) as bench:
        assert any(len({worker for worker, _ in busy}) > 1 for _, each in flows(bench, "v4", 4) for busy in each)


def flows(bench: Bench, inner: str, workers: int) -> Iterator[tuple[Flow, list[set[tuple[int, str]]]]]:
    """Eight flows, one after the other, and whom each kept busy on either host."""
    one, other = bench.containers
    resolve_for_good(one.namespace, getattr(other, inner))
    resolve_for_good(other.namespace, getattr(one, inner))
    for number in range(8):
        before = [work(host, workers) for host in bench.hosts]
        flow = to_and_fro(one, other, inner, PORT + 1 + number)
        busy = []
        for host, earlier in zip(bench.hosts, before, strict=True):
            grown = functools.partial(new_work, host, workers, earlier)
            poll(lambda grown=grown: grown().total() >= 2 * ROUNDS, what="all counted", story=bench.story)
            busy.append({who for who, frames in grown().items() if frames > ROUNDS // 4})
        yield flow, busy
