"""The process that holds a lab: pid 1 of its own pid, mount and network namespaces (without root, user namespace too).

How it works
  Everything of the lab hangs from this one process. Network namespaces are pinned by files in a tmpfs of its private
  mount namespace; agents and commands run in its pid namespace. When it ends, however it ends, the kernel kills those
  processes, drops those mounts and frees those namespaces with their links: nothing needs to be cleaned up, so nothing
  can be forgotten.

  It is found without a file: it listens on an abstract unix socket whose name carries the user and the lab id, bound in
  the network namespace from which the lab was started. Binding is atomic, so one id is one lab; the name vanishes with
  the process. The process id of the listener (SO_PEERCRED) is where `lab exec` enters.

    start: bind the name -> unshare -> fork (the parent ends) -> listen -> mount -> build -> start agents -> serve

  An ordinary user becomes root of a user namespace first, with no other user in it: that is enough for namespaces,
  links and TAPs (if /dev/net/tun may be opened), and for nothing outside the lab. What it does not give is larger
  socket buffers than net.core.rmem_max (SO_RCVBUFFORCE asks for the machine's own CAP_NET_ADMIN).

Rules of this file
  1. Single-threaded, standard library only: it forks, and it should stay small.
  2. One request, one reply, one JSON line each. It holds processes; whatever can be observed (namespaces, links,
     members) it is not asked for, and does not remember.
  3. As pid 1 it reaps every orphan, so no process is waited for elsewhere.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from vxlanu.lab import namespaces
from vxlanu.lab.plan import RUN, Plan, agent_log, host_of

REQUEST_BYTES_MAX = 65536
_CREDENTIALS = struct.Struct("3i")
_HIDDEN_ENVIRONMENT = ("VXLANU_", "XDG_", "PYTHONSTARTUP")
"""What must not reach an agent of the lab: it would be configured by the machine's own vxlanu."""


def address_of(lab: str) -> str:
    """The abstract unix socket of a lab; the user id keeps the labs of two users apart."""
    return f"\0vxlanu-lab/{os.geteuid()}/{lab}"


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end; for a listener, those that called listen()."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


@dataclass(slots=True)
class Agent:
    """The latest agent process of one host. `pid` counts in the lab's pid namespace; `status` is None while it runs."""

    pid: int
    status: int | None = None


