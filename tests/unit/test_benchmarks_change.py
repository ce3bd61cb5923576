"""What changed between two kept runs: ratios side by side, and what A/A or the intervals leave of the change."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_runs import RTT, TCP, run_of, series

from benchmarks.__main__ import run as command
from benchmarks.change import Unlike, changes
from benchmarks.results import Run, Settings, save

KERNEL = series("kernel", 10, 10, 10, 10, 10)


def of(*values: float, again: float = 1.02) -> Run:
    """vxlanu had so much where the kernel had 10, and in its second series `again` times that."""
    return run_of(series("vxlanu", *values), series("again", *(it * again for it in values)), KERNEL)


def verdict(old: Run, new: Run) -> str:
    """The last line, which is the one meter's."""
    return list(changes(old, new))[-1]


def test_a_change_is_one_where_it_is_beyond_a_a_and_the_intervals_are_apart() -> None:
    before, after = of(6, 6, 6.1, 6, 5.9), of(7, 7.1, 7, 6.9, 7)
    for part in ("0.60 (0.59 to 0.61, n=5)", "0.70 (0.69 to 0.71, n=5)", "1.17", "1.02", "better"):
        assert part in verdict(before, after)
    assert "0.86" in verdict(after, before) and verdict(after, before).endswith("worse")
    noisy = of(7, 7.1, 7, 6.9, 7, again=0.8)
    assert "1.25" in verdict(before, noisy) and verdict(before, noisy).endswith("within A/A")
    assert verdict(noisy, before).endswith("within A/A"), "the noise of either counts"
    assert verdict(before, of(7, 3, 7, 9, 7)).endswith("no difference shown")


def test_less_is_better_of_a_time() -> None:
    def late(ours: float) -> Run:
        both = (series(peer, *[value] * 5, meter="rtt-tcp") for peer, value in (("vxlanu", ours), ("kernel", 40)))
        return run_of(*both, meters=(RTT,))

    assert verdict(late(60), late(40)).endswith("better") and verdict(late(40), late(60)).endswith("worse")


def test_what_only_one_run_has_and_what_else_differs_is_said() -> None:
    before, after = of(6, 6, 6), of(6, 6, 6)
    rest = [series(peer, 40, 40, 40, meter="rtt-tcp") for peer in ("vxlanu", "kernel")]
    after.meters, after.series = [TCP, RTT], [*after.series, *rest]
    after.settings = Settings(underlay="plain", family="ipv4", mtu=1500)
    told = list(changes(before, after))
    assert "settings: underlay offload, IPv4, MTU 1500 -> underlay plain, IPv4, MTU 1500" in told
    assert "commit: abc" in told and told[-1].split()[-3:] == ["-", "no", "figure"] and "1.00 (1.00" in told[-1]
    after.peers = [it for it in after.peers if it.name != "kernel"]
    with pytest.raises(Unlike, match="to kernel in one run and to nobody in the other"):
        list(changes(before, after))


def test_the_command_reads_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    for file, run in zip(files, (of(5, 5, 5), of(6, 6, 6)), strict=True):
        save(run, file)
    assert command(["change", *map(str, files)]) == 0
    assert "vxlanu to kernel" in (out := capsys.readouterr().out) and "1.20" in out
    assert command(["change", str(files[0]), str(tmp_path / "none.json")]) == 2
