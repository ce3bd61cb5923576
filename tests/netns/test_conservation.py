"""Nothing is lost unseen: under overload every frame that a container sent arrived, or is counted under a reason.

    c1-1 ── flood of UDP, several flows ──> c2-1        far beyond what the hosts can carry
    c1-2 ── TCP beside it ────────────────> c2-2
     h1 ───────────── underlay ────────────  h2

The unit is a frame on a wire: the segments of a super-frame count each. What the kernel loses it counts in its own
unit, a buffer: so where sums have to be exact the flood enters the TAPs in single frames (`no-uso`), and the receive
socket overflows without UDP_GRO, for the kernel counts a lost train as one. With everything on, the same sums hold but
for that: rx_overflow is then the number of trains. The receiving agent is stopped until its socket has overflowed,
then the sending one until the ring of the TAP has: so both happen, however quick or slow the machine is.

The referees are the containers' own kernels: link statistics for what was sent, the UDP counters for what arrived.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import pytest
from asking import client
from lab_ns import poll
from sockets import SOL_UDP, UDP_SEGMENT, Bulk, bulk, inside, udp_socket

from vxlanu.lab.topology import Lab

pytestmark = pytest.mark.netns

EXACT = "no-uso,no-udp-gro,no-rcvbufforce"
RUNGS = [EXACT, "auto"]
CONTAINERS = ("c1-1", "c1-2", "c2-1", "c2-2")
HOSTS = ("h1", "h2")
FIELDS = ("sent_frames", "received_frames", "dropped_frames", "flooded_frames", "arp_answered")
FLOWS = (100, 200, 400, 1000)
"""The payloads of the flows, which differ so that nothing of two flows leaves in one send."""
SEGMENTS = 40
ECHOES = 64  # of which each of four workers gets some
TRAIN_MAX = 64
"""How many datagrams a train that the kernel counts as one loss may have had (UDP_GRO_CNT_MAX)."""
TCP_BYTES = 16 << 20


@dataclass(frozen=True)
class Count:
    """All counters of the lab at one moment."""

    stats: dict[tuple[str, str, str], dict[str, int]]
    drops: dict[tuple[str, str, str, str], int]
    links: dict[str, dict[str, int]]
    udp: dict[str, int]

    def of(self, field: str, scope: str, host: str = "", name: str = "") -> int:
        """The sum of a field over one host or both."""
        return sum(row[field] for (at, kind, what), row in self.stats.items()
                   if kind == scope and host in ("", at) and name in ("", what))  # fmt: skip

    def dropped(self, scope: str, host: str = "", name: str = "", reason: str = "") -> int:
        """Likewise for `vxlanu drops`, which knows what the kernel lost, too."""
        return sum(frames for (at, kind, what, why), frames in self.drops.items()
                   if kind == scope and host in ("", at) and name in ("", what) and reason in ("", why))  # fmt: skip


def count(lab: Lab) -> Count:
    stats, drops = {}, {}
    for host in HOSTS:
        api = client(lab, host)
        for row in api.stats().value.items:
            stats[host, row.scope, row.name] = {key: getattr(row, key) for key in FIELDS}
        for drop in api.drops().value.items:
            drops[host, drop.scope, drop.name, drop.reason] = drop.frames
    links, udp = {}, {}
    for name in CONTAINERS:
        shown = lab.exec(name, ["sh", "-c", "ip -j -s link show eth0; cat /proc/net/snmp"]).stdout
        link, _, snmp = shown.partition("\n")
        numbers = json.loads(link)[0]["stats64"]["tx"]
        links[name] = {"sent": numbers["packets"], "lost": numbers["dropped"]}
        udp[name] = datagrams(snmp)
    return Count(stats, drops, links, udp)


def datagrams(snmp: str) -> int:
    """What the kernel of a container took for UDP datagrams, read by a program or not."""
    names, values = (line.split()[1:] for line in snmp.splitlines() if line.startswith("Udp:"))
    row = dict(zip(names, map(int, values), strict=True))
    return row["InDatagrams"] + row["InErrors"] + row["NoPorts"]


def flood(lab: Lab, address: tuple[str, int], payload: int, ended: threading.Event) -> None:
    """One flow, as fast as it goes; what the kernel refuses at once was never sent."""
    with udp_socket(lab, "c1-1", "0.0.0.0") as sending:
        sending.setsockopt(SOL_UDP, UDP_SEGMENT, payload)
        while not ended.is_set():
            try:
                sending.sendto(bytes(payload * SEGMENTS), address)
            except OSError:
                continue


def overload(lab: Lab, addresses: dict[str, str]) -> Bulk:
    """The flood and the TCP transfer, from beginning to end."""
    done: list[Bulk] = []
    with udp_socket(lab, "c2-1", addresses["c2-1"]) as receiving:
        to = receiving.getsockname()
        ended = threading.Event()
        work = [threading.Thread(target=flood, args=(lab, to, payload, ended)) for payload in FLOWS]
        beside = threading.Thread(target=lambda: done.append(bulk(lab, "c1-2", "c2-2", addresses["c2-2"], TCP_BYTES)))
        beside.start()
        for thread in work:
            thread.start()
        try:
            with stopped(lab, "h2"):
                poll(lambda: overflown(lab), what="a receive socket that overflows", story=lab.story)
            with stopped(lab, "h1"):
                poll(lambda: ring_full(lab), what="a ring that overflows", story=lab.story)
        finally:
            ended.set()
        for thread in (*work, beside):
            thread.join()
        settle(lab, addresses["c2-1"])
        empty(receiving)
    return done[0]


@contextmanager
def stopped(lab: Lab, host: str) -> Iterator[None]:
    """The agent of a host does nothing inside the block."""
    lab.signal_agent(host, signal.SIGSTOP)
    try:
        yield
    finally:
        lab.signal_agent(host, signal.SIGCONT)


def ring_full(lab: Lab) -> bool:
    """Whether the TAP of the flood's sender has lost anything, by the container's own counters."""
    shown = lab.exec("c1-1", ["ip", "-j", "-s", "link", "show", "eth0"]).stdout
    return int(json.loads(shown)[0]["stats64"]["tx"]["dropped"]) > 0


def overflown(lab: Lab) -> bool:
    """Whether the receive socket of h2 has lost anything, by the kernel's own table (proc(5), /proc/net/udp)."""
    rows = [line.split() for line in lab.exec("h2", ["cat", "/proc/net/udp"]).stdout.splitlines()[1:]]
    return any(int(row[-1]) > 0 for row in rows if row[1].endswith(f":{4789:04X}"))


