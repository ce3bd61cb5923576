"""A host whose overlay is Open vSwitch in userspace: the other userspace VXLAN, as a peer and to compare with.

    ovs ns:   inner address on br-int (a TAP) ── vxlan port ── route lookup ── br-phy (underlay address) ── eth0

Its data path "netdev" needs no kernel module. Database, sockets and pid files are in a directory of its own in the
lab's /run, and both programs stay in the foreground of the lab: no system daemon is asked, and they die with the block.

It reads eth0 by a packet socket and does not know the kernel's unfinished checksums: where the other end is no OVS, the
cables have to be `wire`. It sends finished ones itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab_ns import poll

from benchmarks.underlay import set_underlay
from vxlanu.lab.topology import Lab

NEEDS = ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl")
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class OvsHost:
    """One such host on the lab's underlay; `with OvsHost.up(lab, "ovs", "10.97.0.50") as host`."""

    def __init__(self, lab: Lab, name: str, outer: str) -> None:
        self.lab, self.name, self.outer, self.folder = lab, name, outer, Path("/run") / f"ovs-{name}"

    @classmethod
    @contextmanager
    def up(cls, lab: Lab, name: str, outer: str, underlay: str = "wire") -> Iterator[OvsHost]:
        host = cls(lab, name, outer)
        with ExitStack() as stack:
            host._join_underlay()
            set_underlay(lab, underlay, (name,))
            host._start(stack)
            host.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev",
                       "--", "add-port", "br-phy", "eth0")  # fmt: skip
            lab.exec(name, ["ip", "addr", "add", f"{outer}/24", "dev", "br-phy"])
            lab.exec(name, ["ip", "link", "set", "br-phy", "up"])
            yield host

    def _join_underlay(self) -> None:
        for command in (
            f"ip netns add {self.name}",
            f"ip link add {self.name} type veth peer name eth0 netns {self.name}",
            f"ip link set {self.name} master underlay addrgenmode none up",
            f"ip -n {self.name} link set lo up",
            f"ip -n {self.name} link set eth0 up",
        ):
            self.lab.exec("underlay", command.split())

    def _start(self, stack: ExitStack) -> None:
        """The database and the switch; each is there once its socket is."""
        folder, database = self.folder, str(self.folder / "conf.db")
        self.lab.exec(self.name, ["mkdir", str(folder)])
        self.lab.exec(self.name, ["ovsdb-tool", "create", database, SCHEMA])
        quiet = ["--no-chdir", "-vconsole:off"]
        for program, arguments, there in (
            ("ovsdb-server", [database, f"--remote=punix:{folder}/db.sock"], "db.sock"),
            ("ovs-vswitchd", [f"unix:{folder}/db.sock"], "ovs-vswitchd.ctl"),
        ):
            names = [f"--unixctl={folder}/{program}.ctl",
                     f"--pidfile={folder}/{program}.pid", f"--log-file={folder}/{program}.log"]  # fmt: skip
            command = ["env", f"OVS_RUNDIR={folder}", program, *arguments, *names, *quiet]
            stack.enter_context(self.lab.running(self.name, command))
            poll(lambda: self.lab.path(folder / there).exists(), what=f"{program} runs", story=self.story)  # noqa: B023

    def vsctl(self, *words: str) -> None:
        self.lab.exec(self.name, ["ovs-vsctl", f"--db=unix:{self.folder}/db.sock", "--timeout=50", *words])

    def overlay(self, vni: int, remote: str, inner: str, mtu: int = 1450) -> None:
        """A network with one other tunnel end; `inner` (with its prefix length) is this host's own address in it."""
        self.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev",
                   "--", "add-port", "br-int", "vx0", "--", "set", "interface", "vx0", "type=vxlan",
                   f"options:remote_ip={remote}", f"options:key={vni}")  # fmt: skip
        self.lab.exec(self.name, ["ip", "link", "set", "br-int", "mtu", str(mtu), "up"])
        self.lab.exec(self.name, ["ip", "addr", "add", inner, "dev", "br-int"])

    def story(self) -> str:
        """The logs, for a test that failed."""
        logs = sorted(self.lab.path(self.folder).glob("*.log"))
        return "\n".join(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]) for log in logs)
