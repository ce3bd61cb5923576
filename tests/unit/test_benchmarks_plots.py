"""Plots of the benchmarks: which are drawn, that they are pictures, and that the same run draws the same bytes."""

from __future__ import annotations

from pathlib import Path

from made_runs import run_of
from needs import require

from benchmarks.results import MeterInfo, Run, Sample, Series

METERS = (
    MeterInfo("tcp-1", "TCP, 1 stream", "Gbit/s", True),
    MeterInfo("udp-64", "UDP, 64 B", "kpps", True),
    MeterInfo("rtt-tcp", "TCP round trip", "µs", False),
    MeterInfo("cpu-gbit", "CPU time", "s/Gbit", False),
)
DETAILS: dict[str, dict[str, object]] = {
    "udp-64": {"curve": [[1000.0, 0.0], [2000.0, 0.0], [4000.0, 0.4, 9000.0]]},
    "rtt-tcp": {"tail": [[0.0, 20.0], [0.5, 30.0], [0.99, 80.0], [1.0, 300.0]]},
}


def a_run(*names: str) -> Run:
    meters = tuple(it for it in METERS if it.name in names)
    found = [
        Series(meter.name, peer, [Sample(at, 1.0 + at, detail=DETAILS.get(meter.name, {})) for at in (1, 2, 3)])
        for meter in meters
        for peer in ("vxlanu", "kernel", "again")
    ]
    return run_of(*found, meters=meters)


def test_every_plot_is_drawn_as_two_kinds_of_picture_and_the_same_every_time(tmp_path: Path) -> None:
    require("matplotlib")
    from benchmarks.plots import PLOTS, draw

    run = a_run(*(it.name for it in METERS))
    made = [{path.name: path.read_bytes() for path in draw(run, tmp_path / again)} for again in ("one", "two")]
    assert made[0] == made[1] and made[0].keys() == {f"{name}.{kind}" for name in PLOTS for kind in ("png", "svg")}
    for name, octets in made[0].items():
        assert octets.startswith(b"\x89PNG\r\n\x1a\n") if name.endswith("png") else b"<svg" in octets[:1000]
    caption = made[0]["latency.svg"].decode()
    for part in ("3 rounds", "a CPU", "Linux 6.1", "underlay offload", "share that took longer", "µs", "kernel"):
        assert part in caption
    assert "again" not in caption


def test_what_has_no_samples_is_not_drawn(tmp_path: Path) -> None:
    require("matplotlib")
    from benchmarks.plots import draw

    assert {path.stem for path in draw(a_run("tcp-1"), tmp_path, "plain-")} == {"plain-throughput"}
    assert draw(a_run(), tmp_path / "none") == []


def test_no_two_peers_look_alike() -> None:
    require("matplotlib")
    from benchmarks.peers import PEERS
    from benchmarks.plots import COLOURS, MARKERS

    assert len(PEERS) <= len(set(COLOURS)) == len(COLOURS) and len(PEERS) <= len(set(MARKERS)) == len(MARKERS)


def test_a_trial_whose_sender_did_not_keep_up_is_drawn_apart() -> None:
    require("matplotlib")
    from benchmarks.plots import _percent

    points = [[1000.0, 0.0, 1010.0], [4000.0, 0.4, 9000.0], [3000.0, 0.5]]
    assert _percent(points, kept_up=True) == ([1.0, 3.0], [0.01, 50.0])
    assert _percent(points, kept_up=False) == ([4.0], [40.0])
