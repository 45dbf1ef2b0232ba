"""How many patterns an associative memory recalls: the overlap with the pattern against the load α = patterns / spins.

For Hebb's rule beside the mean-field theory, whose retrieval state ends at α_c = 0.138 (see `exact.retrieval`).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from .. import drawing
from ..exact import retrieval
from ..rollout import Reading
from ..strict import Strict
from ..study import Study

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = ("memories", "retrieval")
COMPARISONS = ("capacity",)
METRICS = {
    "spins": "N",
    "largest_load": "largest α",
    "half_load": "m = 0.66 at α",
    "theory_deviation": "m − theory, below α_c",
    "overlap_smallest": "m, fewest patterns",
    "overlap_largest": "m, most patterns",
    "right_largest": "no bit wrong, most patterns",
}
HALF = 0.66  # between the overlap of the last retrieval state, 0.967, and what is left of it in a glass, 0.35


class Params(Strict):
    readings: dict[Literal["cues"], Reading] = Field(description="the stored patterns that are recalled")


def loads(read: xr.Dataset) -> np.ndarray:
    """α of each memory."""
    return np.array(read.attrs["made_by"]["stored"]) / read["cue"].shape[1]


def of_known(read: xr.Dataset, name: str) -> np.ndarray:
    """Values (member, memory), NaN where a memory does not know the pattern."""
    return np.where(read["known"].values > 0, read[name].values, np.nan)


def averages(read: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the patterns that a memory knows, and its standard error, by memory; NaN if it knows none."""
    values = of_known(read, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, 0), np.nanstd(values, 0, ddof=1) / np.sqrt(np.isfinite(values).sum(0))


def half_load(alpha: np.ndarray, m: np.ndarray) -> float:
    """Where the overlap falls through `HALF`, linear between two loads; NaN if it does not."""
    falls = np.flatnonzero((m[:-1] >= HALF) & (m[1:] < HALF))
    if not len(falls):
        return np.nan
    k = falls[0]
    return float(alpha[k] + (m[k] - HALF) / (m[k] - m[k + 1]) * (alpha[k + 1] - alpha[k]))


def theory(read: xr.Dataset) -> np.ndarray | None:
    """The overlap of the retrieval state at each load, for Hebb's rule."""
    if read.attrs["made_by"]["rule"] != "hebb":
        return None
    return np.array([retrieval.overlap(alpha) for alpha in loads(read)])


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, Any]:
    """Overlap and share of faultless recalls for each number of patterns, and where the overlap breaks down."""
    read = prediction["cues"]
    alpha = loads(read)
    (m, error), (right, right_error) = averages(read, "overlap"), averages(read, "right")
    metrics: dict[str, Any] = {"spins": read["cue"].shape[1], "largest_load": alpha[-1], "half_load": None}
    for k, count in enumerate(read.attrs["made_by"]["stored"]):
        metrics |= {f"overlap_{count}": m[k], f"overlap_{count}_stderr": error[k]}
        metrics |= {f"right_{count}": right[k], f"right_{count}_stderr": right_error[k]}
    for name, values, errors in (("overlap", m, error), ("right", right, right_error)):
        for place, k in (("smallest", 0), ("largest", -1)):
            metrics |= {f"{name}_{place}": values[k], f"{name}_{place}_stderr": errors[k]}
    metrics["half_load"] = half_load(alpha, m)
    if np.isnan(metrics["half_load"]):
        metrics["half_load_reason"] = f"the overlap does not fall through {HALF} within these loads"
    expected = theory(read)
    below = alpha < 0.9 * retrieval.capacity()[0]
    if expected is not None and below.any():
        metrics["theory_deviation"] = float(np.abs(m - expected)[below].max())
    return metrics


def _curve(axis: Axes, alpha: np.ndarray, read: xr.Dataset, label: str, **look: Any) -> None:
    m, error = averages(read, "overlap")
    axis.errorbar(alpha, m, yerr=np.nan_to_num(error), marker="o", markersize=4, label=label, **look)


def _mean_field(axis: Axes) -> None:
    largest, m = retrieval.capacity()
    alpha = np.append(np.linspace(0, largest * (1 - 1e-9), 60), largest)
    axis.plot(alpha, [*(retrieval.overlap(a) for a in alpha[:-1]), m], label="mean field", **drawing.EXACT)
    axis.axvline(largest, color=drawing.QUIET, linewidth=0.9, linestyle=":", label="0.138 N patterns")


def _finish(axis: Axes, hebb: bool) -> None:
    if hebb:
        _mean_field(axis)
    else:
        axis.set_xscale("log")
    axis.set(xlabel="load α = patterns / spins", ylabel="overlap m with the pattern", ylim=(-0.05, 1.05))
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="lower left")


def _image(axis: Axes, spins: np.ndarray) -> None:
    """Spins as a picture, as near to a square as their number allows."""
    height = next(h for h in range(int(np.sqrt(len(spins))), 0, -1) if len(spins) % h == 0)
    axis.imshow(spins.reshape(height, -1), cmap="Greys", vmin=-1, vmax=1, interpolation="nearest", aspect="equal")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


def _memories(truth: xr.Dataset, read: xr.Dataset) -> Figure:
    """A pattern, its damaged cue, and what memories of growing load make of it, wrong spins counted."""
    alpha, pattern = loads(read), truth["state"].values[0, 0]
    chosen = sorted({round(k) for k in np.linspace(0, len(alpha) - 1, 4)})
    found = {f"α = {alpha[k]:.3g}": np.sign(read["recalled"].values[0, k]) for k in chosen}
    shown = {"pattern": pattern, "cue": read["cue"].values[0], **found}
    figure, axes = drawing.panels(1, len(shown), 1.9 * len(shown), 2.3)
    for axis, (title, spins) in zip(axes[0], shown.items(), strict=True):
        _image(axis, spins)
        axis.set_title(title)
        axis.set_xlabel(f"{int((spins != pattern).sum())} of {len(pattern)} wrong")
    return figure


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, Figure]:
    """What is recalled of the first pattern, and the overlap of every pattern against the load."""
    read = prediction["cues"]
    alpha = loads(read)
    with drawing.style():
        figure, axes = drawing.panels(1, 1, 5.4, 3.6)
        overlap = of_known(read, "overlap")
        axes[0, 0].plot(np.tile(alpha, (len(overlap), 1)), overlap, ".", color=drawing.QUIET, alpha=0.5, markersize=3)
        _curve(axes[0, 0], alpha, read, f"N = {read['cue'].shape[1]}", color=drawing.MODEL)
        _finish(axes[0, 0], read.attrs["made_by"]["rule"] == "hebb")
        return {"memories": _memories(truth["cues"], read), "retrieval": figure}


def compare(studies: list[Study]) -> dict[str, Figure]:
    """All memories by Hebb's rule against the theory; all others against their loads, on a logarithmic axis."""
    looks = drawing.looks(s.name for s in studies)
    with drawing.style():
        figure, axes = drawing.panels(1, 2, 9.6, 3.8)
        for study in studies:
            read = study.predictions[0]["cues"]
            axis = axes[0, 0 if read.attrs["made_by"]["rule"] == "hebb" else 1]
            _curve(axis, loads(read), read, study.label, **looks[study.name])
        _finish(axes[0, 0], True)
        _finish(axes[0, 1], False)
    return {"capacity": figure}
