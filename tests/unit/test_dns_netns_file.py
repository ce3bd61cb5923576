"""The files that lead namespaces of ip-netns(8) to their gateways: ours come and go, others' are never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_a_full_disk_leaves_no_file_that_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, full = NetnsFiles("aaaa", tmp_path), Path("/dev/full")
    plainly = Path.write_text

    def on_a_full_disk(file: Path, text: str) -> int:
        plainly(file, "")
        return plainly(full, text)

    monkeypatch.setattr(Path, "write_text", on_a_full_disk)
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