def empty(receiving: socket.socket) -> None:
    """Read what there is: the kernel counts a datagram when it is read."""
    receiving.setblocking(False)
    try:
        while True:
            receiving.recv(1)
    except BlockingIOError:
        return


def echoed_by_all(lab: Lab, address: str) -> bool:
    """Whether datagrams come and go, each a flow of its own: by every worker, and behind what was sent before."""
    places = inside(lab, "c1-1", lambda: [socket.socket(type=socket.SOCK_DGRAM) for _ in range(ECHOES)])
    with ExitStack() as stack, suppress(TimeoutError):
        answering = stack.enter_context(udp_socket(lab, "c2-1", address))
        for place in (answering, *map(stack.enter_context, places)):
            place.settimeout(5)
        for asking in places:
            asking.sendto(b"?", answering.getsockname())
        for _ in places:
            answering.sendto(*answering.recvfrom(1))
        return [asking.recv(1) for asking in places] == [b"?"] * ECHOES
    return False


def settle(lab: Lab, address: str) -> None:
    """Until no counter of either agent moves, nor is about to when a worker gets its turn."""
    poll(lambda: echoed_by_all(lab, address), what="an echo by every worker", story=lab.story)
    last: list[Count] = []

    def still() -> bool:
        last.append(count(lab))
        return len(last) > 1 and last[-1] == last[-2]

    poll(still, what="the counters come to rest")


class Ledger:
    """Differences between two counts, under the names of the sums."""

    def __init__(self, begun: Count, ended: Count) -> None:
        self.begun, self.ended = begun, ended

    def of(self, field: str, scope: str, host: str = "", name: str = "") -> int:
        return self.ended.of(field, scope, host, name) - self.begun.of(field, scope, host, name)

    def dropped(self, scope: str, host: str = "", name: str = "", reason: str = "") -> int:
        return self.ended.dropped(scope, host, name, reason) - self.begun.dropped(scope, host, name, reason)

    def link(self, name: str, field: str) -> int:
        return self.ended.links[name][field] - self.begun.links[name][field]

    def datagrams(self, name: str) -> int:
        return self.ended.udp[name] - self.begun.udp[name]

    def story(self) -> str:
        """All that moved."""
        moved = {key: frames - self.begun.drops.get(key, 0) for key, frames in self.ended.drops.items()}
        lines = [f"{' '.join(key)}: {frames}" for key, frames in moved.items() if frames]
        for key, row in self.ended.stats.items():
            before = self.begun.stats.get(key, dict.fromkeys(row, 0))
            lines.append(f"{' '.join(key)}: { {name: row[name] - before[name] for name in row} }")
        lines += [f"{name}: link {self.ended.links[name]} was {self.begun.links[name]}, "
                  f"{self.datagrams(name)} datagrams" for name in CONTAINERS]  # fmt: skip
        return "\n".join(lines)


