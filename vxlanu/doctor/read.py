"""Readers: what the kernel, files and tools say about this host, put into `Facts`.

Rules of this file
  1. Nothing is changed: no module is loaded, no rule touched. (TAPs are tried in a child, in a namespace of its own.)
  2. A reader that may not look says so in its fact; none raises.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from vxlanu.config import AgentConfig, load
from vxlanu.doctor import ports
from vxlanu.doctor.facts import Clock, Conntrack, Facts, File, Firewall, Host, PluginSocket, Settings, Tun
from vxlanu.doctor.firewall import UNKNOWN, Chain, Json, read_nft
from vxlanu.doctor.iptables import read_save
from vxlanu.doctor.tools import listed, run, run_json
from vxlanu.errors import VxlanuError

__all__ = [
    "agent_process", "file", "firewall", "place_of", "plugin_socket", "read_host", "read_network",
    "settings_without_agent",
]  # fmt: skip

TUN = "/dev/net/tun"
LEGACY_NAMES = {"iptables": "ip_tables_names", "ip6tables": "ip6_tables_names"}
CAPABILITIES = {  # linux/capability.h
    "chown": 0,
    "dac_override": 1,
    "dac_read_search": 2,
    "net_bind_service": 10,
    "net_admin": 12,
    "net_raw": 13,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "sys_nice": 23,
}
TIME_ERROR, STA_UNSYNC = 5, 0x40  # linux/timex.h
TIMEX = struct.Struct("=I4xqqqqi164x")  # modes, offset, freq, maxerror, esterror, status; 208 bytes, all written to
FAR_AWAY = {4: "192.0.2.1", 6: "2001:db8::1"}  # documentation prefixes: only a default route leads there


# -- settings ----------------------------------------------------------------------------------------------------------


def settings_without_agent(environ: Mapping[str, str]) -> tuple[AgentConfig, str]:
    """What an agent started now would run with, and what is wrong with that."""
    try:
        return load({}, environ, uid=os.getuid()), ""
    except VxlanuError as error:
        return AgentConfig(name="?", state_dir="/var/lib/vxlanu", socket="?"), f"{error.what}: {error.why}"


def place_of(wanted: str) -> tuple[str, str, int | None]:
    """Address, interface and its MTU: of an address or interface given, else of the default route."""
    addresses, _ = run_json(["ip", "-json", "addr"])
    links = list(listed(addresses))
    for link in links:
        name, own = str(link.get("ifname")), [str(it.get("local")) for it in listed(link.get("addr_info"))]
        if wanted and wanted in (name, *own):
            return (wanted if wanted in own else (own or [""])[0]), name, _number(link.get("mtu"))
    for version in (4, 6):
        routes, _ = run_json(["ip", "-json", f"-{version}", "route", "get", FAR_AWAY[version]])
        for route in listed(routes):
            found = [link for link in links if link.get("ifname") == route.get("dev")]
            if found and not wanted:
                return str(route.get("prefsrc", "")), str(route.get("dev")), _number(found[0].get("mtu"))
    return wanted, "", None


def _number(value: Json) -> int | None:
    return value if isinstance(value, int) else None


# -- the host ----------------------------------------------------------------------------------------------------------


def read_host(agent_pid: int | None, try_taps: bool) -> Facts:
    """The part of `Facts` that host.py judges, but for agent, key and state directory."""
    return Facts(host=_host(agent_pid), tun=_tun(try_taps), clock=_clock())


def _host(agent_pid: int | None) -> Host:
    release = platform.release()
    digits = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    version = (int(digits[1]), int(digits[2]), int(digits[3] or 0)) if digits else (0, 0, 0)
    capabilities, whose = _capabilities(agent_pid) if agent_pid else None, "the agent"
    if capabilities is None:
        capabilities, whose = _capabilities(None) or frozenset(), "this command"
    return Host(
        kernel=version,
        release=release,
        uid=os.geteuid(),
        capabilities=capabilities,
        whose=whose,
        rmem_max=_sysctl("net/core/rmem_max"),
        max_user_namespaces=_sysctl("user/max_user_namespaces"),
        unprivileged_userns_clone=_sysctl("kernel/unprivileged_userns_clone"),
        apparmor_restricts_userns=_sysctl("kernel/apparmor_restrict_unprivileged_userns"),
        ip_forward=_sysctl("net/ipv4/ip_forward"),
        neighbors=_neighbors(),
        neighbors_max=_sysctl("net/ipv4/neigh/default/gc_thresh3"),
    )


def _capabilities(pid: int | None) -> frozenset[str] | None:
    """CapEff of a process, ours for None; None when it cannot be seen."""
    try:
        status = Path("/proc", str(pid or "self"), "status").read_text()
    except OSError:
        return None
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return frozenset(name for name, bit in CAPABILITIES.items() if effective >> bit & 1)


def _neighbors() -> int | None:
    """Entries of the kernel's ARP table, which all namespaces share: the first column, the same in every row."""
    try:
        lines = Path("/proc/net/stat/arp_cache").read_text().splitlines()
        return int(lines[1].split()[0], 16)
    except (OSError, ValueError, IndexError):
        return None


