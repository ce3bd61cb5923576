"""The lab itself, with a sleeping process for an agent: topology, breaking and mending, and that nothing stays.

h1 (10.97.0.1, fd97::1) --+
h2 (10.97.0.2, fd97::2) --+-- underlay          containers c1-1, c1-2, c2-1, c2-2: empty namespaces
"""

from __future__ import annotations

import ast
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from vxlanu.errors import Conflict, NotFound, VxlanuError
from vxlanu.lab.topology import Lab, poll, running_labs

pytestmark = [pytest.mark.netns, pytest.mark.rootless]

SLEEPER = ("/bin/sh", "-c", "echo started; exec sleep 1000")
_numbers = count(1)
MakeLab = Callable[..., Lab]


@pytest.fixture
def small(make_lab: MakeLab) -> Lab:
    return make_lab(hosts=2, containers=2, agent=SLEEPER)


def reaches(lab: Lab, source: str, target: str) -> bool:
    return lab.exec(source, ["ping", "-n", "-c", "1", "-W", "1", target], check=False).returncode == 0


def will_reach(lab: Lab, source: str, target: str) -> bool:
    """Links that come up are told of by linkwatch, up to a second later; until then a bridge forwards nothing."""
    poll(lambda: reaches(lab, source, target), f"{source} reaches {target}", 60, lab.story)
    return True


NAMES = {"underlay", "h1", "h2", "c1-1", "c2-1", "vxlanu-lab"}


def left_on_the_machine() -> set[str]:
    """Links, mounts and files that carry a name of the lab, seen from outside."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    seen = {line.split(":")[1].strip().split("@")[0] for line in links.splitlines()}
    seen |= {Path(line.split()[4]).name for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    for folder in (Path("/run"), Path("/run/netns"), Path("/tmp")):
        seen |= {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    return seen & NAMES


def inhabitants(pid: int) -> set[int]:
    """The processes in the pid namespace whose first process is `pid`, as this machine numbers them."""
    ours = (Path(f"/proc/{pid}/ns/pid")).readlink()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/pid").readlink() == ours:
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def test_hosts_reach_each_other_over_both_families(small: Lab) -> None:
    assert will_reach(small, "h1", "10.97.0.2")
    assert will_reach(small, "h2", "fd97::1")
    assert not reaches(small, "h1", "10.97.0.9")


def test_what_looks_for_leftovers_sees_them(small: Lab) -> None:
    """From inside, the same eyes see the lab's links and namespaces."""
    here = str(Path(__file__).parent)
    program = f"import sys; sys.path[:0] = [{here!r}, {str(Path(here).parents[1])!r}]\n"
    program += "import test_lab; print(test_lab.left_on_the_machine())"
    said = small.exec("underlay", [sys.executable, "-c", program]).stdout
    assert {"h1", "h2", "underlay", "c1-1", "vxlanu-lab"} <= set(ast.literal_eval(said))


def test_containers_are_empty_and_visible_by_name_to_every_host(small: Lab) -> None:
    assert small.containers() == ["c1-1", "c1-2", "c2-1", "c2-2"]
    assert small.containers("h2") == ["c2-1", "c2-2"]
    names = small.exec("h1", ["ls", "/run/netns"]).stdout.split()
    assert {"c1-1", "c2-2", "h2"} <= set(names)
    links = small.exec("c1-1", ["ip", "-o", "link"]).stdout.splitlines()
    assert [line.split(":")[1].strip() for line in links] == ["lo"]


def test_a_command_inside_sees_only_the_lab_and_ends_as_it_ends(small: Lab) -> None:
    processes = small.exec("h1", ["ps", "-eo", "pid,comm"]).stdout.splitlines()
    assert processes[1].split() == ["1", "vxlanu-lab"]
    assert len(processes) < 10
    assert small.exec("h1", ["sh", "-c", "exit 7"], check=False).returncode == 7
    assert small.exec("h1", ["sh", "-c", "kill -TERM $$"], check=False).returncode == 128 + signal.SIGTERM
    assert small.exec("c1-1", ["no-such-program"], check=False).returncode == 127
    with pytest.raises(VxlanuError, match="status 3: because"):
        small.exec("h1", ["sh", "-c", "echo because >&2; exit 3"])


