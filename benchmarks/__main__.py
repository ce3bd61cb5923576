"""`python -m benchmarks`: what there is to measure, from a clone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict, Unpack

import click

from benchmarks import code
from benchmarks.cache import cache_folder
from benchmarks.change import Unlike, changes
from benchmarks.choice import METERS, PLAN, SETS, Unknown, chosen, meters
from benchmarks.compare import Comparison, measure
from benchmarks.crowd import SCENARIOS, findings_table, load_findings, save_findings
from benchmarks.meters import MeterFailed
from benchmarks.peers import PEERS
from benchmarks.results import Run, Settings, Unreadable, load, save
from benchmarks.table import text
from benchmarks.traffic import DEFAULTS, capture_of
from benchmarks.underlay import UNDERLAYS
from vxlanu.cli.main import main
from vxlanu.errors import VxlanuError

__all__ = ["run"]

FOLDER = Path(__file__).resolve().parent
ROUNDS = 5
CODE_REPEATS = 11
Command = Callable[..., int]


class Options(TypedDict):
    """Of `scene_options`."""

    underlay: str
    mtu: int
    ipv6: bool
    offload: str | None
    rounds: int
    seconds: int | None
    json_file: Path | None
    plots: Path | None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def benchmarks() -> None:
    """Benchmarks of vxlanu: ratios inside one run count, never figures by themselves."""


@benchmarks.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.option("--size", "sizes", multiple=True, metavar="BYTES|imix|tso",
              help="Make a capture of such frames; several times for several.")  # fmt: skip
@click.argument("others", nargs=-1, type=click.UNPROCESSED)
def pcap(sizes: tuple[str, ...], others: tuple[str, ...]) -> int:
    """The C fast path over captures: `vxlanu bench pcap`, whose options and files it takes.

    Without a file the captures are made, one for each --size: a number for UDP frames of so many bytes, `imix` for
    the simple IMIX, `tso` for super-frames of 64 KB; all three kinds unless said. They are kept in the cache folder
    (vxlanu/benchmarks in $XDG_CACHE_HOME or ~/.cache) and made once.

    \b
    python -m benchmarks pcap --size 64 --size imix --tables 1000,1000000
    """
    if {"-h", "--help"} & set(others):
        click.echo(f"{click.get_current_context().get_help()}\n")
        return main(["bench", "pcap", "--help"])
    given = any(not word.startswith("-") for word in _without_values(others))
    try:
        made = [] if given else [str(capture_of(size)) for size in sizes or DEFAULTS]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return main(["bench", "pcap", *others, *made])


def _without_values(words: Sequence[str]) -> list[str]:
    """What is no option's value: --json and --help have none, and `--name=value` carries its own."""
    valued = {i + 1 for i, word in enumerate(words) if word.startswith("--") and "=" not in word}
    plain = {i + 1 for i, word in enumerate(words) if word in ("--json", "--help")}
    return [word for i, word in enumerate(words) if i not in valued - plain]


def scene_options(command: Command) -> Command:
    """What `net` and `compare` have alike."""
    for option in (
        click.option("--underlay", type=click.Choice(list(UNDERLAYS)), default="offload", show_default=True,
                     help="What the cables can do: veth as it is, a card without tunnel offloads, one without any."),
        click.option("--mtu", type=click.IntRange(1280, 65535), default=1500, show_default=True,
                     help="Of the underlay."),
        click.option("--ipv6", is_flag=True, help="IPv6 underlay."),
        click.option("--offload", metavar="RUNG", help="Of the agents, as in `vxlanu agent --offload`."),
        click.option("--rounds", type=click.IntRange(1, 1000), default=ROUNDS, show_default=True),
        click.option("--seconds", type=click.IntRange(1, 600), metavar="S",
                     help="How long each reading of a meter with a duration lasts; unless said, each its own."),
        click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                     help="Keep raw samples, machine and versions there, also after Ctrl-C."),
        click.option("--plots", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
                     help="Draw them there, as PNG and SVG."),
    ):  # fmt: skip
        command = option(command)
    return command


