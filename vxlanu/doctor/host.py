"""Findings about the host itself: device, capabilities, kernel, offloads, buffers, clock, key, state.

Rules of this file
  1. Pure functions of `Facts`, one per check, listed in CHECKS in the order in which they are printed.
  2. With an agent, what it uses counts; without one, what it would get.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator

from vxlanu.doctor.facts import Facts, File, Host
from vxlanu.doctor.finding import Finding, fail, ok, skip, warn

__all__ = ["CHECKS", "findings"]

RECEIVE_BYTES = 16 << 20  # native/limits.h: VX_RX_BUFFER
OLDEST = (5, 10, 0)
SEGMENT_BUG = ((7, 0, 0), (7, 1, 5))  # UDP_SEGMENT may corrupt the last segment (native/sock.c: vx_sock_segments)
AGENT = "the agent"
WAIT_LEAST, WAIT_TIMES = 0.2, 4.0
"""CPUs waited for, and how many times those that workers run on: with bulk TCP 1 to 2 times, with 16 containers that
send UDP as fast as two CPUs can 9 times (benchmarks/NOTES.md, Scheduling)."""


def findings(facts: Facts) -> list[Finding]:
    return [finding for check in CHECKS for finding in check(facts)]


def agent(facts: Facts) -> Iterator[Finding]:
    if facts.status is None:
        start = "vxlanu agent, or systemctl start vxlanu"
        yield skip("agent", "no agent to ask", facts.agent_error or "it does not run", start)
        return
    yield ok("agent", f"{facts.status.name} {facts.status.version}, pid {facts.status.pid}, state {facts.status.state}")
    if facts.status.wrong_key:
        why = f"{facts.status.wrong_key} messages could not be opened: a host has another key, or none"
        yield warn("agent", "refuses peers", why, "the same key file on every host; vxlanu events names the addresses")


def config(facts: Facts) -> Iterator[Finding]:
    if facts.config_error:
        why = f"the agent does not start with it: {facts.config_error}"
        yield fail("config", "the configuration is wrong", why, "vxlanu agent --check")


def tun(facts: Facts) -> Iterator[Finding]:
    file, error = facts.tun.file, facts.tun.error
    if file.mode is None:
        why = "containers get their interface from it"
        yield fail("tun", f"{file.path} is missing", why, "modprobe tun; in a container: --device /dev/net/tun")
        return
    if not stat.S_ISCHR(file.mode):
        make = f"rm {file.path} && mknod -m 0666 {file.path} c 10 200"
        yield fail("tun", f"{file.path} is not a device", "containers get their interface from it", make)
        return
    shown = f"{file.path} {stat.filemode(file.mode)}"
    if error and facts.status is None:
        hint = f"chmod 0666 {file.path}" if facts.host.uid else "modprobe tun; in a container: --cap-add NET_ADMIN"
        yield fail("tun", f"{shown} cannot be used", error, hint)
        return
    if error:
        yield ok("tun", f"{shown}, in use by the agent")
        return
    yield ok("tun", f"{shown}, usable")


NEEDED = {"net_admin": "makes interfaces", "sys_admin": "enters the containers' namespaces"}
LOST_WITHOUT = {
    "sys_ptrace": "no namespace of another user's process can be attached to",
    "net_bind_service": "names are not served, and ports below 1024 are not published",
    "net_raw": "legacy iptables, where Docker uses it, gets no rules",
    "sys_nice": "containers that keep the CPUs busy keep frames waiting",
    "chown": "the socket is root's alone, not the group vxlanu's",
    "dac_override": "nothing is written where another user keeps files, as a rootless runtime does",
    "dac_read_search": "nothing is read where another user keeps files, as a rootless runtime does",
}
"""With NEEDED what the unit grants, but CAP_KILL: whatever the agent ends runs as the agent does."""


def capabilities(facts: Facts) -> Iterator[Finding]:
    host = facts.host
    missing = [name for name in NEEDED if name not in host.capabilities]
    lost = [name for name in LOST_WITHOUT if name not in host.capabilities]
    if not missing and (facts.status is None or host.whose == AGENT):
        if lost:
            why = "; ".join(LOST_WITHOUT[name] for name in lost)
            hint = "CapabilityBoundingSet as in vxlanu agent --print-unit; in a container: --cap-add"
            yield warn("capabilities", f"{host.whose} has no {_capabilities(lost)}", why, hint)
        else:
            yield ok("capabilities", f"{host.whose}: {', '.join((*NEEDED, *LOST_WITHOUT))}")
        return
    if facts.status is not None and host.whose != AGENT:
        why = "its process cannot be seen from here, as from another pid namespace"
        yield skip("capabilities", "those of the agent are not known", why, "run it as root on the agent's host")
        return
    if host.uid and facts.status is None:
        why = "without them only namespaces of this user's own can be attached to (rootless)"
        hint = "run the agent as root, or keep to rootless"
        yield warn("capabilities", f"{host.whose} has no {_capabilities(missing)}", why, hint)
        return
    why = ", ".join(f"{name} {does}" for name, does in NEEDED.items())
    hint = "AmbientCapabilities=CAP_NET_ADMIN CAP_SYS_ADMIN in the unit; in a container: --privileged"
    yield fail("capabilities", f"{host.whose} has no {_capabilities(missing)}", why, hint)


def _capabilities(names: list[str]) -> str:
    return " and ".join(f"CAP_{name.upper()}" for name in names)


def kernel(facts: Facts) -> Iterator[Finding]:
    host = facts.host
    if host.kernel < OLDEST:
        why = "nothing below 5.10 was ever tried; TAP and UDP offloads are partly missing there"
        yield warn("kernel", f"Linux {host.release}", why, "a newer kernel")
    elif SEGMENT_BUG[0] <= host.kernel < SEGMENT_BUG[1]:
        why = "UDP_SEGMENT corrupts packets from 7.0 to 7.1.4, so it is not used: bulk traffic is slower"
        yield warn("kernel", f"Linux {host.release}", why, "Linux 7.1.5 or later")
    else:
        yield ok("kernel", f"Linux {host.release}")


def offload(facts: Facts) -> Iterator[Finding]:
    if facts.status is not None:
        used = [it.name for it in facts.status.offloads if it.in_use]
        unused = {it.name: it.why for it in facts.status.offloads if not it.in_use}
    elif facts.tun.lacking is not None:
        used, unused = [], facts.tun.lacking
    else:
        yield skip("offload", "which offloads TAPs have was not tried", facts.tun.error or "no agent", "run it as root")
        return
    if unused:
        why = "; ".join(f"{name}: {reason}" for name, reason in unused.items())
        by_choice = all("--offload" in reason for reason in unused.values())
        hint = "--offload auto" if by_choice else "a newer kernel, or what the reason says"
        yield warn("offload", f"not in use: {' '.join(unused)}", f"slower than it could be ({why})", hint)
    else:
        yield ok("offload", f"in use: {' '.join(used)}" if used else "TAPs have all that vxlanu uses")


def receive_buffer(facts: Facts) -> Iterator[Finding]:
    host, forced = facts.host, "net_admin" in facts.host.capabilities
    if facts.status is not None:
        forced = any(it.name == "rcvbufforce" and it.in_use for it in facts.status.offloads)
    if forced:
        yield ok("receive-buffer", f"{RECEIVE_BYTES >> 20} MiB by CAP_NET_ADMIN, whatever rmem_max says")
    elif host.rmem_max is None:
        yield skip("receive-buffer", "net.core.rmem_max cannot be read", "it is not visible here")
    elif host.rmem_max < RECEIVE_BYTES:
        why = f"the receive buffer gets no more than {host.rmem_max >> 10} KiB: bursts are lost as rx_overflow"
        hint = f"sysctl -w net.core.rmem_max={RECEIVE_BYTES}, then restart the agent"
        yield warn("receive-buffer", f"net.core.rmem_max is {host.rmem_max}", why, hint)
    else:
        yield ok("receive-buffer", f"net.core.rmem_max is {host.rmem_max}")


def cpu(facts: Facts) -> Iterator[Finding]:
    """The agent weighs as much as a container or two: many that keep all CPUs busy leave it little."""
    seen = facts.workers
    if facts.status is None:
        return
    if seen is None:
        why = "the scheduler's counters of its threads cannot be seen from here"
        yield skip("cpu", "how long the agent waits for a CPU is not known", why, "run it as root on the agent's host")
        return
    ran, waited = seen.ran_s / seen.seconds, seen.waited_s / seen.seconds
    shown = f"the workers ran on {ran:.2f} CPUs and waited for {waited:.2f} more"
    if waited >= WAIT_LEAST and waited >= WAIT_TIMES * ran:
        why = "other processes keep the CPUs busy, and frames wait with the workers"
        hint = "vxlanu agent --nice -10; under systemd CPUWeight=900 in its unit (systemctl edit vxlanu)"
        yield warn("cpu", shown, why, hint)
    else:
        yield ok("cpu", shown)


def neighbor_table(facts: Facts) -> Iterator[Finding]:
    """The kernel's limit holds for all namespaces together; containers of this host alone can reach it."""
    used, most = facts.host.neighbors, facts.host.neighbors_max
    if most is None:
        return  # in a namespace of ours: the switch is the host's
    local = facts.status.local_endpoints if facts.status else 0
    if (used or 0) * 5 >= most * 4 or local * 2 >= most:
        shown = f"{used or 0} of {most} in use, {local} endpoints here"
        why = "beyond it packets are lost in the kernel: \"neighbour table overflow\" in its log"
        hint = "sysctl -w net.ipv4.neigh.default.gc_thresh3=65536 net.ipv4.neigh.default.gc_thresh2=49152"
        yield warn("neighbors", f"the kernel's ARP table is small: {shown}", why, hint)
    else:
        yield ok("neighbors", f"the kernel's ARP table has room: {used or 0} of {most}")