@dataclass(slots=True)
class Supervisor:
    """State and event loop of pid 1."""

    plan: Plan
    listener: socket.socket
    progress: int
    lifeline: int | None
    agents: dict[str, Agent] = field(default_factory=dict)
    wakeup: tuple[int, int] = (-1, -1)

    def run(self) -> None:
        """Build, report, serve until told to end; ending is all the clean-up there is."""
        self._handle_signals()
        try:
            self._prepare()
            self._build()
            for host in self.plan.host_names():
                self._start(host, ())
            self._report(ready=True)
        except (OSError, RuntimeError) as error:
            self._report(error=str(error))
            return
        os.close(self.progress)
        self._serve()

    def _report(self, **message: object) -> None:
        os.write(self.progress, json.dumps(message).encode() + b"\n")

    def _prepare(self) -> None:
        """Private mounts, an empty /run, our own /proc; then listen, so that the peer's pid is this process."""
        self.listener.listen(16)
        namespaces.set_title("vxlanu-lab")
        namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        quiet = namespaces.MS_NOSUID | namespaces.MS_NODEV
        namespaces.mount("tmpfs", "/run", "tmpfs", quiet, "mode=755")
        namespaces.mount("proc", "/proc", "proc", quiet | namespaces.MS_NOEXEC)
        Path("/run/netns").mkdir()
        RUN.mkdir(mode=0o700)
        namespaces.cover_etc(str(RUN / "etc"))
        log = os.open(RUN / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 2)  # whoever started the lab may be waiting for the end of that pipe
        os.close(log)
        (RUN / "agent.toml").write_text("# empty: the agents of a lab are configured by flags\n")
        key = RUN / "cluster.key"
        key.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
        key.chmod(0o600)

    def _build(self) -> None:
        self._report(progress=f"{self.plan.hosts} hosts, {len(self.plan.container_names())} containers")
        for command in self.plan.build_commands():
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        for host in self.plan.host_names():
            (RUN / host / "state").mkdir(parents=True, mode=0o700)

    def _start(self, host: str, extra: tuple[str, ...]) -> None:
        """Fork the agent of `host` into its network namespace. This process has one thread, so fork is safe."""
        beside = Path(sys.executable).with_name("vxlanu")
        default = (str(beside),) if beside.exists() else (shutil.which("vxlanu") or "vxlanu",)
        command = self.plan.agent_command(host, default, extra)
        pid = os.fork()
        if pid:
            self.agents[host] = Agent(pid)
            return
        try:
            self._become(host, command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error}\n".encode())
        os._exit(127)

    @staticmethod
    def _become(host: str, command: list[str]) -> None:
        log = os.open(agent_log(host), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        namespaces.setns(f"/run/netns/{host}", namespaces.CLONE_NEWNET)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_HIDDEN_ENVIRONMENT)}
        os.execvpe(command[0], command, inherited | {"PYTHONUNBUFFERED": "1"})

    def _handle_signals(self) -> None:
        """Before anything else: pid 1 gets only signals that it handles, so an early SIGTERM would be lost."""
        self.wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)

    def _serve(self) -> None:
        poller = select.poll()
        for fd in (self.listener.fileno(), self.wakeup[0], *([] if self.lifeline is None else [self.lifeline])):
            poller.register(fd, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd == self.lifeline:
                    return
                if fd == self.wakeup[0]:
                    numbers = os.read(fd, 4096)
                    if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                        return
                    self._reap()
                elif not self._answer_one():
                    return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for agent in self.agents.values():
                if agent.pid == pid:
                    agent.status = os.waitstatus_to_exitcode(status)

    def _answer_one(self) -> bool:
        """Serve one connection of our own user; False when it asked for the end."""
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(5)
            if peer(connection)[1] != os.geteuid():
                return True
            try:
                request = json.loads(connection.recv(REQUEST_BYTES_MAX))
                reply = self._handle(request)
                connection.sendall(json.dumps(reply).encode() + b"\n")
            except (OSError, ValueError, KeyError, TypeError):
                return True  # a broken client hurts nobody but itself
            return bool(request["op"] != "down")

    def _handle(self, request: dict[str, str | list[str]]) -> dict[str, object]:
        operation, host = request["op"], str(request.get("host", ""))
        if operation == "state":
            agents = {name: {"pid": agent.pid, "status": agent.status} for name, agent in self.agents.items()}
            return {"plan": self.plan.to_json(), "agents": agents}
        if operation == "down":
            return {"done": True}
        if host not in self.agents or host_of(host) != host:
            return {"error": f"no host {host}"}
        running = self.agents[host].status is None
        if operation == "start":
            if running:
                return {"error": f"the agent of {host} is running already"}
            self._start(host, tuple(request.get("flags", [])))
        elif operation == "signal" and running:
            os.kill(self.agents[host].pid, int(str(request["signal"])))
        return {"done": True}


def _leave_the_machine() -> None:
    """Into namespaces of our own: as root, or as root of a user namespace that is made for it."""
    wanted = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID | namespaces.CLONE_NEWNET
    try:
        namespaces.unshare(wanted)
    except PermissionError:
        namespaces.become_own_root()
        namespaces.unshare(wanted)


def main(arguments: list[str]) -> int:
    """supervisor PLAN PROGRESS_FD [LIFELINE_FD]: returns 0 in the parent as soon as the child is on its way."""
    plan, progress = Plan.from_json(arguments[0]), int(arguments[1])
    lifeline = int(arguments[2]) if len(arguments) > 2 else None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    for fd in (progress, lifeline):
        if fd is not None:
            os.set_inheritable(fd, False)
    step = "bind"
    try:
        listener.bind(address_of(plan.lab))
        step = "unshare"
        _leave_the_machine()
    except OSError as error:
        os.write(progress, json.dumps({"error": error.strerror, "errno": error.errno, "step": step}).encode() + b"\n")
        return 1
    if os.fork():
        return 0
    os.setsid()
    os.chdir("/")
    Supervisor(plan, listener, progress, lifeline).run()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
