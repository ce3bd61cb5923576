"""Frames of a capture as lines with names, in the manner of `tcpdump -i any`.

Rules of this file
  1. One line a frame: time, where, direction, from > to: what it says; a drop ends with its reason.
  2. Nothing of a file reaches a terminal unescaped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from msgspec import Struct

from vxlanu.capture.dissect import ETHERNET, Said, dissect
from vxlanu.capture.reading import Frame
from vxlanu.cli.render import alarm, printable

__all__ = ["Line", "line_of", "text_of"]

OURS = "vxlanu"
DROPS = "vxlanu:drops"


class Line(Struct, omit_defaults=True):
    """One frame for programs (`--json`): one object a line. `packet` ties the records of one packet."""

    unix_ns: int
    interface: str
    source: str
    target: str
    text: str
    length: int
    captured: int
    direction: str = ""
    packet: int = 0
    drop: str = ""
    endpoint: str = ""
    vtep: str = ""
    vni: int = 0
    frames: int = 0
    lost_before: int = 0


def line_of(frame: Frame, names: Mapping[str, str]) -> Line:
    """A frame in words."""
    if frame.interface.link == ETHERNET:
        said = dissect(frame.data, names)
    else:
        said = Said("?", "?", f"link type {frame.interface.link}")
    line = Line(
        unix_ns=frame.time_ns,
        interface=frame.interface.name,
        source=said.source,
        target=said.target,
        text=said.text,
        length=frame.length,
        captured=len(frame.data),
        direction=frame.direction,
        packet=frame.packet,
        lost_before=frame.dropcount,
    )
    for comment in frame.comments:
        _take_comment(line, comment)
    return line


def _take_comment(line: Line, comment: str) -> None:
    """`vxlanu k=v k=v`, as the fast path writes it (native/pcapng.c); other comments are somebody else's."""
    first, *words = comment.split(" ")
    if first != OURS:
        return
    facts = dict(word.split("=", 1) for word in words if "=" in word)
    line.drop, line.endpoint, line.vtep = facts.get("drop", ""), facts.get("ep", ""), facts.get("vtep", "")
    line.vni, line.frames = _number(facts.get("vni", "")), _number(facts.get("frames", ""))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def text_of(line: Line) -> str:
    """For people."""
    seconds = line.unix_ns // 10**9
    try:
        at = time.strftime("%H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a file may say any year
        at = str(seconds)
    where = line.interface.removeprefix(f"{OURS}:")
    if line.interface == DROPS:
        where = line.endpoint or "underlay"
    way = f" {line.direction:<3}" if line.direction else ""
    words = [f"{at}.{line.unix_ns % 10**9 // 1000:06d}", f"{where}{way}", f"{line.source} > {line.target}: {line.text}"]
    text = printable(" ".join(word for word in words if word))
    if line.drop:
        many = f" ({line.frames} frames)" if line.frames > 1 else ""
        text += alarm(printable(f"  DROP {line.drop}{many}"))
    return text
