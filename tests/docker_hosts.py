"""Two hosts with a dockerd and an agent each, as namespaces of this machine.

    outside ── out0 │ h1 │ eth0 ────────── eth0 │ h2 │ out0 ── outside
    198.51.100.2    │    │ 192.0.2.1  192.0.2.2 │    │   203.0.113.2        (h1, h2: .1 there, default route)

How it works
  A host is a network, a mount and a pid namespace. Its /run, /etc and /var/lib are in memory and its own, so dockerd,
  containerd, `ip netns` and vxlanu run with the paths of an ordinary machine, on any file system below. Pid 1 reads
  a pipe that we hold: when it is closed, or we die, the kernel takes the whole host away with every container.

  Another release of Docker is tried with VXLANU_TEST_DOCKER=FOLDER: each file in it (usr/sbin/dockerd, usr/bin/docker,
  usr/bin/containerd, ...), as a package has them, is seen by the hosts in place of the machine's.

Rules of this file
  1. /usr/bin/docker, never the client that PATH finds first: it may be of another version than its daemon.
  2. Nothing is signalled by name but inside of a host, whose /proc shows no process but its own.
  3. What a test makes in Docker or vxlanu it need not remove: `clean` does, and mends what it stopped or killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asking import ONLY_ASK, ask
from docker_image import write_image
from lab_ns import Namespace, Namespaces, poll

from vxlanu.api.client import Client
from vxlanu.errors import AgentUnreachable, TryAgain
from vxlanu.lab.topology import Json, parsed

__all__ = ["DOCKER", "IMAGE", "DockerHost", "DockerHosts"]

DOCKER = "/usr/bin/docker"
OTHER_DOCKER = os.environ.get("VXLANU_TEST_DOCKER", "")
IMAGE = "busybox"
UNDERLAY = "192.0.2"
OUTSIDE = {1: "198.51.100", 2: "203.0.113"}
SOCKET = Path("/run/vxlanu/agent.sock")
LOG_TAIL_LINES = 30
LATE = ": not done within "  # the plugin's word when the host was too busy for a request: it undoes what it has done
LATE_TRIES, LATE_REST_S = 5, 2.0
ECHO_S = 3  # for the answer to one echo request, before the next is sent

# In the machine's own /etc/netns the files of other tests come and go.
# A pid 1 that ignores SIGCHLD has its orphans reaped by the kernel; sh would not hand `trap '' CHLD` on.
INIT = """set -eu
folder=$1
mkdir -p "$folder/cgroup"
mount --rbind /sys/fs/cgroup "$folder/cgroup"
mount -t sysfs sysfs /sys
mount --move "$folder/cgroup" /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/etc /run/lock
find /etc -mindepth 1 -maxdepth 1 ! -name netns ! -name docker ! -name vxlanu -exec cp -a -t /run/etc {} +
mount --bind /run/etc /etc
mount -t tmpfs -o mode=755 tmpfs /var/lib
[ -z "$3" ] || (cd "$3" && find usr -type f) | while read -r file; do mount --bind "$3/$file" "/$file"; done
rm -f /etc/resolv.conf
echo "nameserver $2" >/etc/resolv.conf
echo up
exec env --ignore-signal=CHLD cat >/dev/null
"""


# Docker hands out its default subnets one after the other, so a bridge of its own that is made anew for each test would
# come to 192.168.0.0/20 in the end, which is where the tests' networks are: it stays.
CLEAN = f"""
{DOCKER} ps -aq | xargs -r {DOCKER} rm -f &&
{DOCKER} network ls --filter type=custom --format '{{{{.Name}}}}' | grep -vx docker_gwbridge |
	xargs -r {DOCKER} network rm
