"""From structs to text: tables, blocks, ages, sizes, colour.

Rules of this file
  1. Pure but for one question, whether colour is wanted: only on a terminal, never under NO_COLOR (no-color.org).
  2. Nothing is cut off: a name is needed whole to be used again. Columns widen instead, two blanks apart.
  3. Numbers stand to the right, text to the left, nothing trails a line, and an absent value is `-`, so that
     awk counts the same columns in every row.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence

import click

__all__ = ["age", "alarm", "block", "bold", "colour_wanted", "count", "marked", "printable", "size", "table"]

STATES = {
    "alive": "green",
    "up": "green",
    "active": "green",
    "suspect": "yellow",
    "removing": "yellow",
    "pending": "yellow",
    "learned": "yellow",
    "dead": "red",
    "down": "red",
    "conflict": "red",
}
UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def colour_wanted() -> bool:
    """Only where a person looks on and has not said no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def marked(text: str) -> str:
    """A word of state in its colour, which the word's beginning decides (`down 12s`)."""
    colour = STATES.get(text.split(" ", 1)[0])
    return click.style(text, fg=colour) if colour and colour_wanted() else text


def alarm(text: str) -> str:
    """What should not be, in red."""
    return click.style(text, fg="red") if colour_wanted() else text


def bold(text: str) -> str:
    return click.style(text, bold=True) if colour_wanted() else text


def printable(text: str) -> str:
    """Control characters as escapes: names come from other hosts, and must not steer the terminal they end on."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def table(header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> Iterator[str]:
    """Aligned lines. A column of ints is right-aligned; so is its header."""
    filled = [list(row) for row in rows]
    right = [bool(filled) and all(isinstance(row[i], int) for row in filled) for i in range(len(header))]
    cells = [[printable(str(cell)) or "-" for cell in row] for row in filled]
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    yield bold(_line(header, widths, right))
    for row in cells:
        yield _line(row, widths, right, colour=True)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool], *, colour: bool = False) -> str:
    """Padding comes before colour, whose bytes have no width; the last text column is not padded at all."""
    shown = []
    for i, cell in enumerate(cells):
        padded = cell.rjust(widths[i]) if right[i] else cell if i == len(cells) - 1 else cell.ljust(widths[i])
        shown.append(padded.replace(cell, marked(cell)) if colour and not right[i] else padded)
    return "  ".join(shown)


def block(title: str, name: str, fields: Iterable[tuple[str, str]]) -> Iterator[str]:
    """`title: name` and its fields indented under it, in the manner of wg(8); fields without a value are left out."""
    yield f"{bold(title)}: {printable(name)}"
    for key, value in fields:
        if value:
            yield f"  {bold(key)}: {marked(printable(value))}"


def age(seconds: float) -> str:
    """One number and one unit, rounded down: 12s, 3m, 5h, 2d."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def size(octets: int) -> str:
    """Bytes in binary units, as wg(8) prints them: 512 B, 1.24 GiB."""
    if octets < 1024:
        return f"{octets} B"
    value = float(octets)
    units = iter(UNITS)
    while True:
        value, unit = value / 1024, next(units)
        if value < 1023.995 or unit == UNITS[-1]:
            return f"{value:.2f} {unit}"


def count(number: int, noun: str) -> str:
    """`1 member`, `2 members`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
