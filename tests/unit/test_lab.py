"""What of the lab needs no root: plan, explained frame, the judgement of the demo, refusals of the commands."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxlanu.doctor.facts import Facts, Host
from vxlanu.errors import AnswerIsNo, BadRequest, NotFound
from vxlanu.lab import barrier, demo, wire
from vxlanu.lab.plan import Plan, host_of, partition_rules, underlay_address
from vxlanu.lab.topology import Completed, Lab

# -- the plan ----------------------------------------------------------------------------------------------------------


def test_a_plan_survives_the_way_to_the_supervisor() -> None:
    plan = Plan("a", 5, 3, "ipv6", 9000, ("sh", "-c", "x"), ("--offload", "off"))
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hosts": 0}, "0 hosts"),
        ({"hosts": 201}, "201 hosts"),
        ({"containers": -1}, "-1 containers"),
        ({"lab": "a/b"}, "lab id 'a/b'"),
        ({"lab": ""}, "lab id ''"),
        ({"underlay": "ipx"}, "underlay 'ipx'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Plan(**{"lab": "a", **wrong})  # type: ignore[arg-type]  # wrong on purpose
    if wrong.get("lab") != "":
        with pytest.raises(BadRequest):
            Lab(**wrong)  # type: ignore[arg-type]  # wrong on purpose
    assert Plan("a", hosts=200, containers=0).host_names()[-1] == "h200"


def test_every_agent_has_its_own_address_state_and_socket_and_a_seed_that_is_not_itself() -> None:
    plan = Plan("a", hosts=3)
    commands = {host: plan.agent_command(host, ("vxlanu",)) for host in plan.host_names()}
    for flag in ("--name", "--advertise", "--state-dir", "--socket"):
        assert len({command[command.index(flag) + 1] for command in commands.values()}) == 3
    for host, command in commands.items():
        seeds = [command[i + 1] for i, word in enumerate(command) if word == "--join"]
        assert seeds
        assert plan.advertise(host) not in seeds
    assert "--join" not in Plan("a", hosts=1).agent_command("h1", ("vxlanu",))


def test_an_agents_flags_are_those_that_the_agent_has() -> None:
    from vxlanu.cli.agent import agent

    known = {name for parameter in agent.params for name in parameter.opts}
    used = {word for word in Plan("a").agent_command("h2", ("vxlanu",)) if word.startswith("--")}
    assert used <= known


def test_a_flag_for_one_start_counts_over_the_labs() -> None:
    command = Plan("a", agent_flags=("--log-level", "debug")).agent_command("h1", ("vxlanu",), ("--log-level", "error"))
    assert command[:2] == ["vxlanu", "agent"]
    assert [command[i + 1] for i, word in enumerate(command) if word == "--log-level"] == ["info", "debug", "error"]


def test_names_say_where_they_are() -> None:
    assert [host_of(name) for name in ("h7", "c7-1", "c12-late", "underlay", "c-1", "hx", "c0-1")] == [
        "h7", "h7", "h12", "", "", "", "",
    ]  # fmt: skip
    assert (underlay_address("h17", "ipv4"), underlay_address("h17", "ipv6")) == ("10.97.0.17", "fd97::11")


def test_the_rules_cut_both_ways_and_both_protocols() -> None:
    rules = partition_rules()
    assert rules.count("th dport 7946 drop") == rules.count("th sport 7946 drop") == 2
    assert rules.count("{ tcp, udp }") == 4


# -- what stands in the way --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "number", "why", "hint"),
    [
        (Host(max_user_namespaces=0), errno.ENOSPC, "user.max_user_namespaces is 0", "user.max_user_namespaces=15000"),
        (Host(unprivileged_userns_clone=0), errno.EPERM, "userns_clone is 0", "kernel.unprivileged_userns_clone=1"),
        (Host(apparmor_restricts_userns=1), errno.EPERM, "(Ubuntu)", "apparmor_restrict_unprivileged_userns=0"),
        (Host(max_user_namespaces=9), errno.ENOSPC, "limit", "user.max_user_namespaces"),
        (Host(max_user_namespaces=9), errno.EPERM, "Operation not permitted", "sudo vxlanu lab up"),
    ],
)
def test_the_switch_that_forbids_namespaces_is_named(
    monkeypatch: pytest.MonkeyPatch, host: Host, number: int, why: str, hint: str
) -> None:
    monkeypatch.setattr("vxlanu.doctor.read.read_host", lambda *_, **__: Facts(host=host))
    error = barrier.namespaces_refused(number)
    assert (error.exit, error.name) == (6, "need_root")
    assert why in error.why and hint in error.hint, (error.why, error.hint)


def test_a_missing_tun_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no ") as missing:
        barrier.check_tun(str(tmp_path / "tun"))
    assert "modprobe tun" in missing.value.hint
    (tmp_path / "tun").touch()
    barrier.check_tun(str(tmp_path / "tun"))


# -- the frame, explained ----------------------------------------------------------------------------------------------

PING = bytes.fromhex(
    "02aabbccdd02" "02aabbccdd01" "0800"
    "4500006e000040004011" "0000" "0a610002" "0a610001"
    "c351" "12b5" "005a" "beef"
    "08000000" "00010000"
    "0242c0a80064" "0242c0a80002" "0800"
    "45000054000040004001" "0000" "c0a80002" "c0a80064"
    "0800" "0000" "00010001" + "00" * 24
)  # fmt: skip


def test_a_frame_is_explained_down_to_the_container() -> None:
    lines = wire.explain(PING)
    assert lines is not None
    told = "\n".join(lines)
    for fact in (
        "02:aa:bb:cc:dd:01 -> 02:aa:bb:cc:dd:02",
        "10.97.0.2 -> 10.97.0.1",
        "50001 -> 4789",
        "VXLAN Network Identifier (VNI): 256",
        "02:42:c0:a8:00:02 -> 02:42:c0:a8:00:64",
        "192.168.0.2 -> 192.168.0.100",
        "ICMP",
    ):
        assert fact in told
    assert re.search(r"^  42  0800000000010000 +VXLAN", told, re.MULTILINE)


def test_what_is_not_vxlan_is_not_explained() -> None:
    assert wire.explain(PING[:36] + b"\x12\xb6" + PING[38:]) is None, "another port"
    assert wire.explain(PING[:42] + b"\x00" + PING[43:]) is None, "no I flag"
    assert wire.explain(PING[:23] + b"\x06" + PING[24:]) is None, "TCP"
    assert wire.explain(PING[:14] + b"\x44" + PING[15:]) is None, "a header of 16 bytes"


@given(st.integers(0, len(PING)), st.lists(st.tuples(st.integers(0, len(PING) - 1), st.integers(0, 255)), max_size=8))
def test_any_bytes_are_explained_or_not_but_never_raise(length: int, changes: list[tuple[int, int]]) -> None:
    frame = bytearray(PING)
    for at, value in changes:
        frame[at] = value
    wire.explain(bytes(frame[:length]))


# -- the demo's judgement ----------------------------------------------------------------------------------------------


class _Scripted:
    """In place of a lab: answers in turn, the last one for ever."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers: Iterator[tuple[int, str]] = iter(answers)
        self.last = answers[0]
        self.asked = 0

    def exec(self, name: str, argv: list[str], *, check: bool) -> Completed:
        self.asked += 1
        self.last = next(self.answers, self.last)
        return subprocess.CompletedProcess(argv, self.last[0], self.last[1], "")


