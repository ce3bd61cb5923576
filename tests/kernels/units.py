"""Our unit under a real systemd, beside Docker's: started, confined, killed, stopped, hung; and who is there first.

    o ── 10.99.0.2 ──── 10.99.0.1 ── the guest: systemd, vxlanu.service, docker.service ── c1, c2 in blue

Only for the guest of `tests/kernels/run --systemd`: it starts and stops services of the machine that it runs on. So it
has no name by which `make test` would find it. The tests are one story, in this order.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket

import pytest
from docker_hosts import DOCKER
from egress_scene import CLIENT, SERVER
from lab_ns import Namespace, Namespaces, poll, run

from vxlanu.doctor.workers import workers
from vxlanu.runtimes.docker.absence import standing

ROOT = Path(__file__).resolve().parents[2]
UNITS = Path("/etc/systemd/system")
UNIT, STAND_IN = "vxlanu.service", "vxlanu-stand-in.service"
DOCKER_SOCKET = Path("/run/docker/plugins/vxlanu.sock")
CONFIGURATION = f'advertise = "10.99.0.1"\ndocker = "{DOCKER_SOCKET}"\n'
ACTIVATE = b"POST /Plugin.Activate HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PATIENCE_S = 300.0  # an emulated processor; dockerd's own waits are among it
EXPOSURE_MAX = {UNIT: 6.0, STAND_IN: 2.0}  # of systemd-analyze: 10 is a service without a line of confinement
RESTARTS = 2  # of each kind; more make the story longer by minutes where the processor is emulated
IMAGE = "empty"
LOOKS = 20
SENDS = """
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as sending:
    while True:
        sending.sendto(bytes(64), (sys.argv[1], 9))
"""
REFUSES = "refuses Docker's requests"
AWAY = "it does not run on this host any more: it was stopped; try: systemctl start vxlanu"


def ctl(*words: str) -> str:
    return run("systemctl", *words, timeout=PATIENCE_S).strip()


def set_line(name: str, line: str, unit: str = UNIT) -> None:
    """A setting that the unit does not have."""
    drop_ins = UNITS / f"{unit}.d"
    drop_ins.mkdir(exist_ok=True)
    (drop_ins / f"{name}.conf").write_text(f"[Service]\n{line}\n")
    ctl("daemon-reload")


def unset(name: str) -> None:
    (UNITS / f"{UNIT}.d/{name}.conf").unlink()
    ctl("daemon-reload")


def restart_docker() -> None:
    ctl("reset-failed", "docker")  # its unit allows three starts a minute
    ctl("restart", "docker")


@dataclass
class Guest:
    """This machine, another one, and two containers of ours."""

    outside: Namespace
    one: Namespace
    two: Namespace
    address: str  # of the second in blue

    def show(self, name: str, unit: str = "vxlanu") -> str:
        """A property of a unit."""
        return ctl("show", "-P", name, unit)

    def number(self, name: str, unit: str = "vxlanu") -> int:
        return int(self.show(name, unit))

    def log(self, unit: str = "vxlanu", since: str = "") -> str:
        """What a unit, and systemd about it, said in the journal, from a cursor on."""
        return run("journalctl", "-u", unit, "-o", "cat", *([f"--after-cursor={since}"] if since else []))

    def cursor(self) -> str:
        """Now, in the journal."""
        run("journalctl", "--sync")
        return run("journalctl", "-n", "1", "--show-cursor").rpartition("cursor: ")[2].strip()

    def story(self) -> str:
        status = run("systemctl", "status", "--no-pager", "-n", "0", UNIT, STAND_IN, "docker", check=False)
        return f"{status}\n{self.log()[-6000:]}\n{self.log(STAND_IN)[-2000:]}"

    def pings(self) -> bool:
        return self.one.pings(self.address, wait=1)

    def index(self) -> int:
        """Which interface the first container's is."""
        return int(json.loads(self.one.ip("-j", "link", "show", "eth0"))[0]["ifindex"])

    def wait_stand_in(self, state: str) -> None:
        """Until the second unit's work is under way, or done."""
        poll(
            lambda: not ctl("list-jobs", "--no-legend", STAND_IN) and self.show("ActiveState", STAND_IN) == state,
            timeout=PATIENCE_S, what=f"the stand-in to be {state}", story=self.story,
        )  # fmt: skip
        assert self.show("Result", STAND_IN) == "success", self.story()

    def is_there(self) -> bool:
        return self.show("ActiveState") == "active" and self.pings()


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """The unit, as README has it installed; c1 publishes its port 8000 as 80."""
    ours = Path("/run/out/arguments").exists() and Path("/proc/1/comm").read_text() == "systemd\n"
    assert ours, "for a guest of `tests/kernels/run --systemd` alone: machines of people have services"
    made = Namespaces()
    try:
        outside = made.make("o")
        run("ip", "link", "add", "u0", "type", "veth", "peer", "name", "eth0", "netns", outside.name)
        run("ip", "addr", "add", "10.99.0.1/24", "dev", "u0")
        run("ip", "link", "set", "u0", "up")
        outside.ip("addr", "add", "10.99.0.2/24", "dev", "eth0")
        outside.ip("link", "set", "eth0", "up")
        Path("/etc/vxlanu").mkdir(exist_ok=True)
        Path("/etc/vxlanu/agent.toml").write_text(CONFIGURATION)
        (UNITS / UNIT).write_text(run("vxlanu", "agent", "--print-unit"))
        (UNITS / STAND_IN).write_text(run("vxlanu", "agent", "--stand-in", "--print-unit"))
        if ROOT.is_relative_to("/tmp"):  # where PrivateTmp hides it
            for unit in (UNIT, STAND_IN):
                set_line("here", f"BindReadOnlyPaths={ROOT}", unit)
        ctl("daemon-reload")
        ctl("enable", "--now", "vxlanu")
        run("vxlanu", "network", "create", "blue", "--subnet", "192.168.0.0/24")
        one, two = made.make("c1"), made.make("c2")  # later than the service, whose mount namespace they must reach
        run("vxlanu", "attach", "blue", one.name, "--name", "c1", "--publish", "80:8000")
        body = json.loads(run("vxlanu", "attach", "blue", two.name, "--name", "c2", "--json"))
        machine = Guest(outside, one, two, body["addresses"][0].partition("/")[0])
        poll(machine.pings, what="a first ping", story=machine.story)
        yield machine
    finally:
        made.close()