def test_a_command_inside_dies_with_the_one_who_asked_for_it(small: Lab) -> None:
    before = inhabitants(small.pid)
    with small.running("h1", ["sh", "-c", "echo up; exec sleep 1000"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        [sleeper] = inhabitants(small.pid) - before
        watched = os.pidfd_open(sleeper)
    assert select.select([watched], [], [], 0)[0], "it outlived the block that ran it"
    os.close(watched)


def test_each_host_has_its_own_socket_and_none_of_the_machines_settings(
    small: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VXLANU_NAME", "stranger")
    said = small.exec("h2", ["sh", "-c", "echo $VXLANU_SOCKET $VXLANU_NAME"]).stdout
    assert said == "/run/vxlanu-lab/h2/agent.sock\n"
    assert small.exec("c2-1", ["sh", "-c", "echo $VXLANU_SOCKET"]).stdout == "\n"


def test_agents_are_killed_and_started_again(small: Lab) -> None:
    assert small.agents() == {"h1": None, "h2": None}
    poll(lambda: small.log("h1") == "started\n", "the first agent to speak", 60, story=lambda: small.log("h1"))
    small.kill_agent("h1")
    assert small.agents() == {"h1": -signal.SIGKILL, "h2": None}
    small.start_agent("h1")
    assert small.agents()["h1"] is None
    poll(lambda: small.log("h1") == "started\n" * 2, "the second agent to speak", 60, story=lambda: small.log("h1"))
    small.stop_agent("h1")
    assert small.agents()["h1"] == -signal.SIGTERM
    with pytest.raises(NotFound, match="running already"):
        small.start_agent("h2")
    assert "h1: ended with -15" in small.story()


def test_the_pid_of_a_running_agent_is_told_as_it_is_out_here(small: Lab) -> None:
    poll(lambda: small.log("h1") + small.log("h2") == "started\n" * 2, "both agents to speak", 60, story=small.story)
    networks = {host: small.path(Path("/run/netns") / host).stat().st_ino for host in ("h1", "h2")}
    assert {host: Path(f"/proc/{pid}/ns/net").stat().st_ino for host, pid in small.agent_pids().items()} == networks
    small.kill_agent("h1")
    assert set(small.agent_pids()) == {"h2"}


def test_a_partition_cuts_one_host_off_and_heals(small: Lab) -> None:
    assert will_reach(small, "h1", "10.97.0.2")
    small.partition("h2")
    assert not reaches(small, "h1", "10.97.0.2")
    small.heal("h2")
    assert will_reach(small, "h1", "10.97.0.2")
    assert will_reach(small, "h1", "fd97::2")


def test_a_blocked_control_port_is_blocked_and_no_other(small: Lab, require: Callable[..., None]) -> None:
    require("nft")
    echo = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', int(sys.argv[1])))\n"
        "print('up', flush=True)\n"
        "while True: d, a = s.recvfrom(99); s.sendto(d, a)"
    )
    ask = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)\n"
        "try: s.sendto(b'x', ('10.97.0.1', int(sys.argv[1]))); s.recv(9)\n"
        "except OSError: sys.exit(1)"
    )

    def answered(port: int) -> bool:
        return small.exec("h2", [sys.executable, "-c", ask, str(port)], check=False).returncode == 0

    with (
        small.running("h1", [sys.executable, "-c", echo, "7946"]) as control,
        small.running("h1", [sys.executable, "-c", echo, "4789"]) as data,
    ):
        for process in (control, data):
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        for port in (7946, 4789):
            poll(lambda: answered(port), f"an answer from port {port}", 60, small.story)  # noqa: B023
        small.block_control_port("h1")
        poll(lambda: answered(4789), "an answer from the other port", 60, small.story)
        assert not answered(7946)
        small.unblock_control_port("h1")
        for port in (7946, 4789):
            poll(lambda: answered(port), f"an answer from port {port} again", 60, small.story)  # noqa: B023


def test_containers_come_and_go_at_run_time(small: Lab) -> None:
    small.create_container("c2-late")
    assert small.containers("h2") == ["c2-1", "c2-2", "c2-late"]
    assert "lo" in small.exec("c2-late", ["ip", "-o", "link"]).stdout
    small.delete_container("c2-late")
    assert small.containers("h2") == ["c2-1", "c2-2"]
    with pytest.raises(VxlanuError, match="cN-NAME"):
        small.create_container("c9-1")
    done = small.exec("c2-late", ["true"], check=False)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)


def test_one_id_is_one_lab_and_two_ids_are_two(make_lab: MakeLab, small: Lab) -> None:
    with pytest.raises(Conflict, match="running already"):
        Lab(1, 0, lab=small.plan.lab, agent=SLEEPER).start()
    other = make_lab(hosts=1, containers=1, agent=SLEEPER)
    assert {small.plan.lab, other.plan.lab} <= set(running_labs())
    assert other.containers() == ["c1-1"]
    assert not reaches(other, "h1", "10.97.0.2"), "the other lab's h2 answered"
    assert Lab.find(small.plan.lab).pid == small.pid


