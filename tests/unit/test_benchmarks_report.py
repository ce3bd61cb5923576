"""REPORT.md of made runs: what is in it, what is quoted, and that the same runs make the same report."""

from __future__ import annotations

from pathlib import Path

from made_runs import run_of, series
from needs import require

from benchmarks.code import CodeFigure, bars, sheet, topics
from benchmarks.crowd import Finding

NOTES = """# Notes

## What limits

### Bulk TCP

Copies do.

### UDP

Wake-ups do.

### Decision

Branches do.

### Flood

Its sender does.

### Crowds

Their number does.

## Measured apart

A crowd of 1 000.
"""
CODE = [
    CodeFigure("made: 64", "encapsulate", 1000, 1020, 24.0, 23.0, 25.0, 3.0, 20.0),
    CodeFigure("made: 64", "encapsulate", 1_000_000, 1020, 75.0, 70.0, 80.0, 3.0, 20.0),
    CodeFigure("made: tso", "cut", 1000, 1020, 24.0, 23.0, 25.0, 3.0, 150.0),
    CodeFigure("made: tso", "coalesce", 1000, 1020, 24.0, 23.0, 25.0, 3.0, 45.0),
]

CROWDS = [Finding("a flood", (0.9, 0.7, 0.8), 0.85, "8 Gbit/s", "Flood"), Finding("shares", (0.95,), 0.9, "")]


def test_a_report_has_the_bars_what_limits_the_tables_and_the_plots(tmp_path: Path) -> None:
    require("matplotlib")
    from benchmarks.report import Measured, write

    runs = [run_of(series("vxlanu", 5, 5, 5), series("kernel", 10, 10, 10), missing="no tincd (Debian: tinc)")]
    report = write(Measured(runs, CODE, CROWDS), NOTES, tmp_path)
    text = report.read_text()
    assert "| TCP, 1 stream, offload | kernel | offload | ≥ 0.7 | 0.50 | 0.50 to 0.50 | 3 | missed by 29 % |" in text
    assert "| CPU per Gbit at 2 Gbit/s | kernel | any | ≤ 1.8 | - | - | - | not measured |" in text
    assert text.count("TCP, 1 stream, offload |") == 1
    assert "### Bulk TCP: what limits\n\nCopies do." in text and "Wake-ups do." not in text
    assert "### Decision: what limits\n\nBranches do." in text
    assert "### Flood: what limits\n\nIts sender does." in text and "Their number does." not in text
    assert "## Measured apart\n\nA crowd of 1 000." in text
    assert "- missing: tinc: no tincd (Debian: tinc)" in text and "- CPU: 2 x a CPU" in text
    assert "![1-offload-throughput](plots/1-offload-throughput.png)" in text
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["1-offload-throughput.png"]
    again = write(Measured(runs, CODE, CROWDS), NOTES, tmp_path / "again")
    assert again.read_text() == text
    assert "| a flood | 0.800 | 0.700 to 0.900 | 3 | ≥ 0.85, missed | 8 Gbit/s |" in text
    unknown = write(Measured(runs), "", tmp_path).read_text()
    assert "### Bulk TCP: what limits\n\nNot looked into yet." in unknown and "The code alone" not in unknown


def test_the_plots_of_an_earlier_report_go_and_what_it_did_not_show_stays(tmp_path: Path) -> None:
    require("matplotlib")
    from benchmarks.report import Measured, write

    run = run_of(series("vxlanu", 5, 5, 5), series("kernel", 10, 10, 10))
    write(Measured([run, run]), NOTES, tmp_path)
    mine = tmp_path / "plots" / "3-offload-mine.png"
    mine.write_bytes(b"")
    assert len(list((tmp_path / "plots").iterdir())) == 3
    write(Measured([run]), NOTES, tmp_path)
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["1-offload-throughput.png", mine.name]


def test_bars_of_the_code_are_held_or_missed_by_so_much() -> None:
    assert [row[1:] for row in bars(CODE).rows] == [
        ("≤ 30 ns", "24.0 ns", "held"),
        ("≤ 60 ns", "75.0 ns", "missed by 25 %"),
        ("≥ 60 Gbit/s", "150 Gbit/s", "held"),
        ("≥ 60 Gbit/s", "45 Gbit/s", "missed by 25 %"),
    ]
    assert len(sheet(CODE).rows) == 4 and sheet(CODE).rows[0][0] == "made: 64" and not bars(CODE[:0]).rows
    assert list(topics(CODE)) == ["Decision"] and not list(topics([CODE[0], *CODE[2:]]))
