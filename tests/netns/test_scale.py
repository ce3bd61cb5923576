"""Two hundred endpoints on one host, there and back twice: all are reached, and nothing of them stays.

    c1-crowd1 … c1-crowd200      c2-1        blue
               h1 ──────────────── h2

The agents start with room for 256 descriptors, fewer than they need, and raise that limit themselves.
The figures for a thousand are `make accept`'s.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from crowd import GATEWAY, HOSTS, Crowd, entries_with

from vxlanu.lab.topology import Lab

pytestmark = pytest.mark.netns

ENDPOINTS = 200
CYCLES = 2
DESCRIPTORS = 256


@contextmanager
def few_descriptors() -> Iterator[None]:
    """Who is started meanwhile has a low soft limit; the hard one stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(900)  # 30 s of two processors; a machine under load takes many times that
def test_two_hundred_endpoints_come_are_reached_and_leave_nothing(make_lab: Callable[..., Lab]) -> None:
    with few_descriptors():
        lab = make_lab(hosts=2, containers=1)
    crowd = Crowd(lab, ENDPOINTS)
    before = crowd.settled_footprint()
    assert before.entries == {"h1": 0, "h2": 2 + GATEWAY}, "c2-1 alone"
    memory = []
    for _ in range(CYCLES):
        addresses = crowd.attach_all()
        assert len(set(addresses)) == ENDPOINTS
        crowd.wait_reached(addresses)
        full = crowd.settled_footprint()
        assert (full.links, full.entries) == (before.links + ENDPOINTS, entries_with(ENDPOINTS))
        assert full.descriptors["h1"][0] >= before.descriptors["h1"][0] + ENDPOINTS
        crowd.detach_all()
        crowd.wait_for(before)
        memory.append(crowd.memory_kb())
    for host in HOSTS:
        for first, last in zip(memory[0][host], memory[-1][host], strict=True):
            assert last <= 1.1 * first, memory
