"""The player of transcripts: what it accepts, and what it must not."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from transcript import ID, ID_DIGITS, chapter, play

README = Path(__file__).parents[2] / "README.md"

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
GOOD = ["1234567890ab\n", "64 bytes from 192.168.0.100: seq=1 ttl=64 time=12.345 ms\n\nand more\n"]
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


TWICE = """# T

## One

```
one# make it
0e28e5d7187d
one# make another
{other}
one# ls
0e28e5d7187d  it
```
"""


@pytest.mark.parametrize(
    ("document", "other", "listed", "right"),
    [
        ("5a9a827d9677", "abcdefabcdef", "1234567890ab", True),
        ("0e28e5d7187d", "abcdefabcdef", "1234567890ab", False),
        ("5a9a827d9677", "1234567890ab", "1234567890ab", False),
        ("5a9a827d9677", "abcdefabcdef", "abcdefabcdef", False),
        ("5a9a827d9677", "abcdefabcdef", f"1234567890ab{'0' * 52}", True),
    ],
)
def test_an_id_stands_for_one_thing(tmp_path: Path, document: str, other: str, listed: str, right: bool) -> None:
    (tmp_path / "README.md").write_text(TWICE.format(other=document))
    outputs = iter(["1234567890ab\n", f"{other}\n", f"{listed} it\n"])
    with nullcontext() if right else pytest.raises(AssertionError, match="stood for another thing"):
        play(chapter(tmp_path / "README.md", "One"), lambda *_: (0, next(outputs)), {"one": "h1"})


def test_no_id_of_the_readme_is_in_two_chapters() -> None:
    chapters = re.split(r"\n## ", README.read_text())
    used = Counter(found[:ID_DIGITS] for body in chapters for found in set(ID.findall(body)))
    assert used and max(used.values()) == 1, used.most_common(3)


def test_a_step_that_must_fail_and_does_not_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit 0"):
        played(tmp_path, GOOD, last=0)


def test_a_chapter_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(DOCUMENT)
    with pytest.raises(AssertionError, match="no chapter"):
        chapter(tmp_path / "README.md", "Three")
