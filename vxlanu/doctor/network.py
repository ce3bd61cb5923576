"""Findings about ports, firewall, conntrack, paths and members: what `netcheck` prints, and `doctor` too.

Rules of this file
  1. Pure functions of `Facts`, one per check, listed in CHECKS in the order in which they are printed.
  2. What got through proves more than what rules seem to say: a way that a member's packets took is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vxlanu.api.schema import Netcheck, Reach
from vxlanu.doctor.facts import Facts, Holder
from vxlanu.doctor.finding import Finding, fail, ok, skip, warn
from vxlanu.doctor.firewall import ACCEPT, DROP, INWARD, OUTWARD, Chain, Packet, judge

__all__ = ["CHECKS", "findings", "in_the_way", "opening"]

OPEN, SILENT, REFUSED, UNKNOWN = "open", "silent", "refused", "unknown"
DEFAULT_MTU = {4: 1450, 6: 1430}
OVERHEAD = {4: 50, 6: 70}
NEARLY_FULL = 0.9
DEFAULT_NETWORK = "a network of default MTU"

DEVICES = (
    ("flannel", "flannel's"),
    ("cilium", "Cilium's"),
    ("vxlan.calico", "Calico's"),
    ("antrea", "Antrea's"),
    ("weave", "Weave's"),
)
PROGRAMS = {
    "dockerd": ("Docker Swarm's gossip", "docker swarm leave, or --{option} N on every host"),
    "serf": ("Serf's gossip", "stop serf, or --{option} N on every host"),
    "consul": ("Consul's gossip", "another port for one of them: --{option} N on every host"),
    "memberlist": ("memberlist's gossip", "another port for one of them: --{option} N on every host"),
}


def findings(facts: Facts) -> list[Finding]:
    return [finding for check in CHECKS for finding in check(facts)]


# -- ports -------------------------------------------------------------------------------------------------------------


def ports(facts: Facts) -> Iterator[Finding]:
    settings = facts.settings
    yield _port(facts, "data-port", ("udp",), settings.data_port)
    yield _port(facts, "control-port", ("udp", "tcp"), settings.control_port)


def _port(facts: Facts, check: str, protocols: tuple[str, ...], port: int) -> Finding:
    own = facts.status.pid if facts.status else -1
    named = f"{' and '.join(it.upper() for it in protocols)} {port}"
    others = [it for it in facts.holders if it.port == port and it.protocol in protocols and it.pid != own]
    if facts.status is not None:
        return ok(check, f"{named}, held by the agent")
    found = in_the_way(others, check, facts.settings.address)
    if found is None:
        return ok(check, f"{named} free")
    held, what, hint = found
    return fail(check, f"{held} {port} is held by {what}", "the agent cannot start beside it", hint)


def in_the_way(holders: list[Holder], check: str, address: str) -> tuple[str, str, str] | None:
    """Protocols, the first holder and how to part the two, or None: who is on another address of this host does not
    hinder us. `check` is data-port or control-port, as the option is called."""
    hindering = [it for it in holders if it.address in ("", "0.0.0.0", "::", address) or not address]
    if not hindering:
        return None
    held = " and ".join(dict.fromkeys(it.protocol.upper() for it in hindering))
    return held, *_who(hindering[0], check)


def _who(holder: Holder, check: str) -> tuple[str, str]:
    """The holder's name with its owner, and how to part the two."""
    apart = f"--{check} N on every host"
    if holder.kind == "process":
        whose, hint = PROGRAMS.get(holder.name, ("", f"stop it, or {apart}"))
        pid = f"pid {holder.pid}" if holder.pid else "run it as root to see which"
        shown = f"{holder.name} ({pid}{', ' + whose if whose else ''})"
        return shown, hint.format(option=check)
    if holder.kind == "vxlan":
        shown = f"the kernel vxlan device {holder.name}"
        if holder.namespace:
            swarm = "docker" in holder.namespace
            shown += f" in {holder.namespace}" + (", Docker Swarm's overlay" if swarm else "")
            moved = "docker swarm init --data-path-port 7789 when the swarm is made anew"
            return shown, f"{moved}, or {apart}" if swarm else f"ip link del {holder.name} there, or {apart}"
        whose = next((whose for prefix, whose in DEVICES if holder.name.startswith(prefix)), "")
        return f"{shown}{', ' + whose if whose else ''}", apart if whose else f"ip link del {holder.name}, or {apart}"
    shown = "a socket of the kernel (a vxlan device in another namespace, as Docker Swarm's overlay makes it)"
    return shown, f"run it as root to see whose, or {apart}"


# -- firewall ----------------------------------------------------------------------------------------------------------


