"""Help, start-up and completion: every example runs, nothing heavy is loaded, the shell is offered live names."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from lab_ns import poll
from sample_agent import SampleAgent

from vxlanu.cli.command import Command
from vxlanu.cli.main import COMMANDS, SECTIONS, main, root

HEAVY = ("aiohttp", "pyroute2", "scapy", "uvloop", "cryptography", "asyncio", "pytun", "vxlanu.agent", "vxlanu._native")
PATIENCE_S = 30
TRIES = 5  # completion waits a tenth of a second for the agent, which a busy machine may exceed
SUMMARIES = {name: summary for commands in SECTIONS.values() for name, (_where, summary) in commands.items()}


def every_command(group: click.Group, path: str = "vxlanu") -> Iterator[tuple[str, click.Command]]:
    """All commands with their whole names, groups too."""
    yield path, group
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None, f"{path} {name}"
        if isinstance(found, click.Group):
            yield from every_command(found, f"{path} {name}")
        else:
            yield f"{path} {name}", found


ALL = dict(every_command(root))


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = """agent attach detach drops stats verify status; network create|ls|inspect|rm; endpoint ls|inspect;
        member ls|join|leave|forget; fdb show; neighbor show; vtep ls|add|rm; key gen; completion; lab"""
    assert {f"vxlanu {name}" for name in ("netns ls", "network prune", "events", "exec", "ping", "why")} <= set(ALL)
    for part in wanted.split(";"):
        words = part.split()
        verbs = words[1].split("|") if "|" in part or words[-1] in ("show", "gen") else []
        names = [f"vxlanu {words[0]} {verb}" for verb in verbs] or [f"vxlanu {word}" for word in words]
        assert set(names) <= set(ALL)


@pytest.mark.parametrize("path", ALL)
def test_every_help_has_an_example_and_says_what_it_does(path: str) -> None:
    shown = CliRunner().invoke(root, [*path.split()[1:], "--help"], prog_name="vxlanu")
    assert shown.exit_code == 0
    text, _, examples = shown.output.partition("\nExample")
    assert "vxlanu" in examples, f"{path} has no example"
    assert len(text.splitlines()) > 4
    assert "--json" in text and "--socket" in text, f"{path} lacks the global options"


def arguments(example: str) -> list[str]:
    """The vxlanu part of an example, without what the shell does around it."""
    words = shlex.split(example.removeprefix('eval "$(').removesuffix(')"'))
    for operator in ("|", "&&", ">"):
        words = words[: words.index(operator)] if operator in words else words
    assert words[0] == "vxlanu", example
    return words[1:]


EXAMPLES = [(path, example) for path, command in ALL.items() for example in getattr(command, "examples", ())]


@pytest.mark.parametrize(("path", "example"), EXAMPLES)
def test_every_example_is_a_line_that_parses(
    path: str, example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(Command, "invoke", lambda _self, context: ran.append(context.command_path))
    monkeypatch.setattr("vxlanu.cli.overview.show_overview", lambda: ran.append("vxlanu"))
    assert main(arguments(example)) == 0, capsys.readouterr().err
    assert ran and (ran[0] == "vxlanu" or ran[0].startswith(path))


def test_an_example_that_does_not_parse_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Command, "invoke", lambda _self, _context: None)
    assert main(arguments("vxlanu network create x --vin 3 | cat")) == 2


def test_a_command_without_an_example_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="needs an example"):
        Command("bare", examples=[])
    assert Command("shown", examples=["vxlanu shown"]).examples


def loaded_by(code: str, **environment: str) -> set[str]:
    """Which of the heavy modules a fresh interpreter holds after running `code`."""
    tail = f"\nimport sys\nprint('loaded', *(m for m in {HEAVY!r} if m in sys.modules), file=sys.__stderr__)"
    env = {key: value for key, value in os.environ.items() if not key.startswith("VXLANU_")} | environment
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, env=env, timeout=PATIENCE_S, check=True
    )
    return set(done.stderr.splitlines()[-1].split()[1:])


def test_no_command_line_call_loads_what_only_the_agent_needs(agent: SampleAgent) -> None:
    path = str(agent.path)
    run = "from vxlanu.cli.main import main\nassert main({!r}) == 0"
    helps = [["--help"], ["lab", "--help"], ["bench", "pcap", "--help"]]
    for line in (*helps, ["member", "ls"], ["network", "create", "n"], ["agent", "--check"], []):
        told = [*line, "--socket", path] if "--help" not in line[1:] else line
        assert loaded_by(run.format(told)) == set(), line
    completing = loaded_by(
        run.format([]), _VXLANU_COMPLETE="bash_complete", COMP_WORDS="vxlanu member forget ", COMP_CWORD="3"
    )
    assert completing == set()


def test_what_asks_no_agent_loads_no_client() -> None:
    """The client's http.client is a third of the start; a person waits for each TAB."""
    loaded = "assert main({!r}) == 0\nimport sys\nassert {!r}.isdisjoint(sys.modules), {!r} & set(sys.modules)"
    unneeded = {"http.client", "vxlanu.cli.endpoint", "vxlanu.lab.commands"}
    for line, said in (["--help"], {}), ([], {"COMP_WORDS": "vxlanu n", "COMP_CWORD": "1"}):
        completing = {"_VXLANU_COMPLETE": "bash_complete", **said} if said else {}
        code = "from vxlanu.cli.main import main\n" + loaded.format(line, unneeded, unneeded)
        assert loaded_by(code, **completing) == set()
    with pytest.raises(subprocess.CalledProcessError):  # the control: with an argument of an agent it is needed
        asked = {"_VXLANU_COMPLETE": "bash_complete", "COMP_WORDS": "vxlanu network inspect ", "COMP_CWORD": "3"}
        loaded_by("from vxlanu.cli.main import main\n" + loaded.format([], unneeded, unneeded), **asked)


