"""Every rung of the ladder carries the same traffic: refused by an option, or by a kernel that lacks it.

    c1-1      c2-1      made by agents that may use everything, taken over by every later agent of h2
              c2-RUNG   made on the rung itself, where that is another kind of device
    h1 ─────── h2       h1 uses what there is; the agent of h2 starts anew for each rung

The two hosts are never on the same rung but once (`off`), so each direction of each transfer is a pair of rungs.
Old kernels are played by old_kernel.c; which faults it plays, h2's agent reads from a file when it starts.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from needs import require
from streams import answer_of, once, pings, ready

from vxlanu.config import OFFLOADS, refused_offloads
from vxlanu.lab.topology import Lab

pytestmark = pytest.mark.netns

TCP_BYTES = 4 << 20
SIZES = (1, 1400)
BY_OPTION = "refused by --offload"
NO_USO = {"uso": "the kernel: TUNSETOFFLOAD gives EINVAL"}
LACKING = {} if tuple(map(int, platform.release().split(".")[:2])) >= (6, 2) else NO_USO
"""What this kernel itself does not have, of all that vxlanu runs on."""


class Hosts:
    """Two hosts, one network, and the addresses of whom it has."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.address: dict[str, str] = {}
        lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24")
        self.attach("c1-1")
        self.attach("c2-1")

    def attach(self, name: str) -> None:
        if name not in self.lab.containers():
            self.lab.create_container(name)
        body = self.lab.vxlanu(f"h{name[1]}", "attach", "blue", name)
        self.address[name] = body["addresses"][0].split("/")[0]

    def restart(self, host: str, *flags: str) -> None:
        """A new agent."""
        self.lab.stop_agent(host)
        self.lab.start_agent(host, *flags)

    def unused(self, host: str) -> dict[str, str]:
        """Offloads that are not in use, and why."""
        rows = self.lab.vxlanu(host, "status")["offloads"]
        assert [row["name"] for row in rows] == list(OFFLOADS)
        return {row["name"]: row["why"] for row in rows if not row["in_use"]}

    def carry(self, one: str, other: str) -> None:
        """Ping, TCP both ways, a datagram of every size there and back."""
        assert pings(self.lab, one, self.address[other], count=2)
        self.stream(one, other)
        self.stream(other, one)
        with ready(self.lab, other, "echo", self.address[other], 5002, 60):
            answer = once(self.lab, one, "sizes", self.address[other], 5002, *SIZES)
        assert answer == {"sizes": SIZES[1] - SIZES[0] + 1, "wrong": []}

    def stream(self, sender: str, receiver: str) -> None:
        with ready(self.lab, receiver, "receive", "tcp", self.address[receiver], 5001, 60) as listening:
            sent = once(self.lab, sender, "send", "tcp", self.address[receiver], 5001, TCP_BYTES, 1, 0)
            assert answer_of(listening) == sent, f"{sender} to {receiver}"


@pytest.fixture(scope="module")
def hosts(make_module_lab: Callable[..., Lab]) -> Hosts:
    return Hosts(make_module_lab(hosts=2, containers=1))


def is_as_asked(lab: Lab, container: str, *, vnet_hdr: bool, several: bool) -> None:
    """What the kernel says of a TAP."""
    shown = lab.exec(container, ["ip", "-d", "link", "show", "eth0"]).stdout
    assert f"vnet_hdr {'on' if vnet_hdr else 'off'}" in shown
    assert ("multi_queue" in shown) is several


