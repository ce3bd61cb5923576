"""Bulk TCP beside others: what this version promises of it. `make accept` prints the tables.

Peers, rounds and arithmetic are those of `python -m benchmarks compare` (benchmarks/): all paths are measured in turn
in every round, and a ratio is the median of the rounds' ratios.

What is wanted beyond this is in benchmarks/bars.py. Where a run has it, its table says by how much it is missed, and
benchmarks/REPORT.md what limits; it fails nothing here, so that a failure is always a promise that was broken.
"""

from __future__ import annotations

from functools import cache

import pytest
from needs import require
from peer_needs import PEER_NEEDS

from benchmarks.bars import Bar, judge
from benchmarks.choice import meters
from benchmarks.compare import Comparison, measure
from benchmarks.results import Run, Settings
from benchmarks.table import text

pytestmark = [
    pytest.mark.accept,
    pytest.mark.netns,
    pytest.mark.interop("iperf3", "ethtool", "native"),
    pytest.mark.timeout(900),
]

ROUNDS = 9  # of five the ratio moved by 0.03 between runs of the same code
REFUSED = ("--offload", "off")
USERSPACE = ("ovs", "tinc", "nebula")
PROMISED = (
    Bar("1 stream, offloads", "tcp-1", 0.55, underlay="offload"),
    Bar("4 streams, offloads", "tcp-4", 0.55, underlay="offload"),
    Bar("1 stream, plain", "tcp-1", 0.75, underlay="plain"),
    Bar("4 streams, plain", "tcp-4", 0.75, underlay="plain"),
    Bar("1 stream, best userspace", "tcp-1", 8, underlay="offload", against=USERSPACE),
    Bar("4 streams, best userspace", "tcp-4", 8, underlay="offload", against=USERSPACE),
    Bar("1 stream, all refused", "tcp-1", 1, underlay="offload", flags=REFUSED, against=("ovs",)),
    Bar("1 stream, all refused, wire", "tcp-1", 1, underlay="wire", flags=REFUSED, against=("ovs",)),
    Bar("1 stream, Swarm", "tcp-1", 0, underlay="offload", against=("docker",)),
    Bar("4 streams, Swarm", "tcp-4", 0, underlay="offload", against=("docker",)),
)
"""0: no promise, for a Swarm's overlay is the kernel's; the figure is for those who move from one to the other."""


def scene(bar: Bar) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Bars of one scene are held against one run."""
    return bar.underlay, bar.flags, bar.against


@cache
def run_on(underlay: str, flags: tuple[str, ...], peers: tuple[str, ...]) -> Run:
    """Measured once; printed as soon as it is."""
    rows = [bar.row for bar in PROMISED if scene(bar) == (underlay, flags, peers)]
    settings = Settings(underlay=underlay, family="ipv4", mtu=1500, rounds=ROUNDS, agent_flags=flags)
    run = measure(Comparison(["vxlanu", *peers], meters(rows), settings), tell, lambda _: None)
    print("", *text(run), sep="\n")
    return run


def tell(what: str) -> None:
    """Failures, but not each reading that is begun."""
    if what.endswith("\n"):
        print(what, end="")


@pytest.mark.parametrize("bar", PROMISED, ids=lambda bar: bar.title)
def test_what_is_promised_of_bulk_tcp_is_held(bar: Bar) -> None:
    require(*(need for peer in bar.against for need in PEER_NEEDS[peer]))
    run = run_on(*scene(bar))
    unmeasured = [peer for peer in bar.against if not (it := run.of(bar.row, peer)) or not it.samples]
    assert unmeasured == [], "the best of all is wanted"
    judged = judge(run, bar)
    assert judged
    promise = f"promised {bar.wanted}" if bar.bound else "nothing is promised"
    print(f"\n{bar.title}: {judged.ratio.median:.2f} of {judged.against}, {promise}")
    assert judged.held, judged.word
