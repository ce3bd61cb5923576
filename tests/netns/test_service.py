"""The agent under a service manager: what it tells, what outlives it, and what a restart costs.

    c1      c2          containers, in blue
    h1 ──── h2          hosts; the agent of each is a unit of the stand-in manager (service_unit.py)
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from asking import ask
from lab_ns import Namespace, Namespaces, Underlay, poll, run
from needs import require
from service_unit import Unit
from streams import words

from vxlanu.event_names import EVENTS

pytestmark = pytest.mark.netns

VXLANU = str(Path(sys.executable).with_name("vxlanu"))
INTERVAL_S = 0.01
PORT = 5005
AROUND = 20  # probes that are answered before and after a disturbance, at least
BATCH = 32  # what a worker takes into its hands at most, and loses with its life
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17


@dataclass
class Host:
    """One host: where its agent runs, its unit, and the socket to ask it."""

    namespace: Namespace
    unit: Unit
    socket: Path

    def ask(self, *arguments: str) -> dict[str, object]:
        """`vxlanu ARGUMENTS --json`, parsed."""
        said = ask(str(self.socket), self.socket, *arguments)
        return said if isinstance(said, dict) else {"items": said}

    def refuses(self, *arguments: str) -> tuple[int, str]:
        """Exit status and stderr of a command line that fails."""
        done = subprocess.run([VXLANU, *arguments, "--socket", str(self.socket)], capture_output=True, text=True)
        return done.returncode, done.stderr


@pytest.fixture
def hosts(
    namespaces: Namespaces, underlay: Callable[..., Underlay], tmp_path: Path
) -> Iterator[Callable[..., list[Host]]]:
    """`hosts(store=True, watchdog_s=0, flags=())`: h1 and h2, running; the arguments are h1's."""
    require("native", "ping")
    with ExitStack() as stack:

        def build(*, store: bool = True, watchdog_s: float = 0.0, flags: tuple[str, ...] = ()) -> list[Host]:
            network, made = underlay(2), []
            for number, namespace in enumerate(network.hosts, 1):
                place = tmp_path / f"h{number}"
                place.mkdir()
                (place / "agent.toml").write_text("")
                told = ["--name", f"h{number}", "--config", str(place / "agent.toml"), "--profile", "local"]
                told += ["--state-dir", str(place / "state"), "--socket", str(place / "agent.sock")]
                told += ["--advertise", Underlay.v4(number), *(["--join", Underlay.v4(1)] if number > 1 else [])]
                first = number == 1
                unit = Unit(
                    place,
                    namespace.command(VXLANU, "agent", *told, *(flags if first else ())),
                    store=store or not first,
                    watchdog_s=watchdog_s if first else 0.0,
                )
                made.append(Host(namespace, stack.enter_context(unit), place / "agent.sock"))
                unit.start()
            return made

        yield build


def attached(hosts: list[Host], namespaces: Namespaces) -> tuple[list[Namespace], list[str]]:
    """blue, with c1 on h1 and c2 on h2; the containers and their addresses. They reach each other."""
    hosts[0].ask("network", "create", "blue", "--subnet", "192.168.0.0/24")
    containers, addresses = [], []
    for host in hosts:
        containers.append(namespaces.make("c"))
        body = host.ask("attach", "blue", containers[-1].name, "--name", f"c{len(containers)}")
        addresses.append(re.sub("/.*", "", str(body["addresses"][0])))  # type: ignore[index]  # a list of strings
    poll(lambda: containers[1].pings(addresses[0], wait=1), what="a first ping", story=hosts[0].unit.story)
    for here, there, address in zip(containers, containers[::-1], addresses[::-1], strict=True):
        # Their kernels ask again once in a while, and give up when nobody answers for three seconds: no loss of ours.
        mac = json.loads(there.ip("-j", "link", "show", "eth0"))[0]["address"]
        here.ip("neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")
    return containers, addresses


