"""Transcripts: a chapter of a document, run word for word on hosts, its output held against what the document shows.

    ```
    one# vxlanu network create demonet --subnet 192.168.0.0/24       # a remark
    0e28e5d7187d
    ...
    ```

Rules of this file
  1. `HOST# COMMAND` is run by sh on that host and must succeed; `HOST# COMMAND   # fails` must not. A line that ends
     in a backslash goes on in the next one, and so does a here-document.
  2. The lines below are what it prints, stderr included: every one is found, in this order; `...` stands for any lines
     between, and at the end of a line for its rest. Blanks are one blank, and columns may be wider.
  3. What differs from run to run is compared by its kind: ids (12 or more hex digits), times, numbers of interfaces and
     of echoes (of a container that pings at once the first may come before the other host has heard of it), the subnet
     of a bridge that leads out (172.17 to 172.31). Any other address has to be chosen, or left out.
  4. One id of a chapter stands for one id that is printed: two things never show the same, and one thing never two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Step", "chapter", "play"]

PROMPT = re.compile(r"^([a-z]+)# (.+)$")
ID = re.compile(r"\b[0-9a-f]{12,64}\b")
ID_DIGITS = 12  # by which the short form of an id is that of the long one
VARYING = (
    (ID, "ID"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|us)\b"), "TIME"),
    (re.compile(r"\b\d+\.\d+/\d+\.\d+/\d+\.\d+(/\d+\.\d+)?\b"), "TIMES"),
    (re.compile(r"@if\d+"), "@ifN"),
    (re.compile(r"\b(icmp_)?seq=\d+"), "seq=N"),
    (re.compile(r"\b172\.(1[7-9]|2\d|3[01])\."), "172.N."),
    (re.compile(r"^\d+: "), "N: "),
)


@dataclass
class Step:
    """One command, where it is run, and what is shown below it."""

    host: str
    command: str
    fails: bool = False
    shown: list[str] = field(default_factory=list)


def chapter(document: Path, title: str) -> list[Step]:
    """The steps of one chapter (`## title`), from its code blocks."""
    text = document.read_text()
    assert f"\n## {title}\n" in text, f"{document} has no chapter {title!r}"
    body = re.split(r"\n## ", text.split(f"\n## {title}\n", 1)[1], maxsplit=1)[0]
    steps: list[Step] = []
    for block in re.findall(r"^```\w*\n(.*?)^```$", body, re.DOTALL | re.MULTILINE):
        steps += _steps(iter(block.splitlines()))
    return steps


def _steps(lines: Iterator[str]) -> Iterator[Step]:
    step: Step | None = None
    for line in lines:
        prompt = PROMPT.match(line)
        if prompt is None:
            if step is not None:
                step.shown.append(line)
            continue
        if step is not None:
            yield step
        command = prompt[2]
        while command.endswith("\\"):
            command = f"{command}\n{next(lines)}"
        step = Step(prompt[1], command, fails=bool(re.search(r"  # .*\bfails\b", command)))
    if step is not None:
        yield step


def play(steps: list[Step], run: Callable[[str, str], tuple[int, str]], names: dict[str, str]) -> None:
    """Run every step by `run(host, command) -> (status, output)`; `names` maps the document's hosts to ours."""
    told: list[str] = []
    ids: dict[str, str] = {}
    for step in steps:
        status, output = run(names[step.host], step.command)
        told.append(f"{step.host}# {step.command}\n{output}")
        story = "\n".join(told)
        assert (status != 0) == step.fails, f"exit {status}\n{story}"
        missing = _missing(step.shown, output, names, ids)
        assert missing is None, f"not printed: {missing!r}\n{story}"


def _missing(shown: list[str], output: str, names: dict[str, str], ids: dict[str, str]) -> str | None:
    """The first line that is not there, or not in its place; `ids`: which of the document's are which."""
    printed = iter([line for line in output.splitlines() if line.strip()])
    anywhere = False
    for line in shown:
        if line.strip() == "...":
            anywhere = True
            continue
        wanted = _comparable(line, names)
        if not wanted:
            continue
        found = next(printed, None)
        while anywhere and found is not None and not _fits(found, wanted):
            found = next(printed, None)
        if found is None or not _fits(found, wanted):
            return line
        if not _same_ids(line, found, ids):
            return f"{line} (here {found}: an id that stood for another thing, or has had another id)"
        anywhere = False
    if not anywhere and (left := next(printed, None)) is not None and shown:
        return f"(the document ends before: {left})"
    return None


def _same_ids(shown: str, printed: str, ids: dict[str, str]) -> bool:
    """Whether the document's ids still stand for one printed id each; those of this line are learned."""
    for wanted, found in zip(ID.findall(shown), ID.findall(printed), strict=False):
        if ids.setdefault(wanted[:ID_DIGITS], found[:ID_DIGITS]) != found[:ID_DIGITS]:
            return False
    return len(set(ids.values())) == len(ids)


def _fits(line: str, wanted: str) -> bool:
    printed = _comparable(line, {})
    return printed.startswith(wanted[:-3]) if wanted.endswith(" ...") else printed == wanted


def _comparable(line: str, names: dict[str, str]) -> str:
    """A line with one blank between its words, and a sign in the place of what varies."""
    for pattern, sign in VARYING:
        line = pattern.sub(sign, line)
    return " ".join(names.get(word, word) for word in line.split())
