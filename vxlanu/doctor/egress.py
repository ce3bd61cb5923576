"""Findings about containers' way to the outside: whether there is one, and what of the host's firewall stops it.

Rules of this file
  1. Pure functions of `Facts`. `stopper` is also what the agent asks, once a bridge stands.
  2. Only what surely drops is a failure: rules that cannot be read on are the administrator's to know.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from vxlanu.api.schema import Network
from vxlanu.doctor.facts import Facts
from vxlanu.doctor.finding import OK, Finding, fail, ok, warn
from vxlanu.doctor.firewall import ACCEPT, DROP, Chain, Packet, judge

__all__ = ["egress", "forwarding", "stopper"]

CHECK, FORWARDING = "egress", "ip-forward"
DOCKER_USER = "DOCKER-USER"
OWN_TABLE = ("inet", "vxlanu")
NO_WAY_OUT = "containers get no way out"
HINTS = {
    "nft is not installed": "apt-get install nftables",
    "another agent": 'one agent for each network namespace; gateway-subnet = "none" where that is meant',
}


def egress(facts: Facts) -> Iterator[Finding]:
    if facts.status is None:
        return
    bridge = next((it for it in facts.networks if it.scope == "local"), None)
    said = next((line for line in facts.status.warnings if line.startswith(NO_WAY_OUT)), "")
    if said:
        hint = next((hint for part, hint in HINTS.items() if part in said), "vxlanu help egress")
        yield warn(CHECK, NO_WAY_OUT, said.partition(": ")[2], hint)
    if bridge is None:
        return
    chain = stopper(facts.firewall.chains, bridge, facts.settings.ifname)
    if chain is None:
        yield ok(CHECK, f"{bridge.endpoints} on {bridge.name}, {bridge.subnets[0]}")
        return
    why = f"{bridge.name} forwards by it; no table of ours can let pass what another drops"
    yield fail(CHECK, f"{chain.place} drops what containers send out", why, _opening(facts, chain, bridge.name))


def forwarding(facts: Facts) -> Iterator[Finding]:
    """Who made a router of this host, and how it is none again."""
    since = facts.status.ip_forward_since_unix if facts.status else None
    stands = any(it.scope == "local" for it in facts.networks)
    if facts.host.ip_forward != 1 or not (since or stands):
        return
    if since is None:
        yield ok(FORWARDING, "net.ipv4.ip_forward is on, and was before the agent needed it")
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(since))
    what = f"net.ipv4.ip_forward is on, by this agent since {when} UTC"
    why = "this host forwards for whoever sends it packets; the agent leaves it on, since others may rely on it"
    undo = "sysctl -w net.ipv4.ip_forward=0, once no container here has a way out"
    if any(_is_left_open(it) for it in _docker(facts)):
        why = "Docker sets the policy of FORWARD to drop only where it switches this on itself: its networks are open"
        yield warn(FORWARDING, what, why, "iptables -P FORWARD DROP")
    else:
        yield Finding(FORWARDING, OK, what, why, f"{undo} (containers need it now)" if stands else undo)


def _docker(facts: Facts) -> Iterator[Chain]:
    """FORWARD in each table that has Docker's chain."""
    tables = {(it.tool, it.family, it.table) for it in facts.firewall.chains if it.name == DOCKER_USER}
    return (it for it in facts.firewall.chains if it.hook == "forward" and (it.tool, it.family, it.table) in tables)


def _is_left_open(chain: Chain) -> bool:
    return chain.family == "ip" and chain.policy == ACCEPT


def stopper(chains: Iterable[Chain], bridge: Network, out: str) -> Chain | None:
    """The chain of somebody else's that drops a container's first packet to the outside."""
    others = [it for it in chains if (it.family, it.table) != OWN_TABLE]
    source = bridge.subnets[0].partition("/")[0]
    packet = Packet("tcp", 443, source=source, interface_in=bridge.name, interface_out=out)
    outcome = judge(others, packet, ("forward",))
    return outcome.chain if outcome.verdict == DROP else None


def _opening(facts: Facts, chain: Chain, name: str) -> str:
    """Both ways, in the words of whoever manages the rules."""
    if docker := _beside_docker(facts, chain, name):
        return docker
    if facts.firewall.front_end == "firewalld":
        return f"firewall-cmd --permanent --zone=trusted --add-interface={name} && firewall-cmd --reload"
    if facts.firewall.front_end == "ufw":
        return f"ufw route allow in on {name} && ufw route allow out on {name}"
    if chain.tool == "nft":
        insert = f"nft insert rule {chain.place}"
        return f"{insert} iifname {name} accept; {insert} oifname {name} accept"
    return f"iptables -I {chain.name} -i {name} -j ACCEPT; iptables -I {chain.name} -o {name} -j ACCEPT"


def _beside_docker(facts: Facts, chain: Chain, name: str) -> str:
    """Where Docker has its chain for others, rules of ours are in it, unless the agent's log says why not."""
    if not any(it.name == DOCKER_USER and it.family == chain.family for it in facts.firewall.chains):
        return ""
    return f"iptables -S FORWARD; iptables -S {DOCKER_USER}: what drops it before the rules for {name} are reached"
