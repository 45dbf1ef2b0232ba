"""Where a classifier of short Monte Carlo series crosses P = ½, and what that has to do with a phase transition.

J. Ding, H.-K. Tang, W. C. Yu, SciPost Phys. 13, 057 (2022): P(T) = a tanh(bT + c) + d is fitted to the outputs of the
test chains, and T with P = ½ is called T_c. Least squares on all outputs and on their means at each temperature is the
same fit when there are as many chains at each, as here. A logistic and an isotonic fit stand beside it.

Nothing of the fit knows a transition: `exact` is asked afterwards. `crossing` has the bootstrap error over the chains
and the draws of sites of one training (`_stderr`). Without a crossing it is missing, `no_crossing` is 1 and `status`
says why: 1 the fit did not converge, 2 the curve does not cross ½ where there are data, 3 it is flat. `order_shift` is
how far the crossing moves when the steps of each test series are put in random order: 0 if the order in time carries
nothing. `false_crossing` is 1 if there is a crossing though the system has no transition at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from .. import drawing
from ..phases import crossing, exact
from ..phases.figures import compare, configurations, probability, quantity
from ..phases.study import Study
from ..rollout import Reading
from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["COMPARISONS", "FIGURES", "METRICS", "Params", "Study", "compare", "evaluate", "plot"]

FIGURES = ("probability", "configurations")
COMPARISONS = ("steps", "windows", "curves", "negative_control")
METRICS = {
    "steps": "steps",
    "trained_below": "trained below",
    "trained_above": "and above",
    "crossing": "P = ½ at",
    "deviation": "minus the transition",
    "crossing_logistic": "by a logistic",
    "crossing_isotonic": "isotonic",
    "width": "width",
    "order_shift": "shift if steps are shuffled",
    "accuracy": "accuracy",
    "no_crossing": "share without crossing",
    "false_crossing": "crossing without transition",
}


class Params(Strict):
    readings: dict[Literal["test"], Reading] = Field(description="the split on which P is fitted")
    estimator: Literal["tanh", "logistic", "isotonic"] = Field(
        "tanh", description="the fit that gives `crossing` (Ding 2022: tanh)"
    )
    lowest: float = Field(0.0, ge=0, description="test series below this temperature are left out (Ding 2022: none)")
    resamples: int = Field(200, ge=2, description="bootstrap resamples of chains and draws")


def _measured(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Temperature (member), P (member, draw), P of the shuffled series (member)."""
    temperature, read = truth["test"]["parameters"].values[:, 0], prediction["test"]
    p, shuffled = (read[name].values.reshape(len(temperature), -1) for name in ("probability", "shuffled"))
    kept = temperature >= params.lowest
    return temperature[kept], p[kept], shuffled[kept].mean(1)


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, float]:
    """All crossings with their errors. Fewer than four distinct temperatures are a ValueError."""
    temperature, p, shuffled = _measured(truth, prediction, params)
    found = {name: crossing.fit(name, temperature, p) for name in crossing.FITS}
    resampled = crossing.bootstrap(list(crossing.FITS), temperature, p, params.resamples)
    made_by, chosen = prediction["test"].attrs["made_by"], found[params.estimator]
    metrics = {"steps": float(made_by["steps"])}
    metrics |= {"trained_below": made_by["windows"][0][1], "trained_above": made_by["windows"][1][0]}
    metrics["crossing"] = chosen.temperature
    for name in crossing.FITS:
        key = "crossing" if name == params.estimator else f"crossing_{name}"
        metrics[key] = found[name].temperature
        metrics[f"{key}_stderr"] = _spread(resampled[name])
    metrics["width"] = chosen.width
    metrics["no_crossing"] = float(chosen.status != crossing.CROSSED)
    metrics["status"] = float(chosen.status)
    metrics["resamples_without"] = float(np.isnan(resampled[params.estimator]).mean())
    first = crossing.fit(params.estimator, temperature, p[:, 0]).temperature
    metrics["crossing_shuffled"] = crossing.fit(params.estimator, temperature, shuffled).temperature
    metrics["order_shift"] = metrics["crossing_shuffled"] - first
    return metrics | _compared(chosen, temperature, p, exact.transition(truth["test"].attrs))


def _spread(values: np.ndarray) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.std(ddof=1)) if len(kept) > 1 else np.nan


def _compared(
    chosen: crossing.Crossing, temperature: np.ndarray, p: np.ndarray, transition: float | None
) -> dict[str, float]:
    """What the known transition says of a crossing that was found without it."""
    if transition is None:
        return {"false_crossing": float(chosen.status == crossing.CROSSED)}
    right = (p > 0.5) == (temperature > transition)[:, None]
    return {"deviation": chosen.temperature - transition, "accuracy": float(right.mean())}


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, Figure]:
    """P(T) with its fit and the exact transition; configurations across it."""
    temperature, p, shuffled = _measured(truth, prediction, params)
    transition = exact.transition(truth["test"].attrs)
    windows = prediction["test"].attrs["made_by"]["windows"]
    found = crossing.fit(params.estimator, temperature, p)
    with drawing.style():
        return {
            "probability": probability(
                temperature,
                p,
                shuffled,
                found,
                metrics.get("crossing_stderr"),
                transition,
                windows,
                params.estimator,
                quantity(truth["test"]),
            ),
            "configurations": configurations(truth["test"], transition),
        }
