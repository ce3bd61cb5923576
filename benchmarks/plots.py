"""Plots of a run, as PNG and SVG: one message each, every axis with its unit, and under it what it was measured on.

    throughput   bulk TCP by peer: each round as a dot, the median as a bar's end
    loss         what was lost of what was offered, by peer and for each kind of datagram
    latency      how many round trips took longer, on logarithmic axes, so that the tail is as visible as the middle
    cpu          what a gigabit costs, by peer

Colours are those of Okabe and Ito, which those who are colour-blind tell apart; a peer's marker says the same again.
The same run draws the same bytes. What a run has no samples for is not drawn.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

from benchmarks.figures import Row, level, rows
from benchmarks.results import AGAIN, MeterInfo, PeerInfo, Run

__all__ = ["PLOTS", "draw"]

COLOURS = ("#0072B2", "#000000", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#F0E442")
MARKERS = "osD^vP*X<"
UNSAID = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}  # what changes without the run's change
WIDTH, HEIGHT, DPI = 7.0, 4.2, 110
LOSS_MAX = 0.001
LOSS_SHOWN = 0.01  # percent: the axis is logarithmic
STYLE = {"svg.hashsalt": "vxlanu", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}


def draw(run: Run, folder: Path, prefix: str = "", kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Every plot that the run has samples for. Return: the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with mpl.rc_context(STYLE):
        for name, plot in PLOTS.items():
            figure = plot(run)
            if figure is None:
                continue
            FigureCanvasAgg(figure)
            for kind in kinds:
                made.append(folder / f"{prefix}{name}.{kind}")
                figure.savefig(made[-1], dpi=DPI, metadata=UNSAID[kind])
                if kind == "png":
                    _shrink(made[-1])
    return made


def _shrink(path: Path) -> None:
    """A third of the bytes: these few colours need no three bytes a pixel. REPORT.md's plots are kept in git."""
    with Image.open(path) as drawn:
        few = drawn.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def throughput(run: Run) -> Figure | None:
    """Bulk TCP by peer; the streams side by side."""
    shown = [row for row in rows(run) if row.name in ("tcp-1", "tcp-4", "tcp-16")]
    return _by_peer(run, shown, "Bulk TCP")


def cpu(run: Run) -> Figure | None:
    """CPU time by peer; what the meter measures is in its title."""
    shown = [row for row in rows(run) if row.meter.unit.endswith("/Gbit")]
    return _by_peer(run, shown, "CPU time")


def _by_peer(run: Run, shown: Sequence[Row], what: str) -> Figure | None:
    """A group of bars for each peer, a bar for each row; the rounds are dots on it."""
    peers = [it for it in _peers(run) if any(level(run, row, it.name) for row in shown)]
    if not peers:
        return None
    figure, axes = _figure(run, shown, f"{what}: {'more' if shown[0].meter.higher_is_better else 'less'} is better")
    thick = 0.8 / len(shown)
    for at, row in enumerate(shown):
        for place, peer in enumerate(peers):
            values = _values(run, row, peer.name)
            if not values:
                continue
            y = place + (at - (len(shown) - 1) / 2) * thick
            label = row.title if place == 0 else None
            axes.barh(y, statistics.median(values), thick * 0.9, color=COLOURS[at * 2], alpha=0.55, label=label)
            axes.plot(values, [y] * len(values), ".", color="black", markersize=3)
    axes.set_yticks(range(len(peers)), [f"{it.name}\n{it.title}" if it.title != it.name else it.name for it in peers])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    alone = f"{shown[0].title}, " if len(shown) == 1 else ""
    axes.set_xlabel(f"{alone}{shown[0].meter.unit}")
    if not alone:
        axes.legend(loc="lower right", framealpha=0.8)
    return figure


