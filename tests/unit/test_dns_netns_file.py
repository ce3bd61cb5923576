"""The files that lead namespaces of ip-netns(8) to their gateways: ours come and go, others' are never touched."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType

import pytest

from vxlanu.dns import netns_file
from vxlanu.dns.netns_file import NetnsFiles, Served, text_of
from vxlanu.dns.resolvers import nameservers

DEMONET, BLUE = Served("demonet", "192.168.0.1"), Served("Blue", "10.9.0.1")


def files(root: Path) -> dict[str, str]:
    return {str(it.relative_to(root)): it.read_text() for it in root.glob("**/*") if it.is_file()}


def test_a_file_comes_with_the_first_network_and_goes_with_the_last(tmp_path: Path) -> None:
    root = tmp_path / "netns"
    ours = NetnsFiles("aaaa", root)
    ours.settle({"c0": [DEMONET]})
    assert files(root) == {"c0/resolv.conf": text_of("aaaa", [DEMONET])}
    ours.settle({"c0": [BLUE, DEMONET], "c1": [BLUE]})
    assert files(root) == {
        "c0/resolv.conf": text_of("aaaa", [BLUE, DEMONET]),
        "c1/resolv.conf": text_of("aaaa", [BLUE]),
    }
    ours.settle({"c1": [BLUE]})
    assert set(files(root)) == {"c1/resolv.conf"}
    ours.settle({})
    assert not root.exists(), "nothing is left, not even directories"


def test_it_looks_again_only_at_what_is_wanted_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[Served, ...]] = []

    def noted(agent: str, served: list[Served]) -> str:
        written.append(tuple(served))
        return text_of(agent, served)

    monkeypatch.setattr(netns_file, "text_of", noted)
    ours = NetnsFiles("aaaa", tmp_path)
    ours.settle({"c0": [DEMONET]})
    ours.settle({"c0": [DEMONET], "c1": [BLUE]})
    ours.settle({"c0": [DEMONET], "c1": [BLUE, DEMONET]})
    assert written == [(DEMONET,), (BLUE,), (BLUE, DEMONET)]
    ours.settle({})
    ours.settle({"c0": [DEMONET]})
    assert files(tmp_path) == {"c0/resolv.conf": text_of("aaaa", [DEMONET])}, "made again after it had gone"


def test_a_namespace_that_was_left_alone_is_looked_at_each_time(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "c0" / "resolv.conf", NetnsFiles("aaaa", tmp_path)
    theirs.parent.mkdir()
    theirs.write_text("nameserver 192.0.2.1\n")
    ours.settle({"c0": [DEMONET]})
    assert ours.left_alone == {"c0"}
    theirs.unlink()
    ours.settle({"c0": [DEMONET]})
    assert files(tmp_path) == {"c0/resolv.conf": text_of("aaaa", [DEMONET])} and ours.left_alone == set()


def test_what_it_says() -> None:
    one, two = text_of("aaaa", [DEMONET]), text_of("aaaa", [BLUE, DEMONET])
    assert nameservers(one) == ["192.168.0.1"] and "\nsearch vxlanu.internal\n" in one
    assert nameservers(two) == ["10.9.0.1", "192.168.0.1"]
    assert "\nsearch blue.vxlanu.internal demonet.vxlanu.internal vxlanu.internal\n" in two
    assert len(nameservers(text_of("a", [Served(f"n{n}", f"10.0.{n}.1") for n in range(9)]))) == 3


def test_it_is_written_in_place_for_the_shells_that_have_it_open(tmp_path: Path) -> None:
    ours = NetnsFiles("aaaa", tmp_path)
    ours.settle({"c0": [DEMONET]})
    with (tmp_path / "c0" / "resolv.conf").open() as held:
        ours.settle({"c0": [DEMONET, BLUE]})
        assert held.read() == text_of("aaaa", [DEMONET, BLUE])


def killed_at(line: int, work: Callable[[], None]) -> bool:
    """Whether kill -9 before that line, of those that `netns_file` runs for `work`, came before its end."""
    child = os.fork()
    if not child:
        before = count(1)

        def step(frame: FrameType, event: str, arg: object) -> object:
            if frame.f_code.co_filename != netns_file.__file__:
                return None
            if event == "line" and next(before) == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return step

        sys.settrace(step)  # type: ignore[arg-type]  # its own type has no name
        work()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


@pytest.mark.parametrize("before", [[], [DEMONET], [BLUE, DEMONET]], ids=["none", "shorter", "longer"])
def test_a_kill_at_any_line_leaves_no_file_that_is_nobodys(tmp_path: Path, before: list[Served]) -> None:
    wanted = {"c0": [DEMONET, Served("a-name-of-middle-length", "10.9.0.1")]}
    for line in count(1):
        root = tmp_path / str(line)
        if before:
            NetnsFiles("aaaa", root).settle({"c0": before})
        if not killed_at(line, lambda: NetnsFiles("aaaa", root).settle(wanted)):  # noqa: B023 - used here
            break
        again = NetnsFiles("aaaa", root)
        again.settle(wanted)
        assert files(root) == {"c0/resolv.conf": text_of("aaaa", wanted["c0"])}, f"killed at line {line}"
        again.settle({})
        assert not root.exists(), f"killed at line {line}"
    assert line > 20, "it was killed at many lines"


def test_a_user_of_the_namespace_can_read_it_whatever_the_agents_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        NetnsFiles("aaaa", tmp_path).settle({"c0": [DEMONET]})
    finally:
        os.umask(old)
    assert (tmp_path / "c0" / "resolv.conf").stat().st_mode & 0o777 == 0o644


def test_owner_and_mode_that_somebody_gave_it_stay(tmp_path: Path) -> None:
    ours, file = NetnsFiles("aaaa", tmp_path), tmp_path / "c0" / "resolv.conf"
    ours.settle({"c0": [DEMONET]})
    file.chmod(0o640)
    if os.getuid() == 0:
        os.chown(file, 1, 1)
    before = file.stat()
    ours.settle({"c0": [BLUE, DEMONET]})
    after = file.stat()
    assert file.read_text() == text_of("aaaa", [BLUE, DEMONET])
    assert (after.st_mode, after.st_uid, after.st_ino) == (before.st_mode, before.st_uid, before.st_ino)


def test_a_file_that_somebody_makes_meanwhile_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, plainly = tmp_path / "c0" / "resolv.conf", os.link

    def late(source: Path, target: Path) -> None:
        theirs.write_text("nameserver 192.0.2.1\n")
        plainly(source, target)

    monkeypatch.setattr(os, "link", late)
    ours = NetnsFiles("aaaa", tmp_path)
    ours.settle({"c0": [DEMONET]})
    assert files(tmp_path) == {"c0/resolv.conf": "nameserver 192.0.2.1\n"} and ours.left_alone == {"c0"}


def test_a_full_disk_leaves_no_file_that_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, full = NetnsFiles("aaaa", tmp_path), Path("/dev/full")
    plainly = os.write

    def on_a_full_disk(_: int, data: bytes) -> int:
        with full.open("wb", buffering=0) as opened:
            return plainly(opened.fileno(), data)

    monkeypatch.setattr(os, "write", on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        ours.settle({"c0": [DEMONET]})
    assert files(tmp_path) == {}
    monkeypatch.undo()
    ours.settle({"c0": [DEMONET]})
    assert files(tmp_path) == {"c0/resolv.conf": text_of("aaaa", [DEMONET])} and ours.left_alone == set()
    ours.settle({"c0": [BLUE, DEMONET]})
    ours.settle({"c0": [BLUE]})
    assert files(tmp_path) == {"c0/resolv.conf": text_of("aaaa", [BLUE])}, "nothing of the longer one is left"


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    theirs, aside = tmp_path / "c0" / "resolv.conf", tmp_path / "elsewhere"
    for directory in ("c0", "c1", "c2"):
        (tmp_path / directory).mkdir()
    theirs.write_text("nameserver 192.0.2.1\n")
    aside.write_text(text_of("aaaa", [BLUE]))
    (tmp_path / "c1" / "resolv.conf").symlink_to(aside)
    (tmp_path / "c2" / "hosts").write_text("192.0.2.1 a\n")
    before = files(tmp_path)
    ours = NetnsFiles("aaaa", tmp_path)
    ours.settle({"c0": [DEMONET], "c1": [DEMONET], "c2": [DEMONET]})
    assert ours.left_alone == {"c0", "c1"}
    assert files(tmp_path) == before | {"c2/resolv.conf": text_of("aaaa", [DEMONET])}, "the control: c2 got one"
    ours.settle({})
    assert files(tmp_path) == before and ours.left_alone == set()


def test_what_a_crash_left_goes_at_the_next_start_and_another_agents_stays(tmp_path: Path) -> None:
    NetnsFiles("aaaa", tmp_path).settle({"c0": [DEMONET], "c1": [DEMONET]})
    NetnsFiles("bbbb", tmp_path).settle({"c9": [BLUE]})
    again = NetnsFiles("aaaa", tmp_path)
    again.settle({"c1": [DEMONET]})
    assert set(files(tmp_path)) == {"c1/resolv.conf", "c9/resolv.conf"}
    assert [it.parent.name for it in again.found()] == ["c1"]


def test_one_that_cannot_be_written_keeps_no_other_from_coming(tmp_path: Path) -> None:
    (tmp_path / "c0").write_text("where a directory should be")
    ours = NetnsFiles("aaaa", tmp_path)
    with pytest.raises(OSError) as caught:
        ours.settle({"c0": [DEMONET], "c1": [DEMONET]})
    assert "c0" in str(caught.value.filename)
    assert (tmp_path / "c1" / "resolv.conf").exists()
    (tmp_path / "c0").unlink()
    ours.settle({"c0": [DEMONET], "c1": [DEMONET]})
    assert set(files(tmp_path)) == {"c0/resolv.conf", "c1/resolv.conf"}
