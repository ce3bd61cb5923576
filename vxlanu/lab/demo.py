"""The story that `vxlanu lab demo` tells: one network over three hosts, what crosses the wire, and who cannot reach it.

How it works
  A step is a command as a user types it, on a host (`h1 #`), in a container (`c2-1 #`) or on the underlay, with
  what its output must show and one sentence of what to notice. The steps are a table; a step whose output does not show
  what it must ends the demo with that step's name and a non-zero exit. Steps that only look are asked again for a few
  seconds: news travels by gossip.

Rules of this file
  1. Nothing is staged: the commands are run exactly as they are printed.
  2. Every "cannot reach" stands beside the same sender or receiver being reached (`positive control`).
"""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from vxlanu.errors import AnswerIsNo, VxlanuError
from vxlanu.lab.plan import UNDERLAY
from vxlanu.lab.topology import Completed, Lab

__all__ = ["Step", "steps", "tell"]

C0_IP, C0_MAC = "192.168.0.100", "02:42:c0:a8:00:64"
PING = "ping -n -c 3 -i 0.2 -W 2"
LOST = "ping -n -c 2 -i 0.2 -W 1"
LOOK_S = 30.0
TSHARK = "tshark -n -l -i underlay -c 1 -O vxlan -f 'udp port 4789'"
EXPLAIN = "python3 -m vxlanu.lab.wire underlay"


@dataclass(frozen=True, slots=True)
class Step:
    """One command. `shows` are patterns that its output must contain; `fails` says that it must not succeed.

    `patient`: on a busy machine gossip takes its time, and so does the last of several echo replies, for which ping
    waits two round trips only; so it is asked again for a while.
    """

    title: str
    where: str
    command: str
    notice: str
    shows: tuple[str, ...] = ()
    fails: bool = False
    patient: bool = False
    meanwhile: tuple[str, str] | None = None

    def problem(self, done: Completed) -> str:
        """Why this outcome is not the step's; empty when it is."""
        said = done.stdout + done.stderr
        if (done.returncode != 0) != self.fails:
            return f"exit status {done.returncode}: {said.strip() or 'it said nothing'}"
        missing = [pattern for pattern in self.shows if not re.search(pattern, said, re.MULTILINE)]
        return f"its output does not show {missing[0]!r}" if missing else ""


def frame_step() -> Step:
    """The frame on the wire, by tshark where it is installed."""
    dissector = TSHARK if shutil.which("tshark") else EXPLAIN
    return Step(
        "The frame on the wire", UNDERLAY, dissector,
        "between the hosts there is only UDP to port 4789; inside it, behind eight bytes with the VNI, the containers' "
        "frame. No ARP crossed: the agent answers it.",
        (r"VXLAN Network Identifier \(VNI\): 256", re.escape(C0_IP)), patient=True,
        meanwhile=("c2-1", f"ping -n -i 0.1 {C0_IP}"),
    )  # fmt: skip


def _network_steps() -> list[Step]:
    return [
        Step("Three hosts, one cluster", "h1", "vxlanu member ls",
             "one agent a host; they found each other by gossip. No store, no leader, no Swarm.",
             (r"\bh1\b.*alive", r"\bh2\b.*alive", r"\bh3\b.*alive"), patient=True),
        Step("Create the network on one host", "h1",
             "vxlanu network create demonet --subnet 192.168.0.0/24 --vni 256",
             "the answer is the network's id."),
        Step("See it on the second", "h2", "vxlanu network ls",
             "the same id and the same VNI, without a command here.", (r"demonet +256\b",), patient=True),
        Step("See it on the third", "h3", "vxlanu network ls",
             "and here.", (r"demonet +256\b",), patient=True),
        Step("Start C0 with a fixed address", "h1", f"vxlanu attach demonet c1-1 --ip {C0_IP} --name C0",
             "c1-1 is a plain network namespace; Docker or podman containers are attached the same way."),
        Step("What C0 got", "c1-1", "ip address show eth0",
             "a TAP called eth0: MTU 1450, the MAC made from the address, as Docker does it.",
             (C0_MAC, rf"{C0_IP}/24", r"mtu 1450")),
        Step("Start C1 on another host", "h2", "vxlanu attach demonet c2-1 --name C1",
             "the address comes from h2's own block of the subnet, so no host had to be asked.", (r"192\.168\.0\.",)),
        Step("Ping across", "c2-1", f"{PING} {C0_IP}",
             "two hosts, one Ethernet segment.", (r" 0% packet loss",), patient=True),
    ]  # fmt: skip


def _table_steps() -> list[Step]:
    return [
        Step("Where frames go", "h2", "vxlanu fdb show demonet",
             "C0's MAC stands behind h1's VTEP. It came by gossip before the first frame; traffic teaches nothing.",
             (rf"{C0_MAC}.*10\.97\.0\.1\b|10\.97\.0\.1\b.*{C0_MAC}",), patient=True),
        Step("Who answers ARP", "h2", "vxlanu neighbor show demonet",
             "the proxy's table: what h2 answers to its containers without asking anyone.",
             (rf"{re.escape(C0_IP)}\b.*{C0_MAC}",), patient=True),
    ]  # fmt: skip