def loss(run: Run) -> Figure | None:
    """A panel for each meter that says its `curve`: (offered in a second, share lost)."""
    curves = {meter: _details(run, meter, "curve") for meter in run.meters}
    shown = [meter for meter, found in curves.items() if found]
    if not shown:
        return None
    figure, panels = _panels(run, shown, "Loss against offered rate: a line that stays low for longer is better")
    for axes, meter in zip(panels, shown, strict=True):
        for peer, points in curves[meter].items():
            dots = [(float(offered) / 1e3, max(float(lost) * 100, LOSS_SHOWN)) for offered, lost in points]
            style = _style(run, peer)
            axes.plot(*zip(*dots, strict=True), ".", markersize=2, alpha=0.4, color=style["color"])
            axes.plot(*zip(*_binned(dots), strict=True), markersize=3, linewidth=1, **style)
        axes.axhline(LOSS_MAX * 100, color="black", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", yscale="log", ylim=(LOSS_SHOWN * 0.9, 110))
        axes.set(title=meter.title, xlabel="offered, 1000 datagrams/s")
        for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            which(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    panels[0].set_ylabel(f"lost, % ({LOSS_SHOWN}: that or less)")
    panels[-1].legend(fontsize=7, framealpha=0.8)
    return figure


def _binned(dots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Medians of what was offered within a twelfth of a decade: a search tries rates that are close together."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for offered, lost in dots:
        bins.setdefault(round(math.log10(offered) * 12), []).append((offered, lost))
    return [
        (statistics.median(offered for offered, _ in found), statistics.median(lost for _, lost in found))
        for _, found in sorted(bins.items())
    ]


def latency(run: Run) -> Figure | None:
    """A panel for each meter that says its `tail`: (share of round trips, µs that they took at most)."""
    found = {meter: _details(run, meter, "tail") for meter in run.meters}
    shown = [meter for meter, lines in found.items() if lines]
    if not shown:
        return None
    figure, panels = _panels(run, shown, "Round trips that took longer: further left is better")
    for axes, meter in zip(panels, shown, strict=True):
        for peer, points in found[meter].items():
            middle = _middle(points)
            axes.plot([took for _, took in middle], [1 - share for share, _ in middle], markersize=3, linewidth=1,
                      **_style(run, peer))  # fmt: skip
        axes.set(xscale="log", yscale="log", title=meter.title, xlabel=meter.unit)
    panels[0].set_ylabel("share that took longer")
    panels[-1].legend(fontsize=7, framealpha=0.8)
    return figure


def _middle(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Of all rounds' distributions one: at each share that all rounds know, their median. The longest is no share."""
    by_share: dict[float, list[float]] = {}
    for share, took in points:
        by_share.setdefault(float(share), []).append(float(took))
    rounds = max(len(took) for took in by_share.values())
    known = {share: took for share, took in by_share.items() if share < 1 and len(took) == rounds}
    return sorted((share, statistics.median(took)) for share, took in known.items())


def _details(run: Run, meter: MeterInfo, key: str) -> dict[str, list[Sequence[float]]]:
    """Peer -> the points of all its rounds."""
    found: dict[str, list[Sequence[float]]] = {}
    for peer in _peers(run):
        series = run.of(meter.name, peer.name)
        for sample in series.samples if series else ():
            points = sample.detail.get(key)
            if isinstance(points, list) and points:
                found.setdefault(peer.name, []).extend(points)
    return found


def _peers(run: Run) -> list[PeerInfo]:
    return [it for it in run.peers if not it.missing and it.name != AGAIN]


def _style(run: Run, peer: str) -> Mapping[str, str]:
    """A peer's colour and marker are the same in every plot of a run."""
    at = [it.name for it in run.peers].index(peer)
    return {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)], "label": peer}


def _values(run: Run, row: Row, peer: str) -> list[float]:
    series = run.of(row.meter.name, peer)
    found = [it.also.get(row.also) if row.also else it.value for it in series.samples] if series else []
    return [value for value in found if value is not None]


def _figure(run: Run, shown: Sequence[Row], title: str) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    _caption(run, figure, [row.meter for row in shown])
    return figure, axes


def _panels(run: Run, shown: Sequence[MeterInfo], title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure((max(WIDTH, 3.2 * len(shown)), HEIGHT), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    figure.suptitle(title, fontsize=11)
    _caption(run, figure, shown)
    return figure, list(panels)


def _caption(run: Run, figure: Figure, shown: Sequence[MeterInfo]) -> None:
    """What was measured on, and n: of rounds, by meter and peer."""
    counts = {len(it.samples) for it in run.series if it.meter in {meter.name for meter in shown} and it.samples}
    n = f"n={min(counts)}" if len(counts) == 1 else f"n={min(counts)} to {max(counts)}"
    about = f"{n} rounds; {run.settings.line()}; vxlanu {run.version} {run.commit}, {run.date[:10]}"
    figure.supxlabel(f"{about}\n{run.machine.line()}", fontsize=7)


PLOTS: Mapping[str, Callable[[Run], Figure | None]] = {
    "throughput": throughput,
    "loss": loss,
    "latency": latency,
    "cpu": cpu,
}
