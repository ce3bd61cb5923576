"""`vxlanu agent --stand-in`, which a service manager runs when the agent was stopped: whether it stands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket

import pytest
from lab_ns import poll

from vxlanu.api.listener import Listener
from vxlanu.runtimes.docker.absence import standing
from vxlanu.runtimes.docker.ledger import DockerNetwork, Ledger
from vxlanu.runtimes.docker.stand_in import REMOVED
from vxlanu.store import LOCK_NAME, StateLock, Store

VXLANU = str(Path(sys.executable).with_name("vxlanu"))
WAIT_S = 60.0

# SIGTERM comes when the file is there and the process is not a stand-in yet.
TOO_EARLY = """
import os, signal, sys
from vxlanu.agent import away
from vxlanu.cli.main import main
become = away.become
def at_that_moment(*words):
    os.kill(os.getpid(), signal.SIGTERM)
    assert words[1].is_socket()
    become(*words)
away.become = at_that_moment
sys.exit(main(sys.argv[1:]))
"""


# `vxlanu reset` is a moment earlier.
TOO_LATE = """
import shutil, sys
from vxlanu.agent import away
from vxlanu.cli.main import main
acquire = away.StateLock.acquire
def when_all_is_gone(lock, *words, **more):
    shutil.rmtree(lock.directory)
    acquire(lock, *words, **more)
away.StateLock.acquire = when_all_is_gone
sys.exit(main(sys.argv[1:]))
"""


async def keep(directory: Path, *networks: str) -> None:
    """As an agent does that is Docker's plugin."""
    store = Store(directory)
    ledger = Ledger(store)
    await ledger.put(*(DockerNetwork(docker_id=it, network=b"n", name=f"net-{it}") for it in networks))
    store.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """What an agent leaves that has told Docker of two networks."""
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    (made / LOCK_NAME).touch()
    asyncio.run(keep(made, "one", "two"))
    return made


class Place:
    """Where Docker looks, and the words of the command there."""

    def __init__(self, folder: Path) -> None:
        self.path, self.log = folder / "vxlanu.sock", folder / "log"
        self.words = ("agent", "--stand-in", f"--docker={self.path}", "--state-dir", str(folder / "state"))
        self.words += ("--config", str(folder / "agent.toml"))
        (folder / "agent.toml").touch()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> int:
        """Run it; its pid once it stands."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("VXLANU_")}
        with self.log.open("wb") as log:
            words = [*(command or (VXLANU,)), *self.words]
            self.process = subprocess.Popen(words, env=kept, stdout=log, stderr=log)
        return self.process.pid

    def stands(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return standing(self.path) == self.process.pid

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(WAIT_S)

    def answer(self) -> str:
        """To a request of Docker's."""
        connection = HTTPConnection("plugin", timeout=WAIT_S)
        connection.sock = Socket(AF_UNIX)
        connection.sock.connect(str(self.path))
        connection.request("POST", "/Plugin.Activate", b"{}")
        answer = connection.getresponse()
        assert answer.status == 503
        return answer.read().decode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def test_it_becomes_the_stand_in_and_sigterm_leaves_nothing(place: Place, state: Path) -> None:
    pid = place.start()
    poll(place.stands, what="an answer", story=place.log.read_text)
    assert "it was stopped; try: vxlanu agent --docker" in place.answer()
    assert Path(f"/proc/{pid}/comm").read_text() == "vxlanu-stand-in\n"
    assert "net-one, net-two" in place.log.read_text()
    lock = StateLock(state)
    lock.acquire()  # or no agent could start
    lock.release()
    assert place.process is not None
    place.process.terminate()
    assert place.ended() == 0
    assert not place.path.exists()


def test_docker_s_user_is_told_to_start_the_service_where_it_is_one(place: Place, state: Path) -> None:
    place.start("sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$0" "$@"', VXLANU)
    poll(place.stands, what="an answer", story=place.log.read_text)
    assert "it was stopped; try: systemctl start vxlanu" in place.answer()


def test_a_sigterm_between_the_file_and_the_stand_in_takes_the_file_along(place: Place, state: Path) -> None:
    place.start(sys.executable, "-c", TOO_EARLY)
    assert place.ended() == 0, place.log.read_text()
    assert not place.path.exists()
    assert "refuses Docker's requests" in place.log.read_text(), "it came so far"


def needless(place: Place, *command: str) -> str:
    """What it says, and that it did nothing."""
    place.start(*command)
    assert place.ended() == 0, place.log.read_text()
    return place.log.read_text()


def test_it_ends_well_where_docker_has_no_network_of_ours(place: Place, state: Path) -> None:
    (state / REMOVED).write_text("two\none\n")  # an earlier stand-in heard of it, and no agent has run since
    assert "it has no network of ours" in needless(place)
    assert not place.path.exists()
    for file in state.iterdir():
        file.unlink()
    assert "no agent has run here" in needless(place)
    assert list(state.iterdir()) == []


def test_it_makes_no_state_where_there_is_none_any_more(place: Place, state: Path) -> None:
    assert "no agent has run here" in needless(place, sys.executable, "-c", TOO_LATE)
    assert not state.exists()
    state.mkdir()
    (state / LOCK_NAME).touch()
    assert "no agent has run here" in needless(place)
    assert [file.name for file in state.iterdir()] == [LOCK_NAME]


def test_it_ends_well_where_docker_is_not_configured(place: Place, state: Path) -> None:
    place.words = tuple(word for word in place.words if not word.startswith("--docker="))
    assert "the configuration says no docker" in needless(place)


def test_it_ends_well_beside_an_agent(place: Place, state: Path) -> None:
    lock = StateLock(state)
    lock.acquire()
    assert needless(place) == "", "each restart would say it"
    place.words += ("--log-level", "debug")
    assert f"an agent runs on it already (pid {os.getpid()})" in needless(place)
    assert not place.path.exists()
    lock.release()
    other = Listener(place.path, "--docker=PATH", shared=False)  # on another state directory
    other.open()
    assert "another process listens on it" in needless(place)
    assert place.path.exists()
    other.close()
    place.start()  # the control
    poll(place.stands, what="an answer", story=place.log.read_text)


def test_it_says_what_is_wrong_with_the_state(place: Place, state: Path) -> None:
    (state / "vxlanu.db").write_bytes(b"no database" * 100)
    place.start()
    assert place.ended() == 6
    assert "state file" in place.log.read_text()
    assert not place.path.exists()
    assert (state / LOCK_NAME).exists()


def test_a_killed_one_leaves_a_dead_file_which_the_next_replaces(place: Place, state: Path) -> None:
    place.start()
    poll(place.stands, what="an answer", story=place.log.read_text)
    assert place.process is not None
    place.process.send_signal(signal.SIGKILL)
    assert place.ended() == -signal.SIGKILL
    assert place.path.exists()
    place.start()
    poll(place.stands, what="an answer", story=place.log.read_text)