def test_commands_are_offered_with_their_summaries() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from vxlanu.cli.main import main\nmain([])"],
        capture_output=True,
        text=True,
        env=os.environ | {"_VXLANU_COMPLETE": "zsh_complete", "COMP_WORDS": "vxlanu net", "COMP_CWORD": "1"},
        timeout=PATIENCE_S,
        check=True,
    )
    offered = done.stdout.split("\n")
    assert offered[1::3] == ["network", "netns", "netcheck"]
    assert offered[2::3][:3] == [SUMMARIES[name] for name in ("network", "netns", "netcheck")]


def test_what_is_heavy_would_be_noticed() -> None:
    assert loaded_by("import aiohttp") >= {"aiohttp", "asyncio"}


def offered(agent: SampleAgent | None, words: str, typed: str = "") -> list[str]:
    """What bash is offered after `words`, for what is `typed` of the next one."""
    env = os.environ | {
        "_VXLANU_COMPLETE": "bash_complete",
        "COMP_WORDS": f"{words} {typed}",
        "COMP_CWORD": str(len(words.split())),
        "VXLANU_SOCKET": str(agent.path) if agent else "/nowhere/agent.sock",
    }
    done = subprocess.run(
        [sys.executable, "-m", "vxlanu.cli.main"], env=env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def is_offered(agent: SampleAgent, wanted: list[str], words: str, typed: str = "") -> None:
    """`wanted`, once the agent answers in time; nothing else at any time."""
    found = poll(lambda: offered(agent, words, typed), what=f"an offer after {words!r}")
    assert sorted(found) == wanted, words


def test_the_shell_is_offered_live_names(agent: SampleAgent) -> None:
    is_offered(agent, ["demonet"], "vxlanu network inspect")
    is_offered(agent, ["demonet"], "vxlanu network inspect", "de")
    is_offered(agent, ["C0"], "vxlanu endpoint inspect")
    is_offered(agent, ["h1", "h2"], "vxlanu member forget")
    is_offered(agent, ["c0"], "vxlanu detach demonet")
    is_offered(agent, ["10.89.0.9"], "vxlanu vtep rm demonet")
    is_offered(agent, ["neighbor", "netcheck", "netns", "network"], "vxlanu", "ne")
    for words in ("exec", "why", "ping", "ping B --from", "events --endpoint"):
        is_offered(agent, ["C0"], f"vxlanu {words}")
    is_offered(agent, ["demonet"], "vxlanu events")
    is_offered(agent, ["mac_learned"], "vxlanu events --only", "mac_l")
    is_offered(agent, ["reason,frames"], "vxlanu drops --format", "reason,fr")
    is_offered(agent, ["demonet"], f"vxlanu --socket {agent.path} fdb show")


def test_the_shell_is_offered_no_name_that_does_not_fit(agent: SampleAgent) -> None:
    is_offered(agent, ["demonet"], "vxlanu network inspect")  # the control: it is asked, and answers
    for _ in range(TRIES):
        assert offered(agent, "vxlanu network inspect", "x") == []
        assert offered(agent, "vxlanu vtep rm other") == []


def test_completion_is_silent_when_the_agent_is_away() -> None:
    assert offered(None, "vxlanu network inspect") == []
    assert "create" in offered(None, "vxlanu network")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_this_program(shell: str) -> None:
    shown = CliRunner().invoke(root, ["completion", shell])
    assert shown.exit_code == 0
    assert "_VXLANU_COMPLETE" in shown.output


def test_every_lazy_command_loads() -> None:
    context = click.Context(root)
    for name in COMMANDS:
        found = root.get_command(context, name)
        assert found is not None and found.name == name