def user_namespaces(facts: Facts) -> Iterator[Finding]:
    barrier = userns_barrier(facts.host)
    if barrier is None:
        yield ok("user-namespaces", "may be made by ordinary users")
    elif facts.host.uid == 0:
        yield ok("user-namespaces", f"{barrier[0]}; root needs none")
    else:
        yield warn("user-namespaces", barrier[0], "rootless containers and the rootless lab cannot start", barrier[1])


def userns_barrier(host: Host) -> tuple[str, str] | None:
    """The switch that forbids them to ordinary users, and its opposite."""
    if host.max_user_namespaces == 0:
        return "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"
    if host.unprivileged_userns_clone == 0:
        return "kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"
    if host.apparmor_restricts_userns == 1:
        switch = "kernel.apparmor_restrict_unprivileged_userns"
        return f"{switch} is 1 (Ubuntu)", f"an AppArmor profile with `userns,` for the program, or sysctl -w {switch}=0"
    return None


def clock(facts: Facts) -> Iterator[Finding]:
    if facts.clock is None:
        yield skip("clock", "the clock's state cannot be read", "adjtimex is not allowed here")
    elif facts.clock.synchronised:
        yield ok("clock", f"synchronised, error at most {facts.clock.error_us / 1000:.0f} ms")
    else:
        why = "nothing here depends on it, but times in logs and captures of several hosts cannot be compared"
        yield warn("clock", "not synchronised", why, "timedatectl set-ntp true, or apt-get install chrony")


