"""A host whose agent may not open port 53: names are answered as soon as it may, and the gateway all the while.

    c1-1 ── h1: an agent without CAP_NET_BIND_SERVICE ── gateway 192.168.0.1, in a namespace of the agent's
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from lab_ns import poll
from streams import pings

from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("dig")]

GATEWAY, LOG = "192.168.0.1", "/run/without.log"
LET = "sysctl -qw net.ipv4.ip_unprivileged_port_start=0"
"""Of the namespace: from then on it takes no capability."""

LET_THE_GATEWAY = f"""
for fd in /proc/$1/fd/*; do
    case "$(readlink $fd)" in net:*)
        nsenter --net=$fd ip -o addr | grep -q ' {GATEWAY}/' && nsenter --net=$fd {LET}
    esac
done
"""


@pytest.fixture
def without(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab(hosts=1, containers=1)
    lab.stop_agent("h1")
    agent = lab.plan.agent_command("h1", ("setpriv", "--bounding-set", "-net_bind_service", "vxlanu"))
    with ExitStack() as stack:
        stack.enter_context(lab.running("h1", ["sh", "-c", f'exec timeout 300 "$@" 2>{LOG}', "sh", *agent]))
        poll(lambda: lab.exec("h1", ["vxlanu", "status"], check=False).returncode == 0, what="the agent")
        stack.callback(lambda: lab.exec("h1", ["kill", pid(lab)]))
        yield lab


def status(lab: Lab) -> dict[str, object]:
    body: dict[str, object] = json.loads(lab.exec("h1", ["vxlanu", "status", "--json"]).stdout)
    return body


def pid(lab: Lab) -> str:
    return str(status(lab)["pid"])


def said(lab: Lab) -> str:
    return lab.exec("h1", ["cat", LOG]).stdout


def answers(lab: Lab) -> bool:
    asked = ["dig", "+short", "+tries=1", "+time=2", f"@{GATEWAY}", "one.vxlanu.internal"]
    return lab.exec("c1-1", asked, check=False).stdout.split() == ["192.168.0.7"]


def test_names_are_answered_as_soon_as_their_port_can_be_had(without: Lab) -> None:
    lab = without
    lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24", "--internal")
    lab.vxlanu("h1", "attach", "blue", "c1-1", "--ip", "192.168.0.7", "--name", "one")
    why = f"listen on {GATEWAY} port 53: Permission denied"
    warning = f"names of blue are not answered here: {why}"
    poll(lambda: warning in str(status(lab)["warnings"]), what=warning, story=lambda: said(lab))
    assert pings(lab, "c1-1", GATEWAY), "the gateway stands"
    assert not answers(lab)
    lab.exec("h1", ["sh", "-c", LET_THE_GATEWAY, "sh", pid(lab)])
    poll(lambda: answers(lab), what="an answer")
    assert "names of" not in str(status(lab)["warnings"])
    assert said(lab).count(why) == 1 and "Traceback" not in said(lab), said(lab)
