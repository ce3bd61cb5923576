"""What firewall rules do to a packet: walked like netfilter walks them, and a doubt where a match cannot be told."""

from __future__ import annotations

import json

import pytest

from vxlanu.doctor.firewall import (
    ACCEPT,
    DROP,
    INWARD,
    OUTWARD,
    UNCLEAR,
    Chain,
    Condition,
    Packet,
    Rule,
    judge,
    read_nft,
)
from vxlanu.doctor.iptables import read_save

DATA = Packet("udp", 4789, interface_in="eth0")
MAYBE = Condition("unknown")
UDP, TCP = Condition("protocol", ("udp",)), Condition("protocol", ("tcp",))
PORT, OTHER = Condition("dport", (4789,)), Condition("dport", (22,))


def base(*rules: Rule, policy: str = ACCEPT, hook: str = "input", family: str = "inet", name: str = "in") -> Chain:
    return Chain("nft", family, "t", name, rules, hook, policy)


def rule(verdict: str, *conditions: Condition, target: str = "") -> Rule:
    return Rule(conditions, verdict, target)


def verdict(*chains: Chain, packet: Packet = DATA, hooks: tuple[str, ...] = INWARD) -> str:
    return judge(chains, packet, hooks).verdict


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        ([], ACCEPT, ACCEPT),
        ([], DROP, DROP),
        ([rule(DROP, UDP, PORT)], ACCEPT, DROP),
        ([rule(DROP, TCP, PORT)], ACCEPT, ACCEPT),
        ([rule(DROP, UDP, OTHER)], ACCEPT, ACCEPT),
        ([rule(ACCEPT, UDP, PORT), rule(DROP)], ACCEPT, ACCEPT),
        ([rule(ACCEPT, Condition("state", ("established", "related")))], DROP, DROP),
        ([rule(ACCEPT, Condition("iif", ("lo",)))], DROP, DROP),
        ([rule(ACCEPT, Condition("iif", ("eth*",)))], DROP, ACCEPT),
        ([rule(DROP, Condition("dport", ((4000, 5000),)))], ACCEPT, DROP),
        ([rule(DROP, Condition("dport", (4789,), negated=True))], ACCEPT, ACCEPT),
        ([rule("return", UDP), rule(DROP)], ACCEPT, ACCEPT),
        ([rule("", MAYBE)], DROP, DROP),
    ],
)
def test_what_is_certain_is_said(rules: list[Rule], policy: str, expected: str) -> None:
    assert verdict(base(*rules, policy=policy)) == expected


@pytest.mark.parametrize(
    ("rules", "policy"),
    [
        ([rule(DROP, PORT, MAYBE)], ACCEPT),
        ([rule(ACCEPT, PORT, MAYBE)], DROP),
        ([rule(DROP, MAYBE), rule(ACCEPT, PORT)], ACCEPT),
        ([rule("return", MAYBE), rule(DROP)], ACCEPT),
        ([rule("jump", target="nowhere")], ACCEPT),
        ([rule(DROP, Condition("saddr", ("10.0.0.0/8",)))], ACCEPT),
    ],
)
def test_what_a_doubt_could_have_changed_is_unclear(rules: list[Rule], policy: str) -> None:
    assert verdict(base(*rules, policy=policy)) == UNCLEAR


def test_other_hosts_are_not_behind_loopback_whatever_the_interface_is() -> None:
    unplaced = Packet("udp", 4789)
    assert verdict(base(rule(ACCEPT, Condition("iif", ("lo",))), policy=DROP), packet=unplaced) == DROP
    assert verdict(base(rule(DROP, Condition("iif", ("lo",), negated=True))), packet=unplaced) == DROP
    assert verdict(base(rule(ACCEPT, Condition("iif", ("eth0",))), policy=DROP), packet=unplaced) == UNCLEAR


def test_a_doubt_that_agrees_with_the_verdict_changes_nothing() -> None:
    assert verdict(base(rule(DROP, MAYBE), policy=DROP)) == DROP
    assert verdict(base(rule(ACCEPT, MAYBE))) == ACCEPT


def test_jumps_come_back_and_gotos_do_not() -> None:
    empty = Chain("nft", "inet", "t", "empty")
    assert verdict(base(rule("jump", target="empty"), rule(DROP)), empty) == DROP
    assert verdict(base(rule("goto", target="empty"), rule(DROP)), empty) == ACCEPT
    loop = Chain("nft", "inet", "t", "loop", (rule("jump", target="loop"),))
    assert verdict(base(rule("jump", target="loop")), loop) == UNCLEAR


def test_every_base_chain_must_let_a_packet_pass_and_others_do_not_count() -> None:
    assert verdict(base(rule(ACCEPT)), base(rule(DROP), name="later")) == DROP
    assert verdict(base(rule(DROP), family="ip6")) == ACCEPT
    assert verdict(base(rule(DROP), family="ip6"), packet=Packet("udp", 4789, version=6)) == DROP
    assert verdict(base(rule(DROP), hook="forward")) == ACCEPT
    assert verdict(base(rule(DROP), hook="output")) == ACCEPT
    assert verdict(base(rule(DROP), hook="output"), hooks=OUTWARD) == DROP


