"""`Lab`: a running lab, as the commands, the demo and the tests hold it.

    with Lab(hosts=3, containers=2) as lab:
        lab.vxlanu("h1", "network", "create", "demonet", "--subnet", "192.168.0.0/24")
        lab.vxlanu("h1", "attach", "demonet", "c1-1")
        lab.exec("c2-1", ["ping", "-c", "1", "192.168.0.100"])
        lab.kill_agent("h2")

Rules of this file
  1. No state but the supervisor's pid and the plan: what there is, is looked at when it is asked for.
  2. Every wait is a poll for something that can be observed, with a limit; its failure tells the story (agents, logs).
  3. Files of the lab are reached through /proc/PID/root, commands run inside through `namespaces`.
  4. Each command is a session of its own, as each agent is: to the scheduler a group of its own, as containers are
     (CONFIG_SCHED_AUTOGROUP). Two ends of one session would share its weight, as no two hosts do.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from vxlanu.errors import AgentUnreachable, BadRequest, Conflict, NotFound, Refused, TryAgain, VxlanuError
from vxlanu.lab import barrier, namespaces, supervisor
from vxlanu.lab.plan import (
    UNDERLAY,
    Plan,
    agent_log,
    agent_socket,
    containers_command,
    host_of,
    partition_rules,
)

__all__ = ["COMMAND_TIMEOUT_S", "READY_TIMEOUT_S", "Json", "Lab", "children_of", "parsed", "poll", "running_labs"]

COMMAND_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 60.0
"""For all agents to see each other; 3 hosts need about two seconds, a slow machine with 20 hosts half a minute."""
POLL_S = 0.05
LOG_TAIL_LINES = 25

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
Completed = subprocess.CompletedProcess[str]


def poll(
    condition: Callable[[], bool], what: str, timeout_s: float = 60.0, story: Callable[[], str] = lambda: ""
) -> None:
    """Return as soon as `condition()` is true; else fail with `what` and the story."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TryAgain("lab", f"waited {timeout_s:g} s for {what}", detail={"story": story()})
        time.sleep(POLL_S)


def running_labs() -> list[str]:
    """Ids of this user's labs: the kernel's list of abstract sockets is the register."""
    prefix = "@" + supervisor.address_of("")[1:]
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sorted({row[-1].removeprefix(prefix) for row in rows if row[-1].startswith(prefix)})


def parsed(text: str) -> Json:
    """What a command said with --json; a list is its `items`."""
    body: Json = json.loads(text) if text.strip() else None
    return body["items"] if isinstance(body, dict) and set(body) == {"items"} else body


