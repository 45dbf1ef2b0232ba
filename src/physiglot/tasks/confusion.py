"""The accuracy of classifiers that each assume another transition: a W whose central peak should be the transition.

E. P. L. van Nieuwenburg, Y.-H. Liu, S. D. Huber, Nature Physics 13, 435 (2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from .. import drawing
from ..phases import exact
from ..phases.study import Study
from ..rollout import Reading
from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = ("confusion",)
COMPARISONS = ("confusion",)
METRICS = {
    "peak": "central peak at",
    "peak_accuracy": "accuracy there",
    "valley_accuracy": "deeper valley",
    "no_peak": "no central peak",
    "false_peak": "peak without transition",
}


class Params(Strict):
    readings: dict[Literal["test"], Reading] = Field(description="the split on which the accuracy is measured")
    lowest: float = Field(0.0, ge=0, description="test series below this temperature are left out")
    resamples: int = Field(200, ge=2, description="bootstrap resamples of the test chains")


def _right(truth: xr.Dataset, read: xr.Dataset, lowest: float) -> tuple[np.ndarray, np.ndarray]:
    """The assumed transitions, and whether each classifier is right about each member (member, assumed)."""
    temperature, assumed = truth["parameters"].values[:, 0], read["assumed"].values[0]
    kept = temperature >= lowest
    label = temperature[kept, None] > assumed
    return assumed, (read["probability"].values[kept] > 0.5) == label


def central_peak(assumed: np.ndarray, accuracy: np.ndarray) -> tuple[float, float, float]:
    """Place and height of the highest inner maximum with a valley on both sides, and the deeper valley; else NaN.

    The place is the vertex of the parabola through the maximum and its neighbours.
    """
    best = (np.nan, np.nan, np.nan)
    for k in range(1, len(accuracy) - 1):
        left, right = accuracy[:k].min(), accuracy[k + 1 :].min()
        maximum = accuracy[k] > accuracy[k - 1] and accuracy[k] >= accuracy[k + 1]
        valleys = left < accuracy[k] and right < accuracy[k]
        if maximum and valleys and not accuracy[k] <= best[1]:
            a, b, c = accuracy[k - 1 : k + 2]
            shift = 0.5 * (a - c) / (a - 2 * b + c)
            best = (float(assumed[k] + shift * (assumed[1] - assumed[0])), float(b), float(min(left, right)))
    return best


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, float]:
    """The central peak with its bootstrap error, and how deep the valleys beside it are; NaN without a peak."""
    assumed, right = _right(truth["test"], prediction["test"], params.lowest)
    peak, height, valley = central_peak(assumed, right.mean(0))
    rng = np.random.default_rng(0)
    draws = rng.integers(len(right), size=(params.resamples, len(right)))
    peaks = np.array([central_peak(assumed, right[draw].mean(0))[0] for draw in draws])
    metrics = {"peak": peak, "peak_accuracy": height, "valley_accuracy": valley, "no_peak": float(np.isnan(peak))}
    metrics["peak_stderr"] = float(np.nanstd(peaks)) if np.isfinite(peaks).any() else np.nan
    transition = exact.transition(truth["test"].attrs)
    if transition is None:
        return metrics | {"false_peak": float(np.isfinite(peak))}
    return metrics | {"peak_deviation": peak - transition}


def _draw(axis: Axes, assumed: np.ndarray, right: np.ndarray, transition: float | None, **look: Any) -> None:
    axis.plot(assumed, right.mean(0), marker="o", markersize=3, **look)
    if transition is not None:
        axis.axvline(transition, **drawing.EXACT)
    axis.set(xlabel="assumed transition T′ (J/k_B)", ylabel="accuracy on the test series", ylim=(0.5, 1.01))


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, Figure]:
    """The accuracy against the assumed transition."""
    with drawing.style():
        figure, axes = drawing.panels(1, 1, 5.4, 3.6)
        assumed, right = _right(truth["test"], prediction["test"], params.lowest)
        _draw(axes[0, 0], assumed, right, exact.transition(truth["test"].attrs), color=drawing.MODEL)
    return {"confusion": figure}


def compare(studies: list[Study]) -> dict[str, Figure]:
    """The accuracy of the first seed of each study against the assumed transition."""
    looks = drawing.looks(s.name for s in studies)
    with drawing.style():
        figure, axes = drawing.panels(1, 1, 6.4, 3.8)
        for study in studies:
            assumed, right = _right(study.truth["test"], study.predictions[0]["test"], study.params.lowest)
            look = {**looks[study.name], "label": f"{study.label}, {study.system}"}
            _draw(axes[0, 0], assumed, right, study.transition, **look)
        axes[0, 0].plot([], [], label="transition", **drawing.EXACT)
        axes[0, 0].legend()
    return {"confusion": figure}
