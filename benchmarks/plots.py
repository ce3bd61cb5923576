"""Plots of a run, as PNG and SVG: one message each, every axis with its unit, and under it what it was measured on.

    throughput   bulk TCP by peer: each round as a dot, the median as a bar's end
    loss         what was lost of what was offered: each trial as a dot, the rate that was found as a line
    latency      how many round trips took longer, on logarithmic axes, so that the tail is as visible as the middle
    cpu          what a gigabit costs, by peer

Colours are those of Okabe and Ito, which those who are colour-blind tell apart, and one more; a peer's marker says the
same again. The same run draws the same bytes. What a run has no samples for is not drawn.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from benchmarks.figures import Row, level, rows
from benchmarks.results import AGAIN, MeterInfo, PeerInfo, Run
from benchmarks.table import number

__all__ = ["PLOTS", "draw"]

COLOURS = (
    "#0072B2", "#000000", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#F0E442", "#882255",
)  # fmt: skip
MARKERS = "osD^vP*X<>"
UNSAID = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}  # what changes without the run's change
WIDTH, HEIGHT, DPI = 7.0, 4.2, 110
ROW, MARGIN = 0.42, 1.6  # inches of a plot by peer, where HEIGHT is not enough
PERCENTILES = ("100 %", "p90: 10 %", "p99: 1 %", "p99.9: 0.1 %", "p99.99: 0.01 %", "p99.999: 0.001 %")
LOSS_MAX = 0.001
KEPT_UP = 0.9
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
    better = "more" if shown[0].meter.higher_is_better else "less"
    height = max(HEIGHT, ROW * len(peers) + MARGIN)
    figure, axes = _figure(run, shown, f"{what}: {better} is better", height)
    thick = 0.8 / len(shown)
    for at, row in enumerate(shown):
        for place, peer in enumerate(peers):
            values = _values(run, row, peer.name)
            if values:
                y = place + (at - (len(shown) - 1) / 2) * thick
                _bar(axes, y, values, thick * 0.9, COLOURS[at * 2])
        axes.barh(0, 0, color=COLOURS[at * 2], alpha=0.55, label=row.title)  # for the legend
    axes.set_yticks(range(len(peers)), [_called(it) for it in peers])
    axes.invert_yaxis()
    axes.set_xlim(0, axes.get_xlim()[1] * 1.1)  # room for the longest bar's number
    axes.set_xlabel(shown[0].meter.unit + ("; dots: single rounds" if run.settings.rounds > 1 else ""))
    _legend(figure, axes)
    return figure


def _bar(axes: Axes, y: float, values: Sequence[float], thick: float, colour: str) -> None:
    """To the median, which is written behind the last of the rounds' dots."""
    median = statistics.median(values)
    axes.barh(y, median, thick, color=colour, alpha=0.55)
    axes.plot(values, [y] * len(values), ".", color="black", markersize=3)
    axes.annotate(number(median), (max(values), y), (5, 0), textcoords="offset points", va="center", fontsize=8)


def _called(peer: PeerInfo) -> str:
    """Its title, if that says the name too."""
    return peer.title if peer.name in peer.title.lower() else f"{peer.name}: {peer.title}"


def loss(run: Run) -> Figure | None:
    """A panel for each meter that says its `curve`: (offered in a second, share lost, asked for in a second)."""
    curves = {meter: _details(run, meter, "curve") for meter in run.meters}
    shown = [meter for meter, found in curves.items() if found]
    if not shown:
        return None
    figure, panels = _panels(run, shown, "Loss against offered rate: further right before it begins is better")
    for axes, meter in zip(panels, shown, strict=True):
        for peer, points in curves[meter].items():
            style = _style(run, peer)
            dots = {"linestyle": "", "markersize": 3.5, "alpha": 0.6, **style}
            axes.plot(*_percent(points, kept_up=True), **dots)
            axes.plot(*_percent(points, kept_up=False), **dots | {"fillstyle": "none", "label": ""})
            if found := level(run, Row(meter), peer):
                axes.axvline(found.median, color=style["color"], linewidth=1, linestyle="--")
        axes.axhline(LOSS_MAX * 100, color="black", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", yscale="log", ylim=(LOSS_SHOWN * 0.8, 130))
        axes.set(title=meter.title, xlabel="offered, 1000 datagrams/s\n(hollow: asked for more)")
        _plain_numbers(axes.xaxis)
        axes.yaxis.set_major_locator(FixedLocator([LOSS_SHOWN, 0.1, 1, 10, 100]))
        axes.set_yticklabels([f"≤ {LOSS_SHOWN}", "0.1", "1", "10", "100"])
    panels[0].set_ylabel("lost, %; dots: single trials, dashed: the rate found")
    _legend(figure, panels[0])
    return figure


def _percent(points: Sequence[Sequence[float]], *, kept_up: bool) -> tuple[list[float], list[float]]:
    """Thousands offered, and percent lost, of the trials whose sender did, or did not, keep up with what was asked."""
    found = [(float(offered), float(lost)) for offered, lost, *asked in points
             if (float(offered) >= KEPT_UP * float(asked[0] if asked else offered)) == kept_up]  # fmt: skip
    return [offered / 1e3 for offered, _ in found], [max(lost * 100, LOSS_SHOWN) for _, lost in found]


def _plain_numbers(axis: Axis) -> None:
    """On a logarithmic axis 50, 100, 200, ... instead of powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


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
        _plain_numbers(axes.xaxis)
        axes.yaxis.set_major_locator(FixedLocator([10.0**-nines for nines in range(len(PERCENTILES))]))
        axes.set_yticklabels(PERCENTILES)
    panels[0].set_ylabel("share that took longer")
    _legend(figure, panels[0])
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


def _legend(figure: Figure, axes: Axes) -> None:
    """Beside the plot, where it hides nothing."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)


def _figure(run: Run, shown: Sequence[Row], title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, height), layout="constrained")
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
    n = f"{min(counts)} to {max(counts)} rounds" if len(counts) > 1 else f"{min(counts)} round{'s' * (counts != {1})}"
    about = f"{n}; {run.settings.line()}; vxlanu {run.version} {run.commit}, {run.date[:10]}"
    figure.supxlabel(f"{about}\n{run.machine.line()}", fontsize=7)


PLOTS: Mapping[str, Callable[[Run], Figure | None]] = {
    "throughput": throughput,
    "loss": loss,
    "latency": latency,
    "cpu": cpu,
}
