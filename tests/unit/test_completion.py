"""Completion: real shells ask the program, and an agent that is away, silent or mad costs the user nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from needs import require

VXLANU = str(Path(sys.executable).with_name("vxlanu"))

SHELLS = {
    "bash": 'source <(vxlanu completion bash); COMP_WORDS=(vxlanu help tr); COMP_CWORD=2; '
    '_vxlanu_completion vxlanu; echo "${COMPREPLY[@]}"',
    "fish": 'vxlanu completion fish | source; complete -C "vxlanu help tr"',
    "zsh": "compdef() { :; }; compadd() { :; }; _describe() { print -l $completions $completions_with_descriptions; };"
    "source <(vxlanu completion zsh); words=(vxlanu help tr); CURRENT=3; _vxlanu_completion",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_offered_the_topic(shell: str) -> None:
    require(shell)
    environment = os.environ | {"PATH": f"{Path(VXLANU).parent}:{os.environ['PATH']}"}
    flags = {"bash": ["--norc"], "fish": ["--no-config"], "zsh": ["-f"]}[shell]
    done = subprocess.run([shell, *flags, "-c", SHELLS[shell]], capture_output=True, text=True, env=environment)
    assert "troubleshooting" in done.stdout and "targets" not in done.stdout, (done.stdout, done.stderr)


def completions(words: str, where: Path) -> tuple[int, str, str]:
    """What the shell gets while the agent at `where` is as it is."""
    environment = os.environ | {
        "_VXLANU_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split())),
        "VXLANU_SOCKET": str(where),
    }  # fmt: skip
    done = subprocess.run([VXLANU], capture_output=True, text=True, env=environment, timeout=60)
    return done.returncode, done.stdout, done.stderr


def babble(listener: socket.socket) -> None:
    """Answer everybody with what is no answer, until the listener is closed."""
    with contextlib.suppress(OSError):
        while True:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n}{\n")


@pytest.mark.parametrize("agent", ["away", "silent", "babbling"])
def test_completion_is_silent_when_the_agent_is(agent: str, tmp_path: Path) -> None:
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        if agent != "away":
            listener.bind(str(place))
            listener.listen(8)
        if agent == "babbling":
            threading.Thread(target=babble, args=(listener,), daemon=True).start()
        for words in ("vxlanu network inspect ", "vxlanu detach ", "vxlanu member forget "):
            assert completions(words, place) == (0, "\n", "") or completions(words, place) == (0, "", "")