def firewall(facts: Facts) -> Iterator[Finding]:
    settings = facts.settings
    if facts.firewall.unread and not facts.firewall.chains:
        missing = "is not installed" in facts.firewall.unread
        hint = "apt-get install nftables, or your system's package of nft" if missing else "run it as root"
        yield skip("firewall", "the rules cannot be read", facts.firewall.unread, hint)
        return
    open_ways = []
    for protocol, port in (("udp", settings.data_port), ("udp", settings.control_port), ("tcp", settings.control_port)):
        found = _firewalled(facts, protocol, port, INWARD) or _firewalled(facts, protocol, port, OUTWARD)
        if found:
            yield found
        else:
            open_ways.append(f"{protocol.upper()} {port}")
    if open_ways:
        told = f" ({facts.firewall.unread})" if facts.firewall.unread else ""
        yield ok("firewall", f"passes {', '.join(open_ways)}{told}")


def _firewalled(facts: Facts, protocol: str, port: int, hooks: tuple[str, ...]) -> Finding | None:
    """What the rules have against a port in one direction; None for nothing."""
    settings, inward = facts.settings, hooks is INWARD
    ifname = settings.ifname
    packet = Packet(
        protocol,
        port,
        version=6 if ":" in settings.address else 4,
        interface_in=ifname if inward else "",
        interface_out="" if inward else ifname,
    )
    outcome = judge(facts.firewall.chains, packet, hooks)
    chain = outcome.chain
    if outcome.verdict == ACCEPT or chain is None or _got_through(facts.netcheck, protocol, port, inward):
        return None
    way = f"{protocol.upper()} {port} {'from' if inward else 'to'} other hosts"
    where = f"{chain.tool} chain {chain.place}"
    command = opening(facts.firewall.front_end, chain, protocol, port)
    if outcome.verdict == DROP:
        return fail("firewall", f"seems to drop {way}", where, command)
    why = f"{where} has rules whose match cannot be told from here"
    return skip("firewall", f"may drop {way}", why, f"vxlanu netcheck shows what arrives; to open it: {command}")


def _got_through(found: Netcheck | None, protocol: str, port: int, inward: bool) -> bool:
    if found is None:
        return False
    data = protocol == "udp" and port == found.data_port
    name = "data" if data else f"control_{protocol}"
    return any(getattr(it, f"{name}_{'in' if inward else 'out'}") == OPEN for it in found.members)


def opening(front_end: str, chain: Chain | None, protocol: str, port: int) -> str:
    """The command that opens a port, in the words of whoever manages the rules."""
    if front_end == "firewalld":
        return f"firewall-cmd --permanent --add-port={port}/{protocol} && firewall-cmd --reload"
    if front_end == "ufw":
        return f"ufw allow {port}/{protocol}"
    if chain is None:
        return f"open {protocol.upper()} {port} in the firewall between them (cloud: security group)"
    if chain.tool == "nft":
        return f"nft insert rule {chain.place} {protocol} dport {port} accept"
    return f"{chain.tool} -t {chain.table} -I {chain.name} -p {protocol} --dport {port} -j ACCEPT"


def conntrack(facts: Facts) -> Iterator[Finding]:
    found, port = facts.conntrack, facts.settings.data_port
    if found is None:
        yield skip("conntrack", "its table cannot be read", "neither /proc/net/nf_conntrack nor conntrack(8) says it")
        return
    rules = " ".join(
        f"chain {name} {{ type filter hook {hook} priority raw; udp dport {port} notrack; }};"
        for name, hook in (("in", "prerouting"), ("out", "output"))
    )
    command = f"nft 'table inet vxlanu_notrack {{ {rules} }}'"
    full = found.maximum and found.count >= NEARLY_FULL * found.maximum
    if full:
        why = f"{found.count} of {found.maximum}: when it is full, new flows are dropped, of this overlay too"
        hint = f"sysctl -w net.netfilter.nf_conntrack_max={2 * found.maximum}; and {command}"
        yield warn("conntrack", "the table is nearly full", why, hint)
    elif found.data_port_flows:
        flows = f"{found.data_port_flows} of its {found.count} entries"
        yield ok("conntrack", f"tracks UDP {port}, {flows}; there is room for {found.maximum}")
    else:
        yield ok("conntrack", f"does not track UDP {port}")


# -- paths and members -------------------------------------------------------------------------------------------------


def mtu(facts: Facts) -> Iterator[Finding]:
    settings, found = facts.settings, facts.netcheck
    version = 6 if ":" in settings.address else 4
    needed = found.needed_bytes if found else DEFAULT_MTU[version] + OVERHEAD[version]
    network = f"network {found.needed_by}" if found and found.needed_by else DEFAULT_NETWORK
    if settings.link_mtu is None:
        yield skip("mtu", "the interface to the other hosts is not known", "no default route and no --advertise")
    elif settings.link_mtu < needed:
        yield _narrow(f"{settings.ifname} takes {settings.link_mtu} bytes", network, needed, settings.link_mtu, version)
    else:
        yield ok("mtu", f"{settings.ifname} takes {settings.link_mtu} bytes, {network} needs {needed}")
    for member in found.members if found else ():
        if member.route_mtu and member.route_mtu < min(needed, settings.link_mtu or needed):
            what = f"the route to {member.name} takes {member.route_mtu} bytes"
            yield _narrow(what, network, needed, member.route_mtu, version)


