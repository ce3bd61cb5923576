"""Runs of the benchmarks: what is kept, what is computed from it, and how it is shown. No clock, no namespace."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from made_runs import RTT, TCP, run_of, series

from benchmarks.__main__ import shown
from benchmarks.bars import INJECT, Bar, judge
from benchmarks.choice import METERS, SETS, Unknown, chosen, meters
from benchmarks.figures import NONE_SHOWN, Row, level, noise, ratio, rows, verdict
from benchmarks.results import (
    Failure,
    Sample,
    Series,
    Settings,
    Unreadable,
    load,
    save,
)  # fmt: skip
from benchmarks.rounds import order
from benchmarks.table import markdown, number, sheets, text


def test_the_ratio_is_taken_inside_each_round() -> None:
    """The machine became half as fast in the middle: each round's ratio is 0.5, that of the medians is not."""
    run = run_of(series("vxlanu", 8, 8, 4, 4, 4), series("kernel", 16, 16, 8, 8, 8))
    drifting = run_of(series("vxlanu", 8, 4, 4, 4, 8), series("kernel", 16, 16, 8, 8, 16))
    steady = ratio(run, Row(TCP), "vxlanu", "kernel")
    assert steady and steady.median == steady.of_medians == 0.5
    found = ratio(drifting, Row(TCP), "vxlanu", "kernel")
    assert found and found.median == 0.5 and found.of_medians == 0.25
    assert (found.least, found.most, found.n) == (0.25, 0.5, 5) and found.low <= 0.5 <= found.high


def test_rounds_that_the_hypervisor_disturbed_are_left_out_while_three_remain() -> None:
    quiet = series("kernel", 10, 10, 10, 10)
    one = ratio(run_of(series("vxlanu", 5, 5, 5, 9, steal={4: 0.2}), quiet), Row(TCP), "vxlanu", "kernel")
    assert one and (one.most, one.n, one.left_out) == (0.5, 3, 1)
    two = run_of(series("vxlanu", 5, 5, 5, 9, steal={1: 0.2, 4: 0.2}), quiet)
    all_of_them = ratio(two, Row(TCP), "vxlanu", "kernel")
    assert all_of_them and (all_of_them.most, all_of_them.n, all_of_them.left_out) == (0.9, 4, 0)
    assert (one.disturbed, all_of_them.disturbed) == (0, 2)
    told = "Rounds that count all the same, since too few would be left: up to 2, in which the hypervisor took over 4%"
    assert told in "\n".join(text(two)) and "count all the same" not in "\n".join(text(run_of(quiet)))


def test_a_round_counts_only_where_both_have_a_figure() -> None:
    ours = Series("tcp-1", "vxlanu", [Sample(2, 6.0)], [Failure(1, "iperf3: refused")])
    found = ratio(run_of(ours, series("kernel", 1, 12)), Row(TCP), "vxlanu", "kernel")
    assert found and (found.median, found.n) == (0.5, 1)
    assert ratio(run_of(ours), Row(TCP), "vxlanu", "kernel") is None and level(run_of(ours), Row(TCP), "kernel") is None


def test_what_noise_explains_is_no_difference() -> None:
    steady = [10.0, 10.1, 9.9, 10.0, 10.05]
    twice = [value * factor for value, factor in zip(steady, (1.15, 1.12, 1.1, 1.2, 1.1), strict=True)]
    run = run_of(series("vxlanu", *steady), series("again", *twice), series("kernel", *(it * 0.95 for it in steady)))
    found, floor = ratio(run, Row(TCP), "vxlanu", "kernel"), noise(run, Row(TCP))
    assert found and floor and floor.median == pytest.approx(1.12)
    assert verdict(found, floor) == NONE_SHOWN and verdict(found, None) == ""
    twice_as_fast = series("kernel", *(it * 2 for it in steady))
    far = ratio(run_of(series("vxlanu", *steady), twice_as_fast), Row(TCP), "vxlanu", "kernel")
    assert far and verdict(far, floor) == ""
    nothing = ratio(run_of(series("vxlanu", 0, 0, 0), series("kernel", 9, 9, 9)), Row(TCP), "vxlanu", "kernel")
    assert nothing and verdict(nothing, floor) == "" and verdict(far, nothing) == NONE_SHOWN
    same = ratio(run_of(series("vxlanu", *steady), series("kernel", *steady[::-1])), Row(TCP), "vxlanu", "kernel")
    assert same and verdict(same, None) == NONE_SHOWN


def test_what_a_reading_gives_besides_is_a_row_of_its_own() -> None:
    figures = (("vxlanu", 60, 90), ("kernel", 40, 80))
    both = [Series("rtt-tcp", peer, [Sample(1, p50, {"p99": p99})]) for peer, p50, p99 in figures]
    run = run_of(*both, meters=(RTT,))
    p50, p99 = rows(run)
    assert (p50.name, p99.name, p99.title) == ("rtt-tcp", "rtt-tcp-p99", "TCP round trip, p99")
    found = ratio(run, p99, "vxlanu", "kernel")
    assert found and found.median == 90 / 80
    own = ratio(run, p99, "vxlanu", "vxlanu", p50)
    assert own and own.median == 1.5


