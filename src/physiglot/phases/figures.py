"""The figures of phases: P(T) and its crossing, configurations, and what compares all networks and controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import drawing
from . import crossing, exact, published
from .study import Study

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER_WINDOWS = [[0.0, 1.0], [4.0, 5.0]]
ROWS = {"honeycomb": 2}  # width / rows of a lattice that is not square


def curve_of(found: crossing.Crossing, estimator: str, t: np.ndarray) -> np.ndarray | None:
    """The fitted P(t), where the fit is a formula."""
    if not found.parameters or estimator == "isotonic":
        return None
    if estimator == "tanh":
        a, b, c, d = found.parameters
        return a * np.tanh(b * t + c) + d
    u, v = found.parameters
    return 1 / (1 + np.exp(-(u * t + v)))


def probability(
    temperature: np.ndarray,
    p: np.ndarray,
    shuffled: np.ndarray,
    found: crossing.Crossing,
    error: float | None,
    transition: float | None,
    windows: list[list[float]],
    estimator: str,
    quantity: str = "T (J/k_B)",
) -> Figure:
    """P of the upper phase: mean and middle 80 % of the chains, the fit, its crossing, the windows of training."""
    flat = p.reshape(len(p), -1)
    levels = np.unique(temperature)
    mean = np.array([flat[temperature == t].mean() for t in levels])
    low, high = (np.array([np.quantile(flat[temperature == t], q) for t in levels]) for q in (0.1, 0.9))
    figure, axes = drawing.panels(1, 1, 6.4, 3.8)
    axis, fine = axes[0, 0], np.linspace(levels[0], levels[-1], 400)
    for window in windows:
        axis.axvspan(*window, color=drawing.QUIET, alpha=0.14, linewidth=0)
    axis.fill_between(levels, low, high, color=drawing.MODEL, alpha=0.18, linewidth=0)
    axis.plot(levels, mean, "o", color=drawing.MODEL, markersize=3.5, label="P, mean and middle 80 % of chains")
    axis.plot(levels, crossing.curve(temperature, shuffled)[1], ":", color=drawing.PALETTE[1], label="steps shuffled")
    if (fitted := curve_of(found, estimator, fine)) is not None:
        axis.plot(fine, fitted, color=drawing.MODEL, label=f"{estimator} fit")
    if found.status == crossing.CROSSED:
        text = f"crosses ½ at {found.temperature:.3f}" + (f" ± {error:.3f}" if error else "")
        axis.axvline(found.temperature, color=drawing.MODEL, linewidth=1.2, label=text)
    if transition is not None:
        axis.axvline(transition, label=f"transition at {transition:.4f}", **drawing.EXACT)
    else:
        axis.plot([], [], " ", label="this system has no transition")
    axis.axhline(0.5, color=drawing.QUIET, linewidth=0.8)
    axis.set(xlabel=quantity, ylabel="P(upper phase)", ylim=(-0.03, 1.03), xlim=(levels[0], levels[-1]))
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def quantity(data: xr.Dataset) -> str:
    """What the parameter of the data is, with its unit."""
    return "U (t)" if data.attrs["system"] == "hubbard" else "T (J/k_B)"


def configurations(data: xr.Dataset, transition: float | None, count: int = 5) -> Figure:
    """Last lattices of one chain each from below to above the transition, or the series of the drawn sites."""
    temperature = data["parameters"].values[:, 0]
    middle = transition if transition is not None else float(np.median(temperature))
    wanted = middle + np.linspace(-0.45, 0.45, count) * min(middle, np.ptp(temperature))
    members = [int(np.abs(temperature - t).argmin()) for t in wanted]
    figure, axes = drawing.panels(1, count, 1.9 * count, 2.4)
    for axis, member in zip(axes[0], members, strict=True):
        picture, options = picture_of(data, member)
        axis.imshow(picture, interpolation="nearest", aspect="auto", **options)
        axis.set(title=f"{quantity(data)[0]} = {temperature[member]:.2f}", xticks=[], yticks=[])
        axis.grid(visible=False)
    note = "" if transition is None else f"; transition at {quantity(data)[0]} = {transition:.3f}"
    what = "lattice after the last step" if "lattice" in data else "drawn sites (down) against steps (right)"
    figure.supxlabel(what + note, fontsize=9)
    return figure


def picture_of(data: xr.Dataset, member: int) -> tuple[np.ndarray, dict[str, Any]]:
    """The picture of a member and how to colour it."""
    if "lattice" not in data:
        series = data["state"][member].values.T[:40]
        angle = data["state"].attrs.get("units") == "rad"
        return series, _colours(angle, series)
    stored, sites = data["lattice"][member].values, data.attrs.get("sites")
    values = np.unpackbits(stored, count=sites, bitorder="little") if stored.dtype == np.uint8 else stored
    rows = max(1, round((values.size / ROWS.get(data.attrs.get("lattice", ""), 1)) ** 0.5))
    if values.size % rows or data.attrs.get("lattice") == "chain":
        rows = 2 ** (int(np.log2(values.size)) // 2)
        values = values[: values.size // rows * rows]
    return values.reshape(rows, -1), _colours(stored.dtype == np.uint16, values)


def _colours(angle: bool, values: np.ndarray) -> dict[str, Any]:
    return {"cmap": "twilight"} if angle else {"cmap": "cividis", "vmin": values.min(), "vmax": max(1, values.max())}


# --- comparisons -------------------------------------------------------------------------------


def compare(studies: list[Study]) -> dict[str, Figure]:
    """Crossing against steps beside the published ones, against the windows, P(T) of all, and where nothing happens."""
    looks = drawing.looks((s.label for s in studies), (s.label for s in studies if s.variant == "sound"))
    with drawing.style():
        return {
            "steps": _steps(studies, looks),
            "windows": _windows(studies, looks),
            "curves": _curves([s for s in studies if s.transition is not None], looks, "transition"),
            "negative_control": _curves([s for s in studies if s.transition is None], looks, "no transition"),
        }


def _scan(studies: list[Study]) -> dict[str, list[Study]]:
    """Label -> studies of the square Ising model trained in the published windows, by steps."""
    wanted = [s for s in studies if s.system == "Ising square" and s.windows == PAPER_WINDOWS]
    wanted = [s for s in wanted if s.made_by["labels"] == "windows"]
    found: dict[str, dict[int, Study]] = {}
    for study in wanted:
        found.setdefault(study.label, {}).setdefault(study.steps, study)
    return {label: [group[n] for n in sorted(group)] for label, group in found.items()}


def _steps(studies: list[Study], looks: dict[str, drawing.Look]) -> Figure:
    scan = _scan(studies)
    if not scan:
        return drawing.placeholder("no study of the square Ising model in the published windows")
    points = {label: [(s.steps, *n) for s in group if (n := s.number("crossing"))] for label, group in scan.items()}
    return against_steps(points, looks)


def against_steps(points: dict[str, list[tuple[int, float, float]]], looks: dict[str, drawing.Look]) -> Figure:
    """Label -> (steps, crossing, error) of the square Ising model, a line each; the published ones beside them."""
    figure, axes = drawing.panels(1, 2, 10.5, 4.2, sharex=True, sharey=True)
    for axis, title in zip(axes[0], ("ours", "published"), strict=True):
        axis.axhline(exact.ISING["square"], **drawing.EXACT)
        axis.set(title=title, xlabel="Monte Carlo steps", xscale="log", ylim=(1.9, 3.0))
        axis.set_xticks([2, 3, 5, 10, 20, 50, 100], ["2", "3", "5", "10", "20", "50", "100"], minor=False)
        axis.minorticks_off()
    for k, (label, found) in enumerate(points.items()):
        if found:
            x, y, error = np.array(found).T
            axes[0, 0].errorbar(
                x * 1.015 ** (k - len(points) / 2), y, error, marker="o", markersize=4, capsize=2, **looks[label]
            )
    for k, (name, values) in enumerate(published.CROSSINGS.items()):
        errors = np.nan_to_num(np.array(published.ERRORS[name]))
        look = looks.get(name, {"color": drawing.PALETTE[k], "linestyle": drawing.LINES[1]})
        style = {**drawing.PUBLISHED, **{k: v for k, v in look.items() if k in ("color", "linestyle")}}
        axes[0, 1].errorbar(published.STEPS, values, errors, capsize=2, **style)
    axes[0, 0].set_ylabel("P = ½ at T (J/k_B)")
    handles = [drawing.line(label, marker="o", **looks[label]) for label in points]
    handles += [drawing.line("published", color=drawing.TRUTH, **drawing.PUBLISHED)]
    figure.legend(handles=[*handles, drawing.line("exact T_c", **drawing.EXACT)], loc="outside right upper")
    return figure


def _span(windows: list[list[float]]) -> str:
    return " / ".join(f"[{low:g}, {high:g}]" for low, high in windows)


def _windows(studies: list[Study], looks: dict[str, drawing.Look]) -> Figure:
    """The crossing against the windows of training, a panel per system, a mark per model; the transition dashed."""
    wanted = [s for s in studies if s.number("crossing") and s.made_by["labels"] == "windows" and s.steps == 10]
    systems = {name: [s for s in wanted if s.system == name] for name in dict.fromkeys(s.system for s in wanted)}
    systems = {k: v for k, v in systems.items() if len({_span(s.windows) for s in v}) > 1}
    if not systems:
        return drawing.placeholder("no system has been studied with more than one pair of windows")
    most = max(len({_span(s.windows) for s in v}) for v in systems.values())
    figure, axes = drawing.panels(1, len(systems), 4.2 * len(systems) + 1.5, 0.45 * most + 1.6)
    for axis, (name, group) in zip(axes[0], systems.items(), strict=True):
        spans = list(dict.fromkeys(_span(s.windows) for s in group))
        drawing.name_rows(axis, spans)
        here = list(dict.fromkeys(s.label for s in group))
        for study in group:
            row = [study.number("crossing") if _span(study.windows) == span else None for span in spans]
            shift = 0.7 * ((here.index(study.label) + 0.5) / len(here) - 0.5)
            drawing.dots(axis, row, shift, marker="o", color=looks[study.label]["color"])
        if group[0].transition is not None:
            axis.axvline(group[0].transition, **drawing.EXACT)
        axis.set(title=name, xlabel="P = ½ at T (J/k_B)")
    labels = dict.fromkeys(s.label for group in systems.values() for s in group)
    handles = [drawing.line(k, marker="o", linestyle="", color=looks[k]["color"]) for k in labels]
    figure.legend(handles=[*handles, drawing.line("transition", **drawing.EXACT)], loc="outside right upper")
    return figure


def _mean_curve(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures and the mean P of each seed (seed, temperature)."""
    temperature = study.first["parameters"].values[:, 0]
    each = [p["test"]["probability"].values.reshape(len(temperature), -1).mean(1) for p in study.predictions]
    curves = [crossing.curve(temperature, p) for p in each]
    return curves[0][0], np.stack([c[1] for c in curves])