VNI = "VXLAN Network Identifier (VNI): 256"


@pytest.mark.parametrize("dissector", ["tshark", "wire"])
def test_the_frame_that_the_demo_shows_is_the_pings(dissector: str) -> None:
    """C1 also says on its own that it is there: a frame of the network, and not the one that is spoken of."""
    solicitation = PING[:62] + b"\x86\xdd" + PING[64:]
    said = {
        "tshark": (f"{VNI}\nSrc: fe80::2, Dst: ff02::2", f"{VNI}\nSrc: 192.168.0.2, Dst: 192.168.0.100"),
        "wire": tuple("\n".join(wire.explain(frame) or ()) for frame in (solicitation, PING)),
    }[dissector]
    other, ping = (Completed(["x"], 0, it, "") for it in said)
    assert not demo.frame_step().problem(ping)
    assert "192" in demo.frame_step().problem(other)


def _play(step: demo.Step, *answers: tuple[int, str]) -> tuple[_Scripted, list[str]]:
    lab, shown = _Scripted(*answers), list[str]()
    demo.Stage(lab, shown.append, lambda text, **_: text).play(7, step)  # type: ignore[arg-type]  # scripted
    return lab, shown


def test_a_step_that_holds_shows_command_output_and_what_to_notice() -> None:
    _, shown = _play(demo.Step("Look", "h1", "vxlanu status", "it is there", (r"st.te: up",)), (0, "state: up\n"))
    assert shown == ["\n7. Look\nh1 # vxlanu status", "  state: up", "  -> it is there"]


