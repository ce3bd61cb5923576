"""What bad input, an absent agent, an interrupt and a closed pipe get: one line, and the exit code of its class."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sample_agent import SampleAgent

from vxlanu.api.client import Client, socket_path
from vxlanu.cli.main import main
from vxlanu.errors import (
    CLASSES,
    AgentUnreachable,
    AnswerIsNo,
    BadRequest,
    NotFound,
    Refused,
    VxlanuError,
)

PROGRAM = [sys.executable, "-m", "vxlanu.cli.main"]
NOBODY = 65534
PATIENCE_S = 30


def failed(capsys: pytest.CaptureFixture[str], line: list[str], code: int) -> str:
    """The one line on stderr of a command that must fail with `code` and say nothing else."""
    got = main(line)
    out, err = capsys.readouterr()
    assert (got, out) == (code, ""), f"{line}: exit {got}\n{out}{err}"
    assert err.startswith("vxlanu: "), err
    assert err.count("\n") == 1, err
    return err.removeprefix("vxlanu: ").rstrip("\n")


SERVED = [kind for kind in CLASSES if kind is not AnswerIsNo]  # whose status is 200: it is the client's own conclusion


@pytest.mark.parametrize("kind", SERVED)
def test_what_the_agent_refuses_arrives_in_its_class_with_its_words(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str], kind: type[VxlanuError]
) -> None:
    agent.service.error = kind("attach demonet c0", "192.168.0.100 belongs to C0 on h1", hint="no --ip", name="taken")
    line = failed(capsys, ["attach", "demonet", "c0", "--socket", str(agent.path)], kind.exit)
    assert line == "attach demonet c0: 192.168.0.100 belongs to C0 on h1; try: no --ip"


def test_with_json_the_failure_is_also_the_error_body_on_stdout(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.service.error = NotFound("network blue", "no such network", detail={"near": "blues"})
    assert main(["network", "inspect", "blue", "--json", "--socket", str(agent.path)]) == 4
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] | {"try": ""} == {
        "name": "not_found",
        "exit": 4,
        "what": "network blue",
        "why": "no such network",
        "try": "",
        "detail": {"near": "blues"},
    }
    assert err == "vxlanu: network blue: no such network\n"


def test_a_bug_in_the_agent_is_one_line_and_exit_1(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.service.fdb_rows = -1
    agent.service.asked = None  # type: ignore[assignment]  # makes every method of the service raise
    line = failed(capsys, ["fdb", "show", "--socket", str(agent.path)], 1)
    assert line.startswith("agent: internal error: AttributeError")


USAGE = {
    "netwrk ls": "command line: no such command 'netwrk'; try: network",
    "network lss": "network: no such command 'lss'; try: ls",
    "network zzz": "network: no such command 'zzz'; try: vxlanu network --help",
    "network": "network: missing command, one of create, inspect, ls, prune, rm; try: vxlanu network --help",
    "network create": "network create: missing argument 'NAME'; try: vxlanu network create --help",
    "member ls --jsno": "member ls: no such option --jsno; try: --json",
    "member ls more": "member ls: got unexpected extra argument (more); try: vxlanu member ls --help",
    "network create n --vni 16777216": "network create: invalid value for '--vni': 16777216 is not in the range "
    "1<=x<=16777215; try: vxlanu network create --help",
    "network create n --label x": "network create: invalid value for '--label': 'x' is not K=V; "
    "try: vxlanu network create --help",
    "network create n --aux a=1 --aux a=2": "network create: invalid value for '--aux': 'a' is given twice; "
    "try: vxlanu network create --help",
    "vtep add n a:b:c": "vtep add: invalid value for 'IP[:PORT]': 'a:b:c' is not IP, IP:PORT or [IPV6]:PORT; "
    "try: vxlanu vtep add --help",
    "vtep add n 10.0.0.1:70000": "vtep add: invalid value for 'IP[:PORT]': '10.0.0.1:70000' is not IP, IP:PORT or "
    "[IPV6]:PORT; try: vxlanu vtep add --help",
    "status --socket": "status: option '--socket' requires an argument; try: vxlanu status --help",
    "agent --data-port 0": "the command line: --data-port: expected int >= 1; try: vxlanu help config",
}


@pytest.mark.parametrize("line", USAGE)
def test_a_usage_error_is_one_line_with_advice_and_exit_2(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert failed(capsys, line.split(), BadRequest.exit) == USAGE[line]


def test_no_socket_is_an_agent_that_does_not_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    line = failed(capsys, ["member", "ls", "--socket", path], AgentUnreachable.exit)
    assert line == f"agent not running: no socket at {path}; try: vxlanu agent, or --socket PATH of one that runs"


def test_a_socket_file_that_nobody_listens_on_is_an_agent_that_is_gone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    assert path.is_socket()
    line = failed(capsys, ["member", "ls", "--socket", str(path)], AgentUnreachable.exit)
    assert line == f"agent not running: {path} is left over from an agent that is gone; try: vxlanu agent"


def test_a_path_too_long_for_a_socket_is_a_bad_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert "107 bytes" in failed(capsys, ["member", "ls", "--socket", "/tmp/" + "x" * 120], BadRequest.exit)


def test_a_socket_that_may_not_be_opened_is_refused(agent: SampleAgent) -> None:
    """In a child, because root has to become somebody else to be refused anything; as itself it is answered."""
    assert Client(str(agent.path)).members().value.items
    agent.path.chmod(0)
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            Client(str(agent.path)).members()
        except Refused as error:
            os._exit(error.exit if error.name == "permission_denied" else 99)
        except BaseException:
            os._exit(98)
        os._exit(97)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 6


class Answering:
    """Something on a unix socket that is no agent: reads one request and answers `reply`, or holds the line."""

    def __init__(self, path: Path, reply: bytes | None) -> None:
        self.path, self.reply = path, reply
        self.asked = threading.Event()
        self.over = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(65536)
            self.asked.set()
            if self.reply is None:
                self.over.wait(PATIENCE_S)
            else:
                connection.sendall(self.reply)

    def __enter__(self) -> Answering:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join(PATIENCE_S)
        self._listener.close()


NO_AGENT = {
    b"SSH-2.0-OpenSSH\r\n": (AgentUnreachable, "not_an_agent"),
    b"": (AgentUnreachable, "agent_lost"),
    b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{": (AgentUnreachable, "agent_lost"),
    b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<html/>": (VxlanuError, "bad_reply"),
    b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"items": 1}': (VxlanuError, "bad_reply"),
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\n<html/>": (VxlanuError, "bad_reply"),
}


@pytest.mark.parametrize("reply", NO_AGENT)
def test_what_is_no_agent_is_told_apart(tmp_path: Path, reply: bytes) -> None:
    kind, name = NO_AGENT[reply]
    with Answering(tmp_path / "s", reply) as other, pytest.raises(VxlanuError) as caught:
        assert Client(str(other.path)).members().value
    assert (type(caught.value), caught.value.name) == (kind, name), caught.value.line()


def test_an_agent_that_hangs_is_given_up(tmp_path: Path) -> None:
    with (
        Answering(tmp_path / "s", None) as other,
        pytest.raises(AgentUnreachable, match=r"nothing came .* for 0\.2 s") as caught,
    ):
        Client(str(other.path), timeout_s=0.2).members()
    assert caught.value.name == "agent_timeout"


def test_ctrl_c_ends_a_waiting_command_with_130_and_no_trace(tmp_path: Path) -> None:
    with Answering(tmp_path / "s", None) as other:
        line = [*PROGRAM, "attach", "demonet", "c0", "--socket", str(other.path)]
        waiting = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert other.asked.wait(PATIENCE_S)
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=PATIENCE_S)
    assert (waiting.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_went_away_ends_it_quietly(agent: SampleAgent) -> None:
    agent.service.fdb_rows = 5000
    line = [*PROGRAM, "fdb", "show", "--socket", str(agent.path)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, timeout=PATIENCE_S)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
    whole = subprocess.run(line, capture_output=True, timeout=PATIENCE_S)
    assert (whole.returncode, whole.stdout.count(b"\n")) == (0, 5000)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_line(unbuffered: str, agent: SampleAgent) -> None:
    with open("/dev/full", "w") as full:
        line = [*PROGRAM, "member", "ls", "--socket", str(agent.path)]
        env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(line, env=env, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (1, b"vxlanu: output: No space left on device\n")


def test_an_unexpected_exception_is_one_line_and_a_trace_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: Client) -> None:
        raise KeyError("some\nthing")

    monkeypatch.setattr(Client, "members", broken)
    assert failed(capsys, ["member", "ls"], 1).startswith("internal error: KeyError: ")
    monkeypatch.setenv("VXLANU_DEBUG", "1")
    assert main(["member", "ls"]) == 1
    trace = capsys.readouterr().err
    assert "Traceback" in trace and "in broken" in trace


def read_until(terminal: int, word: bytes) -> bytes:
    """What a terminal shows until `word`, a pattern, is there."""
    seen = b""
    while not re.search(word, seen):
        ready, _, _ = select.select([terminal], [], [], PATIENCE_S)
        assert ready, f"{word!r} never came, only {seen!r}"
        seen += os.read(terminal, 4096)
    return seen


def test_a_command_that_waits_says_so_on_a_terminal_and_erases_it(agent: SampleAgent) -> None:
    agent.service.gate.clear()
    line = [*PROGRAM, "attach", "demonet", "c0", "--socket", str(agent.path)]
    terminal, theirs = pty.openpty()
    waiting = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    read_until(terminal, rb"attaching c0 to demonet \xe2\x80\xa6 \d+s")
    agent.service.gate.set()
    read_until(terminal, rb"\r\x1b\[K")
    out, _ = waiting.communicate(timeout=PATIENCE_S)
    os.close(terminal)
    assert (waiting.returncode, out.split()[0]) == (0, b"C0")


def test_a_command_that_waits_is_silent_where_nobody_looks_on(agent: SampleAgent) -> None:
    done = subprocess.run([*PROGRAM, "attach", "demonet", "c0", "--socket", str(agent.path)], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_which_socket_is_asked(tmp_path: Path) -> None:
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    own = tmp_path / "vxlanu/agent.sock"
    assert socket_path("/a", {"VXLANU_SOCKET": "/b"} | runtime, uid=7) == "/a"
    assert socket_path("", {"VXLANU_SOCKET": "/b"} | runtime, uid=7) == "/b"
    assert socket_path("", runtime, uid=0) == "/run/vxlanu/agent.sock"
    assert socket_path("", {}, uid=7) == "/run/vxlanu/agent.sock"
    own.parent.mkdir()
    own.touch()
    assert socket_path("", runtime, uid=7) == str(own)


@pytest.mark.parametrize("ref", ["", ".", ".."])
def test_a_name_that_would_be_another_route_is_not_found(capsys: pytest.CaptureFixture[str], ref: str) -> None:
    assert "nothing has that name" in failed(capsys, ["network", "rm", ref, "--socket", "/nowhere"], NotFound.exit)