def activated() -> set[str]:
    """What the plugin says that it is."""
    with Socket(AF_UNIX) as asking, asking.makefile("rb") as answer:
        asking.connect(str(DOCKER_SOCKET))
        asking.sendall(ACTIVATE)
        return set(json.loads(answer.read().partition(b"\r\n\r\n")[2])["Implements"])


def test_it_runs_confined_and_lacks_nothing(guest: Guest) -> None:
    assert (guest.show("ActiveState"), guest.show("UnitFileState")) == ("active", "enabled")
    status = Path(f"/proc/{guest.number('MainPID')}/status").read_text()
    assert re.search(r"^Seccomp:\t2$", status, re.M) and re.search(r"^NoNewPrivs:\t1$", status, re.M)
    asked = ("dig", "+short", "+time=20", "@192.168.0.1", "c2.blue.vxlanu.internal")
    assert guest.one.run(*asked, timeout=PATIENCE_S).strip() == guest.address, guest.story()
    assert "nameserver 192.168.0.1\n" in Path(f"/etc/netns/{guest.one.name}/resolv.conf").read_text()
    poll(lambda: guest.one.pings("10.99.0.2", wait=1), what="a ping to the outside", story=guest.story)
    serving = guest.one.start(sys.executable, "-c", SERVER, "tcp", "8000")  # until its namespace goes
    assert serving.stdout is not None and serving.stdout.readline() == "{}\n"
    client = (sys.executable, "-c", CLIENT, "tcp", "10.99.0.1", "80", "20")
    assert guest.outside.run(*client, timeout=PATIENCE_S).strip() == "10.99.0.2"
    assert activated() == {"NetworkDriver", "IpamDriver"}
    for unit, most in EXPOSURE_MAX.items():
        said = run("systemd-analyze", "security", "--no-pager", unit, timeout=PATIENCE_S)
        print(said.splitlines()[-1])
        exposure = re.search(rf"exposure level for {unit}: ([0-9.]+)", said)
        assert exposure is not None and float(exposure[1]) <= most, said
    assert not re.search(" (warning|error) |Traceback", guest.log()), guest.story()


