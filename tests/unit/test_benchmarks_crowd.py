"""What `python -m benchmarks crowd` computes, without a crowd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import crowd
from benchmarks.crowd import BROADCAST_BYTES, Finding, Flow, alternate, findings_table, jain, save_findings
from benchmarks.meters import MeterFailed
from benchmarks.meters.program import program

SOURCE = Path(crowd.__file__).parent / "meters" / "crowd_load.c"


def test_jains_index_is_one_of_equal_shares_and_the_nth_part_of_one_who_has_all() -> None:
    assert jain([3.0] * 64) == pytest.approx(1)
    assert jain([5.0, 0, 0, 0]) == pytest.approx(1 / 4)
    assert jain([2.0, 1.0]) == pytest.approx(9 / 10)
    assert jain([0.0, 0.0]) == 0


def test_a_finding_is_held_by_its_median_and_shows_by_how_far_it_spread() -> None:
    good, bad = Finding("good", (0.7, 0.95, 0.99), 0.9, "b"), Finding("bad", (0.7, 0.89, 0.99), 0.9, "b")
    assert good.cells() == ("good", "0.950", "0.700 to 0.990", "3", "≥ 0.9, held", "b")
    assert bad.cells()[4] == "≥ 0.9, missed" and not bad.held
    assert Finding("nothing promised", (0.1,), 0, "").cells()[4] == ""
    assert len(list(findings_table([good, bad]))) == 3


def test_in_each_round_everyone_is_read_once_and_not_always_in_the_same_order() -> None:
    asked: list[str] = []
    told: list[str] = []

    def read(name: str) -> int:
        asked.append(name)
        return len(asked)

    found = alternate({"a": 0, "b": 0}, read, 2, told.append)
    assert sorted(asked[:2]) == sorted(asked[2:]) == ["a", "b"] and asked[:2] != asked[2:]
    assert {name: len(it) for name, it in found.items()} == {"a": 2, "b": 2}
    assert told[0] == "round 1 of 2: a"


def test_what_is_left_is_taken_round_by_round_and_of_nothing_there_is_no_part() -> None:
    streams = {"flood": [4.0, 0.0], "alone": [8.0, 2.0]}
    assert crowd._left("flood", streams, "flood", "alone", 0.85).values == (0.5, 0.0)
    with pytest.raises(MeterFailed, match="nothing was carried in a round of 'flood'"):
        crowd._left("flood", streams, "alone", "flood", 0.85)


def test_findings_are_kept_with_the_machine_that_they_are_of(tmp_path: Path) -> None:
    save_findings([Finding("kept", (0.5, 0.7), 0.9, "beside")], tmp_path / "it.json")
    kept = json.loads((tmp_path / "it.json").read_text())
    said = {"title": "kept", "values": [0.5, 0.7], "bound": 0.9, "beside": "beside"}
    assert kept["findings"] == [{**said, "topic": "Crowds"}]
    assert kept["machine"]["cores"] > 0


def test_the_program_is_asked_for_a_flow_in_the_words_that_it_reads() -> None:
    assert Flow("udp", "c1-1", "c2-1", "10.68.0.9", 50).line() == "udp c1-1 c2-1 10.68.0.9 50\n"
    assert f"#define BROADCAST_BYTES\t{BROADCAST_BYTES}\n" in SOURCE.read_text()
    assert Path(program("crowd_load")).exists()
