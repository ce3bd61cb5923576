"""The process that answers Docker when the agent is no more: when it answers, what, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from select import poll as Poll

import pytest
from lab_ns import poll

from vxlanu.api.listener import Listener
from vxlanu.doctor.facts import PluginSocket
from vxlanu.doctor.read import plugin_socket
from vxlanu.errors import Refused
from vxlanu.runtimes.docker import absence, stand_in
from vxlanu.runtimes.docker.absence import StandIn, standing

WAIT_S = 60.0

# As much of an agent as this takes: it listens, has a stand-in, never accepts anybody, and knows two networks.
AGENT = """
def stop(*_):
    raise InterruptedError
import pathlib, signal, sys
from vxlanu.api.listener import Listener
from vxlanu.runtimes.docker.absence import StandIn, standing
path, state = map(pathlib.Path, sys.argv[1:])
listener = Listener(path, "--docker=PATH", shared=False, gives_way=lambda it: standing(it) is not None)
listener.open()
one = StandIn(path, state)
one.start(listener.socket)
signal.signal(signal.SIGTERM, stop)
try:
    print(one.pid, flush=True)
    while True:
        signal.pause()
except InterruptedError:
    listener.leave() if one.stay("it was stopped", ["one", "two"]) else None
listener.close()
"""


class Away:
    """An agent in a process of its own, to be ended; its stand-in is over after the test, whatever happened."""

    def __init__(self, folder: Path) -> None:
        self.path, self.state = folder / "vxlanu.sock", folder / "lock"
        self.state.touch()
        command = [sys.executable, "-c", AGENT, str(self.path), str(self.state)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.stand_in = int(self.process.stdout.readline())
        self.watch = os.pidfd_open(self.stand_in)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(WAIT_S) == 0

    def close(self) -> None:
        self.kill()
        if not self.ended(0):
            signal.pidfd_send_signal(self.watch, signal.SIGKILL)
        os.close(self.watch)
        assert self.process.stdout
        self.process.stdout.close()

    def ended(self, wait_s: float = WAIT_S) -> bool:
        """Whether its stand-in has ended, if need be after a while."""
        poller = Poll()
        poller.register(self.watch)
        return bool(poller.poll(wait_s * 1000))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a stand-in that is to answer: a busy machine may take long to start one."""
    monkeypatch.setattr(absence, "ANSWER_S", WAIT_S)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Away]:
    made = Away(tmp_path)
    yield made
    made.close()


def connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(path))  # which waits while the queue is full; with a time limit it would fail
    made.settimeout(WAIT_S)
    return made


def ask(path: Path, method: str, body: bytes = b"{}") -> tuple[int, str]:
    """The status and the error."""
    connection = HTTPConnection("plugin", timeout=WAIT_S)
    connection.sock = connected(path)
    try:
        connection.request("POST", f"/{method}", body)
        answer = connection.getresponse()
        assert answer.will_close, "dockerd must not come back on this connection"
        return answer.status, json.loads(answer.read())["Err"]
    finally:
        connection.close()


def removal(network: str) -> bytes:
    return json.dumps({"NetworkID": network}).encode()


def test_every_request_is_refused_with_one_line_once_the_agent_was_killed(agent: Away) -> None:
    agent.kill()
    bodies = (b"", b"{}", b'{"NetworkID":"' + b"a" * 200_000 + b'"}')
    for method in ("Plugin.Activate", "NetworkDriver.CreateNetwork", "IpamDriver.RequestAddress"):
        for body in bodies:
            status, line = ask(agent.path, method, body)
            assert status == 503
            assert line.startswith("vxlanu: agent: it does not run on this host any more")
            assert "; try: vxlanu agent --docker" in line
            assert "\n" not in line


def test_a_request_that_the_agent_never_took_is_answered_when_it_dies_and_not_before(agent: Away) -> None:
    with connected(agent.path) as waiting:
        waiting.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        waiting.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        agent.kill()
        waiting.settimeout(WAIT_S)
        assert waiting.recv(65536).startswith(b"HTTP/1.1 503 ")