def _isolation_steps() -> list[Step]:
    return [
        Step("A second network", "h3", "vxlanu network create othernet --subnet 192.168.1.0/24",
             "its VNI is chosen."),
        Step("... with a container on h3", "h3", "vxlanu attach othernet c3-1 --ip 192.168.1.10 --name X0",
             "X0 is on othernet only."),
        Step("... and one beside C0 on h1", "h1", "vxlanu attach othernet c1-2 --ip 192.168.1.20 --name X1",
             "X1 shares the host with C0."),
        Step("othernet works (positive control)", "c3-1", f"{PING} 192.168.1.20",
             "so what follows is no fault of X0.", (r" 0% packet loss",), patient=True),
        Step("X0 is given a route ...", "c3-1", "ip route add 192.168.0.0/24 dev eth0",
             "as an intruder would."),
        Step("... and C0's MAC", "c3-1", f"ip neighbor add {C0_IP} lladdr {C0_MAC} dev eth0",
             "now X0's frames carry C0's own MAC and address."),
        Step("The other network cannot reach C0", "c3-1", f"{LOST} {C0_IP}",
             "the frames end at h3's own agent.", (r"100% packet loss",), fails=True),
        Step("X1, on C0's own host, cannot either", "c1-2", "ip route add 192.168.0.0/24 dev eth0",
             "the same with a neighbour of C0."),
        Step("... though only a table away", "c1-2", f"{LOST} {C0_IP}",
             "no ARP answer comes from another network.", (r"100% packet loss",), fails=True),
        Step("The hosts cannot reach C0", "h1", f"{LOST} -I eth0 {C0_IP}",
             "the overlay is not on the host: not even on C0's.", (r"100% packet loss",), fails=True),
        Step("C1 still can (positive control)", "c2-1", f"{PING} {C0_IP}",
             "same receiver, same moment.", (r" 0% packet loss",), patient=True),
        Step("Every lost frame has a reason", "h3", "vxlanu drops",
             "what X0 sent is counted, under the reason for which it was not delivered.",
             (r"\bfdb_miss\b",), patient=True),
        Step("Is everything as the records say?", "h1", "vxlanu verify",
             "the tables are a function of the records; a difference would be listed here.", patient=True),
    ]  # fmt: skip


def steps() -> list[Step]:
    """The whole story, in order."""
    return [*_network_steps(), frame_step(), *_table_steps(), *_isolation_steps()]


@dataclass(slots=True)
class Stage:
    """Where the story is told: a lab, and how a line is shown (`style` is click.style or a plain version of it)."""

    lab: Lab
    show: Callable[[str], None]
    style: Callable[..., str]

    def play(self, number: int, step: Step) -> None:
        """Run one step and show it; AnswerIsNo with the step's name when it does not hold."""
        prompt = self.style(f"{step.where} # {step.command}", fg="green", bold=True)
        self.show(f"\n{self.style(f'{number}. {step.title}', bold=True)}\n{prompt}")
        done = self._outcome(step)
        for line in (done.stdout + (done.stderr if step.where != UNDERLAY else "")).rstrip().splitlines():
            self.show(f"  {line}")
        if problem := step.problem(done):
            raise AnswerIsNo(f"demo: step {number}, {step.title}", problem, name="demo_failed")
        self.show(self.style(f"  -> {step.notice}", fg="cyan"))

    def _outcome(self, step: Step) -> Completed:
        """Run the command; a step that only looks gets another chance until its time is up."""
        deadline = time.monotonic() + LOOK_S
        argv = shlex.split(step.command)
        while True:
            if step.meanwhile is None:
                done = self.lab.exec(step.where, argv, check=False)
            else:
                with self.lab.running(step.meanwhile[0], shlex.split(step.meanwhile[1])):
                    done = self.lab.exec(step.where, argv, check=False, timeout_s=30)
            if not step.patient or not step.problem(done) or time.monotonic() > deadline:
                return done
            time.sleep(0.1)


def _same_ids(lab: Lab) -> None:
    """The network has one id on all hosts, not merely one name."""
    seen = set()
    for host in lab.hosts():
        networks = lab.vxlanu(host, "network", "ls")
        assert isinstance(networks, list)
        seen |= {network["id"] for network in networks if isinstance(network, dict) and network["name"] == "demonet"}
    if len(seen) != 1:
        why = f"differs between hosts: {sorted(map(str, seen))}"
        raise AnswerIsNo("demo: the network's id", why, name="demo_failed")


def tell(lab: Lab, show: Callable[[str], None], style: Callable[..., str]) -> None:
    """Tell the story in a lab of three hosts with two containers each; raises at the step that fails."""
    show("A command after `h1 #` is typed on host h1, after `c2-1 #` in that container;")
    show("in a lab of your own: vxlanu lab exec h1 -- vxlanu member ls")
    stage = Stage(lab, show, style)
    for number, step in enumerate(steps(), 1):
        try:
            stage.play(number, step)
        except VxlanuError:
            show(f"\n{lab.story()}")
            raise
        if step.where == "h3" and step.command == "vxlanu network ls":
            _same_ids(lab)