class Lab:
    """One lab. `with Lab(...)` starts it and ends it; `Lab.find(id)` takes hold of one that runs."""

    def __init__(
        self,
        hosts: int = 3,
        containers: int = 2,
        *,
        lab: str = "",
        underlay: str = "ipv4",
        mtu: int = 1500,
        agent: Sequence[str] = (),
        agent_flags: Sequence[str] = (),
    ) -> None:
        """`agent` replaces the agent's command (tests of the lab itself), `agent_flags` are added to every agent's."""
        try:
            self.plan = Plan(
                lab or f"py-{os.getpid()}", hosts, containers, underlay, mtu, tuple(agent), tuple(agent_flags)
            )
        except ValueError as error:
            raise BadRequest("lab", str(error)) from error
        self.pid = 0
        self._lifeline: int | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    @classmethod
    def find(cls, lab: str) -> Lab:
        """The running lab of that id, or NotFound."""
        found = cls(1, 0, lab=lab)
        try:
            with found._connect() as connection:
                found.pid, owner = supervisor.peer(connection)
        except OSError as error:
            why = "not running"
            raise NotFound(f"lab {lab}", why, hint="vxlanu lab up", name="lab_not_found") from error
        if owner != os.geteuid():
            raise Refused("lab", f"lab {lab} belongs to user {owner}")
        found.plan = Plan.from_json(str(found._request(op="state")["plan"]))
        return found

    def __enter__(self) -> Lab:
        self.start()
        try:
            if not self.plan.agent:
                self.wait_ready()
        except BaseException:
            print(self.story(), file=sys.stderr)
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt):
            print(self.story(), file=sys.stderr)
        self.down()

    def start(self, *, detached: bool = False, progress: Callable[[str], None] = lambda text: None) -> None:
        """Start the supervisor and wait until the topology stands; unless `detached`, the lab ends with us."""
        if shutil.which("ip") is None:
            raise NotFound("lab", "the command ip is missing", hint="apt-get install iproute2", name="tool_missing")
        if not self.plan.agent:
            barrier.check_tun()
        reader, writer = os.pipe()
        alive, lifeline = os.pipe()
        passed = [writer] if detached else [writer, alive]
        command = [sys.executable, "-m", "vxlanu.lab.supervisor", self.plan.to_json(), *map(str, passed)]
        try:
            subprocess.run(command, pass_fds=passed, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        finally:
            os.close(writer)
            os.close(alive)
        if detached:
            os.close(lifeline)
        else:
            self._lifeline = lifeline
        with open(reader) as reports:
            self._follow(reports, progress)
        with self._connect() as connection:
            self.pid = supervisor.peer(connection)[0]

    def _follow(self, reports: IO[str], progress: Callable[[str], None]) -> None:
        """Read the supervisor's progress up to `ready`; an error or an early end is this lab's failure."""
        for line in reports:
            report = json.loads(line)
            if "progress" in report:
                progress(report["progress"])
            if "ready" in report:
                return
            if report.get("errno") == errno.EADDRINUSE:
                hint = f"vxlanu lab down --lab {self.plan.lab}"
                raise Conflict("lab", f"lab {self.plan.lab} is running already", hint=hint, name="lab_running")
            if report.get("step") == "unshare":
                raise barrier.namespaces_refused(report["errno"])
            if "error" in report:
                raise VxlanuError("lab", str(report["error"]))
        raise VxlanuError("lab", "the supervisor ended before the lab stood")

    def down(self) -> None:
        """End the lab and wait until the kernel has taken its supervisor away. A second time does nothing."""
        pid, self.pid = self.pid, 0
        with contextlib.suppress(ProcessLookupError):  # it may have ended before
            process = os.pidfd_open(pid) if pid else -1
            with contextlib.suppress(VxlanuError):
                self._request(op="down")
            if process >= 0:
                ended, _, _ = select.select([process], [], [], COMMAND_TIMEOUT_S)
                os.close(process)
                if not ended:
                    raise TryAgain("lab", f"supervisor {pid} does not end")
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until every agent sees every host alive."""
        poll(lambda: not self.unready(), "the agents to see each other", timeout_s, self.story)

    def unready(self) -> list[str]:
        """Hosts whose agent does not yet see all hosts alive; an agent that has ended is an error at once."""
        for host, status in self.agents().items():
            if status is not None:
                raise VxlanuError("lab", f"the agent of {host} ended with status {status}", name="agent_ended")
        wanted = set(self.plan.host_names())
        return [host for host in self.plan.host_names() if self._alive_seen_by(host) != wanted]

    def _alive_seen_by(self, host: str) -> set[str]:
        from vxlanu.api.client import Client

        try:
            members = Client(str(self.path(agent_socket(host))), timeout_s=2).members().value.items
        except (AgentUnreachable, TryAgain):
            return set()
        return {member.name for member in members if member.state == "alive"}

    # -- looking -------------------------------------------------------------------------------------------------------

    def hosts(self) -> list[str]:
        """h1, h2, ..."""
        return self.plan.host_names()

    def containers(self, host: str = "") -> list[str]:
        """The containers that exist now, of one host or of all."""
        names = [entry.name for entry in self.path(Path("/run/netns")).iterdir()]
        found = [name for name in names if name not in self.plan.host_names()]
        return sorted((n for n in found if not host or host_of(n) == host), key=_natural)

    def agents(self) -> dict[str, int | None]:
        """Exit status of each host's latest agent (negative: its signal), None while it runs."""
        agents = self._request(op="state")["agents"]
        assert isinstance(agents, dict)
        return {host: _status(agent) for host, agent in agents.items()}

    def agent_pids(self) -> dict[str, int]:
        """The process id of each host's running agent as it is out here; inside the lab it has another."""
        agents = self._request(op="state")["agents"]
        assert isinstance(agents, dict)
        hosts = {agent["pid"]: host for host, agent in agents.items() if isinstance(agent, dict)}
        inside = {child: _pid_inside(child) for child in children_of(self.pid)}
        return {host: child for child, pid in inside.items() if (host := hosts.get(pid))}

    def path(self, inside: Path) -> Path:
        """A file of the lab, as seen from outside."""
        return Path(f"/proc/{self.pid}/root") / inside.relative_to("/")

    def log(self, host: str) -> str:
        """Everything that the agents of `host` have said."""
        log = self.path(agent_log(host))
        return log.read_text(errors="replace") if log.exists() else ""

    def story(self) -> str:
        """For a failure: which agents run, and the end of each log."""
        try:
            agents = self.agents()
            parts = [f"lab {self.plan.lab}, supervisor {self.pid}"]
            for host, status in agents.items():
                parts.append(f"--- {host}: " + ("running" if status is None else f"ended with {status}"))
                parts += self.log(host).splitlines()[-LOG_TAIL_LINES:]
            return "\n".join(parts)
        except (VxlanuError, OSError) as error:
            return f"lab {self.plan.lab}: no story: {error}"

    # -- commands inside -----------------------------------------------------------------------------------------------

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command line, for outside, that runs `argv` in a host, a container or `underlay`."""
        return [sys.executable, "-I", "-S", namespaces.__file__, str(self.pid), name, "--", *argv]

    def environment(self, name: str) -> dict[str, str]:
        """This process's, with `vxlanu` first in PATH and, on a host, talking to that host's agent."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("VXLANU_")}
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
        if name in self.plan.host_names():
            kept["VXLANU_SOCKET"] = str(agent_socket(name))
        return kept

    def exec(
        self,
        name: str,
        argv: Sequence[str],
        *,
        text: str = "",
        timeout_s: float = COMMAND_TIMEOUT_S,
        check: bool = True,
    ) -> Completed:
        """Run `argv` in `name` to its end; with `check` a non-zero status is an error that shows what it said."""
        done = subprocess.run(
            self.command(name, argv), env=self.environment(name), input=text, capture_output=True, text=True,
            timeout=timeout_s, check=False, start_new_session=True,
        )  # fmt: skip
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise VxlanuError(f"{name}: {' '.join(argv)}", f"status {done.returncode}: {said}")
        return done

    @contextlib.contextmanager
    def running(self, name: str, argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """Run `argv` in `name` for as long as the block lasts; both of its outputs are pipes. Then it is ended, and
        waited for: the command itself, not what that has started."""
        with subprocess.Popen(
            self.command(name, argv), env=self.environment(name), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                commands = _children(process)
                process.kill()
                for command in commands:
                    _wait_for_end(command, argv)

    def vxlanu(self, host: str, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Json:
        """`vxlanu ARGUMENTS --json` on a host, parsed; raises when it fails. A list is its `items`."""
        return parsed(self.exec(host, ["vxlanu", *arguments, "--json"], timeout_s=timeout_s).stdout)

    # -- breaking and mending ------------------------------------------------------------------------------------------

    def kill_agent(self, host: str) -> None:
        """SIGKILL, and wait until it is gone. TAPs and state directory stay, as after a crash."""
        self._end_agent(host, signal.SIGKILL)

    def stop_agent(self, host: str) -> None:
        """SIGTERM, and wait: the agent stops without leaving."""
        self._end_agent(host, signal.SIGTERM)

    def signal_agent(self, host: str, number: signal.Signals) -> None:
        """Any signal to the agent of `host`."""
        self._request(op="signal", host=host, signal=str(int(number)))

    def _end_agent(self, host: str, number: signal.Signals) -> None:
        self.signal_agent(host, number)
        poll(lambda: self.agents()[host] is not None, f"the agent of {host} to end", story=self.story)

    def start_agent(self, host: str, *flags: str, wait: bool = True) -> None:
        """Start the agent of `host` again; `flags` count over the usual ones. With `wait`, until it answers."""
        self._request(op="start", host=host, flags=list(flags))
        if wait and not self.plan.agent:
            poll(lambda: host in self._alive_seen_by(host), f"the agent of {host} to answer", story=self.story)

    def partition(self, host: str) -> None:
        """Cut `host` off the underlay."""
        self.exec(UNDERLAY, ["ip", "link", "set", host, "down"])

    def heal(self, host: str) -> None:
        """The inverse of `partition`."""
        self.exec(UNDERLAY, ["ip", "link", "set", host, "up"])

    def block_control_port(self, host: str) -> None:
        """Drop gossip and streams to and from `host`; its data port stays open. Needs nft."""
        self.exec(host, ["nft", "-f", "-"], text=partition_rules())

    def unblock_control_port(self, host: str) -> None:
        """The inverse of `block_control_port`."""
        self.exec(host, ["nft", "delete", "table", "inet", "vxlanu_lab"])

    def create_container(self, *names: str) -> None:
        """Further containers, c2-NAME on host 2."""
        for name in names:
            if host_of(name) not in self.plan.host_names() or host_of(name) == name:
                raise BadRequest("lab", f"container {name!r}: cN-NAME, with N one of the hosts' numbers")
        self.exec(UNDERLAY, containers_command(names))

    def delete_container(self, name: str) -> None:
        """Take a container's namespace away, as its runtime would."""
        self.exec(UNDERLAY, ["ip", "netns", "delete", name])

    # -- the supervisor ------------------------------------------------------------------------------------------------

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(COMMAND_TIMEOUT_S)
        try:
            connection.connect(supervisor.address_of(self.plan.lab))
        except OSError:
            connection.close()
            raise
        return connection

    def _request(self, **request: str | list[str]) -> dict[str, Json]:
        try:
            with self._connect() as connection:
                connection.sendall(json.dumps(request).encode())
                reply = json.loads(connection.makefile().readline() or "{}")
        except OSError as error:
            raise NotFound("lab", f"lab {self.plan.lab} is gone: {error}", name="lab_not_found") from error
        if not reply or "error" in reply:
            raise NotFound("lab", str(reply.get("error", "the supervisor did not answer")))
        assert isinstance(reply, dict)
        return reply


def _wait_for_end(command: int, argv: Sequence[str]) -> None:
    """Wait until a process, by its descriptor, has ended, and close that."""
    ends = select.poll()
    ends.register(command, select.POLLIN)
    try:
        if not ends.poll(COMMAND_TIMEOUT_S * 1000):
            raise TryAgain(" ".join(argv), f"was killed and has not ended after {COMMAND_TIMEOUT_S:.0f} s")
    finally:
        os.close(command)


def _children(process: subprocess.Popen[str]) -> list[int]:
    """Descriptors of a process's children, which are readable once they have ended; none if it has ended itself."""
    found: list[int] = []
    if process.poll() is not None:  # its number may be another's by now
        return found
    with contextlib.suppress(OSError):
        for child in children_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                found.append(os.pidfd_open(child))
    return found


def children_of(pid: int) -> list[int]:
    """The processes that a process, by any of its threads, has started and not waited for."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def _pid_inside(pid: int) -> int:
    """The process id that a process has in its own pid namespace; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return 0


def _status(agent: Json) -> int | None:
    status = agent["status"] if isinstance(agent, dict) else None
    return status if isinstance(status, int) else None


def _natural(name: str) -> list[tuple[int, str]]:
    """c1-10 after c1-9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