def test_who_says_nothing_keeps_nobody_waiting(agent: Away) -> None:
    agent.kill()
    silent = [connected(agent.path) for _ in range(2 * stand_in.ASKERS_MAX)]
    half = connected(agent.path)
    half.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nContent-Length: 100\r\n\r\n{}")
    assert ask(agent.path, "Plugin.Activate")[0] == 503
    for each in (*silent, half):  # given up after a while
        assert each.recv(1) == b""
        each.close()


def test_the_next_agent_takes_the_place_and_the_stand_in_ends(agent: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    following = Listener(agent.path, "--docker=PATH", shared=False, gives_way=lambda it: standing(it) is not None)
    with monkeypatch.context() as impatient, pytest.raises(Refused, match="another process listens on it"):
        impatient.setattr(absence, "ANSWER_S", 0.2)
        following.open()
    assert not agent.ended(0)
    agent.kill()
    following.open()
    try:
        assert agent.ended()
        with connected(agent.path):
            following.socket.accept()[0].close()
    finally:
        following.close()


@pytest.mark.parametrize("what", ["path", "state"])
def test_nothing_is_left_when_the_file_or_the_agents_state_was_removed(agent: Away, what: str) -> None:
    agent.kill()
    assert ask(agent.path, "Plugin.Activate")[0] == 503
    getattr(agent, what).unlink()
    assert agent.ended()
    assert not agent.path.exists()


def test_doctor_tells_who_answers_docker(agent: Away) -> None:
    path = str(agent.path)
    assert plugin_socket(path, agent.process.pid) == PluginSocket(path, "agent", agent.process.pid)
    agent.kill()
    assert plugin_socket(path, agent.process.pid + 1) == PluginSocket(path, "stand-in", agent.stand_in)
    signal.pidfd_send_signal(agent.watch, signal.SIGKILL)
    assert agent.ended()
    assert plugin_socket(path, None) == PluginSocket(path, "nobody")
    agent.path.unlink()
    assert plugin_socket(path, None) is None


def test_a_stopped_agent_s_stand_in_says_so_and_ends_when_docker_has_removed_its_networks(agent: Away) -> None:
    agent.stop()
    for network in ("one", "another", "one"):
        status, line = ask(agent.path, "NetworkDriver.DeleteNetwork", removal(network))
        assert status == 503
        assert line.startswith("vxlanu: agent: it does not run on this host any more: it was stopped; try: vxlanu ")
    for wrong in (b"", b"{", b"[]", b"{}", b'{"NetworkID": 1}', b'"' * 10_000):
        assert ask(agent.path, "NetworkDriver.DeleteNetwork", wrong)[0] == 503
    assert standing(agent.path) == agent.stand_in
    assert absence.removed_meanwhile(agent.path.parent) == ["one", "another", "one", "1"]
    absence.forget_removed(agent.path.parent)
    begin = time.monotonic()
    ask(agent.path, "NetworkDriver.DeleteNetwork", removal("two"))
    assert ask(agent.path, "IpamDriver.ReleasePool")[0] == 503, "what belongs to the removal is answered, too"
    assert agent.ended()
    assert time.monotonic() - begin >= stand_in.LINGER_S
    assert not agent.path.exists()
    assert standing(agent.path) is None
    assert absence.removed_meanwhile(agent.path.parent) == ["two"]
    assert (agent.path.parent / stand_in.REMOVED).stat().st_mode & 0o777 == 0o600


def test_it_is_over_with_the_last_network_that_it_knows_and_never_where_it_knows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "LINGER_S", 0.0)
    listed = tmp_path / stand_in.REMOVED
    stopped, killed = stand_in.Duty("", ["one", "two"], str(listed)), stand_in.Duty("", None, str(listed))
    for network, over in (("one", False), ("another", False), ("two", True)):
        for duty in (stopped, killed):
            duty.answer(stand_in.REMOVAL, removal(network))
        poll(lambda: stopped.is_over() == over, what="no more, no less")  # noqa: B023
        assert not killed.is_over()
    assert absence.removed_meanwhile(tmp_path) == ["one", "one", "another", "another", "two", "two"]
    listed.write_bytes(b"a" * stand_in.REMOVED_BYTES_MAX)
    stopped.answer(stand_in.REMOVAL, removal("three"))
    assert listed.stat().st_size == stand_in.REMOVED_BYTES_MAX, "no more than the next agent reads"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_one_that_is_sent_sigterm_takes_the_file_along(agent: Away, how: str) -> None:
    getattr(agent, how)()
    assert ask(agent.path, "Plugin.Activate")[0] == 503
    signal.pidfd_send_signal(agent.watch, signal.SIGTERM)
    assert agent.ended()
    assert not agent.path.exists()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_sigterm_that_comes_before_it_has_read_of_the_end_takes_the_file_along(agent: Away, how: str) -> None:
    """It is held while agent and signal come, so that it finds both at once."""
    poll(lambda: Path(f"/proc/{agent.stand_in}/comm").read_text() == f"{stand_in.NAME}\n", what="it has started")
    signal.pidfd_send_signal(agent.watch, signal.SIGSTOP)
    getattr(agent, how)()
    assert agent.path.exists()
    for number in (signal.SIGTERM, signal.SIGCONT):
        signal.pidfd_send_signal(agent.watch, number)
    assert agent.ended()
    assert not agent.path.exists()