def ran_and_waited(pid: int) -> tuple[float, float]:
    """Seconds of the workers, in LOOKS looks one after the other."""
    seen = [it for it in (workers(pid) for _ in range(LOOKS)) if it]
    assert len(seen) == LOOKS
    return sum(it.ran_s for it in seen), sum(it.waited_s for it in seen)


def test_among_busy_services_the_unit_has_what_its_weight_says(guest: Guest) -> None:
    """Their groups and its are in one slice; one of them sends as fast as it can, through its workers."""
    busy = [f"busy-{number}" for number in range(4 * (os.cpu_count() or 1))]
    sends = (sys.executable, "-c", SENDS, guest.address)
    try:
        for name in busy:
            run("systemd-run", "--quiet", "--collect", f"--unit={name}", sys.executable, "-c", "while True: pass")
        run("systemd-run", "--quiet", "--collect", "--unit=sends", "ip", "netns", "exec", guest.one.name, *sends)
        waits = []  # for each second that they run
        for weight in ("200", "900"):
            ctl("set-property", "--runtime", "vxlanu", f"CPUWeight={weight}")
            ran, waited = ran_and_waited(guest.number("MainPID"))
            print(f"CPUWeight={weight}: the workers ran for {ran:.2f} s and waited for {waited:.2f}")
            waits.append(waited / ran)
        assert waits[1] < waits[0] / 2, waits
    finally:
        ctl("stop", "sends", *busy)


def test_a_killed_agent_comes_back_to_its_taps(guest: Guest) -> None:
    before, kept, began = guest.number("MainPID"), guest.number("NFileDescriptorStore"), guest.number("NRestarts")
    index, since = guest.index(), guest.cursor()
    assert kept >= 3, "a socket and two TAPs"
    ctl("kill", "--signal=KILL", "--kill-who=main", "vxlanu")
    poll(lambda: guest.number("NRestarts") == began + 1 and guest.is_there(), what="it is back", story=guest.story)
    assert guest.number("MainPID") != before
    poll(lambda: guest.number("NFileDescriptorStore") == kept, what="the same in the store", story=guest.story)
    assert guest.index() == index, "another interface"
    assert "not used" not in guest.log(since=since), guest.story()
    assert activated() == {"NetworkDriver", "IpamDriver"}


def test_a_hung_agent_is_started_again(guest: Guest) -> None:
    set_line("watchdog", "WatchdogSec=10")
    ctl("restart", "vxlanu")
    poll(guest.is_there, what="it is back", story=guest.story)
    began, since = guest.number("NRestarts"), guest.cursor()
    ctl("kill", "--signal=STOP", "--kill-who=main", "vxlanu")
    poll(
        lambda: guest.number("NRestarts") == began + 1 and guest.is_there(),
        timeout=PATIENCE_S, what="it is back", story=guest.story,
    )  # fmt: skip
    assert "Watchdog timeout" in guest.log(since=since), guest.story()
    unset("watchdog")


def test_a_stop_leaves_no_dead_socket_and_a_start_finds_everything(guest: Guest) -> None:
    ctl("stop", "vxlanu")
    assert guest.show("ActiveState") == "inactive", guest.story()
    guest.wait_stand_in("inactive")
    assert not DOCKER_SOCKET.exists() and not guest.pings()
    ctl("start", "vxlanu")
    poll(guest.is_there, what="it is back", story=guest.story)