def key(facts: Facts) -> Iterator[Finding]:
    file, keyed = facts.key, facts.status.keyed if facts.status else facts.key is not None
    if file is None and not keyed:
        why = "whoever reaches the control port may join, and read which endpoints there are"
        hint = "vxlanu key gen /etc/vxlanu/cluster.key, the same file on every host, then restart the agents"
        yield warn("key", "none: the control channel is clear", why, hint)
    elif file is None:
        yield ok("key", "the agent has one")
    elif file.error:
        yield skip("key", f"{file.path} cannot be looked at", file.error, "run it as root")
    elif file.mode is None:
        why = "the agent does not start without the key that it was told to use"
        yield fail("key", f"{file.path} is missing", why, f"vxlanu key gen {file.path}, or copy it from another host")
    elif file.mode & 0o077:
        why = "other users of this host can read it and join the cluster"
        yield fail("key", f"{file.path} has mode {file.mode & 0o777:04o}", why, f"chmod 0600 {file.path}")
    elif file.owner not in (0, facts.host.uid):
        why = "its owner can replace it, and is neither root nor who runs the agent"
        yield warn("key", f"{file.path} belongs to uid {file.owner}", why, f"chown root: {file.path}")
    elif facts.status is not None and not keyed:
        why = "the agent started before the file was there: its control channel is clear"
        yield warn("key", f"{file.path} is not in use", why, "restart the agent")
    else:
        yield ok("key", f"{file.path}, mode {file.mode & 0o777:04o}")


def state_dir(facts: Facts) -> Iterator[Finding]:
    file: File = facts.state_dir
    if file.error:
        yield skip("state-dir", f"{file.path} cannot be looked at", file.error, "run it as root")
    elif file.mode is None:
        if facts.status is None:
            yield ok("state-dir", f"{file.path} is not there yet; the agent makes it")
        else:
            why = "the agent's identity, addresses and records are gone with it"
            yield fail("state-dir", f"{file.path} is missing", why, "restart the agent; attach the endpoints again")
    elif file.mode & 0o077:
        why = "the node's private key is in it"
        yield warn("state-dir", f"{file.path} has mode {file.mode & 0o777:04o}", why, f"chmod 0700 {file.path}")
    elif not file.writable and facts.host.uid not in (0, file.owner):
        yield ok("state-dir", f"{file.path}, mode {file.mode & 0o777:04o}, of uid {file.owner}")
    elif not file.writable:
        why = "nothing is acknowledged that could not be written down"
        yield fail("state-dir", f"{file.path} cannot be written", why, f"mount it read-write; df {file.path}")
    else:
        yield ok("state-dir", f"{file.path}, mode {file.mode & 0o777:04o}")


def docker(facts: Facts) -> Iterator[Finding]:
    """Nothing where dockerd does not look for us."""
    plugin, runs = facts.plugin, facts.status is not None
    if plugin is None:
        return
    if plugin.by == "agent":
        yield ok("docker", f"the agent answers on {plugin.path}")
    elif plugin.by == "stand-in":
        what = f"process {plugin.pid} (vxlanu-stand-in) refuses Docker's requests"
        why = "the agent runs without --docker" if runs else "the agent was stopped or killed"
        yield warn("docker", what, f"{why}, and Docker has networks of ours", "vxlanu agent --docker, which takes over")
    elif plugin.by == "nobody":
        why = "Docker tries it for 15 s with each request for one of our networks"
        yield warn("docker", f"nobody listens on {plugin.path}", why, f"vxlanu agent --docker, or rm {plugin.path}")
    else:
        yield skip("docker", f"not the agent that was asked answers on {plugin.path}", "another agent, or no answer")


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    agent,
    config,
    tun,
    capabilities,
    kernel,
    offload,
    receive_buffer,
    cpu,
    neighbor_table,
    user_namespaces,
    clock,
    key,
    state_dir,
    docker,
)
