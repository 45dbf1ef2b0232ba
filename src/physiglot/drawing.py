"""The house style of all figures: colours, shared legends, rows of numbers, and files that are the same bytes
every time.

matplotlib is imported inside the functions, so that a task can be imported without it. Figures are made
without pyplot: no global state, no windows, nothing to close.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import files
from .animation import Animation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawing: TypeAlias = "Figure | Animation"
TRUTH = "#1a1a1a"
MODEL = "#d55e00"
QUIET = "#8c8c8c"
PALETTE = (
    "#d55e00",
    "#0072b2",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#8f6f00",
    "#5b3a96",
    "#e69f00",
    "#8a8a8a",
    "#333333",
    "#7a1f3d",
    "#2f5d1a",
    "#b79be0",
)
"""M. Okabe, K. Ito (2008), distinct for all common colour vision; yellow and black made way for darker brown,
violet and grey, and wine, moss and lilac were added for tables of many rows."""
LINES = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P")
EXACT: dict[str, Any] = {"color": TRUTH, "linewidth": 1.0, "linestyle": "--"}
FLOOR: dict[str, Any] = {"color": QUIET, "alpha": 0.3, "linewidth": 9}
PUBLISHED: dict[str, Any] = {"marker": "D", "markersize": 5, "markerfacecolor": "white", "linewidth": 0.9}

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4d4d4d",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 100,
    "savefig.dpi": 150,
}


@contextmanager
def style() -> Iterator[None]:
    """The house style, for the drawing inside the `with` block only."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of `width` × `height` inches and its axes (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def placeholder(message: str) -> Figure:
    """A figure that says why there is nothing to see: a declared output that a study cannot fill."""
    figure, axes = panels(1, 1, 5, 1.6)
    axes[0, 0].set_axis_off()
    axes[0, 0].text(0.5, 0.5, message, ha="center", va="center", color=QUIET, wrap=True)
    return figure


def save(figure: Drawing, stem: Path | str) -> None:
    """Write `stem`.svg and `stem`.png, and `stem`.gif of an animation.

    The same figure gives the same bytes, with no date in either.
    """
    from matplotlib import rc_context

    if isinstance(figure, Animation):
        with rc_context(STYLE):
            return figure.save(stem)
    with rc_context({**STYLE, "svg.hashsalt": "physiglot", "svg.fonttype": "path"}):
        figure.savefig(f"{stem}.svg", format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # it stays as it is now
        figure.savefig(f"{stem}.png", format="png", metadata={"Software": None})


Look = dict[str, Any]


def looks(labels: Iterable[str], ours: Iterable[str] = ()) -> dict[str, Look]:
    """Colour and line by label: `ours` first, thick and solid; others in turn solid, dashed, dash-dotted."""
    strong = set(ours)
    ordered = sorted(dict.fromkeys(labels), key=lambda label: label not in strong)
    return {
        label: {
            "color": PALETTE[k % len(PALETTE)],
            "linestyle": LINES[0 if label in strong else (k - len(strong)) % len(LINES)],
            "linewidth": 2.4 if label in strong else 1.3,
            "zorder": 4 if label in strong else 3,
        }
        for k, label in enumerate(ordered)
    }


def line(label: str, **look: Any) -> Any:
    """A legend entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **look)


def mark(k: int) -> Look:
    """Colour and marker of the k-th dataset."""
    return {"color": PALETTE[(k + 1) % len(PALETTE)], "marker": MARKERS[k % len(MARKERS)]}


def band(axis: Axes, x: np.ndarray, curves: np.ndarray, look: Look) -> None:
    """The mean of curves (seed, x), and the range over the seeds as a band."""
    axis.plot(x, curves.mean(0), **look)
    if len(curves) > 1:
        axis.fill_between(x, curves.min(0), curves.max(0), color=look["color"], alpha=0.18, linewidth=0)


def level(axis: Axes, span: np.ndarray, value: float, look: Look) -> None:
    """A published mean over a span of time: a bar of that width with a diamond in its middle."""
    colour = look["color"]
    axis.plot(span, [value, value], color=colour, linewidth=0.9, alpha=0.8, zorder=5)
    axis.plot(span.mean(), value, color=colour, zorder=6, **PUBLISHED)


def name_rows(axis: Axes, labels: Sequence[str]) -> None:
    """One named row per label, the first on top, for dots and bars that are read horizontally."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    for row in range(0, len(labels), 2):
        axis.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0, linewidth=0)