def lost_over(containers: list[Namespace], address: str, disturb: Callable[[], None]) -> tuple[int, int]:
    """How many probes of the second container to an echo in the first, one every INTERVAL_S, stay unanswered with
    `disturb` among them; and how many it met.

    Counted among those before the last answer. Late answers count: this goes on until probes are answered that were
    sent after the disturbance, however long that took.
    """
    answered: set[int] = set()
    with ExitStack() as stack:
        echo = stack.enter_context(containers[0].start(*words("echo", address, PORT, 600)))
        stack.callback(echo.kill)
        assert echo.stdout and json.loads(echo.stdout.readline()) == {"ready": True}
        probe = stack.enter_context(containers[1].start(*words("probe", address, PORT, INTERVAL_S)))
        stack.callback(probe.kill)
        assert probe.stdout
        for line in probe.stdout:
            answered.add(int(line))
            if len(answered) == AROUND:
                begun = time.monotonic()
                disturb()
                met = int((time.monotonic() - begun) / INTERVAL_S)
                wanted = max(answered) + met + AROUND
            elif len(answered) > AROUND and max(answered) >= wanted:
                break
    print(f"{max(answered)} probes, {max(answered) - len(answered)} lost")
    return max(answered) - len(answered), met


def all_kept(unit: Unit) -> bool:
    """Whether the store has a socket and what comes there last: of a TAP, the queue by which several workers write, or
    the only one."""
    kept = list(unit.kept)
    last = "tap-.*-w" if "data-1" in kept else "tap-.*-0"
    return "data-0" in kept and any(re.fullmatch(last, name) for name in kept)


def restart(unit: Unit, number: int) -> None:
    unit.stop(number)
    unit.start()


def test_a_restart_loses_nothing_with_the_store_and_something_without(
    hosts: Callable[..., list[Host]], namespaces: Namespaces
) -> None:
    pair = hosts()
    containers, addresses = attached(pair, namespaces)
    unit = pair[0].unit
    poll(lambda: all_kept(unit), what="the sockets and a TAP in the store", story=unit.story)
    lost, _ = lost_over(containers, addresses[0], lambda: restart(unit, signal.SIGTERM))
    assert lost == 0, unit.story()
    assert "kept" not in unit.log.read_text(), unit.story()
    poll(lambda: not pair[0].ask("verify")["differences"], what="tables as the records say", story=unit.story)
    # The control: the same agent, and a manager that keeps nothing.
    def forgetful() -> None:
        unit.stop()
        unit.swap({}, store=False)
        unit.start()

    without, _ = lost_over(containers, addresses[0], forgetful)
    assert without > 0


def test_a_crash_keeps_the_descriptors_and_what_is_queued_in_them(
    hosts: Callable[..., list[Host]], namespaces: Namespaces
) -> None:
    pair = hosts()
    containers, addresses = attached(pair, namespaces)
    unit = pair[0].unit
    poll(lambda: all_kept(unit), what="the sockets and a TAP in the store", story=unit.story)
    before = sorted(unit.kept)
    pair[0].ask("network", "create", "other")  # durable; the cache of others' records is so only with the next such row
    lost, met = lost_over(containers, addresses[0], lambda: restart(unit, signal.SIGKILL))
    drops = [host.ask("drops")["items"] for host in pair]
    assert lost <= BATCH < met, f"more than what was in the worker's hands\n{drops}\n{unit.story()}"
    poll(lambda: sorted(unit.kept) == before, what="the same in the store", story=unit.story)
    assert "TAP of endpoint" not in unit.log.read_text()


def test_what_ends_leaves_the_store(hosts: Callable[..., list[Host]], namespaces: Namespaces) -> None:
    pair = hosts()
    containers, _ = attached(pair, namespaces)
    unit = pair[0].unit

    def taps() -> list[str]:
        return [name for name in list(unit.kept) if name.startswith("tap-")]

    poll(taps, what="the TAP in the store")
    pair[0].ask("detach", "blue", containers[0].name)
    poll(lambda: not taps(), what="the TAP out of the store", story=unit.story)
    poll(lambda: "eth0" not in containers[0].ip("link"), what="the interface gone", story=unit.story)
    pair[0].ask("attach", "blue", containers[0].name)
    poll(taps, what="the TAP in the store again")
    unit.stop()
    namespaces.delete(containers[0])
    unit.start()
    poll(lambda: pair[0].ask("status")["local_endpoints"] == 0, what="the endpoint gone")
    poll(lambda: all(name.startswith("data-") for name in list(unit.kept)), what="sockets only", story=unit.story)


