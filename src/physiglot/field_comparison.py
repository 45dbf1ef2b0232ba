"""The figures that compare all forecasts of fields of a paper: growth of the error, scales, and the wake."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from . import drawing, fields
from .figures import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .tasks.field_forecast import Params

Groups = dict[tuple[str, str], list[Study]]
NOTHING = "no study has a rollout `test`"


def compare(studies: list[Study]) -> dict[str, Figure]:
    """Error growth, spectra and Strouhal numbers of all studies, with the spread over their seeds."""
    looks = drawing.looks((s.label for s in studies), (s.label for s in studies if s.variant == "ours"))
    groups = _by_system([s for s in studies if s.predictions and all("test" in p for p in s.predictions)])
    with drawing.style():
        return {
            "field_error_growth": _draw_growth(groups, looks),
            "field_spectra": _draw_spectra(groups, looks),
            "wake": _draw_wake(groups, looks),
        }


def _by_system(studies: list[Study]) -> Groups:
    keys = [(str(s.truth["test"].attrs.get("system", "")), s.dataset) for s in studies]
    return {key: [s for s, k in zip(studies, keys, strict=True) if k == key] for key in dict.fromkeys(keys)}


def _names(group: list[Study]) -> list[str]:
    return [str(f) for f in group[0].truth["test"]["field"].values]


def growth(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Time (step) and relative MSE (seed, step, field), NaN where exactly 0."""
    params, truth = cast("Params", study.params), study.truth["test"]
    curves = np.stack([fields.growth(truth, p["test"], params.blow_up) for p in study.predictions])
    return truth["time"].values[: curves.shape[1]], np.where(curves > 0, curves, np.nan)


def _published(study: Study, field: str) -> list[tuple[int, int, float]]:
    """First and last step and value of every published relative MSE of a field."""
    pattern = rf"relative_mse_{re.escape(field)}_(\d+)_(\d+)"
    found = [(re.fullmatch(pattern, name), value) for name, value in study.published.items()]
    return [(int(match[1]), int(match[2]), value) for match, value in found if match]


def _rows(groups: Groups) -> tuple[Figure, np.ndarray]:
    """A row of panels per system and dataset, a panel per field."""
    columns = max(len(_names(group)) for group in groups.values())
    figure, axes = drawing.panels(len(groups), columns, 3.1 * columns + 2.4, 3.1 * len(groups) + 0.5)
    for (system, dataset), group, row in zip(groups, groups.values(), axes, strict=True):
        for axis in row[len(_names(group)) :]:
            axis.set_axis_off()
        for axis, name in zip(row, _names(group), strict=False):
            axis.set_title(f"{system}, {dataset}: {name}")
    return figure, axes


def _draw_growth(groups: Groups, looks: dict[str, drawing.Look]) -> Figure:
    """Relative MSE against time; published means of bins as diamonds."""
    if not groups:
        return drawing.placeholder(NOTHING)
    figure, axes = _rows(groups)
    marked = False
    for group, row in zip(groups.values(), axes, strict=True):
        for study in group:
            time, curves = growth(study)
            for axis, name, i in zip(row, _names(group), range(curves.shape[2]), strict=False):
                drawing.band(axis, time, curves[..., i], looks[study.label])
                for first, last, value in _published(study, name):
                    span = np.interp([first, last], np.arange(len(time)), time)
                    drawing.level(axis, span, value, looks[study.label])
                    marked = True
        for axis in row[: len(_names(group))]:
            axis.set(xlabel="time", yscale="log")
            low, high = axis.get_ylim()
            axis.set_ylim(max(1e-6, low), min(10, 1.5 * high))
        row[0].set_ylabel("relative MSE")
    extra = [drawing.line("published, mean of bin", color=drawing.TRUTH, **drawing.PUBLISHED)] if marked else []
    _legend(figure, looks, extra)
    return figure


def _draw_spectra(groups: Groups, looks: dict[str, drawing.Look]) -> Figure:
    """Predicted over true power by octave of the wavenumber; 1 is right."""
    if not groups:
        return drawing.placeholder(NOTHING)
    figure, axes = _rows(groups)
    for group, row in zip(groups.values(), axes, strict=True):
        for axis, name in zip(row, _names(group), strict=False):
            axis.axhline(1.0, **drawing.EXACT)
            for study in group:
                ratios = _ratios(study, name)
                drawing.band(axis, np.arange(ratios.shape[1]), ratios, looks[study.label])
            ticks = np.arange(len(axis.lines[-1].get_xdata()))
            axis.set_xticks(ticks, [f"{2**k}" for k in ticks])
            axis.set(xlabel="octave of the wavenumber, from", yscale="log")
            low, high = axis.get_ylim()
            axis.set_ylim(max(min(low, 0.5), 1e-3), min(max(high, 2), 1e3))
        row[0].set_ylabel("power, predicted / true")
    _legend(figure, looks, [drawing.line("truth", **drawing.EXACT)])
    return figure


def _ratios(study: Study, name: str) -> np.ndarray:
    """(seed, octave), NaN where there is no power."""
    pattern = re.compile(rf"spectrum_ratio_{re.escape(name)}_\d+")
    rows = [[m[key] for key in m if pattern.fullmatch(key)] for m in study.metrics]
    values = np.array([[np.nan if v is None else v for v in row] for row in rows], float)
    return np.where(values > 0, values, np.nan)


def _legend(figure: Figure, looks: dict[str, drawing.Look], extra: list[Any]) -> None:
    handles = [drawing.line(label, **look) for label, look in looks.items()] + extra
    figure.legend(handles=handles, loc="outside right upper", handlelength=2.6)


def _by_reynolds(study: Study, quantity: str, suffix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Reynolds numbers, and the means over the seeds of the metrics `<quantity>_re<number><suffix>`."""
    pattern = re.compile(rf"{quantity}_re(\d+){suffix}")
    found = {int(match[1]): key for key in study.metrics[0] if (match := pattern.fullmatch(key))}
    means = [np.mean([np.nan if m.get(key) is None else m[key] for m in study.metrics]) for key in found.values()]
    order = np.argsort(list(found))
    return np.array(list(found))[order], np.array(means)[order]


WAKE = {"strouhal": "Strouhal number", "onset": "onset of shedding (time)"}


def _draw_wake(groups: Groups, looks: dict[str, drawing.Look]) -> Figure:
    """Strouhal number and onset against the Reynolds number, of the truth and of every study."""
    studies = [s for group in groups.values() for s in group if cast("Params", s.params).wake]
    if not studies:
        return drawing.placeholder("no study measures a wake")
    figure, axes = drawing.panels(1, len(WAKE), 3.9 * len(WAKE) + 2, 3.6)
    for axis, (quantity, label) in zip(axes[0], WAKE.items(), strict=True):
        axis.plot(*_by_reynolds(studies[0], quantity, "_truth"), "o-", color=drawing.TRUTH, linewidth=2, markersize=7)
        for study in studies:
            look = {**looks[study.label], "marker": "s", "markersize": 4}
            axis.plot(*_by_reynolds(study, quantity), **look)
        axis.set(xlabel="Reynolds number", ylabel=label)
    shown = {s.label: looks[s.label] for s in studies}
    _legend(figure, shown, [drawing.line("truth", color=drawing.TRUTH, marker="o", linewidth=2)])
    return figure