def _sysctl(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return None


def file(path: str) -> File:
    """Mode, owner, and whether we may write."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return File(path)
    except OSError as error:
        return File(path, error=error.strerror or str(error))
    return File(path, found.st_mode, found.st_uid, os.access(path, os.W_OK))


def _tun(try_taps: bool) -> Tun:
    found = file(TUN)
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Tun(found, error=error.strerror or str(error))
    if not try_taps:
        return Tun(found)
    from vxlanu.nsopen import NamespaceHelper, wire

    helper = NamespaceHelper.start()
    try:
        return Tun(found, lacking=helper.call_sync(wire.ProbeTap()).lacking)
    except VxlanuError as error:
        return Tun(found, error=f"{error.what}: {error.why}")
    finally:
        helper.close()


def _clock() -> Clock | None:
    """adjtimex(2) with no modes only reads."""
    timex = ctypes.create_string_buffer(TIMEX.size)
    state: int = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if state < 0:
        return None
    _, _, _, error_us, _, status = TIMEX.unpack(timex.raw)
    return Clock(state != TIME_ERROR and not status & STA_UNSYNC, error_us)


def agent_process(path: str) -> int | None:
    """The pid, as it is here, of who listens on the agent's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
            pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return None
    return int(pid) or None


def plugin_socket(path: str, agent: int | None) -> PluginSocket | None:
    """Who answers Docker; None: there is no such socket, or not for us."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(1.0)
            probe.connect(path)
        except ConnectionRefusedError:
            return PluginSocket(path, "nobody")
        except OSError:
            return None
    if agent is not None and agent_process(path) == agent:
        return PluginSocket(path, "agent", agent)
    from vxlanu.runtimes.docker.absence import standing

    pid = standing(Path(path))
    return PluginSocket(path, "somebody else") if pid is None else PluginSocket(path, "stand-in", pid)


# -- the network -------------------------------------------------------------------------------------------------------


def read_network(settings: Settings) -> Facts:
    """The part of `Facts` that network.py judges, but for the members."""
    return Facts(
        settings=settings,
        holders=tuple(ports.holders({settings.data_port, settings.control_port})),
        firewall=firewall(),
        conntrack=_conntrack(settings.data_port),
    )


def firewall() -> Firewall:
    """nft's rules; iptables' where nft cannot read them, and legacy ones where the kernel has any."""
    ruleset, unread = run_json(["nft", "--json", "list", "ruleset"])
    chains = read_nft(ruleset) if isinstance(ruleset, dict) else []
    for family, program in (("ip", "iptables"), ("ip6", "ip6tables")):
        if any(_is_hidden(chain) for chain in chains if chain.family == family):
            text, error = run([f"{program}-nft-save"])
            if not error:
                saved = read_save(text, program, family)
                tables = {chain.table for chain in saved}
                chains = [it for it in chains if it.family != family or it.table not in tables] + saved
        if _legacy_tables(program):
            text, error = run([f"{program}-legacy-save"])
            unread = unread or error
            chains += read_save(text, f"{program}-legacy", family)
    return Firewall(tuple(chains), unread, _front_end(chains))


def _is_hidden(chain: Chain) -> bool:
    """Whether it has a rule that nft could not show whole."""
    return any(UNKNOWN in rule.conditions for rule in chain.rules)


def _legacy_tables(program: str) -> bool:
    """Whether legacy tables exist; asking the program instead would make them."""
    try:
        return bool(Path("/proc/self/net", LEGACY_NAMES[program]).read_text().strip())
    except OSError:
        return False


def _front_end(chains: list[Chain]) -> str:
    if any(chain.table == "firewalld" for chain in chains) or run(["firewall-cmd", "--state"])[0].strip() == "running":
        return "firewalld"
    return "ufw" if any(chain.name.startswith("ufw-") for chain in chains) else ""


def _conntrack(port: int) -> Conntrack | None:
    count, maximum = _sysctl("net/netfilter/nf_conntrack_count"), _sysctl("net/netfilter/nf_conntrack_max")
    if not count:
        return Conntrack(0, 0, maximum or 0)  # nothing is tracked, or the module is not there
    wanted = re.compile(rf"\budp\b.*?\bdport={port}\b")
    try:
        with open("/proc/self/net/nf_conntrack") as table:
            return Conntrack(sum(bool(wanted.search(row)) for row in table), count, maximum or 0)
    except OSError:
        text, error = run(["conntrack", "-L", "-p", "udp"])
        return None if error else Conntrack(len(wanted.findall(text)), count, maximum or 0)
