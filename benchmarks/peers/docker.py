"""Docker's own overlay network: two dockerds, one Swarm of both, a container on each.

    c1-docker ─ d1 ── underlay ── d2 ─ c2-docker      vxlan device and bridge are the kernel's, in a namespace of Docker

The dockerds run on hosts of their own, since the agents hold the Swarm's ports. The clients of a measurement run in the
containers' network namespaces, beside a process that sleeps: nothing of an image is measured, so it has only links into
/usr, which is mounted. Whatever Docker writes is in memory: below the lab's /run, or in mounts of its own (PRIVATE).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tarfile
from contextlib import ExitStack
from pathlib import Path as File

from benchmarks.daemon import Program, make_folder, program, start, version_of
from benchmarks.scene import Path, Scene, Witness
from vxlanu.errors import VxlanuError
from vxlanu.lab.plan import underlay_address
from vxlanu.lab.topology import children_of, poll

TITLE = "Docker overlay (Swarm)"
PACKAGE = "docker.io"
OWN_HOSTS = {"d1": "h211", "d2": "h212"}
"""Each with the host of the lab whose address it would have: there are none of such numbers."""
NETWORK, SUBNET = "swarmnet", "10.72.0.0/24"
INNER = {"d1": "10.72.0.101", "d2": "10.72.0.102"}
IMAGE = "links"
END_S = 30.0
PRIVATE = 'for at in /etc/docker /var/lib /opt; do mkdir -p $at; mount -t tmpfs tmpfs $at; done; exec "$@"'
"""Nothing of the machine's Docker is seen or written. Below the lab's /run mounts are shared with the lab."""


def version() -> str:
    """Of dockerd."""
    return version_of("dockerd", PACKAGE)


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between two further hosts on the same underlay. Needs root."""
    lab = scene.lab
    if os.geteuid() != 0 or File(f"/proc/{lab.pid}/ns/user").stat() != File("/proc/self/ns/user").stat():
        raise VxlanuError("docker", "needs root")
    hosts = [DockerHost(scene, name, stack) for name in OWN_HOSTS]
    _swarm(hosts, lab.plan.mtu)
    for host in hosts:
        host.run_container(stack)
    witnesses = tuple(witness for host in hosts for witness in host.witnesses())
    return Path(
        "docker", lab, hosts[0].container, hosts[1].container, INNER["d2"], INNER["d1"], witnesses,
        processes=tuple(pid for host in hosts for pid in (host.daemon.pid, *children_of(host.daemon.pid))),
        logs=lambda: "\n".join(host.daemon.told() for host in hosts),
    )  # fmt: skip


def _swarm(hosts: list[DockerHost], mtu: int) -> None:
    """One Swarm of both, and an overlay network that plain containers may join; it subtracts 50 from the MTU itself."""
    first, second = hosts
    first.docker("swarm", "init", "--advertise-addr", first.address)
    token = first.docker("swarm", "join-token", "-q", "worker")
    manager = f"[{first.address}]:2377" if ":" in first.address else f"{first.address}:2377"
    second.docker("swarm", "join", "--token", token, "--advertise-addr", second.address, manager)
    size = f"com.docker.network.driver.mtu={mtu}"
    first.docker("network", "create", "-d", "overlay", "--attachable", "--subnet", SUBNET, "--opt", size, NETWORK)


class DockerHost:
    """A host with a dockerd, which is asked to end with the stack: killed, it would leave its containers running."""

    def __init__(self, scene: Scene, name: str, stack: ExitStack) -> None:
        self.lab, self.name, self.container = scene.lab, name, f"c{name[1]}-docker"
        self.client = program("/usr/bin/docker", PACKAGE)  # one that PATH finds first may be of another version
        self.address = underlay_address(OWN_HOSTS[name], self.lab.plan.underlay)
        scene.add_host(name, f"{self.address}/{64 if ':' in self.address else 24}")
        self.folder = make_folder(self.lab, f"docker-{name}")
        self.socket = f"unix://{self.folder}/docker.sock"
        shared = str(self.folder)
        self.lab.exec(name, ["mount", "--bind", shared, shared])
        self.lab.exec(name, ["mount", "--make-shared", shared])
        self.daemon = self._start(stack)
        stack.callback(self._end)
        with tarfile.open(self.lab.path(self.folder / "image.tar"), "w") as image:
            for link in ("bin", "lib", "lib64"):
                entry = tarfile.TarInfo(link)
                entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
                image.addfile(entry)
        self.docker("import", str(self.folder / "image.tar"), IMAGE)

    def _start(self, stack: ExitStack) -> Program:
        control_group = f"vxlanu-{self.lab.plan.lab}-{self.name}"
        stack.callback(_remove_control_groups, control_group)
        folder = self.folder
        words = [
            "unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", PRIVATE, "sh",
            program("dockerd", PACKAGE), "--host", self.socket, "--pidfile", f"{folder}/pid", "--bridge", "none",
            "--exec-root", f"{folder}/exec", "--cgroup-parent", f"/{control_group}",
        ]  # fmt: skip
        asked = [self.client, "--host", self.socket, "version"]
        return start(stack, self.lab, self.name, words, log=folder / "dockerd.log",
                     until=lambda: self.lab.exec(self.name, asked, check=False).returncode == 0)  # fmt: skip

    def _end(self) -> None:
        """Containers first, for they are no children of dockerd's."""
        with contextlib.suppress(VxlanuError):
            self.docker("rm", "--force", self.container)
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(self.daemon.pid)
            signal.pidfd_send_signal(process, signal.SIGTERM)
            select.select([process], [], [], END_S)
            os.close(process)

    def docker(self, *words: str) -> str:
        """What docker said to a command."""
        return self.lab.exec(self.name, [self.client, "--host", self.socket, *words]).stdout.strip()

    def run_container(self, stack: ExitStack) -> None:
        """Start it on the network, and make its namespace and that of the network places of the lab."""
        self.docker("run", "--detach", "--name", self.container, "--network", NETWORK, "--ip", INNER[self.name],
                    "--stop-signal", "KILL", "--volume", "/usr:/usr:ro", IMAGE, "sleep", "infinity")  # fmt: skip
        pid = self.docker("inspect", "--format", "{{.State.Pid}}", self.container)
        self.lab.exec(self.name, ["ip", "netns", "attach", self.container, pid])
        stack.callback(self.lab.delete_container, self.container)
        network = self.docker("network", "inspect", "--format", "{{.Id}}", NETWORK)
        # Relative: an absolute link would be followed from where the lab is entered.
        inside = File("../peers") / self.folder.name / "exec/netns" / f"1-{network[:10]}"
        self.lab.path(File("/run/netns") / f"{self.name}-overlay").symlink_to(inside)

    def witnesses(self) -> tuple[Witness, ...]:
        """The container's interface, the network's vxlan device, the host's card."""
        overlay = Witness(f"{self.name}-overlay", "vxlan0")
        return (Witness(self.container, "eth0"), overlay, Witness(self.name, "eth0"))


def _remove_control_groups(name: str) -> None:
    """Those of a name in every hierarchy; they are in use until the last process has been reaped."""
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        if name in below:
            below.remove(name)
            poll(lambda: _removed(File(folder) / name), f"{name} in {folder} to be empty")  # noqa: B023


def _removed(control_group: File) -> bool:
    with contextlib.suppress(OSError):
        for folder, _, _ in os.walk(control_group, topdown=False):
            File(folder).rmdir()
    return not control_group.exists()
