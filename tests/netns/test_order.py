"""Many workers: a flow's datagrams arrive in the order they were sent, whatever comes and goes meanwhile.

    c1-1 ── 12 flows of numbered datagrams, sizes mixed ──► c2-1
    c2-1 ── the other direction of the same kind ─────────► c1-1
    h1, 4 workers ────────────────────────── h2, 4 workers       c2-x comes and goes

Four workers on whatever CPUs there are: more threads than CPUs makes overtaking likelier, not less likely. Each stays
on one of them, or it would at times overtake itself (`settle`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from asking import client
from numbered import HEAD, Order
from streams import know_each_other

from vxlanu.lab.topology import Lab, poll

pytestmark = pytest.mark.netns

SCRIPT = Path(__file__).parents[1] / "numbered.py"
FLOWS = 12
ENOUGH = 20_000  # datagrams each way: some hundred batches of every worker
WORKERS = "4"
WORKER = "vx-worker-"  # each has its number in its thread's name


def settle(lab: Lab) -> None:
    """Pin the workers, as an agent does by itself that has as many as there are CPUs.

    What a worker sends crosses the underlay in the backlog of its CPU. If the kernel puts that off, as it may on a busy
    machine, what the worker sends after a move to another CPU overtakes it: the underlay's doing, as in any network.
    """
    cpus = sorted(os.sched_getaffinity(0))
    for pid in lab.agent_pids().values():
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError):  # a thread that ended while we looked: no worker does
                name, tid = (task / "comm").read_text(), int(task.name)
                if name.startswith(WORKER) and len(os.sched_getaffinity(tid)) > 1:
                    os.sched_setaffinity(tid, {cpus[int(name.removeprefix(WORKER)) % len(cpus)]})


class Numbered:
    """Two containers that send each other numbered flows until told to stop."""

    def __init__(self, lab: Lab, one: tuple[str, str], other: tuple[str, str]) -> None:
        self.lab = lab
        settle(lab)
        self.checkers = {name: self._start(name, "check", address, "7000") for name, address in (one, other)}
        self.senders: list[subprocess.Popen[str]] = []
        for seed, (name, to) in enumerate(((one[0], other[1]), (other[0], one[1]))):
            self.send(name, to, seed)

    def send(self, name: str, to: str, seed: int) -> None:
        """One more sender; its first round is out when this returns."""
        self.senders.append(self._start(name, "send", to, "7000", str(FLOWS), str(seed)))

    def _start(self, name: str, *words: str) -> subprocess.Popen[str]:
        command = self.lab.command(name, [sys.executable, "-I", str(SCRIPT), *words])
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self.lab.environment(name))
        assert process.stdout and json.loads(process.stdout.readline()) == {"ready": True}
        return process

    def stop(self) -> dict[str, dict[str, int | str]]:
        """What each checker saw."""
        for process in self.senders:
            process.communicate(timeout=120)
        told = {}
        for name, process in self.checkers.items():
            told[name] = json.loads(process.communicate(timeout=120)[0])
        return told

    def kill(self) -> None:
        for process in (*self.senders, *self.checkers.values()):
            process.kill()
            process.wait()


class Hosts:
    """The lab, and who has which address."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24")
        self.address: dict[str, str] = {}
        for name in ("c1-1", "c2-1"):
            self.attach(name)
        self.know_each_other("c1-1", "c2-1")

    def attach(self, name: str) -> str:
        body = self.lab.vxlanu(f"h{name[1]}", "attach", "blue", name)
        self.address[name] = str(body["addresses"][0]).split("/")[0]
        return self.address[name]

    def know_each_other(self, *pair: str) -> None:
        """Permanent neighbours, which outlive a loss of carrier.

        What waits for ARP is released by whoever brings the answer, and what the sender sends meanwhile from another
        CPU overtakes it (__neigh_update() drains arp_queue unlocked): the container's kernel, before an agent sees it.
        """
        know_each_other(self.lab, self.address, *pair)

    def delivered(self, name: str) -> int:
        """Frames written to a container so far."""
        api = client(self.lab, f"h{name[1]}")
        return sum(row.received_frames for row in api.stats().value.items if row.name == name)

    @contextmanager
    def traffic(self) -> Iterator[Numbered]:
        one, other = (("c1-1", self.address["c1-1"]), ("c2-1", self.address["c2-1"]))
        running = Numbered(self.lab, one, other)
        try:
            yield running
        finally:
            running.kill()

    def wait_for(self, more: int) -> None:
        """Until so many more frames have reached each container."""
        for name in ("c1-1", "c2-1"):
            self.wait_at(name, self.delivered(name) + more)

    def wait_at(self, name: str, count: int) -> None:
        poll(lambda: self.delivered(name) >= count, f"{count} frames for {name}", 60, self.lab.story)