def test_odd_descriptors_are_closed_and_logged_and_the_agent_comes_up(
    hosts: Callable[..., list[Host]], namespaces: Namespaces
) -> None:
    pair = hosts()
    containers, addresses = attached(pair, namespaces)
    unit = pair[0].unit
    poll(lambda: any(name.startswith("tap-") for name in list(unit.kept)), what="the TAP in the store")
    unit.stop()
    unit.swap({name: os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) for name in (*unit.kept, "stranger")})
    unit.start()
    for saying in (
        "receive sockets of the earlier run are not used",
        r"the kept TAP of endpoint \w+ is not used: no TAP",
        "kept for nobody, closed: stranger",
    ):
        poll(lambda: re.search(saying, unit.log.read_text()), what=saying, story=unit.story)  # noqa: B023
    poll(lambda: containers[1].pings(addresses[0], wait=1), what="a ping", story=unit.story)
    poll(lambda: "stranger" not in unit.kept, what="the stranger out of the store", story=unit.story)
    poll(lambda: "/dev/null" not in kept_files(unit), what="the odd ones out of the store", story=unit.story)


def kept_files(unit: Unit) -> set[str]:
    """What the descriptors in the store are; one that leaves it meanwhile is none."""
    found = set()
    for fd in list(unit.kept.values()):
        with suppress(FileNotFoundError):
            found.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
    return found


def test_other_numbers_of_workers_open_anew_and_go_on(
    hosts: Callable[..., list[Host]], namespaces: Namespaces
) -> None:
    pair = hosts(flags=("--workers", "1"))
    containers, addresses = attached(pair, namespaces)
    unit = pair[0].unit
    unit.stop()
    unit.start("--workers", "2")
    poll(lambda: "not used" in unit.log.read_text(), what="the log to say so", story=unit.story)
    poll(lambda: containers[1].pings(addresses[0], wait=1), what="a ping", story=unit.story)
    poll(lambda: {"data-0", "data-1"} <= set(unit.kept), what="two sockets in the store", story=unit.story)
    lost, _ = lost_over(containers, addresses[0], lambda: restart_with(unit, "--workers", "2"))
    assert lost == 0, f"{[host.ask('drops')['items'] for host in pair]}\n{unit.story()}"


def restart_with(unit: Unit, *flags: str) -> None:
    unit.stop()
    unit.start(*flags)


def test_the_watchdog_is_fed_while_all_workers_run_and_not_while_one_is_stopped(
    hosts: Callable[..., list[Host]],
) -> None:
    unit = hosts(watchdog_s=2.0)[0].unit
    fed = unit.count("WATCHDOG")
    poll(lambda: unit.count("WATCHDOG") > fed + 4, what="the watchdog fed", story=unit.story)
    assert unit.process is not None
    with stopped_thread(unit.process.pid, "vx-worker-00"):
        poll(lambda: "the watchdog goes unfed: worker 0" in unit.log.read_text(), what="it goes unfed")
        fed = unit.count("WATCHDOG")
        poll(lambda: "stuck for" in unit.log.read_text(), what="the loop going on", story=unit.story)
        assert unit.count("WATCHDOG") <= fed + 1, "one may have been read after the log; in that time it is fed often"
    poll(lambda: unit.count("WATCHDOG") > fed, what="the watchdog fed again", story=unit.story)


class stopped_thread:
    """One thread of a process, not run for the time of the block: ptrace(2) stops threads by themselves."""

    def __init__(self, pid: int, name: str) -> None:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        self._tid = next(int(it.name) for it in tasks if (it / "comm").read_text().startswith(name))
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _ptrace(self, request: int) -> None:
        if self._libc.ptrace(request, self._tid, None, None):
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")

    def __enter__(self) -> None:
        self._ptrace(PTRACE_SEIZE)
        self._ptrace(PTRACE_INTERRUPT)
        os.waitpid(self._tid, 0x40000000)  # __WALL

    def __exit__(self, *_: object) -> None:
        self._ptrace(PTRACE_DETACH)


def test_ready_reloading_and_stopping_are_told_in_order(hosts: Callable[..., list[Host]]) -> None:
    host = hosts()[0]
    unit, file = host.unit, host.socket.with_name("agent.toml")
    file.write_text('log-level = "debug"\ndata-port = 4790\n')
    unit.signal(signal.SIGHUP)
    poll(lambda: unit.count("READY") == 2, what="READY=1 after the reload", story=unit.story)
    assert unit.stop() == 0
    poll(lambda: unit.count("STOPPING"), what="STOPPING=1")
    keys = [key for message in unit.said for key in message if key in ("READY", "RELOADING", "STOPPING")]
    assert keys == ["READY", "RELOADING", "READY", "STOPPING"]
    assert all(message["MONOTONIC_USEC"].isdigit() for message in unit.said if "RELOADING" in message)
    log = unit.log.read_text()
    assert "log-level: was info, is debug" in log and "data-port: stays 4789 until a restart (wanted: 4790)" in log