def _curves(studies: list[Study], looks: dict[str, drawing.Look], what: str) -> Figure:
    """P(T) of all studies at ten steps, a panel per system and pair of windows, the range over seeds as a band."""
    groups: dict[str, list[Study]] = {}
    for study in studies:
        if study.steps == 10:
            groups.setdefault(f"{study.system}\n{_span(study.windows)}", []).append(study)
    if not groups:
        return drawing.placeholder(f"no study of a system with {what}")
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = drawing.panels(rows, columns, 3.2 * columns + 2, 2.9 * rows, sharey=True)
    for axis, (title, group) in zip(axes.flat, groups.items(), strict=False):
        _panel(axis, title, group, looks)
    for axis in axes.flat[len(groups) :]:
        axis.set_axis_off()
    shown = dict.fromkeys(s.label for group in groups.values() for s in group)
    handles = [drawing.line(label, **looks[label]) for label in shown]
    handles += [] if what == "no transition" else [drawing.line("transition", **drawing.EXACT)]
    figure.legend(handles=handles, loc="outside right upper")
    units = " or ".join(dict.fromkeys(quantity(s.first) for group in groups.values() for s in group))
    figure.supxlabel(f"{units}; systems with {what}; grey: windows of training", fontsize=9)
    return figure


def _panel(axis: Axes, title: str, group: list[Study], looks: dict[str, drawing.Look]) -> None:
    for window in group[0].windows:
        axis.axvspan(*window, color=drawing.QUIET, alpha=0.14, linewidth=0)
    for study in group:
        drawing.band(axis, *_mean_curve(study), looks[study.label])
    if group[0].transition is not None:
        axis.axvline(group[0].transition, **drawing.EXACT)
    axis.axhline(0.5, color=drawing.QUIET, linewidth=0.8)
    axis.set_title(title)
    axis.set(ylim=(-0.03, 1.03))
