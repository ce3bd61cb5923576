"""Tables, ages, sizes and colour, by example."""

from __future__ import annotations

import io

import pytest

from vxlanu.api import schema as s
from vxlanu.cli import render
from vxlanu.cli.network import draw_networks
from vxlanu.cli.tables import fdb_line, neighbor_line

MAC = "02:42:c0:a8:00:64"


class Terminal(io.StringIO):
    """A stdout that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_columns_widen_numbers_stand_right_and_nothing_trails() -> None:
    long = "a-name-of-sixty-three-characters-is-never-cut-off-nor-abbreviated"
    lines = list(render.table(("NAME", "COUNT", "TAIL"), [(long, 7, "x"), ("b", 1234567, "")]))
    assert lines == [
        "NAME".ljust(len(long)) + "    COUNT  TAIL",
        f"{long}        7  x",
        "b".ljust(len(long)) + "  1234567  -",
    ]


def test_an_empty_table_is_its_header() -> None:
    assert list(render.table(("A", "B"), [])) == ["A  B"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0, "0s"), (12.9, "12s"), (59.99, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86399, "23h"),
     (86400, "1d"), (400 * 86400, "400d")],
)  # fmt: skip
def test_an_age_is_one_number_rounded_down(seconds: float, text: str) -> None:
    assert render.age(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1331439862, "1.24 GiB"), ((1 << 20) - 1, "1.00 MiB"),
     ((1 << 64) - 1, "16.00 EiB")],
)  # fmt: skip
def test_a_size_is_in_binary_units(octets: int, text: str) -> None:
    assert render.size(octets) == text


def test_colour_is_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    rows = [("h1", "alive"), ("h2", "down 12s"), ("h3", "left")]
    monkeypatch.setattr("sys.stdout", io.StringIO())
    plain = list(render.table(("NODE", "STATE"), rows))
    assert not any("\x1b" in line for line in plain)
    monkeypatch.setattr("sys.stdout", Terminal())
    coloured = list(render.table(("NODE", "STATE"), rows))
    assert coloured[1:] == ["h1    \x1b[32malive\x1b[0m", "h2    \x1b[31mdown 12s\x1b[0m", "h3    left"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert list(render.table(("NODE", "STATE"), rows)) == plain


def test_colour_does_not_shift_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", Terminal())
    (line,) = list(render.table(("STATE", "NODE"), [("up", "h1")]))[1:]
    assert line == "\x1b[32mup\x1b[0m     h1"


def test_a_network_shows_a_state_only_where_one_is_not_active() -> None:
    blue = s.Network("0" * 32, "blue", 300, ["10.1.2.0/24"], 1450, 0)
    red = s.Network("1" * 32, "red", 301, ["10.1.3.0/24"], 1450, 12, state="conflict")
    assert list(draw_networks(s.Items([blue]))) == [
        "NETWORK ID    NAME  VNI  SUBNET        MTU  ENDPOINTS  SCOPE",
        "000000000000  blue  300  10.1.2.0/24  1450          0  global",
    ]
    assert [line.split()[-1] for line in draw_networks(s.Items([blue, red]))] == ["STATE", "active", "conflict"]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (
            s.FdbEntry("n", MAC, "C0", "h2", "192.0.2.2", False),
            "dst 192.0.2.2 self permanent endpoint C0 node h2 origin record",
        ),
        (
            s.FdbEntry("n", MAC, "C0", "h1", "192.0.2.1", True),
            "local permanent endpoint C0 node h1 origin record",
        ),
        (
            s.FdbEntry("n", MAC, "", "", "192.0.2.9", False, "learned", 12.0),
            "dst 192.0.2.9 self age 12s origin learned",
        ),
    ],
)
def test_an_fdb_line_reads_like_bridge(entry: s.FdbEntry, line: str) -> None:
    assert fdb_line(entry, dev=False) == f"{MAC} {line}"
    assert fdb_line(entry, dev=True) == f"{MAC} dev n {line}"


def test_a_neighbor_line_reads_like_ip() -> None:
    entry = s.Neighbor("n", "10.0.0.2", MAC, "C0", "h2")
    assert neighbor_line(entry, dev=True) == f"10.0.0.2 dev n lladdr {MAC} PERMANENT endpoint C0 node h2"
    assert neighbor_line(entry, dev=False) == f"10.0.0.2 lladdr {MAC} PERMANENT endpoint C0 node h2"


def test_a_name_from_another_host_cannot_steer_the_terminal() -> None:
    hostile = "h2\x1b[2J\nh3"
    assert list(render.table(("NODE",), [(hostile,)])) == ["NODE", r"h2\x1b[2J\nh3"]
    assert list(render.block("node", hostile, [("id", hostile)])) == [r"node: h2\x1b[2J\nh3", r"  id: h2\x1b[2J\nh3"]
    assert r"node h2\x1b[2J\nh3" in fdb_line(s.FdbEntry("n", MAC, "C0", hostile, "", True), dev=True)
    assert render.printable("größe…") == "größe…"
