"""Firewall rules as values, and what they do to a packet. `read_nft` makes them of `nft -j list ruleset`.

How it works
  A condition on something that a packet shows is true or false; on anything else (a rate, a mark, an address set that
  is not listed) it is unknown. Chains are walked as netfilter walks them. A rule that may or may not match leaves a
  doubt, and a verdict that a doubt could have changed is UNCLEAR.

Rules of this file
  1. Pure. What is not understood is a doubt, never a verdict: a wrong "it drops" sends people the wrong way.
  2. Hooks that see packets to or from this host's own sockets count, of type filter; nat, bridge and netdev do not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = [
    "ACCEPT",
    "DROP",
    "INWARD",
    "OUTWARD",
    "UNCLEAR",
    "Chain",
    "Condition",
    "Outcome",
    "Packet",
    "Rule",
    "Value",
    "judge",
    "read_nft",
]

ACCEPT, DROP, UNCLEAR, RETURN = "accept", "drop", "unclear", "return"
INWARD, OUTWARD = ("prerouting", "input"), ("output", "postrouting")
VERSIONS = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}
JUMPS_MAX = 32  # netfilter's own limit is 16 in nft; legacy rules cannot loop

Value = str | int | tuple[int, int]


@dataclass(frozen=True)
class Packet:
    """The first packet of a flow. An empty field is not known."""

    protocol: str
    port: int
    version: int = 4
    source: str = ""
    interface_in: str = ""
    interface_out: str = ""

    def field(self, name: str) -> Value | None:
        """What it shows; None when that is not known."""
        shown: dict[str, Value] = {
            "protocol": self.protocol,
            "dport": self.port,
            "saddr": self.source,
            "iif": self.interface_in,
            "oif": self.interface_out,
            "state": "new",
            "family": {4: "ipv4", 6: "ipv6"}[self.version],
        }
        return shown.get(name) or None


@dataclass(frozen=True)
class Condition:
    """`field` is one of `values`, or (`negated`) none of them. A field that packets do not show is unknown."""

    field: str
    values: tuple[Value, ...] = ()
    negated: bool = False

    def holds(self, packet: Packet) -> bool | None:
        shown = packet.field(self.field)
        if shown is None:
            loopback = self.field in ("iif", "oif") and set(self.values) == {"lo"}
            return self.negated if loopback else None  # whichever it is: other hosts are not behind lo
        found = [_is(shown, value, self.field) for value in self.values]
        answer = True if True in found else None if None in found else False
        return answer if answer is None or not self.negated else not answer


def _is(shown: Value, value: Value, field: str) -> bool | None:
    if isinstance(value, tuple):
        return isinstance(shown, int) and value[0] <= shown <= value[1]
    if isinstance(value, str) and value.startswith("@"):
        return None
    if field == "saddr":
        return _within(str(shown), str(value))
    if field in ("iif", "oif"):
        return fnmatchcase(str(shown), str(value).replace("[", "?"))
    return str(shown) == str(value)


def _within(address: str, network: str) -> bool | None:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return None


@dataclass(frozen=True)
class Rule:
    """All conditions, then a verdict: accept, drop, return, jump or goto (with a target), or nothing."""

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""

    def matches(self, packet: Packet) -> bool | None:
        found = [condition.holds(packet) for condition in self.conditions]
        return False if False in found else None if None in found else True


@dataclass(frozen=True)
class Chain:
    """One chain. `tool` is the program that manages it; a hook makes it a base chain."""

    tool: str
    family: str
    table: str
    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    policy: str = ACCEPT

    @property
    def place(self) -> str:
        return f"{self.family} {self.table} {self.name}"


@dataclass(frozen=True)
class Outcome:
    """What becomes of a packet, and in which base chain that was decided."""

    verdict: str
    chain: Chain | None = None


def judge(chains: Iterable[Chain], packet: Packet, hooks: tuple[str, ...]) -> Outcome:
    """What all base chains at these hooks together do to a packet: each must let it pass."""
    known = list(chains)
    doubtful: Outcome | None = None
    for base in known:
        if base.hook not in hooks or packet.version not in VERSIONS.get(base.family, ()):
            continue
        tables = {it.name: it for it in known if (it.tool, it.family, it.table) == (base.tool, base.family, base.table)}
        verdict = _Walk(tables, packet).base(base)
        if verdict == DROP:
            return Outcome(DROP, base)
        if verdict == UNCLEAR:
            doubtful = doubtful or Outcome(UNCLEAR, base)
    return doubtful or Outcome(ACCEPT)


class _Walk:
    """One packet's way through one table. `doubts`: verdicts that rules might have given which may not match."""

    def __init__(self, chains: Mapping[str, Chain], packet: Packet) -> None:
        self._chains = chains
        self._packet = packet
        self._doubts: set[str] = set()

    def base(self, chain: Chain) -> str:
        verdict = self._chain(chain, 0)
        return self._certain(chain.policy if verdict == RETURN else verdict)

    def _certain(self, verdict: str) -> str:
        return verdict if self._doubts <= {verdict} else UNCLEAR

    def _chain(self, chain: Chain, depth: int) -> str:
        for rule in chain.rules:
            matches = rule.matches(self._packet)
            if matches is False or not rule.verdict:
                continue
            verdict = self._verdict(rule, matches, depth)
            if verdict:
                return verdict
        return RETURN

    def _verdict(self, rule: Rule, matches: bool | None, depth: int) -> str:
        """What the rule decides; empty: the next rule's turn."""
        verdict = rule.verdict
        if verdict in ("jump", "goto"):
            target = self._chains.get(rule.target)
            if target is None or depth >= JUMPS_MAX:
                self._doubts |= {ACCEPT, DROP}
                return ""
            verdict = self._chain(target, depth + 1)
            if verdict == RETURN and rule.verdict == "jump":
                return ""
        if matches:
            return verdict if verdict in (ACCEPT, DROP, RETURN) else self._doubt(verdict)
        self._doubt(verdict)
        return ""

    def _doubt(self, verdict: str) -> str:
        self._doubts |= {verdict} if verdict in (ACCEPT, DROP) else {ACCEPT, DROP}
        return ""


