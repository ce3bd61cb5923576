"""The agent's nice value, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vxlanu.agent.priority import AUTOGROUP

PROGRAM = """
import logging, os, sys, threading
from pathlib import Path
from vxlanu.agent import priority
logging.basicConfig(stream=sys.stdout, format="%(levelname)s", level=logging.INFO)
if "alone" in sys.argv:
    os.setsid()
if "nobody" in sys.argv:
    os.setuid(65534)
group = priority.AUTOGROUP = Path(os.environ.get("AUTOGROUP", priority.AUTOGROUP))
priority.take_priority(int(sys.argv[1]))
thread = threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
thread.start()
thread.join()
print(group.read_text().rpartition("nice ")[2].strip() if group.exists() else "no autogroup")
"""


def lines(*arguments: str, group: Path = AUTOGROUP) -> list[str]:
    """What the log says, the nice value of a thread, and that of the group: "" in the root group, as CI may be."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"AUTOGROUP": str(group)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.split("\n")[:-1]


def own_group() -> str:
    """What a session of its own says before anything is done: 0, or that there are no such groups."""
    return lines("0", "alone")[1]


@pytest.mark.skipif(os.getuid() != 0, reason="a nice value below 0 takes root")
def test_threads_that_begin_later_and_the_session_have_it() -> None:
    thread, group = lines("-5", "alone")
    assert thread == "-5"
    assert group == ("-5" if own_group() == "0" else own_group())


@pytest.mark.skipif(os.getuid() != 0, reason="a nice value below 0 takes root")
def test_somebody_elses_session_is_left_alone() -> None:
    before = lines("0")[1]
    assert lines("-5") == ["-5", before]


def test_zero_leaves_it_as_it_was_started() -> None:
    assert lines("0")[0] == str(os.getpriority(os.PRIO_PROCESS, 0))


@pytest.mark.skipif(os.getuid() != 0, reason="becomes nobody, who may not")
def test_without_the_right_it_goes_on_and_says_so() -> None:
    usual = str(os.getpriority(os.PRIO_PROCESS, 0))
    assert lines("-5", "nobody")[:2] == ["INFO", usual]


@pytest.mark.skipif(os.getuid() != 0, reason="a nice value below 0 takes root")
@pytest.mark.parametrize(("said", "then"), [("/autogroup-7 nice 0\n", "-5"), ("", "")])
def test_the_root_group_takes_no_value(said: str, then: str, tmp_path: Path) -> None:
    group = tmp_path / "autogroup"
    group.write_text(said)
    assert lines("-5", "alone", group=group) == ["-5", then]


@pytest.mark.skipif(os.getuid() != 0, reason="a nice value below 0 takes root")
def test_a_group_that_refuses_is_told_apart(tmp_path: Path) -> None:
    assert lines("-5", "alone", group=tmp_path / "none") == ["-5", "no autogroup"]
    refusing = Path("/proc/self/oom_score")  # read-only, for root too
    assert lines("-5", "alone", group=refusing)[:2] == ["INFO", "-5"]
