"""The way out of a plain namespace beside a real dockerd, whose firewall it has to share.

    n0 (plain namespace) ── vxlanu_gw ── h1 ── outside          D0 ── docker0 ── h1
"""

from __future__ import annotations

import pytest
from docker_hosts import DockerHost
from lab_ns import poll

pytestmark = [pytest.mark.netns, pytest.mark.interop("docker", "nft", "iptables")]

Pair = tuple[DockerHost, DockerHost]
AUDIT_S = 30  # what is promised within 10 s, on a machine that is busy
FLUSH = "iptables -F && iptables -X"
"""The policy of FORWARD stays: Docker sets it only when it is the one that switches ip_forward on."""


def test_the_rules_outlive_dockerds_restart_after_a_flush_and_go_with_the_last_container(docker_pair: Pair) -> None:
    h1, _ = docker_pair

    def ours() -> list[str]:
        return [rule for rule in h1.run("iptables", "-S").splitlines() if "--comment vxlanu " in rule]

    def reaches_outside() -> bool:
        inside = ("nsenter", "--net=/run/netns/n0", "ping", "-c", "1", "-W", "2", h1.outside_address)
        return h1.call(*inside).returncode == 0

    before = sorted(h1.run("iptables", "-S").splitlines())
    h1.vxlanu("network", "create", "demonet", "--subnet", "192.168.0.0/24")
    h1.run("ip", "netns", "add", "n0")
    h1.vxlanu("attach", "demonet", "n0")
    expected = ours()
    assert expected
    poll(reaches_outside, what="a way out", story=h1.story)
    h1.stop("dockerd")
    poll(lambda: h1.call("sh", "-c", FLUSH).returncode == 0, what="a flush without an audit in between", story=h1.story)
    h1.start_dockerd()
    poll(lambda: ours() == expected, what="the rules to be put back", timeout=AUDIT_S, story=h1.story)
    poll(reaches_outside, what="a way out again", story=h1.story)
    h1.vxlanu("detach", "demonet", "n0")
    after = sorted(h1.run("iptables", "-S").splitlines())  # a new dockerd takes its bridges in another order
    assert after == before, "nothing of ours, everything of Docker's"