def nft(*expressions: object, policy: str = "accept", kind: str = "filter") -> list[Chain]:
    """One rule in one input chain, as nft prints it."""
    place = {"family": "inet", "table": "t"}
    chain = {"chain": {**place, "name": "in", "type": kind, "hook": "input", "policy": policy}}
    listed = {"set": {**place, "name": "ours", "elem": [4789, {"range": [7000, 8000]}]}}
    ruleset = {"nftables": [chain, listed, {"rule": {**place, "chain": "in", "expr": list(expressions)}}]}
    return read_nft(json.loads(json.dumps(ruleset)))


def match(left: object, right: object, op: str = "==") -> dict[str, object]:
    return {"match": {"op": op, "left": left, "right": right}}


DPORT = {"payload": {"protocol": "udp", "field": "dport"}}


@pytest.mark.parametrize(
    ("expressions", "expected"),
    [
        ([match(DPORT, 4789), {"counter": {"packets": 0}}, {"drop": None}], DROP),
        ([match(DPORT, {"set": [22, {"range": [4000, 5000]}]}), {"reject": {"type": "icmpx"}}], DROP),
        ([match(DPORT, "@ours"), {"drop": None}], DROP),
        ([match(DPORT, "@others"), {"drop": None}], UNCLEAR),
        ([match({"payload": {"protocol": "th", "field": "dport"}}, 4789), {"drop": None}], DROP),
        ([match({"payload": {"protocol": "tcp", "field": "dport"}}, 4789), {"drop": None}], ACCEPT),
        ([match({"meta": {"key": "l4proto"}}, "udp"), {"drop": None}], DROP),
        ([match({"meta": {"key": "iifname"}}, "eth1"), {"drop": None}], ACCEPT),
        ([match({"ct": {"key": "state"}}, ["invalid"], "in"), {"drop": None}], ACCEPT),
        ([{"vmap": {"key": DPORT, "data": {"set": [[22, {"accept": None}], [4789, {"drop": None}]]}}}], DROP),
        ([{"vmap": {"key": DPORT, "data": "@map"}}], UNCLEAR),
        ([{"xt": {"type": "match", "name": "multiport"}}, {"drop": None}], UNCLEAR),
        ([{"limit": {"rate": 5}}, {"drop": None}], UNCLEAR),
        ([{"limit": {"rate": 5}}, {"log": None}], ACCEPT),
        ([{"queue": None}], UNCLEAR),
    ],
)
def test_rules_of_nft_are_read(expressions: list[object], expected: str) -> None:
    assert verdict(*nft(*expressions)) == expected


def test_nat_chains_decide_nothing_and_policies_do() -> None:
    assert verdict(*nft({"drop": None}, kind="nat")) == ACCEPT
    assert verdict(*nft(policy="drop")) == DROP


SAVED = """*filter
:INPUT {policy} [0:0]
:OUTPUT ACCEPT [0:0]
:mine - [0:0]
{rules}
COMMIT
*nat
:INPUT ACCEPT [0:0]
-A INPUT -j DROP
COMMIT
"""


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        ("-A INPUT -p udp -m udp --dport 4789 -j DROP", "ACCEPT", DROP),
        ("-A INPUT -p tcp -m tcp --dport 4789 -j DROP", "ACCEPT", ACCEPT),
        ("-A INPUT -p udp -m multiport --dports 22,4000:5000 -j REJECT", "ACCEPT", DROP),
        ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "DROP", DROP),
        ("-A INPUT ! -i lo -p udp -j DROP", "ACCEPT", DROP),
        ("-A INPUT -i eth+ -j ACCEPT", "DROP", ACCEPT),
        (
            "-A INPUT -j mine\n-A mine -p udp -m udp --dport 4789 -m comment --comment 'our own' -j ACCEPT",
            "DROP",
            ACCEPT,
        ),
        ("-A INPUT -g mine\n-A INPUT -j ACCEPT", "DROP", DROP),
        ("-A INPUT -p udp -j LOG --log-prefix 'x y'", "DROP", DROP),
        ("-A INPUT -m limit --limit 5/min -j DROP", "ACCEPT", UNCLEAR),
        ("-A INPUT -s 10.0.0.0/8 -j DROP", "ACCEPT", UNCLEAR),
        ("-A OUTPUT -j DROP", "ACCEPT", ACCEPT),
        ("-A INPUT", "ACCEPT", ACCEPT),
        ("-A INPUT -p udp --dport 'x -j DROP", "ACCEPT", UNCLEAR),
        ("-A INPUT -p udp --dport vxlan:9000 -j DROP", "ACCEPT", UNCLEAR),
        ("-A ", "ACCEPT", ACCEPT),
        (":", "ACCEPT", ACCEPT),
    ],
)
def test_rules_of_iptables_are_read(rules: str, policy: str, expected: str) -> None:
    assert verdict(*read_save(SAVED.format(rules=rules, policy=policy), "iptables", "ip")) == expected
