"""`vxlanu capture`: frames as they cross an endpoint's interface, the underlay, or the drop point.

Rules of this file
  1. The file is opened here, with the rights of whoever types; the agent only streams.
  2. Whole blocks are written, one write for all that came: a file is good up to the last write, whatever is killed.
  3. Ctrl-C ends the capture, not the program: what the agent still has is written, and what was lost is said.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
import msgspec
from click.shell_completion import CompletionItem

from vxlanu.api.schema import CaptureWanted
from vxlanu.capfile import Cut, Damaged, pieces
from vxlanu.capture.lines import line_of, text_of
from vxlanu.capture.reading import Reader
from vxlanu.capture.whole import Whole
from vxlanu.cli import complete
from vxlanu.cli.command import Command, chosen, client, wants_json
from vxlanu.cli.render import printable
from vxlanu.cli.topics import ADVICE
from vxlanu.errors import AgentUnreachable, BadRequest, VxlanuError

if TYPE_CHECKING:
    from vxlanu.api.client import CaptureReply

__all__ = ["capture"]

NICE = 10  # where there is no CPU for both, forwarding comes first


def _reasons(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in ADVICE if name.startswith(typed)]


def _known(_context: click.Context, _parameter: click.Parameter, said: Sequence[str]) -> list[str]:
    return chosen(said, ADVICE, "--reason", "drop reason", see="vxlanu help drops")


@click.command(
    "capture",
    cls=Command,
    examples=[
        "vxlanu capture C0",
        "vxlanu capture demonet -w demonet.pcapng",
        "vxlanu capture C0 --view both -w - | wireshark -k -i -",
        "vxlanu capture --drops",
        "vxlanu capture -r demonet.pcapng",
    ],
)
@click.argument("what", nargs=-1, metavar="[ENDPOINT|NETWORK|VTEP]...", shell_complete=complete.captured)
@click.option("--view", type=click.Choice(["inner", "outer", "both"]),
              help="Frames at endpoints, datagrams on the wire, or both.  [inner; of VTEPs outer]")  # fmt: skip
@click.option("--direction", type=click.Choice(["in", "out"]), help="As the endpoint sees it.  [both]")
@click.option("--drops", is_flag=True, help="What was not delivered, and why; with --view beside it.")
@click.option("--reason", multiple=True, metavar="R", callback=_known, shell_complete=_reasons,
              help="Drops for this reason only; more than once: any of them.")  # fmt: skip
@click.option("-c", "--count", type=click.IntRange(1), metavar="N", help="End after N frames.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), metavar="S", help="End after S seconds.")
@click.option("--snaplen", type=click.IntRange(1, 262144), metavar="N", help="Keep N bytes of a frame.  [all]")
@click.option("-w", "--write", metavar="FILE|-", type=click.Path(), help="Write pcapng instead of lines.")
@click.option("-r", "--read", metavar="FILE|-", type=click.Path(), help="Show a saved capture instead.")
def capture(
    what: tuple[str, ...],
    view: str | None,
    direction: str | None,
    drops: bool,
    reason: list[str],
    count: int | None,
    duration: float | None,
    snaplen: int | None,
    write: str | None,
    read: str | None,
) -> None:
    """Show frames of this host's endpoints with names, or write them for Wireshark: of everything, or of what is named.

    vxlanu help capture says what is in the file. Ctrl-C ends it.
    """
    wanted = CaptureWanted(
        references=list(what),
        view=view or "",
        direction=direction or "",
        drops=drops,
        reasons=reason,
        count=count or 0,
        duration_s=duration or 0.0,
        snaplen=snaplen or 0,
    )
    if read is not None:
        _show_file(read, wanted, write)
    elif write == "-" and sys.stdout.isatty():
        raise BadRequest("capture -w -", "that is a terminal", hint="| wireshark -k -i -", name="usage")
    else:
        _run(wanted, write)


def _run(wanted: CaptureWanted, write: str | None) -> None:
    reply = client().capture(wanted)
    os.nice(NICE)
    sink: _Lines | _File = _Lines() if write is None else _File(write)
    broken: VxlanuError | None = None
    try:
        with reply, _ended_by_signals(reply):
            _say(f"capturing on {' '.join(wanted.references) or 'this host'}; Ctrl-C ends it")
            for piece in reply:
                sink.take(piece)
    except AgentUnreachable as error:
        broken = error
    finally:
        sink.close()
    where = f" in {write}" if write else ""
    _say(f"{sink.frames} frame{'' if sink.frames == 1 else 's'}{where}, {sink.lost} lost")
    if broken:
        raise broken


@contextmanager
def _ended_by_signals(reply: CaptureReply) -> Iterator[None]:
    """SIGINT and SIGTERM let the capture come to its end; a second SIGINT ends the program at once."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        reply.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


class _Lines:
    """Frames as lines, as they come."""

    def __init__(self) -> None:
        self.frames = 0
        self._reader = Reader()

    @property
    def lost(self) -> int:
        return self._reader.lost

    def take(self, piece: bytes) -> None:
        for frame in self._reader.feed(piece):
            self.frames += 1
            line = line_of(frame, self._reader.names)
            click.echo(msgspec.json.encode(line) if wants_json() else text_of(line))
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is held."""


class _File:
    """Whole blocks, as they come."""

    def __init__(self, path: str) -> None:
        self._whole = Whole()
        self._fd = sys.stdout.fileno() if path == "-" else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    @property
    def frames(self) -> int:
        return self._whole.frames

    @property
    def lost(self) -> int:
        return self._whole.lost

    def take(self, piece: bytes) -> None:
        blocks = memoryview(self._whole.take(piece))
        while blocks:
            blocks = blocks[os.write(self._fd, blocks) :]

    def close(self) -> None:
        os.close(self._fd)


def _show_file(path: str, wanted: CaptureWanted, write: str | None) -> None:
    """`-r`: the frames of a file. What selects live frames needs the agent that saw them."""
    if wanted.references or wanted.view or wanted.duration_s or write is not None:
        why = "a saved capture is shown as it is"
        raise BadRequest("capture -r", why, hint="-r with --direction, --drops, --reason, -c", name="usage")
    reader = Reader()
    shown = 0
    try:
        for piece in pieces(None if path == "-" else Path(path)):
            for frame in reader.feed(piece):
                line = line_of(frame, reader.names)
                if not _matches(wanted, line.direction, line.drop):
                    continue
                click.echo(msgspec.json.encode(line) if wants_json() else text_of(line))
                shown += 1
                if shown == wanted.count:
                    return
        reader.end()
    except Cut as cut:
        _say(f"vxlanu: capture {path}: {cut}")
    except Damaged as error:
        raise BadRequest(f"capture {path}", str(error), hint=f"capinfos {path}", name="bad_capture") from error


def _matches(wanted: CaptureWanted, direction: str, drop: str) -> bool:
    if wanted.direction and direction != wanted.direction:
        return False
    if wanted.reasons:
        return drop in wanted.reasons
    return bool(drop) or not wanted.drops
