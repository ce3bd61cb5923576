"""`vxlanu bench pcap FILE...`: how fast the C fast path carries the frames of captures.

Rules of this file
  1. Needs no agent and no privilege; touches nothing of the network.
  2. Figures are printed only if every frame was carried byte for byte: else exit code 1, and which frame it was.
  3. What is heavier than click is imported when the command runs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from vxlanu.cli.command import Group, emit, wants_json
from vxlanu.errors import AnswerIsNo, BadRequest

__all__ = ["bench", "run_pcap"]

PATIENCE_S = 1.0
ERASE = "\r\x1b[K"
BAR = 20

bench = Group(
    "bench",
    examples=["vxlanu bench pcap trace.pcapng", "vxlanu bench pcap *.pcap --tables 1000 --json > result.json"],
    help="Time the fast path on this machine.",
)


class Entries(click.ParamType[tuple[int, ...]]):
    """Sizes of tables: `1,1000,1000000`."""

    name = "N,..."

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 1_500_000 for word in words):
            self.fail(f"{value!r} is no list of numbers from 1 to 1500000", parameter, context)
        return tuple(dict.fromkeys(int(word) for word in words))


class Bar:
    """Progress on a terminal, from the second second on; it erases itself."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown = False

    def step(self, done: int, steps: int, what: str) -> None:
        if not sys.stderr.isatty() or time.monotonic() - self._begun < PATIENCE_S:
            return
        full = BAR * done // max(1, steps)
        sys.stderr.write(f"{ERASE}[{'#' * full}{'.' * (BAR - full)}] {done}/{steps}  {what}")
        sys.stderr.flush()
        self._shown = True

    def over(self) -> None:
        if self._shown:
            sys.stderr.write(ERASE)
            sys.stderr.flush()


@bench.verb(
    "pcap",
    examples=[
        "vxlanu bench pcap trace.pcapng",
        "vxlanu bench pcap a.pcap b.pcap.gz --tables 1000,1000000 --repeats 21",
        "vxlanu bench pcap trace.pcap --json > result.json",
    ],
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--tables", "entries", type=Entries(), default=(1, 1000, 100_000, 1_000_000), metavar="N,...",
    help="MACs that the forwarding tables know.  [1,1000,100000,1000000]",
)  # fmt: skip
@click.option("--ports", type=click.IntRange(1, 2048), metavar="N", help="Endpoints.  [as entries, at most 1000]")
@click.option("--vteps", type=click.IntRange(1, 16384), metavar="N", help="Hosts.  [as entries, at most 1000]")
@click.option("--mtu", type=click.IntRange(700, 65000), default=1450, show_default=True, metavar="BYTES",
              help="Inner packets that super-frames are cut to.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(1, 1000), default=11, show_default=True, metavar="N")
@click.option("--seed", type=click.IntRange(0, 2**32), default=1, show_default=True, metavar="N",
              help="Of MACs, and of who sends to whom.")  # fmt: skip
def pcap(
    files: tuple[Path, ...], entries: tuple[int, ...], ports: int | None, vteps: int | None, mtu: int, repeats: int,
    seed: int,
) -> None:  # fmt: skip
    """Time the C fast path over the Ethernet frames of captures: pcap or pcapng, plain or gzip.

    Each frame is given the MACs of an endpoint here and of one elsewhere, drawn at random, encapsulated by one host
    and decapsulated by another, in memory; as it is captured it is decided about too; TCP frames of more than one
    segment are cut and merged again. All is compared byte for byte before it is timed. Times are medians per frame of
    the wire with 5th and 95th percentile, next to the memcpy of the same frames. Where frames are decided about, that
    memcpy goes before and is not in the time: they begin in the cache, as after a read; what the tables cost is.
    """
    from vxlanu.bench.measure import Settings

    run_pcap(files, Settings(entries, ports or 0, vteps or 0, mtu, repeats, seed))


def run_pcap(files: tuple[Path, ...], settings: object) -> None:
    """Read, measure and print.

    Raises:
        NotFound, BadRequest: a file cannot be used, or none has a frame.
        AnswerIsNo: a frame was not carried as it is.
    """
    from vxlanu.bench.frames import read_frames
    from vxlanu.bench.measure import Settings, measure
    from vxlanu.bench.report import as_json, draw
    from vxlanu.dataplane.bench import Differs

    assert isinstance(settings, Settings)
    found = read_frames(files)
    if not found.frames:
        why = ", ".join(f"{number} {name}" for name, number in found.left_out.items()) or "it holds no packets"
        raise BadRequest(" ".join(map(str, files)), f"no Ethernet frame to carry ({why})", name="no_frames")
    bar = Bar()
    try:
        results = measure(found.frames, settings, bar.step)
    except Differs as error:
        raise AnswerIsNo("bench pcap", f"not carried as it is: {error}", name="frames_differ") from error
    finally:
        bar.over()
    if wants_json():
        emit(as_json(found, settings, results))
    else:
        click.echo("\n".join(draw(found, settings, results)))
