"""What a test may need from the machine, and what happens when it is not there.

Rules of this file
  1. A test that cannot run says why: every need has a name, and a missing one is a skip that carries it.
  2. Under VXLANU_REQUIRE=all (as in CI), or a comma-separated list of needs, a missing need is a failure, never a skip.
  3. Whatever a test makes on the host has a name with our pid in it and is gone afterwards (lab_ns.py).

`@pytest.mark.netns` implies the needs root, tun, ip and nsenter; `@pytest.mark.interop("tshark", "kernel-vxlan")`
lists its own. Inside a test or fixture, `require("tcpdump")` does the same.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # importlib mode leaves tests/ out: `import lab_ns` from any test

from lab_ns import Namespaces, Underlay, kernel_has_link_kind

CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
NETNS_NEEDS = ("root", "tun", "ip", "nsenter")


def _has_capabilities() -> str | None:
    """Root, or root of a user namespace of our own: what counts is the capability, not the uid."""
    status = Path("/proc/self/status").read_text()
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
    wanted = 1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN
    return None if effective & wanted == wanted else "needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)"


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


def _has_native() -> str | None:
    try:
        import vxlanu._native  # noqa: F401
    except ImportError as why:
        return f"needs the C extension ({why})"
    return None


CHECKS: dict[str, Callable[[], str | None]] = {
    "root": _has_capabilities,
    "tun": _has_tun,
    "kernel-vxlan": _has_kernel_vxlan,
    "native": _has_native,
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


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns"):
        require(*NETNS_NEEDS)
    for marker in item.iter_markers("interop"):
        require(*marker.args)


@pytest.fixture(name="require")
def require_fixture() -> Callable[..., None]:
    """`require` for tests that learn what they need while they run."""
    return require


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    """A maker of network namespaces; everything in them is killed, and they are deleted, after the test."""
    require(*NETNS_NEEDS)
    made = Namespaces()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def underlay(namespaces: Namespaces) -> Callable[..., Underlay]:
    """`underlay(hosts=3, mtu=1500)`: hosts as namespaces, joined by veth to a bridge in a namespace of its own."""

    def build(hosts: int = 2, mtu: int = 1500) -> Underlay:
        return Underlay.build(namespaces, hosts, mtu)

    return build
