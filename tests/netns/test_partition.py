"""Hosts that hear nothing of each other for a while: traffic goes on as far as it can, then everything agrees again.

    c1-1     c2-1     c3-1        blue; the control port of h2 blocked, or the cable of h3 cut
     h1 ───── h2 ───── h3
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streams import echoes, know_each_other, pings
from trio import agree, differences, joined, member_state, transfer

from vxlanu.lab.topology import Lab, poll

pytestmark = pytest.mark.netns

A_MINUTE_S = 60.0
AT_LEAST = 20
"""Pings that are answered, of those of ten seconds."""


@pytest.fixture(scope="module")
def where(lab: Lab) -> Iterator[dict[str, str]]:
    """The address of each container in blue."""
    yield joined(lab)


@pytest.mark.parametrize("at_least_s", [0.0, pytest.param(A_MINUTE_S, marks=pytest.mark.accept)])
def test_a_blocked_control_port_disturbs_no_traffic_also_across_a_restart(
    lab: Lab, where: dict[str, str], at_least_s: float
) -> None:
    """Blocked until h2 is declared dead, and for traffic after that; rounds of anti-entropy (in labs: 3 s) fail."""
    know_each_other(lab, where, "c1-1", "c2-1")
    lab.block_control_port("h2")
    began = time.monotonic()
    try:
        with lab.running("c1-1", ["ping", "-n", "-i", "0.2", where["c2-1"]]) as ping:
            poll(lambda: member_state(lab, "h1", "h2") == "dead", "h2 to be declared dead", 60, lab.story)
            assert ping.poll() is None, ping.communicate()
            transfer(lab, "c1-1", "c2-1", where["c2-1"])
            time.sleep(max(0.0, at_least_s - (time.monotonic() - began)))  # the length is what is tested
            assert pings(lab, "c1-1", where["c2-1"]), "to the end: what is lost is told by an answer behind it"
            said = interrupted(ping)
        assert lost(said) == [], said
        lab.kill_agent("h2")
        lab.start_agent("h2")
        assert echoes(lab, "c1-1", where["c2-1"], 5) >= 4
        transfer(lab, "c2-1", "c1-1", where["c1-1"])
        shown = next(r for r in lab.vxlanu("h1", "endpoint", "ls") if r["name"] == "c2-1")
        assert shown["state"] == "down"
    finally:
        lab.unblock_control_port("h2")
    poll(lambda: agree(lab), "all hosts to agree again", 60, lab.story)


def interrupted(ping: subprocess.Popen[str]) -> str:
    """What ping says to the end, when it is told to end: itself, the child of the program that entered the place."""
    children = Path(f"/proc/{ping.pid}/task/{ping.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGINT)
    said, _ = ping.communicate(timeout=60)
    return said


def lost(said: str) -> list[int]:
    """Which of the pings before the last answer got none; those after it may still have been under way."""
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", said)}
    assert len(answered) >= AT_LEAST, said
    return sorted(set(range(1, max(answered))) - answered)


def test_after_a_partition_of_15_seconds_everything_agrees_again(lab: Lab, where: dict[str, str]) -> None:
    lab.partition("h3")
    began = time.monotonic()
    poll(lambda: member_state(lab, "h1", "h3") == "dead", "h3 to be declared dead", 60, lab.story)
    lab.vxlanu("h1", "network", "create", "made-apart", "--subnet", "192.168.9.0/24")
    time.sleep(max(0.0, 15 - (time.monotonic() - began)))  # the length of the partition is what is tested
    assert not pings(lab, "c1-1", where["c3-1"], wait=1)
    lab.heal("h3")
    poll(lambda: agree(lab), "all hosts to agree within 10 s", 100, lab.story)
    poll(lambda: "made-apart" in [r["name"] for r in lab.vxlanu("h3", "network", "ls")], "h3 to hear", 60, lab.story)
    assert pings(lab, "c1-1", where["c3-1"])
    poll(lambda: not differences(lab), "the tables to be right", 60, lab.story)