def _narrow(what: str, network: str, needed: int, width: int, version: int) -> Finding:
    """A default network may never be made here; one that is here hurts now."""
    found = fail if network != DEFAULT_NETWORK else warn
    why = f"{network} makes packets of {needed}: what is larger is fragmented or refused with ICMP, slower at best"
    inner = width - OVERHEAD[version]
    return found("mtu", what, why, f"an MTU of {needed} on that link or route, or a network with --mtu {inner}")


def members(facts: Facts) -> Iterator[Finding]:
    found = facts.netcheck
    if found is None:
        why = facts.netcheck_error or "only an agent can ask the other hosts"
        yield skip("reach", "members were not asked", why, "" if facts.netcheck_error else "vxlanu agent")
        return
    if not found.members:
        yield skip("reach", "no other member to ask", "this host is alone", "vxlanu member join HOST")
    for member in found.members:
        shut = list(_ways(facts, found, member))
        if not shut:
            ways = f"UDP {member.data_port}, UDP and TCP {member.control_port} both ways"
            yield ok("reach", f"{member.name}: {ways}, packets of up to {_longest(member)} bytes")
        yield from shut
        yield from _path(found, member)


def _longest(m: Reach) -> int:
    return min(m.data_out_bytes, m.data_in_bytes)


def _ways(facts: Facts, found: Netcheck, m: Reach) -> Iterator[Finding]:
    if m.answered or UNKNOWN not in (m.control_udp_out, m.control_udp_in):
        yield from _way(facts, m, "UDP", found.control_port, m.control_port, m.control_udp_out, m.control_udp_in)
        yield from _way(facts, m, "TCP", found.control_port, m.control_port, m.control_tcp_out, m.control_tcp_in)
    else:
        yield _mute(m)
    if m.data_port:
        yield from _way(facts, m, "UDP", found.data_port, m.data_port, m.data_out, m.data_in)


def _mute(m: Reach) -> Finding:
    """It answered neither by datagram nor by stream."""
    if m.control_tcp_out == OPEN:
        why = (
            "a stream to it opens, but no answer came on it or by datagram: it is busy, or too old to know the question"
        )
        return skip(
            "reach",
            f"{m.name} ({m.version or 'of unknown version'}) gives no answer",
            why,
            "the same version on every host",
        )
    tried = f"UDP and TCP {m.control_port} of {m.address} were tried; a stream is {m.control_tcp_out}"
    hint = f"on {m.name}: systemctl status vxlanu, vxlanu doctor; open UDP and TCP {m.control_port} on the way"
    return fail("reach", f"{m.name} does not answer on the control port", tried, hint)


def _way(facts: Facts, m: Reach, protocol: str, own: int, theirs: int, out: str, back: str) -> Iterator[Finding]:
    """One port, both directions."""
    if out not in (OPEN, UNKNOWN):
        what = f"{m.name}: {protocol} {theirs} from here does not arrive there"
        there = opening("", None, protocol.lower(), theirs)
        hint = f"on {m.name}: vxlanu doctor, which names the rule; else {there}"
        yield fail("reach", what, _how(out, "sent here, not seen there"), hint)
    if back not in (OPEN, UNKNOWN):
        what = f"{m.name}: {protocol} {own} from there does not arrive here"
        hint = f"the firewall finding of this host if there is one; else {opening('', None, protocol.lower(), own)}"
        yield fail("reach", what, _how(back, "sent there, not seen here"), hint)
    if UNKNOWN in (out, back) and m.answered:
        yield skip("reach", f"{m.name}: {protocol} {theirs} could not be tried", "nothing was observed")
    elif out == back == UNKNOWN:
        why = "it could not be asked what arrives, and returned no probe: closed, or no agent there"
        yield skip(
            "reach", f"{m.name}: {protocol} {theirs} is not known", why, "make it answer on the control port first"
        )


def _how(way: str, silent: str) -> str:
    if way == SILENT:
        return silent
    return "refused: nobody listens there, or a firewall rejects" if way == REFUSED else f"the kernel says: {way}"


def _path(found: Netcheck, m: Reach) -> Iterator[Finding]:
    """Whether packets as long as needed got through, where any did and we know how long they were."""
    network = f"network {found.needed_by}" if found.needed_by else DEFAULT_NETWORK
    overhead = OVERHEAD[6 if ":" in m.data_address else 4]
    least = min(found.needed_bytes, m.route_mtu or found.needed_bytes)  # a narrow route of our own is said by `mtu`
    for way, length in (("to", m.data_out_bytes), ("from", m.data_in_bytes)):
        if 0 < length < least:
            what = f"{m.name}: packets {way} it of more than {length} bytes are lost"
            why = f"{network} makes packets of {found.needed_bytes}: short ones pass, long ones vanish (TLS hangs)"
            hint = f"an MTU of {found.needed_bytes} along the path, or a network with --mtu {length - overhead}"
            yield fail("path-mtu", what, why, hint)


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (ports, firewall, conntrack, mtu, members)