@pytest.mark.parametrize(
    ("fails", "answer", "why"),
    [
        (False, (0, "nothing"), "does not show 'good'"),
        (False, (4, "good"), "exit status 4: good"),
        (True, (0, "good"), "exit status 0: good"),
    ],
)
def test_a_step_that_does_not_hold_ends_the_demo_with_its_name(fails: bool, answer: tuple[int, str], why: str) -> None:
    step = demo.Step("Look", "h1", "true", "", ("good",), fails=fails)
    with pytest.raises(AnswerIsNo, match=f"step 7, Look: .*{why}"):
        _play(step, answer)
    _play(step, (1 if fails else 0, "good"))


def test_only_a_patient_step_is_asked_again() -> None:
    step = demo.Step("Look", "h1", "true", "", ("good",), patient=True)
    assert _play(step, (0, "not yet"), (3, ""), (0, "good"))[0].asked == 3
    with pytest.raises(AnswerIsNo):
        _play(demo.Step("Look", "h1", "true", "", ("good",)), (0, "not yet"), (0, "good"))


def test_the_story_has_what_it_promises() -> None:
    told = demo.steps()
    commands = [step.command for step in told]
    assert any("network create demonet --subnet 192.168.0.0/24 --vni 256" in command for command in commands)
    assert any("--ip 192.168.0.100 --name C0" in command for command in commands)
    after = {command: commands.index(command) for command in commands}
    assert after["vxlanu fdb show demonet"] > after["vxlanu attach demonet c2-1 --name C1"]
    for number, step in enumerate(told):
        assert step.notice
        if step.fails:
            assert any("positive control" in other.title for other in told[number:]), step.title
            assert step.shows, "a refusal must show why it is one"


# -- the commands' refusals --------------------------------------------------------------------------------------------


def run(*arguments: str, before: str = "pass") -> subprocess.CompletedProcess[str]:
    program = f"import os, sys; {before}; from vxlanu.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("vxlanu: ")
    for word in words:
        assert word in done.stderr


def test_what_no_lab_can_do_is_said_in_one_line() -> None:
    nobody = f"none-{os.getpid()}"
    one_line(run("lab", "down", "--lab", nobody), 4, nobody, "vxlanu lab up")
    one_line(run("lab", "exec", "--lab", nobody, "h1", "--", "true"), 4, nobody)
    one_line(run("lab", "ls", "--lab", nobody), 4, nobody)
    one_line(run("lab", "up", "--hosts", "0", "--lab", nobody), 2, "0 hosts")
    one_line(run("lab", "up", "--hosts", "many"), 2, "hosts")
    one_line(run("lab", "exec", "h1"), 2)


def test_a_missing_ip_is_one_line() -> None:
    before = "os.environ['PATH'] = '/nowhere'"
    one_line(run("lab", "up", "--lab", f"none-{os.getpid()}", before=before), 4, "ip is missing", "iproute2")


def test_a_labs_commands_load_nothing_heavy() -> None:
    done = run(
        "lab",
        "ls",
        "--lab",
        f"none-{os.getpid()}",
        before="import atexit; atexit.register(lambda: print(*sys.modules))",
    )
    loaded = set(done.stdout.split())
    assert "vxlanu.lab.topology" in loaded
    assert not loaded & {"aiohttp", "pyroute2", "scapy", "uvloop", "cryptography", "asyncio"}
