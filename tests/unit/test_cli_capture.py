"""`vxlanu capture` on the client's side: what is asked for, what is shown and written, and how it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_blocks import ARP, PING, block, option, ours, packet
from sample_agent import SampleAgent

from vxlanu.api.schema import CaptureWanted
from vxlanu.cli.main import main


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SampleAgent]:
    monkeypatch.setenv("VXLANU_SOCKET", str(tmp_path / "agent.sock"))
    monkeypatch.setattr("os.nice", lambda more: more)  # of the process that runs the tests
    with SampleAgent(tmp_path / "agent.sock") as serving:
        data = ours(packet(ARP), packet(PING), block(5, bytes(12) + option(5, (3).to_bytes(8, "little"))))
        serving.service.captured = [data[:200], data[200:]]
        yield serving


def test_every_option_is_asked_for_as_it_was_typed(agent: SampleAgent) -> None:
    line = "capture A look --view both --direction in --drops --reason csum,vlan --reason fdb_miss -c 5 --snaplen 99"
    assert main([*line.split(), "--duration", "2"]) == 0
    reasons = ["csum", "vlan", "fdb_miss"]
    assert agent.service.asked == [CaptureWanted(["A", "look"], "both", "in", True, reasons, 5, 2.0, 99)]
    assert main(["capture"]) == 0
    assert agent.service.asked[1] == CaptureWanted()


def test_lines_and_objects_have_the_names_that_the_file_has(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capture"]) == 0
    shown = capsys.readouterr()
    assert [line.split(" > ", 1)[1] for line in shown.out.splitlines()] == [
        "ff:ff:ff:ff:ff:ff: ARP, who-has B.look tell A.look",
        "B.look: ICMP echo request, id 1, seq 5, length 8",
    ]
    assert shown.err == "capturing on this host; Ctrl-C ends it\n2 frames, 3 lost\n"
    assert main(["capture", "--json"]) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["source"] for one in objects] == ["02:42:c0:a8:00:0a", "A.look"]


def test_a_file_is_what_the_agent_sent(agent: SampleAgent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f"
    assert main(["capture", "-w", str(file)]) == 0
    assert file.read_bytes() == b"".join(agent.service.captured)
    assert capsys.readouterr().err.endswith(f"2 frames in {file}, 3 lost\n")
    assert main(["capture", "-w", str(tmp_path / "no" / "f")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("said", [["--json"], ["-w"]])
def test_a_stream_that_breaks_off_is_exit_3_and_what_came_is_kept(
    agent: SampleAgent, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.service.capture_broken = True
    agent.service.captured = [ours(packet(ARP)), packet(PING)[:20]]
    file = tmp_path / "f"
    assert main(["capture", *said, *([str(file)] if said == ["-w"] else [])]) == 3
    shown = capsys.readouterr()
    assert "1 frame" in shown.err and "the connection to" in shown.err
    if said == ["-w"]:
        assert file.read_bytes() == ours(packet(ARP))


def test_the_signal_handlers_are_the_old_ones_afterwards(agent: SampleAgent) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["capture"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_terminal_is_not_written_pcapng_to(agent: SampleAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["capture", "-w", "-"]) == 2
    assert agent.service.asked == []