def bars(axis: Axes, numbers: Sequence[tuple[float, float] | None], colours: Sequence[str]) -> None:
    """A bar per row with its error and its number written out; rows without a number stay empty."""
    for row, (number, colour) in enumerate(zip(numbers, colours, strict=True)):
        if number is not None:
            value, error = number
            axis.barh(row, value, height=0.62, color=colour, zorder=2)
            axis.errorbar(value, row, xerr=error, color=TRUTH, capsize=2.5, elinewidth=1.1, zorder=3)
            text = f"{value:.2f} ± {error:.2f}" if error else f"{value:.2f}"
            axis.annotate(text, (value + error, row), (5, 0), textcoords="offset points", va="center", fontsize=8)


def dots(axis: Axes, numbers: Sequence[tuple[float, float] | None], shift: float, **look: Any) -> None:
    """A dot per row with its error, `shift` rows below the middle; rows without a number stay empty."""
    known = [(row + shift, *number) for row, number in enumerate(numbers) if number is not None]
    if known:
        row, value, error = np.array(known).T
        axis.errorbar(value, row, xerr=error, linestyle="", markersize=5, elinewidth=1.1, capsize=2, **look)


def whole_decades(axis: Axes, value: float) -> None:
    """A logarithmic x axis over whole powers of ten, from below `value` to beyond what is drawn."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.dataLim.intervalx
    axis.set_xscale("log")
    axis.set_xlim(10 ** np.floor(np.log10(min(low, value)) - 0.1), 10 ** np.ceil(np.log10(max(high, value)) + 0.1))
    axis.xaxis.set_major_locator(LogLocator(numticks=6))
    axis.xaxis.set_minor_formatter(NullFormatter())


def trajectories(
    time: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    ends: np.ndarray,
    names: Sequence[str],
    xlabel: str,
) -> Figure:
    """Truth and prediction (series, time, field): columns of series, rows of fields, `ends` of validity."""
    ours: Look = {"color": MODEL, "linewidth": 1.4, "linestyle": (0, (4, 1.2))}
    true: Look = {"color": TRUTH, "linewidth": 1.6}
    end: Look = {"color": QUIET, "linewidth": 1.2, "linestyle": ":"}
    width, height = 2.3 * len(truth) + 0.8, 1.3 * len(names) + 1.0
    figure, axes = panels(len(names), len(truth), width, height, sharex=True, sharey="row")
    for (row, column), axis in np.ndenumerate(axes):
        axis.plot(time, truth[column, :, row], **true)
        axis.plot(time, prediction[column, :, row], **ours)
        axis.axvline(ends[column], **end)
    for row, name in enumerate(names):
        margin = 0.12 * np.ptp(truth[..., row])
        limits = (truth[..., row].min() - margin, truth[..., row].max() + margin)
        axes[row, 0].set(ylabel=name, ylim=limits, xlim=(time[0], time[-1]))
    for column, axis in enumerate(axes[0]):
        axis.set_title(f"test series {column + 1}")
    figure.supxlabel(xlabel, fontsize=9)
    handles = [line("truth", **true), line("prediction", **ours), line("prediction valid until here", **end)]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def portraits(runs: dict[str, tuple[np.ndarray, str]], xlabel: str, ylabel: str) -> Figure:
    """Phase portraits by title: orbits (member, time, 2) and their colour; the first sets the frame."""
    figure, axes = panels(1, len(runs), 4.0 * len(runs), 3.7, sharex=True, sharey=True)
    for axis, (title, (orbits, colour)) in zip(axes[0], runs.items(), strict=True):
        for orbit in orbits:
            for piece in np.array_split(orbit, 1 + len(orbit) // 200):
                axis.plot(*piece.T, color=colour, linewidth=0.35, alpha=0.55, rasterized=True)
        axis.set(title=title, xlabel=xlabel)
    first = next(iter(runs.values()))[0].reshape(-1, 2)
    frame = np.stack([first.min(0), first.max(0)]) + 0.1 * np.ptp(first, axis=0) * [[-1], [1]]
    axes[0, 0].set(xlim=frame[:, 0], ylim=frame[:, 1], ylabel=ylabel)
    return figure


def comets(
    orbits: Sequence[np.ndarray], titles: Sequence[str], xlabel: str, ylabel: str, unit: float, frames: int
) -> Animation:
    """Orbits (series, time, 2), a panel each, run over the orbits of the first; `unit` is a step in Lyapunov times."""
    first = orbits[0].reshape(-1, 2)
    figure, axes = panels(1, len(orbits), 2.4 * len(orbits), 2.5, sharex=True, sharey=True)
    tails, heads = [], []
    for axis, title, states in zip(axes[0], titles, orbits, strict=True):
        axis.plot(*orbits[0].T, color="#d9d9d9", linewidth=0.5)
        tails.append([axis.plot([], [], color=PALETTE[i], linewidth=1.3)[0] for i in range(len(states))])
        heads.append(axis.scatter(*states[:, 0].T, color=PALETTE[: len(states)], s=22, zorder=3))
        axis.set(title=title, xlabel=xlabel)
    frame = np.stack([first.min(0), first.max(0)]) + 0.1 * np.ptp(first, axis=0) * [[-1], [1]]
    axes[0, 0].set(xlim=frame[:, 0], ylim=frame[:, 1], ylabel=ylabel)
    clock = figure.suptitle("t = 0", fontsize=9)
    steps = np.linspace(0, orbits[0].shape[1] - 1, frames).round().astype(int)

    def update(k: int) -> None:
        now = steps[k]
        for states, lines, points in zip(orbits, tails, heads, strict=True):
            points.set_offsets(states[:, now])
            for line_, orbit in zip(lines, states[:, max(0, now - 30) : now + 1], strict=True):
                line_.set_data(*orbit.T)
        clock.set_text(f"t = {now * unit:.1f} Lyapunov times")

    return Animation(figure, [*(line_ for lines in tails for line_ in lines), *heads, clock], update, frames)


def return_map(curve: np.ndarray, pairs: np.ndarray, name: str, note: str) -> Figure:
    """Pairs (pair, 2) of a value and the next one over the curve (point, 2) that they should lie on."""
    figure, axes = panels(1, 1, 4.6, 4.4)
    axis, margin = axes[0, 0], 0.1 * np.ptp(curve)
    low, high = curve.min() - margin, curve.max() + margin
    axis.plot([low, high], [low, high], color=QUIET, linewidth=0.8)
    axis.plot(*curve.T, color=TRUTH, linewidth=4, alpha=0.3, solid_capstyle="round", label="solver")
    axis.plot(*pairs.T, ".", color=MODEL, markersize=2.5, rasterized=True, label="surrogate")
    axis.set(xlim=(low, high), ylim=(low, high), xlabel=name, ylabel=f"next {name}", aspect="equal")
    axis.legend(loc="upper left", title=note, title_fontsize=8, markerscale=3, alignment="left")
    return figure


def write(figures: dict, folder: Path) -> None:
    """Write every figure as SVG and PNG, an animation as GIF too, into `folder`, which appears whole."""
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        for name, figure in figures.items():
            save(figure, temporary / name)
    print(f"{len(figures)} figures: {', '.join(figures)}")
