"""A thousand endpoints on one host: how long they take, what they cost, and that nothing of them stays.

    c1-crowd1 … c1-crowd1000      c2-1        blue
                h1 ──────────────── h2

How soon all are reached is the kernel's figure (crowd.GIVE_UP_S), and only shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from crowd import HOSTS, Crowd, entries_with

from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.accept, pytest.mark.netns, pytest.mark.timeout(1800)]

ENDPOINTS = 1000
CYCLES = 3
GROWTH = 1.1


def test_a_thousand_endpoints_on_one_host(make_lab: Callable[..., Lab]) -> None:
    begun = time.monotonic()
    crowd = Crowd(make_lab(hosts=2, containers=1), ENDPOINTS)
    print(f"\n{ENDPOINTS} endpoints: lab up and containers made in {time.monotonic() - begun:.1f} s")
    before, empty = crowd.settled_footprint(), crowd.memory_kb()
    memory = []
    for cycle in range(CYCLES):
        begun = time.monotonic()
        addresses = crowd.attach_all()
        attached = time.monotonic()
        crowd.wait_reached(addresses)
        reached = time.monotonic()
        full, resident = crowd.settled_footprint(), crowd.memory_kb()
        assert (full.links, full.entries) == (before.links + ENDPOINTS, entries_with(ENDPOINTS))
        asked = time.monotonic()
        crowd.detach_all()
        detached = time.monotonic()
        crowd.wait_for(before)
        memory.append(crowd.memory_kb())
        grown = resident["h1"][0] - empty["h1"][0]
        print(f"cycle {cycle + 1}: attach {1000 * (attached - begun) / ENDPOINTS:.0f} ms each, all reached after "
              f"{reached - attached:.1f} s, detach {1000 * (detached - asked) / ENDPOINTS:.0f} ms each; the agent "
              f"{grown / ENDPOINTS:.1f} KB larger for each, {memory[-1]['h1'][0]} KB resident after")  # fmt: skip
    for host in HOSTS:
        for first, last in zip(memory[0][host], memory[-1][host], strict=True):
            assert last <= GROWTH * first, memory
