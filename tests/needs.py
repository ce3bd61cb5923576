"""What a test may need from the machine: names, checks, and what a missing one means.

Rules of this file
  1. A test that cannot run says why: every need has a name, and a missing one is a skip that carries the reason.
  2. Under VXLANU_REQUIRE=all (as in CI), or a comma-separated list of needs, a missing need is a failure, never a skip.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_ns import kernel_has_link_kind

CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
NETNS_NEEDS = ("root", "tun", "ip", "nsenter")
LAB_NEEDS = ("namespaces", "tun", "ip", "nsenter")
DOCKER_NEEDS = ("root", "tun", "ip", "nsenter", "docker", "iperf3", "native")


def _has_capabilities() -> str | None:
    """Root, or root of a user namespace of our own: what counts is the capability, not the uid."""
    status = Path("/proc/self/status").read_text()
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
    wanted = 1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN
    return None if effective & wanted == wanted else "needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)"


def _has_namespaces() -> str | None:
    """As root, or as an ordinary user who may become root of a user namespace: what the lab does."""
    if _has_capabilities() is None:
        return None
    trial = "from vxlanu.lab import namespaces as n; n.become_own_root(); n.unshare(n.CLONE_NEWNET | n.CLONE_NEWNS)"
    tried = subprocess.run([sys.executable, "-c", trial], capture_output=True, text=True, check=False)
    said = tried.stderr.strip().rpartition("\n")[2]
    return f"needs root or user namespaces ({said})" if tried.returncode else None


def _has_tun() -> str | None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as why:
        return f"needs /dev/net/tun ({why.strerror})"
    return None


def _has_kernel_vxlan() -> str | None:
    missing = _has_capabilities()
    if missing:
        return missing
    return None if kernel_has_link_kind("vxlan", "id", "1", "dstport", "0") else "needs the kernel's vxlan driver"


def _has_legacy_tables() -> str | None:
    """The program may be there without its half of the kernel."""
    missing_program = missing("iptables-legacy")
    if missing_program:
        return missing_program
    asked = subprocess.run(["unshare", "-n", "iptables-legacy", "-S"], capture_output=True, check=False)
    return None if asked.returncode == 0 else "needs the kernel's legacy tables (ip_tables)"


def _has_docker() -> str | None:
    """A daemon and its own client, wherever they come from: docker.io of Debian, or Docker's packages."""
    if not Path("/usr/bin/docker").exists():
        return "needs /usr/bin/docker (Debian: docker.io)"
    return missing("dockerd") or missing("busybox")


def _has_injection() -> str | None:
    release = tuple(int(number) for number in platform.release().split(".")[:2])
    return None if release >= (6, 17) else "needs Linux 6.17 (tunnelled super-frames from a TAP)"


def _has_native() -> str | None:
    try:
        import vxlanu._native  # noqa: F401
    except ImportError as why:
        return f"needs the C extension ({why})"
    return None


def _has_matplotlib() -> str | None:
    found = importlib.util.find_spec("matplotlib")
    return None if found else "needs matplotlib (the extra `bench`)"


def _is_x86_64() -> str | None:
    return None if platform.machine() == "x86_64" else "needs an x86_64: instructions are recorded for it"


def _has_schedstat() -> str | None:
    counted = Path("/proc/self/schedstat").exists()
    return None if counted else "needs the scheduler's counters of waiting (CONFIG_SCHED_INFO)"


def _has_gigabyte() -> str | None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None if memory >= 1 << 30 else "needs a gigabyte of memory"


CHECKS: dict[str, Callable[[], str | None]] = {
    "root": _has_capabilities,
    "namespaces": _has_namespaces,
    "tun": _has_tun,
    "kernel-vxlan": _has_kernel_vxlan,
    "docker": _has_docker,
    "native": _has_native,
    "matplotlib": _has_matplotlib,
    "injection": _has_injection,
    "legacy-tables": _has_legacy_tables,
    "schedstat": _has_schedstat,
    "gigabyte": _has_gigabyte,
    "x86_64": _is_x86_64,
}
_answers: dict[str, str | None] = {}


def missing(need: str) -> str | None:
    """Why `need` is not met, or None; a name without a check of its own is a program in PATH."""
    if need not in _answers:
        check = CHECKS.get(need)
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        found = check() if check else (None if shutil.which(need, path=path) else f"needs the program {need}")
        _answers[need] = found
    return _answers[need]


def require(*needs: str) -> None:
    """Skip the running test, or fail it where the need was promised, unless every need is met."""
    promised = os.environ.get("VXLANU_REQUIRE", "").split(",")
    for need in needs:
        why = missing(need)
        if why is None:
            continue
        if "all" in promised or need in promised:
            pytest.fail(f"{why}, and VXLANU_REQUIRE promises it", pytrace=False)
        pytest.skip(why)
