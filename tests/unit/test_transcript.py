"""The player of transcripts: what it accepts, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest
from transcript import chapter, play

DOCUMENT = """# T

## One

```
one# make it          # a remark
0e28e5d7187d
one# ping \\
       -c 1
64 bytes from 192.168.0.100: seq=0 ttl=64 time=0.3 ms
...
two# ls
NODE  STATE
one   alive
two# rm it           # fails: in use
in use
```

## Two

```
one# never
```
"""
GOOD = ["1234567890ab\n", "64 bytes from 192.168.0.100: seq=0 ttl=64 time=12.345 ms\n\nand more\n"]
GOOD += ["NODE STATE\nh1     alive\n", "in use\n"]


def played(tmp_path: Path, outputs: list[str], last: int = 1) -> list[tuple[str, str]]:
    document = tmp_path / "README.md"
    document.write_text(DOCUMENT)
    asked: list[tuple[str, str]] = []

    def run(host: str, command: str) -> tuple[int, str]:
        asked.append((host, command))
        return (last if len(asked) == 4 else 0), outputs[len(asked) - 1]

    play(chapter(document, "One"), run, {"one": "h1", "two": "h2"})
    return asked


def test_a_chapter_is_run_in_order_on_its_hosts(tmp_path: Path) -> None:
    asked = played(tmp_path, GOOD)
    assert [host for host, _ in asked] == ["h1", "h1", "h2", "h2"]
    assert asked[1][1].split() == ["ping", "\\", "-c", "1"]


@pytest.mark.parametrize(
    ("number", "output"),
    [
        (0, "no id\n"),
        (0, "1234567890ab\nand a second line\n"),
        (1, "64 bytes from 192.168.0.101: seq=0 ttl=64 time=0.3 ms\n"),
        (1, ""),
        (2, "NODE STATE\nh2 alive\n"),
        (2, "NODE STATE\n"),
    ],
)
def test_another_output_is_no_success(tmp_path: Path, number: int, output: str) -> None:
    outputs = [*GOOD[:number], output, *GOOD[number + 1 :]]
    with pytest.raises(AssertionError, match="not printed"):
        played(tmp_path, outputs)


def test_a_step_that_must_fail_and_does_not_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit 0"):
        played(tmp_path, GOOD, last=0)


def test_a_chapter_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(DOCUMENT)
    with pytest.raises(AssertionError, match="no chapter"):
        chapter(tmp_path / "README.md", "Three")