@benchmarks.command()
@click.option("--peers", default="", metavar="NAMES", help="To stand beside it, by comma; `all`. Unless said, none.")
@click.option("--meters", "names", default="", metavar="NAMES", help="By comma; `all` unless said.")
@scene_options
def net(peers: str, names: str, **options: Unpack[Options]) -> int:
    """vxlanu through the whole: two hosts in a lab, their containers, and every meter.

    \b
    python -m benchmarks net --rounds 3 --underlay nic
    """
    beside = chosen("peer", peers, PEERS)
    return _compared(_with_vxlanu(beside), chosen("meter", names, METERS, SETS["net"]), again=bool(beside), **options)


@benchmarks.command()
@click.option("--peers", default="", metavar="NAMES", help=f"By comma: {', '.join(PEERS)}. Unless said, all.")
@click.option("--meters", "names", default="", metavar="NAMES",
              help=f"By comma, or one of {', '.join(SETS)}. Unless said: {', '.join(SETS['compare'])}.")  # fmt: skip
@scene_options
def compare(peers: str, names: str, **options: Unpack[Options]) -> int:
    """vxlanu and its peers alternately in one run, and the table of ratios.

    \b
    python -m benchmarks compare --peers kernel,ovs,tinc --rounds 7 --json run.json --plots plots
    """
    beside = chosen("peer", peers, PEERS, PEERS)
    return _compared(_with_vxlanu(beside), _meter_names(names), again=True, **options)


def _with_vxlanu(peers: Sequence[str]) -> list[str]:
    """vxlanu itself is in every run."""
    return [name for name in PEERS if name == "vxlanu" or name in peers]


def _meter_names(names: str) -> list[str]:
    return list(SETS[names]) if names in SETS else chosen("meter", names, METERS, SETS["compare"])


def _compared(peers: list[str], names: list[str], *, again: bool, **options: Unpack[Options]) -> int:
    seconds, file, offload = options["seconds"] or 0, options["json_file"], options["offload"]
    settings = Settings(
        underlay=options["underlay"],
        family="ipv6" if options["ipv6"] else "ipv4",
        mtu=options["mtu"],
        rounds=options["rounds"],
        seconds=seconds,
        agent_flags=("--offload", offload) if offload else (),
    )
    if options["plots"]:
        _must_draw()
    asked = Comparison(peers, meters(names, seconds), settings, again)
    done = measure(asked, _progress, lambda run: save(run, file) if file else None)
    _progress("\n")
    return shown(done, options["plots"])


def _must_draw() -> None:
    """Before anything is measured. Only those who draw need matplotlib."""
    if not find_spec("matplotlib"):
        raise click.UsageError("plots need matplotlib: pip install -c constraints.txt matplotlib, or make bench")


def shown(done: Run, plots: Path | None = None) -> int:
    """Print a run, and draw it where that is asked for. Return: the exit code: 1 without vxlanu or a figure of it."""
    for line in text(done):
        click.echo(line)
    if plots:
        from benchmarks.plots import draw

        for path in draw(done, plots):
            click.echo(f"drawn: {path}")
    if not done.complete:
        return 130
    lacking = {series.peer for series in done.failed()} | {peer.name for peer in done.peers if peer.missing}
    return 1 if "vxlanu" in lacking else 0


def _progress(what: str) -> None:
    """One line that is written over on a terminal, else a line each; text with a line's end stays."""
    sys.stderr.write(f"\r\033[K{what}" if sys.stderr.isatty() else what if what.endswith("\n") else f"{what}\n")
    sys.stderr.flush()


@benchmarks.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
def table(files: tuple[Path, ...]) -> int:
    """Print kept runs again.

    \b
    python -m benchmarks table run.json
    """
    return max([shown(load(path)) for path in files])


