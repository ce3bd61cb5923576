"""Egress without a kernel: what is said, which addresses are free, what the rules are."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from vxlanu.api.schema import Network, Status
from vxlanu.config import check_gateway_subnet
from vxlanu.doctor.egress import forwarding, stopper
from vxlanu.doctor.facts import Facts, Firewall, Host
from vxlanu.doctor.finding import Finding
from vxlanu.doctor.firewall import Chain, Condition, Rule
from vxlanu.errors import BadRequest, Conflict
from vxlanu.gateway import docker_user, pool, rules
from vxlanu.gateway.published import Published, parse

SUBNET = "172.18.0.0/16"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("8080:80", Published("", 8080, "tcp", 80)),
        ("0.0.0.0:8080:80/tcp", Published("", 8080, "tcp", 80)),
        ("127.0.0.1:5353:53/udp", Published("127.0.0.1", 5353, "udp", 53)),
    ],
)
def test_a_published_port_is_read(said: str, meant: Published) -> None:
    assert parse([said]) == (meant,)
    assert parse([meant.text()]) == (meant,), "what is shown can be said"


@pytest.mark.parametrize("said", ["", ":", "80", "a:80", "80:", "8080:80:", "1:2:3:4", "8080:80/", "8080:80/TCP"])
def test_what_is_no_published_port_is_refused(said: str) -> None:
    with pytest.raises(BadRequest):
        parse([said])


def test_one_port_for_two_purposes_is_refused_and_for_two_protocols_is_not() -> None:
    assert len(parse(["8080:80", "8080:80/udp", "127.0.0.1:8080:80"])) == 3
    with pytest.raises(BadRequest, match="twice"):
        parse(["8080:80", "8080:81"])


def test_the_subnet_is_the_first_that_overlaps_nothing() -> None:
    assert pool.choose("", "", ["0.0.0.0/0", "10.0.0.0/8", "fd00::/8"]) == SUBNET
    assert pool.choose("", "", ["172.18.3.0/24", "172.19.0.0/16"]) == "172.20.0.0/16"
    assert pool.choose("", "172.25.0.0/16", []) == "172.25.0.0/16", "that of the last time"
    assert pool.choose("", "172.25.0.0/16", ["172.25.1.1/32"]) == SUBNET, "unless something has it now"
    with pytest.raises(Conflict, match=r"172\.16\.0\.0/12"):
        pool.choose("172.30.0.0/16", "", ["172.16.0.0/12"])
    with pytest.raises(Conflict, match="all of"):
        pool.choose("", "", ["172.16.0.0/12"])


def test_addresses_come_round_and_never_twice() -> None:
    """A /29: the bridge and five containers."""
    used: set[str] = set()
    last = ""
    for _ in range(5):
        last = pool.next_address("10.1.2.0/29", last, used)
        assert last not in used
        used.add(last)
    assert used == {f"10.1.2.{number}/29" for number in range(2, 7)}
    with pytest.raises(Conflict, match="no address"):
        pool.next_address("10.1.2.0/29", last, used)
    used.remove("10.1.2.4/29")
    assert pool.next_address("10.1.2.0/29", last, used) == "10.1.2.4/29"


def test_an_address_that_was_given_back_waits_for_its_turn() -> None:
    given = [""]
    for _ in range(4):
        given.append(pool.next_address(SUBNET, given[-1], ()))
    assert all(one != other for one, other in pairwise(given)) and len(set(given)) == 5


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/24", "fd00::/64", "127.0.0.0/8", "10.0.0.0/30", "0.0.0.0/0"])
def test_what_is_no_subnet_for_the_bridge_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        check_gateway_subnet(text)
    for right in ("", "none", "10.0.0.0/29", "172.30.0.0/16"):
        check_gateway_subnet(right)


def rows(wanted: rules.Wanted, chain: str) -> list[str]:
    """The rules of a chain, each as text."""
    commands = json.loads(rules.replaced(wanted))["nftables"]
    found = [command["add"].get("rule") for command in commands if "add" in command]
    return [json.dumps(rule["expr"]) for rule in found if rule and rule["chain"] == chain]


def test_the_table_is_replaced_in_one_transaction() -> None:
    commands = json.loads(rules.replaced(rules.Wanted(SUBNET)))["nftables"]
    assert [next(iter(command)) for command in commands[:3]] == ["add", "delete", "add"]
    assert {"table"} == {next(iter(next(iter(command.values())))) for command in commands[:3]}
    touched = {next(iter(it["add"].values())).get("table") for it in commands[3:]}
    assert touched == {"vxlanu"}, "nothing of other tables"


def test_a_published_port_is_a_rule_for_packets_from_outside_and_from_the_host() -> None:
    wanted = rules.Wanted(SUBNET, ((Published("", 8080, "tcp", 80), "172.18.0.2"),))
    assert rows(rules.Wanted(SUBNET), "prerouting") == rows(rules.Wanted(SUBNET), "output") == []
    [outside], [own] = rows(wanted, "prerouting"), rows(wanted, "output")
    for rule in (outside, own):
        assert '"addr": "172.18.0.2", "port": 80' in rule and '"local"' in rule
    assert "iifname" in outside and "iifname" not in own


def test_equal_tables_compare_equal_whatever_their_handles() -> None:
    def listed(handle: int, drop: str = "drop") -> str:
        rule = {"family": "inet", "table": "vxlanu", "chain": "raw", "handle": handle, "expr": [{drop: None}]}
        return json.dumps({"nftables": [{"metainfo": {"version": str(handle)}}, {"rule": rule}]})

    assert rules.comparable(listed(1)) == rules.comparable(listed(9)) != rules.comparable(listed(1, "accept"))
    for nothing in ("", "{}", '{"nftables": [{"metainfo": {}}]}', "[1]", "null"):
        assert rules.comparable(nothing) == ""


BRIDGE = Network("ab" * 16, rules.BRIDGE, 0, [SUBNET], 1500, 1, scope="local")


def test_a_forward_policy_of_drop_stops_containers_unless_a_rule_of_theirs_lets_them_pass() -> None:
    """As Docker leaves it: its own bridges first, then nobody."""
    docker = Rule((Condition("iif", ("docker0",)), Condition("oif", ("docker0",), negated=True)), "accept")
    ours = Rule((Condition("iif", (rules.BRIDGE,)),), "accept")

    def forward(*passing: Rule, policy: str = "drop", family: str = "ip", table: str = "filter") -> list[Chain]:
        return [Chain("nft", family, table, "FORWARD", passing, "forward", policy)]

    assert stopper(forward(docker), BRIDGE, "eth0") == forward(docker)[0]
    assert stopper(forward(docker, ours), BRIDGE, "eth0") is None
    assert stopper(forward(docker, policy="accept"), BRIDGE, "eth0") is None
    assert stopper(forward(family="inet", table="vxlanu"), BRIDGE, "eth0") is None, "our own"
    doubtful = Rule((Condition("mark", (1,)),), "accept")
    assert stopper(forward(doubtful), BRIDGE, "eth0") is None, "only what surely drops is said"


def chain(*rules: str) -> str:
    """As iptables -S shows it."""
    return "\n".join(["-N DOCKER-USER", *(f"-A DOCKER-USER {rule}" for rule in rules)])


OURS, ALSO_OURS = "-i vxlanu_gw -o eth0 -m comment --comment vxlanu -j ACCEPT", docker_user.wanted([])[0]
THEIRS = '-s 10.0.0.1/32 -m comment --comment "about vxlanu" -j DROP'
BROKEN = '-m comment --comment "it\'s mine -j DROP'


@pytest.mark.parametrize(
    ("before", "place"),
    [
        ((), 1),
        (("-j RETURN",), 1),
        ((THEIRS, BROKEN, "-j RETURN"), 3),
        ((THEIRS, "-j DROP"), 3),
    ],
)
def test_rules_beside_dockers_come_after_the_administrators_and_before_the_chains_end(
    before: tuple[str, ...], place: int
) -> None:
    added = docker_user.changes(chain(*before), [OURS, ALSO_OURS])
    lines = [f"-I DOCKER-USER {place} {OURS}", f"-I DOCKER-USER {place + 1} {ALSO_OURS}"]
    assert added.splitlines() == ["*filter", *lines, "COMMIT"]
    after = (*before[: place - 1], OURS, ALSO_OURS, *before[place - 1 :])
    assert docker_user.changes(chain(*after), [OURS, ALSO_OURS]) == ""
    removed = docker_user.changes(chain(*after), []).splitlines()
    assert removed == ["*filter", f"-D DOCKER-USER {OURS}", f"-D DOCKER-USER {ALSO_OURS}", "COMMIT"]
    assert docker_user.changes(chain(*before), []) == "", "others' rules are none of ours"


def test_rules_beside_dockers_are_mended_when_one_is_twice_missing_or_behind() -> None:
    for wrong in ((OURS, OURS, "-j RETURN"), (OURS, "-j RETURN", ALSO_OURS), (ALSO_OURS, OURS), (OURS, THEIRS)):
        commands = docker_user.changes(chain(*wrong), [OURS, ALSO_OURS]).splitlines()
        ours = [rule for rule in wrong if rule != THEIRS and rule != "-j RETURN"]
        assert commands[1 : 1 + len(ours)] == [f"-D DOCKER-USER {rule}" for rule in ours]
        assert len(commands) == len(ours) + 4


def test_only_interfaces_that_mean_themselves_get_a_rule() -> None:
    """`eth+` is every interface whose name begins with eth."""
    rules = docker_user.wanted(["eth0", "eth+", "br-lan.5", '"', "-x", "!"])
    assert [rule.split()[3] for rule in rules if rule.startswith("-i vxlanu_gw")] == ["br-lan.5", "eth0"]


GOLDEN = Path(__file__).parent / "golden" / "Status.json"
STATUS = msgspec.json.decode(GOLDEN.read_bytes(), type=Status)


def forwarding_said(*chains: Chain, since: float | None, ip_forward: int = 1, stands: bool = True) -> list[Finding]:
    status = msgspec.structs.replace(STATUS, ip_forward_since_unix=since)
    networks = (BRIDGE,) if stands else ()
    host = Host(ip_forward=ip_forward)
    return list(forwarding(Facts(host=host, status=status, networks=networks, firewall=Firewall(chains))))


def test_the_doctor_says_who_made_a_router_of_the_host_and_how_to_undo_it() -> None:
    assert forwarding_said(since=None, stands=False) == [], "not ours, not needed"
    assert forwarding_said(since=86400.0, ip_forward=0) == [], "off again"
    [before] = forwarding_said(since=None)
    assert before.state == "ok" and "was before" in before.what
    for stands in (True, False):
        [ours] = forwarding_said(since=86400.0, stands=stands)
        assert ours.state == "ok" and "by this agent since 1970-01-02 00:00:00 UTC" in ours.what
        assert "sysctl -w net.ipv4.ip_forward=0" in ours.try_


def test_the_doctor_warns_where_docker_left_its_policy_open_because_of_us() -> None:
    user = Chain("nft", "ip", "filter", "DOCKER-USER")
    for policy, state in (("accept", "warn"), ("drop", "ok")):
        base = Chain("nft", "ip", "filter", "FORWARD", (), "forward", policy)
        [said] = forwarding_said(user, base, since=86400.0)
        assert said.state == state
        [said] = forwarding_said(user, base, since=None)
        assert said.state == "ok", "then it is Docker's own, or the administrator's"
        [said] = forwarding_said(base, since=86400.0)
        assert said.state == "ok", "no Docker"