# -- nft ---------------------------------------------------------------------------------------------------------------

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
_FIELDS = {"l4proto": "protocol", "nfproto": "family", "iif": "iif", "iifname": "iif", "oif": "oif", "oifname": "oif"}
_PASSED_OVER = {"counter", "log", "mangle", "notrack", "comment"}
_VERDICTS = {"accept": ACCEPT, "drop": DROP, "reject": DROP, "return": RETURN, "jump": "jump", "goto": "goto"}
UNKNOWN = Condition("unknown")


def read_nft(ruleset: Mapping[str, Json]) -> list[Chain]:
    """The chains in the JSON of nft; those of iptables-nft with their extensions unknown (field `unknown`)."""
    listed = [item for item in _list(ruleset.get("nftables")) if isinstance(item, dict)]
    sets = {_key(it, "name"): _values(it.get("elem")) for it in _each(listed, "set")}
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    for item in _each(listed, "rule"):
        rules.setdefault(_key(item, "chain"), []).extend(_rules(item, sets))
    return [
        Chain(
            tool="nft",
            family=str(item.get("family")),
            table=str(item.get("table")),
            name=str(item.get("name")),
            rules=tuple(rules.get(_key(item, "name"), ())),
            hook=str(item.get("hook", "")) if item.get("type") == "filter" else "",
            policy=str(item.get("policy", ACCEPT)),
        )
        for item in _each(listed, "chain")
    ]


def _each(listed: Iterable[dict[str, Json]], kind: str) -> Iterator[dict[str, Json]]:
    for item in listed:
        found = item.get(kind)
        if isinstance(found, dict):
            yield found