def test_a_reload_with_mistakes_names_each_and_changes_nothing(hosts: Callable[..., list[Host]]) -> None:
    host = hosts()[0]
    unit, file = host.unit, host.socket.with_name("agent.toml")
    file.write_text('log-level = "loud"\nlog-format = "json"\nprt = 3\n')
    unit.signal(signal.SIGHUP)
    poll(lambda: unit.count("READY") == 2, what="READY=1 after the reload", story=unit.story)
    poll(lambda: f"{file}:3: prt:" in unit.log.read_text(), what="each mistake named", story=unit.story)
    log = unit.log.read_text()
    assert f"not reloaded: {file}:1: log-level: invalid enum value" in log
    assert f"not reloaded: {file}:3: prt: no such setting" in log
    assert '"event"' not in log
    file.write_text('log-format = "json"\n')
    unit.signal(signal.SIGHUP)
    poll(lambda: '"event": "reloaded"' in unit.log.read_text(), what="JSON from now on", story=unit.story)


def test_a_json_log_is_an_object_a_line_each_with_a_name_from_the_list(
    hosts: Callable[..., list[Host]], namespaces: Namespaces
) -> None:
    """A life with a failure in it: every line that the agent writes is for a program to read."""
    pair = hosts(flags=("--log-format", "json", "--log-level", "debug"))
    host = pair[0]
    attached(pair, namespaces)
    assert host.refuses("attach", "blue", "nothing-here")[0] == 4
    host.unit.signal(signal.SIGHUP)
    poll(lambda: host.unit.count("READY") == 2, what="READY=1 after the reload", story=host.unit.story)
    assert host.unit.stop() == 0
    lines = [json.loads(line) for line in host.unit.log.read_text().splitlines()]
    assert all({"time", "level", "event", "message"} <= line.keys() for line in lines)
    said = {line["event"] for line in lines}
    assert {"ready", "attached", "network_created", "api_refused", "reloaded", "stopping"} <= said
    assert said <= set(EVENTS), said - set(EVENTS)


def test_ready_fd_gets_its_line_when_the_agent_answers(hosts: Callable[..., list[Host]], tmp_path: Path) -> None:
    pair = hosts()
    host = pair[1]
    host.unit.stop()
    host.unit.swap({}, store=False)  # or its socket would hold the port
    reader, writer = os.pipe()
    with subprocess.Popen(
        [*host.unit.command, "--ready-fd", str(writer)], pass_fds=[writer], stderr=subprocess.DEVNULL
    ) as process:
        os.close(writer)
        assert os.read(reader, 100) == b"ready\n"
        assert host.ask("status")["name"] == "h2"
        assert os.read(reader, 100) == b"", "closed, so that who waits for its end is not kept"
        process.terminate()
    os.close(reader)


def test_reset_takes_interfaces_state_and_socket_and_the_next_start_is_a_new_node(
    hosts: Callable[..., list[Host]], namespaces: Namespaces
) -> None:
    host = hosts(store=False)[0]
    host.ask("network", "create", "blue", "--subnet", "192.168.0.0/24")
    container = namespaces.make("c")
    host.ask("attach", "blue", container.name)
    before, place = host.ask("status")["id"], host.socket.parent
    flags = ["--state-dir", str(place / "state"), "--config", str(place / "agent.toml")]
    status, told = host.refuses("reset", "--yes", *flags)
    assert status == 5 and "an agent runs on" in told
    said = run(VXLANU, "reset", "--yes", "--force", "--socket", str(host.socket), *flags)
    assert f"in {container.name}\n" in said and "stop the agent, pid " in said
    assert host.unit.process is not None and host.unit.process.wait(60) == 0
    poll(lambda: "eth0" not in container.ip("link"), what="the interface gone")
    assert not (place / "state").exists() and not host.socket.exists()
    host.unit.start()
    assert host.ask("status")["id"] != before
    assert host.ask("status")["local_endpoints"] == 0  # the other host still knows those of the node that was


def test_nobody_stands_in_on_docker_s_socket_for_an_agent_that_will_be_started_again(
    hosts: Callable[..., list[Host]], tmp_path: Path
) -> None:
    """dockerd tries again for 15 s, and gets from the next run what a stand-in could only refuse."""
    path = tmp_path / "vxlanu.sock"
    unit = hosts(flags=("--docker", str(path)))[0].unit

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(path))

    connect()
    unit.stop(signal.SIGKILL)
    assert path.exists()
    with pytest.raises(ConnectionRefusedError):
        connect()
    unit.start()
    connect()
    unit.stop()
    assert not path.exists()
