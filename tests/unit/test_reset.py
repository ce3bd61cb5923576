"""vxlanu reset on a state directory without endpoints; with them: tests/netns/test_service.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vxlanu.cli.main import main

VXLANU = str(Path(sys.executable).with_name("vxlanu"))


def state(tmp_path: Path) -> tuple[Path, Path, list[str]]:
    """A state directory as an agent without endpoints leaves it, a socket, and the flags that mean them."""
    from vxlanu.store import Store

    place = tmp_path / "state"
    place.mkdir()
    Store(place).close()
    (place / "node.key").write_text("key")
    left = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
    (tmp_path / "agent.toml").write_text("")
    return place, left, ["--state-dir", str(place), "--socket", str(left), "--config", str(tmp_path / "agent.toml")]


def test_reset_shows_then_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, left, flags = state(tmp_path)
    assert main(["reset", "--dry-run", *flags]) == 0
    out = capsys.readouterr().out
    for path in (place / "vxlanu.db", place / "node.key", left):
        assert f"would remove {path}\n" in out and path.exists()
    assert main(["reset", "--yes", *flags]) == 0
    assert not place.exists() and not left.exists()
    assert main(["reset", "--yes", *flags]) == 4


def test_reset_with_json_says_the_same_as_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, left, flags = state(tmp_path)
    (place / "photo.jpg").write_text("mine")
    assert main(["reset", "--yes", "--json", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"] is False and told["keep"] == [str(place / "photo.jpg")]
    assert {str(left), str(place / "node.key"), str(place / "vxlanu.db")} <= set(told["remove"])


def test_reset_asks_and_takes_no_for_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, _, flags = state(tmp_path)
    done = subprocess.run([VXLANU, "reset", *flags], input="n\n", capture_output=True, text=True)
    assert done.returncode == 1 and (place / "node.key").exists()
    assert done.stderr.endswith("nothing was removed\n")
    done = subprocess.run([VXLANU, "reset", *flags], input="y\n", capture_output=True, text=True)
    assert done.returncode == 0 and not place.exists(), done.stderr


def test_reset_keeps_what_no_agent_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, _, flags = state(tmp_path)
    (place / "photo.jpg").write_text("mine")
    assert main(["reset", "--yes", *flags]) == 0
    assert [path.name for path in place.iterdir()] == ["photo.jpg"]
    assert f"kept, not made by an agent: {place / 'photo.jpg'}" in capsys.readouterr().err


def test_reset_is_refused_while_an_agent_has_the_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vxlanu.store import StateLock

    place, _, flags = state(tmp_path)
    lock = StateLock(place)
    lock.acquire()
    assert main(["reset", "--yes", *flags]) == 5
    assert f"an agent runs on {place} (pid {os.getpid()})" in capsys.readouterr().err
    assert (place / "node.key").exists()
    lock.release()
    assert main(["reset", "--yes", *flags]) == 0


def test_reset_waits_for_who_has_the_directory_for_a_moment(tmp_path: Path) -> None:
    """As the stand-in's start has after each stop, until it knows which networks Docker has of ours."""
    from vxlanu.store import StateLock

    place, _, flags = state(tmp_path)
    lock = StateLock(place)
    lock.acquire()
    leaving = threading.Timer(0.3, lock.release)
    leaving.start()
    assert main(["reset", "--yes", *flags]) == 0
    leaving.join()


def test_an_agent_of_another_user_is_not_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vxlanu.store import StateLock

    def kill(_pid: int, _number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    place, _, flags = state(tmp_path)
    lock = StateLock(place)
    lock.acquire()
    monkeypatch.setattr(os, "kill", kill)
    assert main(["reset", "--yes", "--force", *flags]) == 6
    assert f"pid {os.getpid()} is another user's; try: sudo vxlanu reset" in capsys.readouterr().err
    lock.release()


def test_what_may_not_be_touched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 6 is the class of missing permission, whichever call found it missing."""
    _, left, flags = state(tmp_path)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", unlink)
    assert main(["reset", "--yes", *flags]) == 6
    assert left.exists()