def test_a_sigterm_while_the_agent_lives_leaves_it_its_file(agent: Away) -> None:
    poll(lambda: Path(f"/proc/{agent.stand_in}/comm").read_text() == f"{stand_in.NAME}\n", what="it has started")
    signal.pidfd_send_signal(agent.watch, signal.SIGTERM)
    assert agent.ended()
    assert agent.path.exists()
    agent.stop()
    assert not agent.path.exists(), "who ends both wants nothing to stay"


@pytest.mark.parametrize(
    ("number", "stays"), [(signal.SIGTERM, False), (signal.SIGKILL, True)], ids=["who wants nothing left", "a crash"]
)
def test_a_stop_finds_its_stand_in_dead(agent: Away, number: signal.Signals, stays: bool) -> None:
    """No chore of an agent runs here, so it is the stop that sees it."""
    signal.pidfd_send_signal(agent.watch, number)
    assert agent.ended()
    agent.stop()
    assert agent.path.exists() == stays
    here = standing(agent.path)
    assert (here is not None) == stays
    if here is not None:
        assert here != agent.stand_in
        with os.fdopen(os.pidfd_open(here)) as watch:
            os.kill(here, signal.SIGTERM)
            poller = Poll()
            poller.register(watch)
            assert poller.poll(WAIT_S * 1000)
        assert not agent.path.exists()


def test_it_holds_nothing_but_the_socket_and_the_pipe(agent: Away) -> None:
    folder = Path(f"/proc/{agent.stand_in}/fd")
    poll(lambda: Path(f"/proc/{agent.stand_in}/comm").read_text() == f"{stand_in.NAME}\n", what="it has started")
    poll(lambda: len(list(folder.iterdir())) <= 4, what="no more than four, the file of its name closed")
    held = {int(each.name): each.stat().st_mode for each in folder.iterdir()}
    assert stat.S_ISFIFO(held.pop(0))
    assert stat.S_ISCHR(held.pop(1))
    assert stat.S_ISCHR(held.pop(2))
    assert [stat.S_ISSOCK(mode) for mode in held.values()] == [True]


def test_a_killed_stand_in_is_replaced_and_none_outlives_a_clean_stop(tmp_path: Path) -> None:
    path, state = tmp_path / "vxlanu.sock", tmp_path / "lock"
    state.touch()
    listener = Listener(path, "--docker=PATH", shared=False, gives_way=lambda it: standing(it) is not None)
    listener.open()
    one = StandIn(path, state)
    one.start(listener.socket)
    first = one.pid
    assert first
    now = time.monotonic() + absence.AGAIN_S
    one.look(now)
    assert one.pid == first, "one that lives is left alone"
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    one.look(now)
    assert one.pid not in (None, first)
    second = one.pid
    listener.close()
    one.end()
    assert one.pid is None
    assert not Path(f"/proc/{second}").exists()
    one.look(now + absence.AGAIN_S)
    assert one.pid is None