def in_order(told: dict[str, dict[str, int | str]], at_least: int) -> None:
    for name, seen in told.items():
        assert seen["late"] == 0, f"{name}: {seen}"
        assert seen["flows"] == FLOWS and int(seen["received"]) >= at_least, f"{name}: {seen}"


def test_the_checker_sees_one_swap_and_no_loss() -> None:
    order = Order()
    for number in (0, 1, 3, 4, 7):
        order.see(HEAD.pack(5, number))
    assert order.late == 0, "a loss is not a swap"
    order.see(HEAD.pack(6, 0))
    order.see(HEAD.pack(5, 6))
    assert (order.received, order.late, order.first) == (7, 1, "flow 5: 6 (12 bytes) after 7")


@pytest.fixture(scope="module")
def hosts(make_module_lab: Callable[..., Lab]) -> Hosts:
    return Hosts(make_module_lab(hosts=2, containers=1, agent_flags=("--workers", WORKERS)))


def test_every_flow_stays_in_order_while_endpoints_come_and_go(hosts: Hosts) -> None:
    lab = hosts.lab
    with hosts.traffic() as running:
        for _ in range(3):
            lab.create_container("c2-x")
            hosts.attach("c2-x")
            hosts.wait_for(ENOUGH // 4)
            lab.vxlanu("h2", "detach", "blue", "c2-x")
            lab.delete_container("c2-x")
        hosts.wait_for(ENOUGH // 4)
        in_order(running.stop(), ENOUGH)


def test_a_checker_in_the_network_sees_a_swap(hosts: Hosts) -> None:
    """Positive control of the path: two senders with the same flow numbers look like one that swaps."""
    with hosts.traffic() as running:
        hosts.wait_for(1000)
        running.send("c1-1", hosts.address["c2-1"], 9)
        hosts.wait_for(1000)
        told = running.stop()
    assert int(told["c2-1"]["late"]) > 0 and told["c1-1"]["late"] == 0, told


@pytest.mark.parametrize("workers", ["1", "3", "4"])
def test_an_agent_with_other_workers_takes_the_queues_over_in_the_middle_of_traffic(hosts: Hosts, workers: str) -> None:
    lab = hosts.lab
    with hosts.traffic() as running:
        hosts.wait_for(1000)
        lab.kill_agent("h2")
        lab.start_agent("h2", "--workers", workers)
        settle(lab)
        hosts.wait_for(ENOUGH // 4)
        in_order(running.stop(), ENOUGH // 4)
    with hosts.traffic() as running:
        hosts.wait_for(ENOUGH // 4)
        in_order(running.stop(), ENOUGH // 4)
    assert lab.vxlanu("h2", "status")["workers"] == int(workers)
    shown = lab.exec("c2-1", ["ip", "-d", "link", "show", "eth0"]).stdout
    assert f"numqueues {workers} numdisabled {int(workers != '1')}" in shown


def test_one_queue_for_four_workers_keeps_the_order(hosts: Hosts) -> None:
    """no-mq: one worker reads the port, all of them write it."""
    lab = hosts.lab
    lab.stop_agent("h2")
    lab.start_agent("h2", "--offload", "no-mq", "--workers", WORKERS)
    lab.create_container("c2-q")
    address = hosts.attach("c2-q")
    hosts.know_each_other("c1-1", "c2-q")
    assert "multi_queue" not in lab.exec("c2-q", ["ip", "-d", "link", "show", "eth0"]).stdout
    running = Numbered(lab, ("c1-1", hosts.address["c1-1"]), ("c2-q", address))
    try:
        for name in ("c1-1", "c2-q"):
            hosts.wait_at(name, hosts.delivered(name) + ENOUGH // 4)
        in_order(running.stop(), ENOUGH // 4)
    finally:
        running.kill()
