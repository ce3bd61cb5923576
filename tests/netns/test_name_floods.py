"""Names are a shared good: a container that asks without end takes none of another's answers.

c1-1 floods ──► 192.168.0.1 ◄── c1-2 asks now and then          h1, demonet
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.netns, pytest.mark.rootless]

CLIENT = str(Path(__file__).parents[1] / "dns_client.py")
ADDRESS = {"c1-1": "192.168.0.11", "c1-2": "192.168.0.12"}
QUESTIONS = 50
LOST_MAX = 5
"""Each is asked once; a client asks again. Read by the agent, a flood takes one in ten to one in three."""


@pytest.fixture(scope="module")
def demonet(make_module_lab: Callable[..., Lab]) -> Lab:
    lab = make_module_lab(hosts=1, containers=2)
    lab.vxlanu("h1", "network", "create", "demonet", "--internal", "--subnet", "192.168.0.0/24")
    for name, address in ADDRESS.items():
        lab.vxlanu("h1", "attach", "demonet", name, "--ip", address)
    return lab


def ask(lab: Lab, how: str) -> int:
    """How many questions of c1-2 were answered."""
    asked = [sys.executable, CLIENT, "ask", how, "192.168.0.1", "c1-2.demonet", str(QUESTIONS)]
    answered: int = json.loads(lab.exec("c1-2", asked).stdout)
    return answered


def from_flood(lab: Lab) -> int:
    """Frames that c1-1 has sent."""
    rows = lab.vxlanu("h1", "stats")
    return next(int(row["sent_frames"]) for row in rows if row["scope"] == "endpoint" and row["name"] == "c1-1")


def limited(lab: Lab) -> int:
    """How much of the flood the agent has read."""
    return int(lab.vxlanu("h1", "status")["names"]["limited"])


@pytest.mark.parametrize(("how", "frames"), [("datagrams", 50000), ("streams", 5000)])
def test_a_flood_of_questions_takes_no_answer_from_another_container(demonet: Lab, how: str, frames: int) -> None:
    poll(lambda: ask(demonet, how) == QUESTIONS, "the control: nobody else asks, and each is answered", 60)
    begun, read = from_flood(demonet), limited(demonet)
    flood = [sys.executable, CLIENT, "flood", how, "192.168.0.1", "c1-2.demonet"]
    with demonet.running("c1-1", flood):
        poll(lambda: limited(demonet) > read, "it to be more than it may", 60, demonet.story)
        poll(lambda: from_flood(demonet) > begun + frames, "the flood to be one", 60, demonet.story)
        answered = ask(demonet, how)
    assert answered >= QUESTIONS - LOST_MAX, f"{answered} of {QUESTIONS} answered\n{demonet.story()}"
    if how == "datagrams":  # a connection is many frames, of which the agent sees one
        sent, read = from_flood(demonet) - begun, limited(demonet) - read
        assert read < sent / 10, f"{read} of {sent} were read only to be thrown away"
    assert f"{ADDRESS['c1-1']} asks too often" in demonet.log("h1")
    assert f"{ADDRESS['c1-2']} asks too often" not in demonet.log("h1")