def _key(item: Mapping[str, Json], name: str) -> tuple[str, str, str]:
    return str(item.get("family")), str(item.get("table")), str(item.get(name))


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


_Sets = Mapping[tuple[str, str, str], tuple[Value, ...]]


def _rules(item: Mapping[str, Json], sets: _Sets) -> Iterator[Rule]:
    """A rule; a verdict map is a rule for each of its entries."""
    conditions: list[Condition] = []
    for expression in _list(item.get("expr")):
        kind, body = next(iter(expression.items())) if isinstance(expression, dict) and expression else ("", None)
        if kind == "match" and isinstance(body, dict):
            values = _looked_up(body.get("right"), item, sets)
            conditions += _conditions(body.get("left"), values, body.get("op") == "!=")
        elif kind in _VERDICTS:
            target = str(body["target"]) if isinstance(body, dict) and "target" in body else ""
            yield Rule(tuple(conditions), _VERDICTS[kind], target)
        elif kind == "vmap" and isinstance(body, dict):
            yield from _mapped(body, conditions)
        elif kind == "queue":
            yield Rule((*conditions, UNKNOWN), DROP)
        elif kind not in _PASSED_OVER:
            conditions.append(UNKNOWN)


def _mapped(body: Mapping[str, Json], before: list[Condition]) -> Iterator[Rule]:
    data = body.get("data")
    entries = _list(data.get("set")) if isinstance(data, dict) else []
    if not entries:
        yield Rule((*before, UNKNOWN), DROP)
    for entry in entries:
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict) and entry[1]:
            kind, target = next(iter(entry[1].items()))
            said = str(target["target"]) if isinstance(target, dict) and "target" in target else ""
            keyed = _conditions(body.get("key"), _values([entry[0]]), False)
            yield Rule((*before, *keyed), _VERDICTS.get(kind, DROP), said)


def _looked_up(right: Json, item: Mapping[str, Json], sets: _Sets) -> tuple[Value, ...]:
    if isinstance(right, str) and right.startswith("@"):
        found = sets.get((str(item.get("family")), str(item.get("table")), right[1:]), ())
        return found or (right,)
    return _values(right)


def _values(right: Json) -> tuple[Value, ...]:
    """What a field is compared with, flattened; something not understood is `@`, which is unknown."""
    match right:
        case {"set": inner}:
            return _values(inner)
        case {"range": [int(low), int(high)]}:
            return ((low, high),)
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return (f"{address}/{length}",)
        case {"elem": {"val": inner}}:
            return _values(inner)
        case [*items]:
            return tuple(value for item in items for value in _values(item))
        case str() | int():
            return (right,)
    return ("@",)


def _conditions(left: Json, values: tuple[Value, ...], negated: bool) -> list[Condition]:
    match left:
        case {"payload": {"protocol": str(protocol), "field": "dport"}}:
            implied = [] if protocol == "th" else [Condition("protocol", (protocol,))]
            return [*implied, Condition("dport", values, negated)]
        case {"payload": {"protocol": "ip", "field": "protocol"}}:
            return [Condition("family", ("ipv4",)), Condition("protocol", values, negated)]
        case {"payload": {"protocol": "ip" | "ip6" as protocol, "field": "saddr"}}:
            family = "ipv4" if protocol == "ip" else "ipv6"
            return [Condition("family", (family,)), Condition("saddr", values, negated)]
        case {"payload": {"protocol": "tcp" | "udp" | "icmp" | "icmpv6" | "sctp" as protocol}}:
            return [Condition("protocol", (protocol,)), UNKNOWN]
        case {"meta": {"key": str(key)}} if key in _FIELDS:
            return [Condition(_FIELDS[key], values, negated)]
        case {"ct": {"key": "state"}}:
            return [Condition("state", values, negated)]
    return [UNKNOWN]