RUNGS = {
    "auto": "auto",
    **{f"no-{name}": f"no-{name}" for name in OFFLOADS},
    **{f"only-{name}": ",".join(f"no-{other}" for other in OFFLOADS if other != name) for name in OFFLOADS},
    "off": "off",
}
"""Of any three offloads every choice is among them: 14 subsets of 128, and the two ends."""
RARE = [rung for rung in RUNGS if rung.startswith("only-")]
"""Kernels and people refuse one thing or all; with each of these an agent starts anew, so they are `make accept`'s."""


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.accept) if rung in RARE else rung for rung in RUNGS]
)
def test_a_rung_that_is_asked_for_is_shown_and_carries_traffic(hosts: Hosts, rung: str) -> None:
    refused = refused_offloads(RUNGS[rung])
    if rung == "off":
        hosts.restart("h1", "--offload", rung)
    hosts.restart("h2", "--offload", RUNGS[rung])
    assert hosts.unused("h2") == LACKING | dict.fromkeys([name for name in OFFLOADS if name in refused], BY_OPTION)
    hosts.carry("c1-1", "c2-1")
    is_as_asked(hosts.lab, "c2-1", vnet_hdr="vnet-hdr" not in refused, several=True)
    if "mq" in refused:
        hosts.attach(f"c2-{rung}")
        is_as_asked(hosts.lab, f"c2-{rung}", vnet_hdr="vnet-hdr" not in refused, several=False)
        hosts.carry("c1-1", f"c2-{rung}")


class OldKernel:
    """The file that tells old_kernel.c what to refuse, and how often it did."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = 0

    def lacks(self, *faults: str) -> None:
        self._written = self.path.write_text("".join(f"{fault}\n" for fault in faults))

    def refusals(self) -> int:
        return self.path.stat().st_size - self._written


@pytest.fixture(scope="module")
def old_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldKernel]:
    """Every process that starts while this lives has the shim, and an agent of the lab always."""
    require("gcc")
    folder = tmp_path_factory.mktemp("old-kernel")
    library, said = folder / "old_kernel.so", OldKernel(folder / "faults")
    source = Path(__file__).with_name("old_kernel.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", library], check=True)
    said.lacks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("OLD_KERNEL", str(said.path))
        yield said


@pytest.fixture(scope="module")
def old_hosts(old_kernel: OldKernel, make_module_lab: Callable[..., Lab]) -> Hosts:
    made = Hosts(make_module_lab(hosts=2, containers=1))
    del os.environ["LD_PRELOAD"]  # from here on only the lab's agents have it
    assert made.unused("h2") == LACKING and old_kernel.refusals() == 0, "positive control: the shim refuses nothing"
    return made


NO_FLAG = "the kernel: /dev/net/tun does not know the flag"
FAULTS = {
    "vnet-hdr": {"vnet-hdr": NO_FLAG} | dict.fromkeys(("tso", "uso"), "the kernel: needs vnet-hdr"),
    "tso": {"tso": "the kernel: TUNSETOFFLOAD gives EINVAL"},
    "mq": {"mq": NO_FLAG},
    "udp-segment": {"udp-segment": "the kernel: refused when it was tried"},
    "udp-gro": {"udp-gro": "the kernel: refused when it was tried"},
    "uso": NO_USO,
    "rcvbufforce": {"rcvbufforce": "the kernel: needs CAP_NET_ADMIN"},
    "gso-write": dict.fromkeys(("tso", "uso"), "the kernel: a valid super-frame written to a TAP gives EINVAL")
    | LACKING,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_an_old_kernel_refuses_is_shown_and_not_missed(
    old_hosts: Hosts, old_kernel: OldKernel, fault: str
) -> None:
    old_kernel.lacks(fault)
    old_hosts.restart("h2")
    assert old_kernel.refusals() > 0
    assert old_hosts.unused("h2") == LACKING | FAULTS[fault]
    old_hosts.carry("c1-1", "c2-1")
    warnings = " ".join(old_hosts.lab.vxlanu("h2", "status")["warnings"])
    assert ("net.core.rmem_max" in warnings) is (fault == "rcvbufforce"), warnings


@pytest.mark.parametrize("fault", ["eio", "gso-writev"])
def test_a_use_that_the_kernel_refuses_later_costs_no_traffic(
    old_hosts: Hosts, old_kernel: OldKernel, fault: str
) -> None:
    old_kernel.lacks(fault)
    old_hosts.restart("h2")
    assert old_hosts.unused("h2") == LACKING
    old_hosts.carry("c1-1", "c2-1")
    assert old_kernel.refusals() > 0, "positive control: it was tried"