@pytest.fixture
def ending() -> Iterator[str]:
    """The id of a lab that a test ends in its own way; whatever the test did, it is gone afterwards."""
    name = f"end-{os.getpid()}-{next(_numbers)}"
    yield name
    if name in running_labs():
        os.kill(Lab.find(name).pid, signal.SIGKILL)


@pytest.mark.parametrize("ended_by", ["down", "SIGTERM", "SIGINT", "SIGKILL", "its owner's death"])
def test_however_it_ends_nothing_stays(ended_by: str, ending: str) -> None:
    before = left_on_the_machine()
    if ended_by == "its owner's death":
        program = f"from vxlanu.lab.topology import Lab; Lab(2, 1, lab={ending!r}, agent={SLEEPER!r}).start(); input()"
        owner = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
        lab = _found(ending)
    else:
        lab = Lab(2, 1, lab=ending, agent=SLEEPER)
        lab.start(detached=True)
    watched = [os.pidfd_open(pid) for pid in inhabitants(lab.pid)]
    assert len(watched) == 3, "the supervisor and two agents"
    assert ending in running_labs()
    if ended_by == "down":
        lab.down()
    elif ended_by == "its owner's death":
        owner.kill()
        owner.communicate()
    else:
        os.kill(lab.pid, signal.Signals[ended_by])
    for process in watched:
        assert select.select([process], [], [], 60)[0], "a process outlived the lab"
        os.close(process)
    assert ending not in running_labs()
    assert left_on_the_machine() <= before
    with pytest.raises(NotFound):
        Lab.find(ending)


def test_the_command_line_builds_shows_enters_and_ends_a_lab(ending: str) -> None:
    """And the supervisor keeps no output of the starter's: a pipe would never end."""

    def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from vxlanu.cli.main import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, "lab", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    started = Lab(2, 1, lab=ending, agent=SLEEPER)
    started.start(detached=True)
    outputs = [str(Path(f"/proc/{started.pid}/fd/{number}").readlink()) for number in range(3)]
    assert outputs == ["/dev/null", "/dev/null", "/run/vxlanu-lab/supervisor.log"]
    listed = lab("ls", "--lab", ending)
    assert re.search(r"^h2 +host +h2 +up +10\.97\.0\.2, fd97::2$", listed.stdout, re.MULTILINE), listed.stderr
    assert re.search(r"^c2-1 +container +h2 +empty +-$", listed.stdout, re.MULTILINE)
    assert lab("exec", "--lab", ending, "h2", "--", "sh", "-c", "echo $VXLANU_SOCKET").stdout.endswith(
        "h2/agent.sock\n"
    )
    assert lab("exec", "--lab", ending, "h2", "sh", "-c", "exit 9").returncode == 9
    unknown = lab("exec", "--lab", ending, "h3", "--", "true")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (4, 1)
    assert "h1, h2, c1-1, c2-1, underlay" in unknown.stderr
    assert lab("up", "--lab", ending).returncode == 5
    assert lab("agent", "--lab", ending, "kill", "h1").returncode == 0
    assert "down (-9)" in lab("ls", "--lab", ending).stdout
    assert lab("down", "--lab", ending).returncode == 0
    assert lab("down", "--lab", ending).returncode == 4


def _found(name: str) -> Lab:
    """The lab as soon as it serves; it is being built by another process."""
    found: list[Lab] = []

    def served() -> bool:
        try:
            found.append(Lab.find(name))
        except VxlanuError:
            return False
        return len(found[-1].agents()) == found[-1].plan.hosts

    poll(served, "the lab to serve", 60)
    return found[-1]


def test_a_failed_start_leaves_nothing_and_says_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An `ip` that refuses stands for a kernel that does."""
    before = left_on_the_machine()
    refusing = tmp_path / "ip"
    refusing.write_text("#!/bin/sh\necho 'RTNETLINK answers: no' >&2; exit 2\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    name = f"refused-{os.getpid()}"
    with pytest.raises(VxlanuError, match="ip link set lo up: RTNETLINK answers: no") as failure:
        Lab(1, 0, lab=name, agent=SLEEPER).start()
    assert "\n" not in failure.value.line()
    monkeypatch.undo()
    assert name not in running_labs()
    assert left_on_the_machine() <= before
