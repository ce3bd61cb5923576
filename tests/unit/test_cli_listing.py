"""--format and --watch, which every list has."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import click
import msgspec
import pytest
from sample_agent import SampleAgent, golden

from vxlanu.api import schema as s
from vxlanu.cli.main import main, root
from vxlanu.cli.tables import Rates

LISTS = {
    "network ls": s.Network,
    "endpoint ls": s.Endpoint,
    "member ls": s.Member,
    "vtep ls": s.Vtep,
    "fdb show": s.FdbEntry,
    "neighbor show": s.Neighbor,
    "drops": s.Drop,
    "stats": s.Counters,
    "netns ls": s.Namespace,
}
SENTINEL_ROUNDS = 3


class Terminal(io.StringIO):
    """A stdout that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def three_pictures(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A watch that the user ends after the third picture; the pauses between them."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == SENTINEL_ROUNDS:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    return pauses


def test_every_list_has_both_options() -> None:
    def lists(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            if isinstance(found, click.Group):
                yield from lists(found, f"{path}{name} ")
            elif found is not None:
                yield f"{path}{name}", found

    for path, command in lists(root):
        options = {option for parameter in command.params for option in parameter.opts}
        without = path.startswith(("lab ", "kv "))  # keys have no columns, and kv watches by itself
        is_list = path.split()[-1] in ("ls", "show", "drops", "stats") and not without
        assert ({"--format", "--watch"} <= options) == is_list, path


@pytest.mark.parametrize("line", LISTS)
def test_every_field_of_a_row_can_be_asked_for(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    fields = LISTS[line].__struct_encode_fields__
    assert main([*line.split(), "--format", ",".join(fields), "--socket", str(agent.path)]) == 0
    row = capsys.readouterr().out.splitlines()[0].split("\t")
    whole = msgspec.to_builtins(golden(LISTS[line]))
    assert len(row) == len(fields)
    for name, shown in zip(fields, row, strict=True):
        if isinstance(whole[name], str | int) and not isinstance(whole[name], bool):
            assert shown == str(whole[name]), name


def test_format_prints_values_alone_in_the_order_asked_for(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["member", "ls", "--format", "state,name,self,rtt_ms", "--socket", str(agent.path)]) == 0
    assert capsys.readouterr().out == "alive\th1\ttrue\t0.25\nsuspect\th2\tfalse\t0.25\n"
    assert main(["network", "ls", "--format", "subnets", "--socket", str(agent.path)]) == 0
    assert capsys.readouterr().out == "192.168.0.0/24,fd00:a8::/64\n"


def test_an_unknown_field_is_answered_with_the_fields_and_exit_2(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["member", "ls", "--format", "name,adress", "--socket", str(agent.path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "no field 'adress'" in err and "data_port, state, since_s" in err
    assert err.endswith("; try: --format address\n")
    assert agent.service.asked == []


def test_format_and_json_exclude_each_other(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["member", "ls", "--format", "name", "--json", "--socket", str(agent.path)]) == 2
    assert "--json prints the API's answer unchanged" in capsys.readouterr().err


def test_watch_into_a_pipe_separates_the_pictures_by_a_blank_line(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str], three_pictures: list[float]
) -> None:
    assert main(["network", "ls", "--format", "name", "--watch", "--socket", str(agent.path)]) == 130
    assert capsys.readouterr().out == "demonet\n\ndemonet\n\ndemonet\n"
    assert three_pictures == [1.0] * 3 and agent.service.asked == ["networks"] * 3


def test_watch_with_json_is_one_body_a_line(
    agent: SampleAgent, capfdbinary: pytest.CaptureFixture[bytes], three_pictures: list[float]
) -> None:
    assert main(["network", "ls", "--json", "--every", "0.5", "--socket", str(agent.path)]) == 130
    body = msgspec.json.encode(s.Items([golden(s.Network)])) + b"\n"
    assert capfdbinary.readouterr().out == body * 3
    assert three_pictures == [0.5] * 3


def test_watch_on_a_terminal_draws_over_the_last_picture(
    agent: SampleAgent, monkeypatch: pytest.MonkeyPatch, three_pictures: list[float]
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("LINES", "3")
    assert main(["network", "ls", "--format", "name", "--watch", "--socket", str(agent.path)]) == 130
    assert screen.getvalue() == "\x1b[Hdemonet\x1b[K\n\x1b[J" * 3
    agent.service.fdb_rows = 5
    three_pictures.clear()
    screen.seek(0), screen.truncate()
    assert main(["fdb", "show", "--format", "network", "--watch", "--socket", str(agent.path)]) == 130
    assert screen.getvalue().startswith("\x1b[Hdemonet\x1b[K\n… 4 more lines\x1b[K\n\x1b[J")


def test_watched_drops_have_a_rate_from_the_second_picture_on() -> None:
    times = iter([10.0, 12.0])
    rates = Rates(lambda: next(times))
    first = golden(s.Drop)
    assert "PER-SECOND" not in next(iter(rates.draw(s.Items([first]))))
    more = msgspec.structs.replace(first, frames=first.frames + 7)
    other = msgspec.structs.replace(first, reason="vlan", frames=4)
    lines = list(rates.draw(s.Items([more, other])))
    assert lines[0].split()[:3] == ["REASON", "FRAMES", "PER-SECOND"]
    assert [line.split()[:3] for line in lines[1:]] == [["fdb_miss", "12", "4"], ["vlan", "4", "2"]]


def test_fields_complete_after_each_comma() -> None:
    command = root.get_command(click.Context(root), "drops")
    assert command is not None
    option = next(parameter for parameter in command.params if "--format" in parameter.opts)
    offered = option.shell_complete(click.Context(command), "reason,fr")
    assert [item.value for item in offered] == ["reason,frames"]
