"""The meters' own arithmetic: percentiles, sockperf's log, CPU time from /proc."""

from __future__ import annotations

import os

import pytest

from benchmarks.meters.processes import Cpu
from benchmarks.meters.rtt import latencies, percentile, tail


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed() -> None:
    samples = [float(number) for number in range(1, 101)]
    assert [percentile(samples, part) for part in (0.5, 0.501, 0.9, 0.99, 0.991, 1.0)] == [50, 51, 90, 99, 100, 100]
    assert percentile([7.0], 0.5) == 7 and percentile([7.0, 8.0], 0.0) == 7


def test_the_tail_goes_on_until_one_sample_is_left_and_ends_with_the_longest() -> None:
    samples = [float(number) for number in range(1, 10_001)]
    points = tail(samples)
    assert points[0] == (0.0, 1.0) and points[-1] == (1.0, 10_000.0)
    assert len(points) == 4 * 10 + 2  # a point for each tenth of a decade, both ends of it, and the last
    assert [value for _, value in points] == sorted(value for _, value in points)
    assert dict(points)[0.9] == 9_000


def test_sockperfs_log_is_read_and_nothing_of_what_stands_above_it() -> None:
    log = (
        "---> percentile 50.000 =    8.562\n1, 2, 3, 4\n------\npacket, txTime(sec), rxTime(sec), latency(usec)\n"
        "0, 2.417375767, 2.417437538, 30.886\n1, 2.417437618, 2.417491678, 27.030\n------\n"
    )
    assert latencies(log) == [30.886, 27.030]
    assert latencies("sockperf: ERROR") == []


def test_time_that_is_neither_idle_nor_stolen_is_work() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    stat = "cpu  {0} 0 {0} {1} {2} 0 {0} {3} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\ncpu1 1 2 3 4 5 6 7 8 0 0\nintr 12 0\n"
    before = Cpu.parsed(stat.format(5, 10 * tick, 1 * tick, 0), at=100)
    after = Cpu.parsed(stat.format(6, 13 * tick, 2 * tick, tick // 2), at=104)
    assert after.busy_since(before) == pytest.approx(2 * 4 - 3 - 1 - 0.5)
    assert after.stolen_since(before) == pytest.approx(0.5 / 8)