def test_dockerd_finds_the_agent_there_and_waits_for_nothing(guest: Guest) -> None:
    ctl("start", "docker")
    words = ("network", "create", "-d", "vxlanu", "--ipam-driver", "vxlanu", "--subnet", "192.168.0.0/24", "blue")
    run(DOCKER, *words, timeout=PATIENCE_S)
    ctl("stop", "docker.socket", "docker", "vxlanu")
    since = guest.cursor()
    ctl("start", "docker", "vxlanu")  # one transaction, as at boot
    there = guest.number("ActiveEnterTimestampMonotonic")
    began, done = (guest.number(f"{name}TimestampMonotonic", "docker") for name in ("ExecMainStart", "ActiveEnter"))
    print(f"dockerd began {(began - there) / 1e6:.1f} s after the agent was ready, and took {(done - began) / 1e6:.1f}")
    assert there <= began, guest.story()
    assert "retrying in" not in guest.log("docker", since), guest.log("docker", since)
    assert "blue" in run(DOCKER, "network", "ls", timeout=PATIENCE_S)
    restart_docker()
    poll(guest.is_there, what="no word of Docker's restart", story=guest.story)
    since = guest.cursor()  # the control: nobody there
    ctl("stop", "vxlanu")
    ctl("stop", STAND_IN)
    assert not DOCKER_SOCKET.exists(), guest.story()
    restart_docker()
    assert "retrying in" in guest.log("docker", since), guest.log("docker", since)


def run_nothing() -> str:
    """Why a container in blue could not be started; with its network it fails for want of a program."""
    words = [DOCKER, "run", "--rm", "--network", "blue", IMAGE, "/none"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode != 0
    return done.stderr


def docker_is_refused(guest: Guest) -> None:
    """A container does not start, Docker says why, and has not waited for anybody."""
    guest.wait_stand_in("active")
    poll(lambda: standing(DOCKER_SOCKET), timeout=PATIENCE_S, what="its answer", story=guest.story)
    since = guest.cursor()
    assert REFUSES in guest.log(STAND_IN), guest.story()
    begin = time.monotonic()
    said = run_nothing()
    print(f"docker run: {time.monotonic() - begin:.2f} s: {said}")
    assert AWAY in said, guest.story()
    assert "retrying in" not in guest.log("docker", since), guest.log("docker", since)


def test_docker_is_told_at_once_that_the_agent_was_stopped(guest: Guest) -> None:
    ctl("start", "vxlanu")
    subprocess.run([DOCKER, "import", "-", IMAGE], input=bytes(10240), check=True, timeout=PATIENCE_S)  # an empty tar
    ctl("stop", "vxlanu")
    docker_is_refused(guest)
    since = guest.cursor()
    restart_docker()
    assert "retrying in" not in guest.log("docker", since), guest.log("docker", since)
    ctl("start", "vxlanu")
    guest.wait_stand_in("inactive")
    assert activated() == {"NetworkDriver", "IpamDriver"}
    poll(guest.is_there, what="it is back", story=guest.story)


def test_the_agent_has_the_socket_after_each_restart(guest: Guest) -> None:
    for verbs in (("restart",), ("stop", "start")) * RESTARTS:
        ctl("reset-failed", "vxlanu")  # five starts in 10 s are allowed
        for verb in verbs:
            ctl(verb, "vxlanu")
        assert activated() == {"NetworkDriver", "IpamDriver"}, guest.story()
        guest.wait_stand_in("inactive")
        assert activated() == {"NetworkDriver", "IpamDriver"}, guest.story()


def test_nobody_refuses_docker_after_a_crash(guest: Guest) -> None:
    since, began = guest.cursor(), guest.number("NRestarts")
    ctl("kill", "--signal=KILL", "--kill-who=main", "vxlanu")
    poll(
        lambda: guest.number("NRestarts") == began + 1 and guest.is_there(),
        timeout=PATIENCE_S, what="it is back", story=guest.story,
    )  # fmt: skip
    guest.wait_stand_in("inactive")
    assert REFUSES not in guest.log(STAND_IN, since), guest.story()
    assert activated() == {"NetworkDriver", "IpamDriver"}


def test_the_stand_in_ends_with_docker_s_last_network_of_ours(guest: Guest) -> None:
    assert '"/none"' in run_nothing(), "the control; and Docker knows the plugin, or could remove nothing of its"
    ctl("disable", "--now", "vxlanu")
    guest.wait_stand_in("active")
    poll(lambda: standing(DOCKER_SOCKET), timeout=PATIENCE_S, what="its answer", story=guest.story)
    run(DOCKER, "network", "rm", "blue", timeout=PATIENCE_S)
    guest.wait_stand_in("inactive")
    assert not DOCKER_SOCKET.exists()
