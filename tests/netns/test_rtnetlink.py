"""What is read from netlink without pyroute2, held against what iproute2 says of the same namespace."""

from __future__ import annotations

import json
import os
import sys

import pytest
from lab_ns import Namespace, Namespaces, poll, run

pytestmark = pytest.mark.netns

ASK = """
import json
from dataclasses import asdict
from vxlanu.nsopen import rtnetlink
print(json.dumps([[asdict(link) for link in rtnetlink.links()], rtnetlink.has_default_route()]))
"""
IFF = {"UP": 0x1, "LOOPBACK": 0x8, "LOWER_UP": 0x10000}


def asked(namespace: Namespace) -> tuple[list[dict[str, object]], bool]:
    links, routed = json.loads(namespace.run(sys.executable, "-c", ASK))
    return links, routed


def by_iproute2(namespace: Namespace) -> list[dict[str, object]]:
    links = json.loads(namespace.ip("-d", "-j", "link"))
    index = {link["ifname"]: link["ifindex"] for link in links}
    return [
        {
            "index": link["ifindex"],
            "name": link["ifname"],
            "flags": sum(IFF[flag] for flag in link["flags"] if flag in IFF),
            "mac": link["address"],
            "master": index.get(link.get("master"), 0),
            "kind": link.get("linkinfo", {}).get("info_kind", "physical"),
            "isolated": link.get("linkinfo", {}).get("info_slave_data", {}).get("isolated", False),
        }
        for link in links
    ]


def test_links_are_what_iproute2_says(namespaces: Namespaces) -> None:
    host = namespaces.make("h")
    for number in range(40):  # the list comes in several parts
        host.ip("link", "add", f"p{number}", "type", "veth", "peer", "name", f"q{number}")
    for command in (
        "link add br0 type bridge", "link set br0 up", "link set p0 master br0", "link set p1 master br0 up",
        "link set q1 up", "link set p2 master br0", "link property add dev p2 altname e-0123456789ab",
        "link set p2 type bridge_slave isolated on",
    ):  # fmt: skip
        host.ip(*command.split())

    def both() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        links, _ = asked(host)
        for link in links:
            link["flags"] = int(str(link["flags"])) & sum(IFF.values())
        return links, by_iproute2(host)

    def same() -> bool:  # a carrier comes when it comes, between the two questions too
        links, said = both()
        return links == said

    poll(same, what="the same links", story=lambda: "{}\n{}".format(*both()))
    links, _ = both()
    assert {link["kind"] for link in links} == {"physical", "bridge", "veth"}
    assert [link["name"] for link in links if link["isolated"]] == ["p2"]


def test_a_name_that_is_no_text_hides_no_other_link(namespaces: Namespaces) -> None:
    host = namespaces.make("h")
    host.ip("link", "add", os.fsdecode(b"\xff"), "type", "veth", "peer", "name", "q")
    links, _ = asked(host)
    assert {link["name"] for link in links} == {"lo", "q", "\N{REPLACEMENT CHARACTER}"}


def test_a_table_that_never_had_a_route_has_no_default_one(namespaces: Namespaces) -> None:
    """The kernel makes the main table with its first route, and answers ENOENT until then."""
    assert run("unshare", "-n", sys.executable, "-c", ASK).strip().endswith("false]")
    host = namespaces.make("h")
    for command in ("link add p type veth peer name q", "addr add 10.0.0.1/24 dev p", "link set p up"):
        host.ip(*command.split())
    assert asked(host)[1] is False
    host.ip("route", "add", "default", "via", "10.0.0.2")
    assert asked(host)[1] is True
