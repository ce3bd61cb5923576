"""Firewall rules from `iptables-save` and its siblings (legacy, nft, ip6), as the chains of firewall.py.

nft prints rules that iptables-nft made, but hides what their extensions match; iptables-save prints those. Of legacy
rules nft knows nothing at all.

Rules of this file
  1. Pure. An option that is not in the tables below makes its rule's match unknown; so does a line that cannot be
     read at all.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from vxlanu.doctor.firewall import ACCEPT, DROP, UNKNOWN, Chain, Condition, Rule, Value

__all__ = ["read_save"]

TABLES = {"filter", "raw", "mangle"}
HOOKS = {name.upper(): name for name in ("prerouting", "input", "forward", "output", "postrouting")}
VERDICTS = {"ACCEPT": ACCEPT, "DROP": DROP, "REJECT": DROP, "RETURN": "return"}
GO_ON = {"LOG", "NFLOG", "CT", "NOTRACK", "MARK", "CONNMARK", "TRACE", "TCPMSS", "DSCP", "AUDIT"}
FIELDS = {
    "-p": "protocol",
    "-s": "saddr",
    "-i": "iif",
    "-o": "oif",
    "--dport": "dport",
    "--dports": "dport",
    "--ctstate": "state",
    "--state": "state",
}
SILENT = {"-m": 1, "--comment": 1, "--reject-with": 1, "--log-prefix": 1, "--log-level": 1, "--notrack": 0}


def read_save(text: str, tool: str, family: str) -> list[Chain]:
    """The chains of the tables that filter. `family`: ip or ip6."""
    chains: list[Chain] = []
    policies: dict[str, str] = {}
    rules: dict[str, list[Rule]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table, policies, rules = line[1:].strip(), {}, {}
        elif line.startswith(":"):
            name, policy, *_ = [*line[1:].split(), "", ""]
            policies[name] = policy
        elif line.startswith("-A "):
            name, *words = _words(line)
            rules.setdefault(name, []).append(_rule(words))
        elif line.strip() == "COMMIT" and table in TABLES:
            for name, policy in policies.items():
                hook = HOOKS.get(name, "") if policy != "-" else ""
                verdict = VERDICTS.get(policy, ACCEPT)
                chains.append(Chain(tool, family, table, name, tuple(rules.get(name, ())), hook, verdict))
    return chains


def _words(line: str) -> list[str]:
    """Chain and words of `-A CHAIN ...`; where its quotes do not match, a rule that may drop."""
    try:
        return shlex.split(line)[1:] or [""]
    except ValueError:
        return [line.split()[1], "--unreadable", "-j", "DROP"]


def _rule(words: list[str]) -> Rule:
    conditions: list[Condition] = []
    verdict, target = "", ""
    rest = iter(words)
    negated = False
    for word in rest:
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            verdict, target = _target(next(rest, ""), word)
        elif word in FIELDS:
            conditions += _condition(word, next(rest, ""), negated)
        elif word in SILENT:
            for _ in range(SILENT[word]):
                next(rest, "")
        elif word.startswith("-"):
            conditions.append(UNKNOWN)
        negated = False
    return Rule(tuple(conditions), verdict, target)


def _target(name: str, by: str) -> tuple[str, str]:
    if name in VERDICTS:
        return VERDICTS[name], ""
    if name in GO_ON:
        return "", ""
    return ("goto" if by == "-g" else "jump"), name


def _condition(option: str, text: str, negated: bool) -> Iterator[Condition]:
    field = FIELDS[option]
    if field == "protocol" and text == "all":
        return
    if field == "dport":
        yield Condition(field, tuple(_ports(text)), negated)
    elif field == "state":
        yield Condition(field, tuple(state.lower() for state in text.split(",")), negated)
    elif field in ("iif", "oif"):
        yield Condition(field, (text[:-1] + "*" if text.endswith("+") else text,), negated)
    else:
        yield Condition(field, (text,), negated)


def _ports(text: str) -> Iterator[Value]:
    """4789 · 1024:65535 · 22,4789,7000:8000."""
    for part in text.split(","):
        low, colon, high = part.partition(":")
        if colon and (low + high).isdigit():
            yield int(low or 0), int(high or 65535)
        else:
            yield int(part) if part.isdigit() else "@"
