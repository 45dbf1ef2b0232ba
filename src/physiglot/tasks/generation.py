"""How a model makes its samples: configurations stage by stage, from the coarsest scale to the finest, from noise to
data, or while one latent variable moves. What a stage is says the model (`stages`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from .. import drawing
from ..generative.comparisons import Study
from ..rollout import Samples
from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["COMPARISONS", "FIGURES", "METRICS", "Params", "Study", "compare", "evaluate", "plot"]

FIGURES = ("stages",)
COMPARISONS: tuple[str, ...] = ()
METRICS = {"decided_first": "decided by the first stage", "decided_before_last": "before the last"}


class Params(Strict):
    samples: dict[Literal["model"], Samples] = Field(description="what the model draws; `stages` says how many rows")


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, float]:
    """Correlation of the first stage, and of the last but one, with the last, over all sites and rows."""
    stages = prediction["model"]["stages"].values
    return {name: correlation(stages[:, i], stages[:, -1]) for name, i in zip(METRICS, (0, -2), strict=True)}


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Σ x y / √(Σ x² Σ y²), without taking off a mean: both signs of an ordered phase are alike. NaN if one is zero."""
    scale = np.sqrt(np.square(one, dtype=np.float64).sum() * np.square(two, dtype=np.float64).sum())
    return float((one * two).sum() / scale) if scale > 0 else float("nan")


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, Figure]:
    """One row per sample or latent, one column per stage; lattices as images, anything else as points."""
    stages = prediction["model"]["stages"]
    values = stages.values
    rows, columns = values.shape[:2]
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=1e-12))
    with drawing.style():
        figure, axes = drawing.panels(rows, columns, 1.35 * columns, 1.3 * rows + 0.4)
        for (row, column), axis in np.ndenumerate(axes):
            _draw(axis, values[row, column], largest)
            if row == 0:
                axis.set_title(stages.attrs["names"][column], fontsize=8)
    return {"stages": figure}


def _draw(axis: Any, x: np.ndarray, largest: float) -> None:
    side = round(x.size**0.5)
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    if (x.ndim == 2 and x.shape[1] > 3) or (x.ndim == 1 and side**2 == x.size and side > 2):
        axis.imshow(x.reshape(-1, side) if x.ndim == 1 else x, cmap="RdBu_r", vmin=-largest, vmax=largest)
    elif x.ndim == 2:
        axis.plot(x[:, 0], x[:, -1], "o", color=drawing.PALETTE[0], markersize=3)
        axis.set(xlim=(-largest, largest), ylim=(-largest, largest), aspect="equal")
    else:
        axis.plot(x, color=drawing.PALETTE[0], linewidth=0.8)
        axis.set(ylim=(-largest, largest))


def compare(studies: list[Study]) -> dict[str, Figure]:
    return {}
