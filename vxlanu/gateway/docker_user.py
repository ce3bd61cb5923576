"""Our rules in DOCKER-USER, the chain that Docker keeps for others' rules, where a dockerd has made it.

Docker sets the policy of FORWARD to drop, and a table of ours cannot let pass what another drops; a rule in DOCKER-USER
can, since FORWARD goes there first.

Rules of this file
  1. Only rules with our comment are made or removed, and only where the chain is: its maker is Docker.
  2. The administrator's rules come first. Ours are the last before the RETURN that closes the chain, or at its end: a
     drop of theirs stays one.
  3. To accept here is the last word of that table, so it must not open what Docker keeps apart: only what goes out of
     the host, or comes from there to a published port, is let pass. Between bridges Docker's own rules decide. Which
     interfaces lead out says the host (nsopen/egress.py).
  4. All of it changes in one transaction. What the chain should hold is a pure function of what it holds.

Both kinds of iptables are asked: a host that has gone from one to the other may have a dockerd that still uses the
first. Of legacy tables only those that are there: the question alone would make them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from vxlanu.errors import Refused
from vxlanu.gateway import tool
from vxlanu.gateway.rules import BRIDGE

CHAIN = "DOCKER-USER"
COMMENT = "vxlanu"
LEGACY_TABLES = Path("/proc/self/net/ip_tables_names")
WAIT = ("-w", "5")  # seconds for the lock of legacy iptables
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]*")  # an interface's name that means itself in a rule; `+` is any

__all__ = ["DockerUser", "changes", "wanted"]


def wanted(outward: Iterable[str]) -> list[str]:
    """The rules, as iptables -S spells them. `outward`: interfaces that lead out of the host."""
    ours = f"-m comment --comment {COMMENT} -j ACCEPT"
    ways = sorted(name for name in outward if _PLAIN.fullmatch(name))
    return [
        f"-o {BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED {ours}",
        *(f"-i {BRIDGE} -o {name} {ours}" for name in ways),
        *(f"-i {name} -o {BRIDGE} -m conntrack --ctstate DNAT {ours}" for name in ways),
    ]


def changes(listed: str, rules: list[str]) -> str:
    """What makes the chain hold `rules` in their place, for iptables-restore --noflush; empty if it does.

    `listed`: the answer to iptables -S DOCKER-USER.
    """
    now = [line.removeprefix(f"-A {CHAIN} ") for line in listed.splitlines() if line.startswith(f"-A {CHAIN} ")]
    others = [rule for rule in now if not _is_ours(rule)]
    place = others.index("-j RETURN") if "-j RETURN" in others else len(others)
    if now == [*others[:place], *rules, *others[place:]]:
        return ""
    removed = [f"-D {CHAIN} {rule}" for rule in now if _is_ours(rule)]
    added = [f"-I {CHAIN} {number} {rule}" for number, rule in enumerate(rules, place + 1)]
    return "\n".join(("*filter", *removed, *added, "COMMIT", ""))


def _is_ours(rule: str) -> bool:
    """By its comment; a rule whose quotes cannot be read is another's."""
    try:
        words = shlex.split(rule)
    except ValueError:
        return False
    return ("--comment", COMMENT) in pairwise(words)


class DockerUser:
    """The chain, in each kind of iptables that has it."""

    async def keep(self, outward: Iterable[str]) -> list[str]:
        """Our rules are there, where the chain is; says what was not.

        Raises:
            Refused: iptables does not take them.
        """
        changed = await self._apply(wanted(outward))
        return [f"rules put into {CHAIN}"] if changed else []

    async def remove(self) -> None:
        """None of ours is left.

        Raises:
            Refused: iptables does not do it.
        """
        await self._apply([])

    async def _apply(self, rules: list[str]) -> bool:
        """Whether anything was to change."""
        changed = False
        for program in _programs():
            status, listed = await tool.run(program, *WAIT, "-S", CHAIN)
            commands = changes(listed, rules) if status == 0 else ""
            if commands:
                status, said = await tool.run(f"{program}-restore", *WAIT, "--noflush", text=commands)
                if status != 0:
                    raise Refused(f"rules in {CHAIN}", said or f"iptables ended with {status}", name="iptables_failed")
                changed = True
        return changed


def _programs() -> Iterator[str]:
    if modern := tool.find("iptables-nft"):
        yield modern
    try:
        legacy = "filter" in LEGACY_TABLES.read_text().split()
    except OSError:
        legacy = False
    if legacy and (program := tool.find("iptables-legacy") or tool.find("iptables")):
        yield program