@pytest.fixture(scope="module", params=RUNGS)
def ledger(request: pytest.FixtureRequest, make_module_lab: Callable[..., Lab]) -> tuple[str, Ledger]:
    """An overload run on one rung."""
    lab = make_module_lab(hosts=2, containers=2, agent_flags=("--offload", request.param))
    lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24")
    addresses = {}
    for name in CONTAINERS:
        attached = lab.vxlanu(f"h{name[1]}", "attach", "blue", name)
        addresses[name] = attached["addresses"][0].split("/")[0]
        # Nothing but what the test sends: no ND, no MLD, which would be absorbed or copied.
        lab.exec(name, ["sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"])
    settle(lab, addresses["c2-1"])
    begun = count(lab)
    assert overload(lab, addresses).intact
    return request.param, Ledger(begun, count(lab))


def test_each_agent_sends_on_or_counts_what_comes_in(ledger: tuple[str, Ledger]) -> None:
    """What the kernel lost before the agent saw it (rx_overflow) is counted, too, but never came in. A gateway's own
    group reports come in and go nowhere."""
    _, sums = ledger
    assert sums.of("flooded_frames", "host") == 0, sums.story()
    for host in HOSTS:
        came, went = sums.of("sent_frames", "host", host), sums.of("received_frames", "host", host)
        overflow = sums.dropped("host", host, reason="rx_overflow")
        own = sums.of("sent_frames", "gateway", host)
        absorbed = came - (went + sums.of("dropped_frames", "host", host) - overflow)
        assert 0 <= absorbed <= own < came, (host, sums.story())
        for scope in ("network", "endpoint"):
            others = 0 if scope == "network" else own + sums.of("sent_frames", "vtep", host)
            assert sums.of("sent_frames", scope, host) + others == came, (host, scope, sums.story())


def test_what_one_host_sends_the_other_gets_or_its_socket_lost(ledger: tuple[str, Ledger]) -> None:
    rung, sums = ledger
    for sender, receiver in (HOSTS, HOSTS[::-1]):
        missing = sums.of("received_frames", "vtep", sender) - sums.of("sent_frames", "vtep", receiver)
        lost = sums.dropped("host", receiver, reason="rx_overflow")
        assert lost <= missing <= (lost if rung == EXACT else TRAIN_MAX * lost), (sender, sums.story())
    assert sums.dropped("host", "h2", reason="rx_overflow") > 0, f"no overflow: {sums.story()}"


def test_sent_is_delivered_and_dropped(ledger: tuple[str, Ledger]) -> None:
    """From end to end; the rings of the TAPs lose in units of their own, which are on both sides."""
    rung, sums = ledger
    sent = sums.of("sent_frames", "endpoint") + sum(sums.link(name, "lost") for name in CONTAINERS)
    ended = sums.of("received_frames", "endpoint") + sums.dropped("host")
    trains = 0 if rung == EXACT else (TRAIN_MAX - 1) * sums.dropped("host", reason="rx_overflow")
    assert ended <= sent <= ended + trains, sums.story()
    assert sums.dropped("host", "h1", reason="ring_full") > 0, f"no overload: {sums.story()}"


def test_the_containers_own_kernels_agree(ledger: tuple[str, Ledger]) -> None:
    rung, sums = ledger
    for name in CONTAINERS:
        lost = sums.link(name, "lost")
        assert sums.dropped("endpoint", f"h{name[1]}", name, "ring_full") == lost, (name, sums.story())
    if rung != "auto":  # a super-frame is one on the container's link
        assert sums.link("c1-1", "sent") == sums.of("sent_frames", "endpoint", "h1", "c1-1"), sums.story()
    others = sums.of("received_frames", "endpoint", "h2", "c2-1") - sums.datagrams("c2-1")
    assert 0 <= others < 20 < sums.datagrams("c2-1"), f"beside datagrams ARP: {sums.story()}"
