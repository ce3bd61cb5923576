"""Gates and namespaces for every test.

Rules of this file
  1. `@pytest.mark.netns` implies the needs root, tun, ip and nsenter, with `@pytest.mark.rootless` user namespaces in
     the place of root; `@pytest.mark.interop("tshark", "kernel-vxlan")` lists its own. Inside a test or fixture,
     `require("tcpdump")` does the same (needs.py: names and reasons).
  2. Hypothesis draws the same examples in every run, and no example has a time limit: a slow machine is no bug.
  3. Under pytest-xdist one process runs all of a file, for its tests share a lab; the longest files are handed out
     first. (Not `--dist loadgroup`: with pytest 9.2, xdist 3.8 overlooks the groups.)
  4. Whatever a test makes on the host has a name with our pid in it and is gone afterwards (lab_ns.py).
  5. What all namespaces share is large enough, for the time of the tests, that one test takes nothing of another's:
     the queue of a processor for what comes over veth, which floods fill, and the neighbour tables, which crowds fill.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

sys.path.append(str(Path(__file__).parent))  # importlib mode leaves tests/ out: `from lab_ns import poll` from any test

from docker_fixtures import docker_hosts, docker_pair, make_docker_hosts
from lab_fixtures import lab, make_lab, make_module_lab, pytest_runtest_makereport
from lab_ns import Namespaces, Underlay
from needs import LAB_NEEDS, NETNS_NEEDS, require

__all__ = [
    "docker_hosts",
    "docker_pair",
    "lab",
    "make_docker_hosts",
    "make_lab",
    "make_module_lab",
    "pytest_runtest_makereport",
]


hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")

SHARED = {
    "net/core/netdev_max_backlog": 10_000,  # instead of 1000; more could hold gigabytes of super-frames
    "net/ipv4/neigh/default/gc_thresh2": 8192,  # instead of 512, which one test of 200 endpoints exceeds (crowd.py):
    "net/ipv6/neigh/default/gc_thresh2": 8192,  # from then on every host's neighbours go 5 s after they were heard
    "net/ipv4/neigh/default/gc_thresh3": 16_384,
    "net/ipv6/neigh/default/gc_thresh3": 16_384,
}
"""Limits of the kernel, under /proc/sys, that all namespaces share, and what they are at least meanwhile."""


LONGEST = (
    "interop/test_docker",
    "native/test_c_units.py",
    "interop/test_podman",
    "netns/test_service.py",
    "netns/test_doctor.py",
    "netns/test_peers.py",
    "netns/test_egress",
    "interop/test_underlays.py",
    "netns/test_bad_input.py",
    "fuzz/test_corpora.py",
    "interop/test_article.py",
    "netns/test_docker",
    "netns/test_partition.py",
    "netns/test_ladder.py",
    "netns/test_rootless.py",
    "interop/test_kernel_vxlan.py",
    "netns/test_failures.py",
    "netns/test_drop_reasons.py",
    "fuzz/test_fuzz_native.py",
    "netns/test_capture.py",
    "netns/test_names",
    "netns/test_network_model.py",
    "netns/test_looking_in.py",
    "netns/test_reclaim.py",
    "netns/test_demo.py",
    "netns/test_scale.py",
    "netns/test_order.py",
    "sim/test_addresses.py",
    "netns/test_overlay.py",
    "netns/test_paths.py",
    "netns/test_gateway.py",
    "native/test_engine.py",
    "interop/",
    "fuzz/",
)
"""Which to begin with, so that no process is left alone with one of them in the end; computing among waiting ones."""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # a process of xdist's: the first one sees to it
        return
    for name, least in SHARED.items():
        with contextlib.suppress(OSError):  # not root, or a container's /proc
            limit = Path("/proc/sys", name)
            was = int(limit.read_text())
            limit.write_text(f"{max(was, least)}")
            config.add_cleanup(lambda limit=limit, was=was: limit.write_text(f"{was}"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(here).as_posix()
        return next((number for number, slow in enumerate(LONGEST) if name.startswith(slow)), len(LONGEST))

    items.sort(key=place)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns"):
        require(*(LAB_NEEDS if item.get_closest_marker("rootless") else NETNS_NEEDS))
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