"""


class DockerHost:
    """One host. Its dockerd and its agent are started, stopped and killed each on its own."""

    def __init__(self, number: int, namespace: Namespace, outside: Namespace, folder: Path) -> None:
        self.number, self.name, self.namespace, self.outside = number, f"h{number}", namespace, outside
        self.address = f"{UNDERLAY}.{number}"
        self.outer_address, self.outside_address = f"{OUTSIDE[number]}.1", f"{OUTSIDE[number]}.2"
        self.folder = folder
        self.cgroup = f"/{namespace.name}"
        self.dockerd_flags: tuple[str, ...] = ()
        self.agent_flags: tuple[str, ...] = ()
        folder.mkdir()
        self._outer = self._boot()
        self.pid = _child_of(self._outer.pid)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    # -- life ----------------------------------------------------------------------------------------------------------

    def _boot(self) -> subprocess.Popen[str]:
        command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        init = ["sh", "-c", INIT, "init", str(self.folder), self.outside_address, OTHER_DOCKER]
        outer = subprocess.Popen(
            self.namespace.command(*command, *init), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log("init"), text=True, start_new_session=True,
        )  # fmt: skip
        assert outer.stdout
        assert outer.stdout.readline() == "up\n", self.log("init")
        return outer

    def close(self) -> None:
        """Take the host away: the end of its pid 1 is the end of everything in it."""
        assert self._outer.stdin
        self._outer.stdin.close()
        self._outer.wait(180)
        for tree in _control_groups(self.namespace.name):
            for folder, _, _ in os.walk(tree, topdown=False):
                poll(lambda: _removed(Path(folder)), what=f"{folder} is empty")  # noqa: B023

    def start_dockerd(self, *flags: str) -> None:
        """Start dockerd and wait until it answers; flags count for this start and later ones without any."""
        self.dockerd_flags = flags or self.dockerd_flags
        self.run("rm", "-f", "/run/docker.pid")  # of a killed one, whose number may be another's by now
        process = self._launch("dockerd", "--cgroup-parent", self.cgroup, *self.dockerd_flags)
        patience = 150.0  # before it answers, it waits up to 45 s for a plugin that is away
        poll(
            lambda: self.docker_answers() or process.poll() is not None,
            timeout=patience, what="dockerd answers", story=self.story,
        )  # fmt: skip
        assert process.poll() is None, self.story()

    def start_agent(self, *flags: str, wait: bool = True) -> None:
        """Start the agent; flags count for this start and later ones without any. With `wait`, until it answers."""
        self.agent_flags = flags or self.agent_flags
        peer = f"{UNDERLAY}.{3 - self.number}"
        usual = ("--name", self.name, "--advertise", self.address, "--join", peer, "--profile", "local")
        process = self._launch("vxlanu", "agent", *usual, *self.agent_flags)
        if wait:
            poll(lambda: self.agent_answers() or process.poll() is not None, what="the agent answers", story=self.story)
            assert process.poll() is None, self.story()

    def _launch(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a daemon that `stop` and `kill` know by name."""
        assert not self.runs(program), f"{program} runs on {self.name} already"
        self._daemons[program] = self.start(program, *words, log=program)
        return self._daemons[program]

    def runs(self, program: str) -> bool:
        """Whether a daemon ("dockerd", "vxlanu") was started and has not ended."""
        return program in self._daemons and self._daemons[program].poll() is None

    def stop(self, program: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon, and wait until it is gone."""
        waiting = self._daemons[program]  # nsenter, whose one child is the daemon
        os.kill(_child_of(waiting.pid), number)
        waiting.wait(90)

    @contextmanager
    def frozen(self, program: str) -> Iterator[None]:
        """A daemon that hangs meanwhile: its sockets accept, and nobody answers."""
        waiting = self._daemons[program].pid
        daemon = _child_of(waiting)
        os.kill(daemon, signal.SIGSTOP)
        try:
            # nsenter stops itself with its child; if it were not woken, it could not see it end, nor the host go.
            poll(lambda: _stopped(daemon) and _stopped(waiting), what=f"{program} has stopped")
            yield
        finally:
            for pid in (daemon, waiting):
                os.kill(pid, signal.SIGCONT)

    def kill(self, program: str) -> None:
        """SIGKILL, and wait until it is gone: what a crash does."""
        self.stop(program, signal.SIGKILL)

    def kill_container(self, name: str) -> None:
        """SIGKILL the container's first process, from the host."""
        self.run("kill", "-9", self.docker("inspect", "-f", "{{.State.Pid}}", name))

    def kill_shim(self, name: str) -> None:
        """SIGKILL containerd's shim of one container. (The host's /proc shows no process but its own.)"""
        full = self.docker("inspect", "-f", "{{.Id}}", name)
        self.run("pkill", "-9", "-f", f"^[^ ]*containerd-shim.* -id {full}")

    # -- commands ------------------------------------------------------------------------------------------------------

    def command(self, *words: str) -> list[str]:
        """`words` as they must be started to run on this host."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "--", *words]

    def environment(self) -> dict[str, str]:
        """A login's on that host: vxlanu in PATH, and nothing of ours that names a daemon."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("VXLANU_", "DOCKER_"))}
        path = f"{Path(sys.executable).parent}:/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:/usr/local/sbin"
        return kept | {"PATH": path, "LC_ALL": "C", "HOME": "/run", "DOCKER_CONFIG": "/run/docker-config"}

    def call(self, *words: str, timeout: float = 90.0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program to its end, whatever that is."""
        return subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, timeout=timeout,
            env=self.environment(), check=False,
        )  # fmt: skip

    def call_again(
        self, *words: str, timeout: float = 90.0, stdin: str = "", fails: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """`call`, and again if our plugin had no time for Docker, as it tells the user to; any other failure stands.

        Once it was late, what follows may be refused while that is undone: tried until it succeeds or, with `fails`,
        is refused for another reason.
        """
        done = self.call(*words, timeout=timeout, stdin=stdin)
        for _ in range(LATE_TRIES if _late(done) else 0):
            print(f"{self.name}: {' '.join(words)}: {done.stderr}")
            if named := re.search(r" --name (\S+)", " ".join(words)):
                self.call(DOCKER, "rm", "-f", named[1])  # `run` leaves what it could not start
            time.sleep(LATE_REST_S)
            done = self.call(*words, timeout=timeout, stdin=stdin)
            if done.returncode == 0 or (fails and not _late(done)):
                break
        return done

    def run(self, *words: str, timeout: float = 90.0, stdin: str = "") -> str:
        """What a program printed; a failure carries all of its output."""
        done = self.call_again(*words, timeout=timeout, stdin=stdin)
        if done.returncode != 0:
            raise AssertionError(f"{self.name}: {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def fails(self, *words: str, timeout: float = 90.0) -> str:
        """What a program said on stderr that must fail."""
        done = self.call_again(*words, timeout=timeout, fails=True)
        assert done.returncode != 0, f"{self.name}: {' '.join(words)} succeeded:\n{done.stdout}"
        return done.stderr.strip()

    def start(self, *words: str, log: str) -> subprocess.Popen[bytes]:
        """Start a program and leave it running; what it says is in log(NAME)."""
        output = self._log(log)
        return subprocess.Popen(
            self.command(*words), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=self.environment(), start_new_session=True,
        )  # fmt: skip

    def docker(self, *words: str, timeout: float = 90.0) -> str:
        return self.run(DOCKER, *words, timeout=timeout)

    def run_container(self, name: str, *options: str, words: tuple[str, ...] = ("sleep", "36000")) -> str:
        """`docker run -d --init --name NAME OPTIONS IMAGE WORDS`; its id. (sleep as pid 1 would ignore SIGTERM.)"""
        return self.docker("run", "-d", "--init", "--name", name, *options, IMAGE, *words)

    def inside(self, container: str, *words: str, timeout: float = 60.0) -> str:
        """What a program printed in a container; a failure carries all of its output."""
        return self.docker("exec", container, *words, timeout=timeout)

    def pings(self, container: str, address: str, *, wait: int = 30) -> bool:
        """Whether an echo request of a container is answered, one after the other being sent for `wait` seconds.

        More than one: what comes from a host is dropped until the other has heard of its endpoint.
        """
        command = (DOCKER, "exec", container, "ping", "-q", "-c", "1", "-W", str(min(wait, ECHO_S)), address)
        end = time.monotonic() + wait
        while self.call(*command).returncode != 0:
            if time.monotonic() >= end:
                return False
        return True

    def vxlanu(self, *words: str) -> Json:
        """`vxlanu WORDS --json`, parsed; raises when it fails. A list is its `items`.

        What only asks the agent is asked in this process, see asking.py.
        """
        if words[0] in ONLY_ASK:
            return ask(self.name, self.path(SOCKET), *words)
        return parsed(self.run("vxlanu", *words, "--json"))

    # -- looking -------------------------------------------------------------------------------------------------------

    def path(self, inside: Path | str) -> Path:
        """A file of the host, as seen from here."""
        return Path(f"/proc/{self.pid}/root") / Path(inside).relative_to("/")

    def docker_answers(self) -> bool:
        return self.path("/run/docker.sock").exists() and self.call(DOCKER, "version").returncode == 0

    def agent_answers(self) -> bool:
        """Whether the agent's API answers; asked from here, for that takes milliseconds."""
        try:
            self.client().status()
        except (AgentUnreachable, TryAgain):
            return False
        return True

    def client(self) -> Client:
        """The agent's API, spoken to from here."""
        return Client(str(self.path(SOCKET)), timeout_s=60)

    def sees_both(self) -> bool:
        """Whether the agent answers, and knows both hosts to be alive."""
        if not self.agent_answers():
            return False
        return {it.name for it in self.client().members().value.items if it.state == "alive"} == {"h1", "h2"}

    def log(self, name: str) -> str:
        """Everything that a program has said: init, dockerd, vxlanu."""
        file = self.folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _log(self, name: str) -> int:
        return os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def story(self) -> str:
        """The end of each log, for a test that failed."""
        parts = []
        for name in ("init", "dockerd", "vxlanu"):
            parts += [f"--- {self.name} {name}", *self.log(name).splitlines()[-LOG_TAIL_LINES:]]
        return "\n".join(parts)


class DockerHosts:
    """Both hosts; `with DockerHosts(folder) as (h1, h2)` starts their daemons and takes everything away again."""

    def __init__(self, folder: Path, *agent_flags: str) -> None:
        self._namespaces = Namespaces()
        self.folder = folder
        self.each: list[DockerHost] = []
        try:
            self._build(agent_flags)
        except BaseException:
            self.close()
            raise

    def _build(self, agent_flags: tuple[str, ...]) -> None:
        image = self.folder / "image.tar"
        write_image(image)
        networks = [self._namespaces.make(f"d{number}") for number in (1, 2)]
        networks[0].ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", networks[1].name)
        for number, network in enumerate(networks, 1):
            network.ip("addr", "add", f"{UNDERLAY}.{number}/24", "dev", "eth0")
            network.ip("link", "set", "eth0", "up")
            outside = self._outside(number, network)
            host = DockerHost(number, network, outside, self.folder / f"h{number}")
            self.each.append(host)
            host.start_agent(*agent_flags, wait=False)
        for host in self.each:
            host.start_dockerd()
            host.docker("import", str(image), IMAGE)
        image.unlink()
        self.wait_joined()

    def _outside(self, number: int, network: Namespace) -> Namespace:
        """What is behind the host: a machine that knows the host's address and no other."""
        outside = self._namespaces.make(f"o{number}")
        network.ip("link", "add", "out0", "type", "veth", "peer", "name", "eth0", "netns", outside.name)
        network.ip("addr", "add", f"{OUTSIDE[number]}.1/24", "dev", "out0")
        outside.ip("addr", "add", f"{OUTSIDE[number]}.2/24", "dev", "eth0")
        network.ip("link", "set", "out0", "up")
        outside.ip("link", "set", "eth0", "up")
        network.ip("route", "add", "default", "via", f"{OUTSIDE[number]}.2")
        return outside

    def __enter__(self) -> tuple[DockerHost, DockerHost]:
        return self.each[0], self.each[1]

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        try:
            for host in self.each:
                host.close()
        finally:
            self._namespaces.close()

    def wait_joined(self) -> None:
        """Until each agent sees both alive."""
        poll(lambda: all(host.sees_both() for host in self.each), what="both agents see each other", story=self.story)

    def clean(self) -> None:
        """Everything runs, and nothing is left of what a test made: containers, networks of Docker and of vxlanu."""
        for host in self.each:
            if not host.runs("vxlanu"):
                host.start_agent()
        for host in self.each:
            if not host.runs("dockerd"):
                host.start_dockerd()
            poll(lambda: _emptied(host), what=f"nothing in {host.name}'s Docker", story=host.story)  # noqa: B023
            host.run("sh", "-c", "ip netns list | cut -d' ' -f1 | xargs -r -n 1 ip netns del")
        self.wait_joined()
        clients = [host.client() for host in self.each]
        poll(lambda: not any(it.endpoints().value.items for it in clients), what="no endpoint", story=self.story)
        poll(lambda: _pruned(clients), what="no network", story=self.story)

    def story(self) -> str:
        return "\n".join(host.story() for host in self.each)


def _global(client: Client) -> list[str]:
    """Networks of the cluster; a bridge for the way out is the host's own affair."""
    return [network.name for network in client.networks().value.items if network.scope == "global"]


def _pruned(clients: list[Client]) -> bool:
    """Prune the cluster's networks; False while one stays, whose last endpoint is still on its way out."""
    clients[0].network_prune()
    return not any(_global(client) for client in clients)


def _emptied(host: DockerHost) -> bool:
    """Remove containers and networks; False where one was in use still, or was just being removed by others."""
    done = host.call("sh", "-c", CLEAN)
    if done.returncode != 0:
        print(f"{host.name}: {done.stderr}")
    return done.returncode == 0


def _late(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode != 0 and LATE in done.stderr


def _stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _child_of(pid: int) -> int:
    """The one child of a process that waits for it."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _control_groups(name: str) -> list[Path]:
    """Those of a name. By os.walk, which passes over what others take away while it looks."""
    return [Path(folder) / name for folder, below, _ in os.walk("/sys/fs/cgroup") if name in below]


def _removed(folder: Path) -> bool:
    """Whether a control group is gone; its processes may take a moment to leave it."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
