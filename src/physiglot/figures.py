"""The figures of forecasts: rollouts, attractor and Lorenz map of one study; errors and climate of all of a paper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from . import climate, drawing
from .animation import Animation
from .study import Study as Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .tasks.forecast import Params

CLIMATE = {
    "wasserstein": "Wasserstein-1 (std)",
    "hellinger": "Hellinger, spectra",
    "lorenz_map_distance": "Lorenz map (std)",
    "lyapunov_exponent": "λ₁ (1/time unit)",
    "blow_ups": "blow-ups (share)",
}


def settled(runs: dict[str, climate.Run], params: Params) -> tuple[np.ndarray, np.ndarray]:
    """The free run and its reference, after their transients: both (member, step, field)."""
    reference = runs.get("long", runs["free"]).truth
    skip = round(params.transient / runs["free"].dt)
    run, reference = (s[:, min(skip, s.shape[1] // 2) :] for s in (runs["free"].prediction, reference))
    return run, reference


def nothing(role: str) -> Figure:
    return drawing.placeholder(f"this study has no rollout `{role}`")


def rollouts(run: climate.Run, params: Params, series: int = 4, steps: int = 320) -> Figure:
    truth, prediction = (states[:series, :steps, :4] for states in run.common)
    valid = climate.valid_steps(*run.common, run.std, params.vpt_threshold)[0][:series]
    unit = run.dt / params.lyapunov_time
    time = np.arange(truth.shape[1]) * unit
    return drawing.trajectories(time, truth, prediction, valid * unit, run.names[:4], "time (Lyapunov times)")


def attractor(runs: dict[str, climate.Run], params: Params, points: int = 25_000) -> Figure:
    """First against last field, as many points of the truth as of the surrogate."""
    names = runs["free"].names
    run, reference = (s[: max(1, points // s.shape[1]), :points, [0, -1]] for s in settled(runs, params))
    orbits = {"truth": (reference, drawing.TRUTH), "surrogate, free run": (run, drawing.MODEL)}
    return drawing.portraits(orbits, names[0], names[-1])


def lorenz_map(runs: dict[str, climate.Run], metrics: dict[str, float], params: Params) -> Figure:
    """Successive maxima of the surrogate over the solver's curve."""
    name, fields = params.map_field, runs["free"].fields
    if name not in fields:
        return drawing.placeholder(f"this system has no field `{name}`")
    index = fields.index(name)
    run, reference = (climate.lorenz_map(s[..., index]) for s in settled(runs, params))
    note = f"distance {metrics['lorenz_map_distance']:.2g} std, {metrics['lorenz_map_outside']:.1%} outside"
    return drawing.return_map(climate.map_curve(reference), run, f"maximum of {runs['free'].names[index]}", note)


def animation(run: climate.Run, params: Params, series: int = 4, steps: int = 320, frames: int = 32) -> Animation:
    """The test series in the plane of the first and the last field: truth on the left, prediction on the right."""
    states = [values[:series, :steps, [0, -1]] for values in run.common]
    unit = run.dt / params.lyapunov_time
    return drawing.comets(states, ("truth", "prediction"), run.names[0], run.names[-1], unit, frames)


class Study(Line):
    """A forecast and its error over time."""

    @property
    def growth(self) -> tuple[np.ndarray, np.ndarray]:
        """Time in Lyapunov times (step), and relative error (seed, step), NaN where exactly 0, of `test`."""
        runs = [climate.Run.of(self.truth["test"], p["test"], self.params.blow_up) for p in self.predictions]
        parts = [climate.relative_error(*run.common) for run in runs]
        curves = np.stack([error.sum(0) / power.sum(0) for error, power in parts])
        time = np.arange(curves.shape[1]) * runs[0].dt / self.params.lyapunov_time
        return time, np.where(curves > 0, curves, np.nan)

    @property
    def published_bins(self) -> list[tuple[int, int, float]]:
        """First and last step and value of every published relative MSE."""
        found = [(re.fullmatch(r"relative_mse_(\d+)_(\d+)", name), value) for name, value in self.published.items()]
        return [(int(match[1]), int(match[2]), value) for match, value in found if match]


def compare(studies: list[Study]) -> dict[str, Figure]:
    """All studies of a paper: error growth, valid time and climate, with the spread over their seeds."""
    looks = drawing.looks((s.label for s in studies), (s.label for s in studies if s.variant == "ours"))
    with drawing.style():
        return {
            "error_growth": _draw_growth(studies, looks),
            "valid_time": _draw_valid(studies, looks),
            "climate": _draw_climate(studies, looks),
        }


def _by_dataset(studies: list[Study]) -> dict[str, list[Study]]:
    return {name: [s for s in studies if s.dataset == name] for name in dict.fromkeys(s.dataset for s in studies)}