@benchmarks.command()
@click.argument("old", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("new", type=click.Path(dir_okay=False, path_type=Path))
def change(old: Path, new: Path) -> int:
    """What changed between two kept runs: for each meter the ratio to kernel vxlan (else to the first peer) in both.

    A change that is smaller than what vxlanu differs from itself in one of the runs is said to be within A/A.

    \b
    python -m benchmarks change before.json after.json
    """
    for line in changes(load(old), load(new)):
        click.echo(line)
    return 0


@benchmarks.command()
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(1, 1000), default=ROUNDS, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 600), metavar="S", help="As in `compare`.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=FOLDER, metavar="FOLDER",
              help="Where REPORT.md, its plots, and NOTES.md are, if not in benchmarks/.")
@click.option("--crowd", "crowd_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="What `crowd --json FILE` has kept.")  # fmt: skip
def report(files: tuple[Path, ...], rounds: int, seconds: int | None, folder: Path, crowd_file: Path | None) -> int:
    """Write REPORT.md anew: of kept runs, or of runs made now (all peers, then each underlay; some 25 minutes).

    What is measured now is kept in the cache folder, run by run, so that an interrupted report can be made of it.

    \b
    python -m benchmarks report --rounds 7
    python -m benchmarks report offload.json plain.json --crowd crowd.json
    """
    _must_draw()
    from benchmarks.report import Measured, write

    findings = load_findings(crowd_file) if crowd_file else []
    runs = [load(path) for path in files] or _planned(rounds, seconds or 0)
    measured = Measured(runs, code.figures(_progress, CODE_REPEATS), findings)
    notes = folder / "NOTES.md"
    click.echo(f"\nwritten: {write(measured, notes.read_text() if notes.exists() else '', folder)}")
    return 0


def _planned(rounds: int, seconds: int) -> list[Run]:
    """What a report needs. A run that is broken off ends it all: what there is can be reported by its files."""
    runs: list[Run] = []
    for at, planned in enumerate(PLAN, 1):
        file = cache_folder() / f"report-{at}-{planned.underlay}.json"
        settings = Settings(
            underlay=planned.underlay, family="ipv4", mtu=1500, agent_flags=planned.flags,
            rounds=rounds, seconds=seconds,
        )  # fmt: skip
        _progress(f"run {at} of {len(PLAN)}, {settings.line()}; kept in {file}\n")
        asked = Comparison(planned.peers or list(PEERS), meters(planned.meters, seconds), settings)
        runs.append(measure(asked, _progress, partial(save, path=file)))
        if not runs[-1].complete:
            raise KeyboardInterrupt
    return runs


@benchmarks.command()
@click.argument("scenarios", nargs=-1, metavar="[fairness|flood|endpoints]...")
@click.option("--rounds", type=click.IntRange(1, 1000), default=ROUNDS, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=4.0, show_default=True, help="Of each reading.")
@click.option("--underlay", type=click.Choice(list(UNDERLAYS)), default="offload", show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Keep the figures of all rounds there.")  # fmt: skip
def crowd(scenarios: tuple[str, ...], rounds: int, seconds: float, underlay: str, json_file: Path | None) -> int:
    """Many at once: 64 senders, a broadcast flood beside a stream, a thousand endpoints around a busy pair.

    \b
    python -m benchmarks crowd fairness flood --rounds 7
    """
    names = chosen("scenario", ",".join(scenarios), SCENARIOS, SCENARIOS)
    findings = [it for name in names for it in SCENARIOS[name](rounds, seconds, underlay, _progress)]
    _progress("\n")
    for line in findings_table(findings):
        click.echo(line)
    if json_file:
        save_findings(findings, json_file)
    return 0


def run(arguments: Sequence[str]) -> int:
    """The exit code. What is wrong with the arguments is one line, and 2."""
    try:
        done = benchmarks.main(list(arguments), prog_name="python -m benchmarks", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"python -m benchmarks: {error.format_message()}", err=True)
        return 2
    except (Unknown, Unlike, Unreadable) as error:
        click.echo(f"python -m benchmarks: {error}", err=True)
        return 2
    except (VxlanuError, MeterFailed, subprocess.SubprocessError) as error:
        click.echo(f"python -m benchmarks: {error}", err=True)
        return 1
    except (KeyboardInterrupt, click.Abort):
        return 130
    return int(done or 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))
