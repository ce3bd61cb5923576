"""Open vSwitch in userspace: the other userspace VXLAN, as a peer to compare with and for tests to speak to.

    host: inner address on br-int (a TAP) ── vxlan port ── route lookup ── br-phy (underlay address) ── eth0

Its data path "netdev" needs no kernel module. Database, sockets and pid files are in a directory of its own in the
lab's /run, and both programs stay in the foreground of the lab: no system daemon is asked, and they die with the block.

It takes eth0 for itself, so it has hosts of its own. It reads eth0 by a packet socket and does not know the kernel's
unfinished checksums: where the other end is no OVS, the cables have to be `wire`. It sends finished ones itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.daemon import Program, make_folder, program, start, version_of
from benchmarks.scene import Path, Scene, Witness
from benchmarks.underlay import join_underlay, set_underlay
from vxlanu.lab.plan import underlay_address
from vxlanu.lab.topology import Lab

TITLE = "OVS userspace"
PACKAGE = "openvswitch-switch"
PROGRAMS = ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl")
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
OWN_HOSTS = {"o1": "h201", "o2": "h202"}
"""Each with the host of the lab whose address it would have: there are none of such numbers."""


def version() -> str:
    """Of ovs-vswitchd."""
    return version_of("ovs-vswitchd", PACKAGE)


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between two further hosts on the same underlay."""
    family = scene.lab.plan.underlay
    outer = {name: underlay_address(host, family) for name, host in OWN_HOSTS.items()}
    hosts = []
    for name, other in (("o1", "o2"), ("o2", "o1")):
        host = stack.enter_context(OvsHost.up(scene.lab, name, outer[name], scene.underlay))
        host.overlay(7, outer[other], f"10.71.0.{name[1]}/24", scene.inner_mtu)
        hosts.append(host)
    witnesses = [Witness(name, device) for name in OWN_HOSTS for device in ("br-int", "eth0")]
    return Path(
        "ovs", scene.lab, "o1", "o2", "10.71.0.2", "10.71.0.1", tuple(witnesses),
        processes=tuple(it.pid for host in hosts for it in host.programs),
        logs=lambda: "\n".join(host.story() for host in hosts),
    )  # fmt: skip


class OvsHost:
    """One such host on the lab's underlay; `with OvsHost.up(lab, "ovs", "10.97.0.50") as host`."""

    def __init__(self, lab: Lab, name: str, outer: str) -> None:
        self.lab, self.name, self.outer = lab, name, outer
        self.folder = make_folder(lab, f"ovs-{name}")
        self.programs: list[Program] = []

    @classmethod
    @contextmanager
    def up(cls, lab: Lab, name: str, outer: str, underlay: str = "wire") -> Iterator[OvsHost]:
        """With `outer` on br-phy; switch and database end with the block. Raises FileNotFoundError, VxlanuError."""
        for needed in PROGRAMS:
            program(needed, PACKAGE)
        join_underlay(lab, name)
        set_underlay(lab, underlay, (name,))
        host = cls(lab, name, outer)
        with ExitStack() as stack:
            host._start(stack)
            host.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev",
                       "--", "add-port", "br-phy", "eth0")  # fmt: skip
            given = [f"{outer}/64", "nodad"] if ":" in outer else [f"{outer}/24"]
            lab.exec(name, ["ip", "address", "add", given[0], "dev", "br-phy", *given[1:]])
            lab.exec(name, ["ip", "link", "set", "br-phy", "up"])
            yield host

    def _start(self, stack: ExitStack) -> None:
        """The database and the switch; each is there once its socket is."""
        folder, database = self.folder, str(self.folder / "conf.db")
        self.lab.exec(self.name, [program("ovsdb-tool", PACKAGE), "create", database, SCHEMA])
        for name, arguments, there in (
            ("ovsdb-server", [database, f"--remote=punix:{folder}/db.sock"], "db.sock"),
            ("ovs-vswitchd", [f"unix:{folder}/db.sock"], "ovs-vswitchd.ctl"),
        ):
            own = ["--no-chdir", f"--unixctl={folder}/{name}.ctl", f"--pidfile={folder}/{name}.pid"]
            command = ["env", f"OVS_RUNDIR={folder}", program(name, PACKAGE), *arguments, *own]
            socket = self.lab.path(folder / there)
            self.programs.append(
                start(stack, self.lab, self.name, command, log=folder / f"{name}.log", until=socket.exists)
            )

    def vsctl(self, *words: str) -> None:
        """ovs-vsctl on the host's own database."""
        self.lab.exec(self.name, ["ovs-vsctl", f"--db=unix:{self.folder}/db.sock", "--timeout=50", *words])

    def overlay(self, vni: int, remote: str, inner: str, mtu: int = 1450) -> None:
        """A network with one other tunnel end; `inner` (with its prefix length) is this host's own address in it."""
        self.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev",
                   "--", "add-port", "br-int", "vx0", "--", "set", "interface", "vx0", "type=vxlan",
                   f"options:remote_ip={remote}", f"options:key={vni}")  # fmt: skip
        self.lab.exec(self.name, ["ip", "link", "set", "br-int", "mtu", str(mtu), "up"])
        self.lab.exec(self.name, ["ip", "addr", "add", inner, "dev", "br-int"])

    def story(self) -> str:
        """The logs, for a failure."""
        return "\n".join(it.told() for it in self.programs)