def test_a_bar_is_judged_by_its_sense_underlay_and_best_rival() -> None:
    run = run_of(series("vxlanu", 6), series("kernel", 10), series("ovs", 0.5), series("tinc", 0.8))
    low = judge(run, Bar("", "tcp-1", 0.7))
    assert low and not low.held and low.word == "missed by 14 %"
    best = judge(run, Bar("", "tcp-1", 8, against=("ovs", "tinc", "nebula")))
    assert best and (best.against, best.word) == ("tinc", "missed by 6 %")
    assert judge(run, Bar("", "tcp-1", 0.7, underlay="plain")) is None and judge(run, Bar("", "udp-64", 1)) is None
    injected = Bar("", "tcp-1", 0.85, flags=INJECT)
    assert judge(run, injected) is None
    run.settings = Settings(underlay="offload", family="ipv4", mtu=1500, agent_flags=INJECT)
    assert judge(run, injected) is None and judge(run, Bar("", "tcp-1", 0.7)) is None
    run.in_use = "tso,inject"
    assert (it := judge(run, injected)) and it.ratio.median == 0.6
    late = run_of(series("vxlanu", 60, meter="rtt-tcp"), series("kernel", 40, meter="rtt-tcp"), meters=(RTT,))
    slower = judge(late, Bar("", "rtt-tcp", 1.4, at_least=False))
    faster = judge(late, Bar("", "rtt-tcp", 1.5, at_least=False))
    assert slower and faster and not slower.held and slower.word == "missed by 7 %" and faster.word == "held"


def test_the_table_shows_spread_noise_and_what_is_missing() -> None:
    ours = series("vxlanu", 5, 5.1, 4.9, 5, 5)
    ours.failures.append(Failure(6, "vx-k in h1 carried 0 bytes\nof 10"))
    run = run_of(ours, series("kernel", 10, 10, 10, 10, 10), series("again", 5, 5, 5, 5, 5), missing="no tincd (tinc)")
    shown = "\n".join(text(run))
    for part in ("0.50", "0.49 to 0.51 (n=5)", "5.00 ±0", "worse", "TCP, 1 stream, offload", "missed by 29 %"):
        assert part in shown, shown
    assert "missing: tinc: no tincd (tinc)" in shown
    assert "no figure: tcp-1, vxlanu, round 6: vx-k in h1 carried 0 bytes of 10" in shown
    assert "broken off" not in shown
    run.complete = False
    assert "broken off" in "\n".join(text(run))
    lines = [line for sheet in sheets(run) for line in markdown(sheet)]
    assert len({line.count("|") for line in lines if line.startswith("| TCP, 1 stream | Gbit/s | 5.00 ±")}) == 1


def test_numbers_have_three_digits_that_count() -> None:
    shown = [number(it) for it in (1234.5, 99.94, 1.234, 0.1234, 0.01234, 0)]
    assert shown == ["1234", "99.9", "1.23", "0.123", "0.0123", "0"]


def test_a_run_is_kept_whole_and_a_stranger_is_refused_by_name(tmp_path: Path) -> None:
    run, file = run_of(series("vxlanu", 1.5, steal={1: 0.01})), tmp_path / "run.json"
    save(run, file)
    assert load(file) == run and [it.name for it in tmp_path.iterdir()] == ["run.json"]
    for text_of_file in ("{", '{"format": 1}', msgspec.json.encode(run).decode().replace('"format":1', '"format":2')):
        file.write_text(text_of_file)
        with pytest.raises(Unreadable, match=r"run\.json"):
            load(file)
    with pytest.raises(Unreadable, match="none"):
        load(tmp_path / "none.json")


def test_in_the_order_of_rounds_nobody_keeps_its_place() -> None:
    names = ["a", "b", "c", "d"]
    rounds = [order(names, number) for number in range(1, 9)]
    assert all(sorted(it) == names for it in rounds)
    for place in range(4):
        assert {it[place] for it in rounds} == set(names)
    before = {(left, right) for it in rounds for left, right in pairwise(it)}
    assert ("a", "b") in before and ("b", "a") in before


def test_names_are_taken_in_their_order_and_strangers_are_told_what_there_is() -> None:
    assert chosen("peer", "c,a", ["a", "b", "c"]) == ["a", "c"] and chosen("peer", "all", "ab") == ["a", "b"]
    assert chosen("peer", "", "ab", "b") == ["b"]
    with pytest.raises(Unknown, match="no peer x; there are: a, b"):
        chosen("peer", "a,x", ["a", "b"])
    assert set(SETS["short"]) | set(SETS["compare"]) <= set(METERS)
    (lasting,) = meters(["tcp-4"], 7)
    assert lasting.name == "tcp-4" and "seconds=7" in repr(lasting)


def test_a_run_without_vxlanu_has_failed_and_one_without_a_peer_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(series("vxlanu", 5), series("kernel", 10), missing="no tincd (Debian: tinc)")
    assert shown(run) == 0 and "missing: tinc: no tincd" in capsys.readouterr().out
    for peer, code in (("kernel", 0), ("vxlanu", 1)):
        run = run_of(series("vxlanu" if peer == "kernel" else "kernel", 5), missing="-", lost=peer)
        assert shown(run) == code and f"missing: {peer}: it did not come up" in capsys.readouterr().out
