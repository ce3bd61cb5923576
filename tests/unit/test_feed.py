"""Readers of events: what they are told, what a slow one costs, and that none of them holds anybody up."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from pathlib import Path

import pytest
from sample_agent import SampleAgent, golden

from vxlanu.agent.feed import READERS_MAX, WAITING_MAX, Feed, Reader
from vxlanu.api.events import ALWAYS, EVENTS
from vxlanu.api.schema import Event
from vxlanu.cli.main import main
from vxlanu.errors import TryAgain

PATIENCE_S = 60.0


def taken(reader: Reader) -> list[Event]:
    return asyncio.run(reader.take(0))


def test_every_reader_gets_what_it_asked_for_in_order() -> None:
    feed = Feed()
    all_of_it, of_blue, of_names = feed.listen([], "", ""), feed.listen([], "blue", ""), feed.listen(["drops"], "", "")
    for name, network in (("drops", "blue"), ("member", ""), ("mac_learned", "blue"), ("drops", "red")):
        feed.tell(Event(name, network=network))
    assert [e.event for e in taken(all_of_it)] == ["drops", "member", "mac_learned", "drops"]
    assert [(e.event, e.network) for e in taken(of_blue)] == [("drops", "blue"), ("mac_learned", "blue")]
    assert [e.network for e in taken(of_names)] == ["blue", "red"]


def test_a_reader_that_does_not_read_costs_one_queue_and_learns_how_much_it_missed() -> None:
    feed = Feed()
    slow, quick = feed.listen([], "", ""), feed.listen([], "", "")
    for number in range(WAITING_MAX + 7):
        feed.tell(Event("drops", frames=number))
        taken(quick)
    got = taken(slow)
    assert [e.frames for e in got[:-1]] == list(range(WAITING_MAX))
    assert (got[-1].event, got[-1].lost) == ("lost", 7)
    feed.tell(Event("drops", frames=9))
    assert [e.frames for e in taken(slow)] == [9]  # told once, and it hears on
    assert taken(quick) == [] or all(e.event != "lost" for e in taken(quick))


def test_readers_are_bounded_and_a_closed_one_makes_room() -> None:
    feed = Feed()
    pictures = []
    feed.on_first = lambda: pictures.append(feed.listened)
    readers = [feed.listen([], "", "") for _ in range(READERS_MAX)]
    with pytest.raises(TryAgain, match="readers listen already"):
        feed.listen([], "", "")
    readers[0].close()
    readers[0].close()
    feed.listen([], "", "")
    assert pictures == [False]


def test_a_waiting_reader_wakes_when_something_is_told_and_when_all_ends() -> None:
    async def scene() -> tuple[list[Event], list[Event]]:
        feed = Feed()
        reader = feed.listen([], "", "")
        waiting = asyncio.create_task(reader.take(PATIENCE_S))
        await asyncio.sleep(0)
        feed.tell(Event("member"))
        first = await waiting
        waiting = asyncio.create_task(reader.take(PATIENCE_S))
        await asyncio.sleep(0)
        feed.end()
        return first, await waiting

    first, last = asyncio.run(asyncio.wait_for(scene(), PATIENCE_S / 2))
    assert [e.event for e in first] == ["member"] and first[0].unix_s > 0
    assert last == []


def test_events_prints_keyword_and_value(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "demonet", "--only", "drops,member", "-c", "1", "--socket", str(agent.path)]) == 0
    out = capsys.readouterr().out
    at, rest = out.split(" ", 1)
    assert at.endswith(":49.125") and rest == (
        "endpoint_changed endpoint C0 network demonet vni 256 address 192.168.0.100/24 lladdr 02:42:c0:a8:00:64 "
        "node h1 dst 10.89.0.1:4789 state down reason fdb_miss frames 5 in 10s mtu 1400 was up "
        "error Invalid argument lost 3\n"
    )
    assert agent.service.asked == [("events", ["drops", "member"], "demonet", "")]


def test_events_with_json_are_the_lines_of_the_agent(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "--json", "--count", "2", "--socket", str(agent.path)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"event": "listening", "unix_s": 1.0, "node": "h1"}
    assert [line["event"] for line in lines[1:]] == [golden(Event).event] * 2


def test_an_unknown_event_is_answered_with_the_nearest(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "--only", "endpoint_add", "--socket", str(agent.path)]) == 2
    assert "try: endpoint_added" in capsys.readouterr().err
    assert agent.service.asked == []


def test_a_reader_that_goes_is_noticed(agent: SampleAgent) -> None:
    with socket.socket(socket.AF_UNIX) as reading:
        reading.connect(str(agent.path))
        reading.sendall(b"GET /v1/events HTTP/1.1\r\nHost: v\r\n\r\n")
        reading.settimeout(PATIENCE_S)
        assert b"200 OK" in reading.recv(100)
        assert agent.service.stream is not None and not agent.service.stream.closed.is_set()
    assert agent.service.stream.closed.wait(PATIENCE_S)


def test_names_do_not_meet() -> None:
    assert not set(EVENTS) & set(ALWAYS)


def test_an_agent_that_ends_within_a_line_is_exit_3_and_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"event": "member"}\n{"event": "dro')

        serving = threading.Thread(target=serve)
        serving.start()
        assert main(["events", "--socket", str(tmp_path / "s")]) == 3
        serving.join(PATIENCE_S)
    out, err = capsys.readouterr()
    assert out.endswith(" member\n") and "agent went away" in err and err.count("\n") == 1