def _numbers(studies: list[Study], labels: list[str], metric: str) -> list[tuple[float, float] | None]:
    known = {study.label: study.number(metric) for study in studies}
    return [known.get(label) for label in labels]


def _draw_growth(studies: list[Study], looks: dict[str, drawing.Look]) -> Figure:
    """Relative error over up to 6 Lyapunov times, a panel per dataset; published bins as diamonds."""
    shown = _by_dataset([s for s in studies if s.predictions and all("test" in p for p in s.predictions)])
    if not shown:
        return nothing("test")
    figure, axes = drawing.panels(1, len(shown), 3.4 * len(shown) + 2, 4.2, sharex=True, sharey=True)
    for axis, (dataset, group) in zip(axes[0], shown.items(), strict=True):
        axis.set(title=dataset, xlabel="time (Lyapunov times)", yscale="log")
        for study in group:
            time, curves = study.growth
            drawing.band(axis, time, curves, looks[study.label])
            for first, last, value in study.published_bins:
                span = np.interp([first, last], np.arange(len(time)), time)
                drawing.level(axis, span, value, looks[study.label])
    axes[0, 0].set(ylabel="relative MSE", ylim=(max(1e-9, axes[0, 0].get_ylim()[0]), 10))
    axes[0, 0].set_xlim(0, min(6, axes[0, 0].dataLim.x1))
    handles = [drawing.line(label, **look) for label, look in looks.items()]
    if any(study.published_bins for study in studies):
        handles.append(drawing.line("published, mean of bin", color=drawing.TRUTH, **drawing.PUBLISHED))
    figure.legend(handles=handles, loc="outside right upper", handlelength=2.6)
    return figure


def _draw_valid(studies: list[Study], looks: dict[str, drawing.Look]) -> Figure:
    """Mean valid time, a bar per model, a panel per dataset; the order is that of the first dataset."""
    scores = {s.label: number[0] for s in reversed(studies) if (number := s.number("vpt_mean"))}
    if not scores:
        return nothing("long")
    labels = sorted(scores, key=lambda label: -scores[label])
    groups = _by_dataset(studies)
    size = (2.9 * len(groups) + 1.6, 0.3 * len(labels) + 1.1)
    figure, axes = drawing.panels(1, len(groups), *size, sharex=True, sharey=True)
    for axis, (dataset, group) in zip(axes[0], groups.items(), strict=True):
        drawing.name_rows(axis, labels)
        drawing.bars(axis, _numbers(group, labels, "vpt_mean"), [looks[label]["color"] for label in labels])
        axis.set(title=dataset, xlim=(0, 1.45 * max(scores.values())))
    limit = next((number[0] for s in studies if (number := s.number("vpt_limit"))), None)
    note = f"; of the ground truth itself: {limit:g}" if limit else ""
    figure.supxlabel(f"mean valid prediction time ± standard error\n(Lyapunov times{note})", fontsize=9)
    return figure


def _draw_climate(studies: list[Study], looks: dict[str, drawing.Look]) -> Figure:
    """A panel per distance, a row per model, a mark per dataset; grey as far as the truth is from itself."""
    shown = [metric for metric in CLIMATE if any(study.number(metric) for study in studies)]
    if not shown:
        return nothing("free")
    labels, groups = list(looks), _by_dataset(studies)
    size = (1.9 * len(shown) + 1.8, 0.34 * len(labels) + 1.3)
    figure, axes = drawing.panels(1, len(shown), *size, sharey=True)
    for axis, metric in zip(axes[0], shown, strict=True):
        drawing.name_rows(axis, labels)
        for k, group in enumerate(groups.values()):
            shift = 0.24 * (k - (len(groups) - 1) / 2)
            drawing.dots(axis, _numbers(group, labels, metric), shift, **drawing.mark(k))
        axis.set_xlabel(CLIMATE[metric])
        _show_truth(axis, metric, studies)
    handles = [drawing.line(name, linestyle="", **drawing.mark(k)) for k, name in enumerate(groups)]
    handles.append(drawing.line("the system itself", **drawing.EXACT))
    handles.append(drawing.line("no farther than truth from truth", **drawing.FLOOR))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _show_truth(axis: Axes, metric: str, studies: list[Study]) -> None:
    """The truth's own value as a line, or its distance from itself as a shade on a logarithmic axis."""
    value = next((v for s in studies if (v := s.number(f"{metric}_truth"))), None)
    floor = next((v for s in studies if (v := s.number(f"{metric}_floor"))), None)
    if value:
        axis.axvline(value[0], zorder=1, **drawing.EXACT)
    if floor:
        drawing.whole_decades(axis, floor[0])
        axis.axvspan(axis.get_xlim()[0], floor[0], color=drawing.QUIET, alpha=0.3, linewidth=0, zorder=1)
    if metric == "blow_ups":
        axis.set_xlim(-0.08, 1.08)
