"""vxlanu help TOPIC, the files that ship, what a stranger meets first."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from needs import require

from vxlanu.cli.main import COMMANDS, main
from vxlanu.cli.topics import ADVICE, TOPICS
from vxlanu.dns.netns_file import ETC_NETNS
from vxlanu.errors import CLASSES
from vxlanu.event_names import EVENTS

VXLANU = str(Path(sys.executable).with_name("vxlanu"))


def told(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert main(line) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_is_a_page_of_lines_that_fit(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "help", topic).splitlines()
    assert len(lines) > 9
    if topic not in ("events", "exit-codes", "drops"):
        assert max(map(len, lines)) <= 110
    assert f"\n{topic} " in "\n" + told(capsys, "help")


@pytest.mark.parametrize("topic", TOPICS)
def test_what_a_topic_tells_to_type_exists(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every `vxlanu WORD` in the text is a command, or the name of the program or its group."""
    words = re.findall(r"(?<![\w/.@-])vxlanu ([a-z][a-z-]*)", told(capsys, "help", topic))
    prose = {"overlay", "may"}
    assert {word for word in words if word not in COMMANDS} <= prose


def test_an_unknown_topic_is_refused_with_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "drop"]) == 4
    assert capsys.readouterr().err == "vxlanu: help drop: no such topic; try: drops\n"


def test_the_drops_page_has_every_reason_and_advice(capsys: pytest.CaptureFixture[str]) -> None:
    require("native")
    from vxlanu.dataplane.reading import REASON_TEXTS

    assert set(ADVICE) == set(REASON_TEXTS) - {"ok"}
    page = told(capsys, "help", "drops")
    for name, sentence in REASON_TEXTS.items():
        assert name == "ok" or f"\n{name}\n    {sentence}\n    → {ADVICE[name]}" in page


def test_events_and_exit_codes_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    events, codes = told(capsys, "help", "events"), told(capsys, "help", "exit-codes")
    assert all(re.search(rf"^{name} +\w", events, re.M) for name in EVENTS)
    assert all(re.search(rf"^ *{kind.exit}  {kind.default_name}: ", codes, re.M) for kind in CLASSES)


def test_the_unit_starts_this_program_and_systemd_understands_it(tmp_path: Path) -> None:
    file, second = tmp_path / "vxlanu.service", tmp_path / "vxlanu-stand-in.service"
    for unit, words in ((file, ()), (second, ("--stand-in",))):
        unit.write_bytes(subprocess.run([VXLANU, "agent", *words, "--print-unit"], stdout=-1, check=True).stdout)
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # as the documentation of configparser has it
    unit.read(file)
    service = unit["Service"]
    assert shlex.split(service["ExecStart"]) == [str(Path(VXLANU).resolve()), "agent"]
    assert service["Type"] == "notify" and int(service["WatchdogSec"]) > 0
    assert int(service["FileDescriptorStoreMax"]) >= 1000 * 5
    assert second.name == unit["Unit"]["OnSuccess"] == unit["Unit"]["Conflicts"]
    assert "OnFailure" not in unit["Unit"], "from systemd 254 on it would answer Docker after a crash, too"
    assert {f"ExecStart={Path(VXLANU).resolve()} agent --stand-in", "After=vxlanu.service"} <= set(
        second.read_text().splitlines()
    )
    require("systemd-analyze")
    done = subprocess.run(["systemd-analyze", "verify", str(file), str(second)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or line.startswith("vxlanu")]
    assert [line for line in complaints if "man " not in line] == []
    file.write_text(file.read_text().replace("WatchdogSec=30", "WatchdogSec=often\nWatchdogSecs=3"))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True)
    assert "often" in done.stderr and "WatchdogSecs" in done.stderr, "a check that finds nothing"


def test_the_unit_leaves_the_agent_what_it_needs() -> None:
    """A service is confined: what it may not write or do fails there alone, where no other test looks."""
    text = subprocess.run([VXLANU, "agent", "--print-unit"], capture_output=True, text=True, check=True).stdout

    def words(key: str) -> set[str]:
        return {word for line in re.findall(rf"^{key}=(.*)$", text, re.M) for word in line.split()}

    written = {str(ETC_NETNS), "/run/docker/plugins", "/run/xtables.lock"}
    assert words("ProtectSystem") == {"strict"} and {f"-{path}" for path in written} == words("ReadWritePaths")
    assert written <= words("ExecStartPre"), "what is not there when the service starts cannot be made writable"
    low_ports, legacy_iptables = "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"
    wanted = {"CAP_NET_ADMIN", "CAP_SYS_ADMIN", low_ports, legacy_iptables, "CAP_SYS_NICE"}
    assert wanted <= words("CapabilityBoundingSet")


def test_help_of_a_command_is_what_the_command_says_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "attach"]) == 0
    by_topic = capsys.readouterr().out
    assert main(["attach", "--help"]) == 0
    assert capsys.readouterr().out == by_topic and "Usage: vxlanu attach" in by_topic


def test_a_topic_and_a_command_are_both_near(capsys: pytest.CaptureFixture[str]) -> None:
    for said, meant in (("toubleshooting", "troubleshooting"), ("verfy", "verify")):
        assert main(["help", said]) == 4
        assert capsys.readouterr().err.endswith(f"try: {meant}\n")


def test_troubleshooting_begins_with_the_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "troubleshooting"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "vxlanu doctor" in next(line for line in lines if line[:1].isdigit())
