"""Forecast of fields from their initial state: accuracy per field, scales, and the physics of a wake.

The metrics of N. Geneva, N. Zabaras, Neural Networks 146 (2022) 272, those of The Well (arXiv 2412.00568) and those
that both leave out. The one rollout is `test`. All are in physical units, over the cells that are not masked.

- relative MSE e(t) = Σ(x̂−x)² / Σx² per field, sums over series and cells, un-centred, averaged over the steps of a
  bin, t = 0 included; per series, the mean of the series' own ratios; and of the last frame alone.
- VRMSE √(⟨(x̂−x)²⟩ / (Var x + ε)) of each frame, averaged over time and series: 1 is predicting the frame's mean.
- correlation time: first t at which the correlation of truth and prediction is below a threshold, averaged over
  fields and series. A series that never gets there counts with its whole length, and in `saturated`.
- spectrum: power of the prediction over that of the truth by octave of the wavenumber, over the last half of the time;
  isotropic in a periodic box, along the axis of a wake.
- `wake`: Strouhal number, onset, forces and divergence of *predicted* fields, and of the truth by the same functional
  (`_truth`), see `wake_metrics`; `_error` is the mean over the members of |difference|, in units of the truth but for
  the onset, and `_re<Reynolds number>` the value of a member. `phase_free_mse` is the relative MSE of the last half
  after the best shift in time by up to a period of shedding.

Failures count. A prediction is moved into a box `blow_up` times as wide as its truth (a NaN to its upper wall);
`blow_ups` is the share of members that left it. `_stderr` is the standard error within one seed: a bootstrap over
series for what is pooled, else that of the mean over the series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from .. import climate, drawing, field_figures, fields, wake_metrics
from ..field_comparison import compare  # noqa: F401 - part of the task
from ..figures import Study  # noqa: F401 - part of the task
from ..rollout import Rollout
from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr

FIGURES = ("states", "structure", "error", "spectra", "animation")
COMPARISONS = ("field_error_growth", "field_spectra", "wake")
METRICS = {
    "relative_mse_[!_]*": "relative MSE",
    "last_frame_mse_[!_]*": "last frame, relative MSE",
    "vrmse_[!_]*": "VRMSE",
    "correlation_time": "correlation time",
    "blow_ups": "share of runs that blow up",
    "strouhal_error": "Strouhal number, relative error",
    "onset_error": "onset, error (time)",
    "drag_error": "drag, relative error",
}
WAKE_FIELDS = ("ux", "uy", "p")


class Params(Strict):
    rollouts: dict[Literal["test"], Rollout] = Field(description="what to predict: `test`")
    bins: list[list[int]] = Field([], description="steps [first, last) of relative MSE; all of them if empty")
    resamples: int = Field(1000, ge=10, description="bootstrap resamples of the test series")
    epsilon: float = Field(1e-7, gt=0, description="ε under the root of VRMSE (The Well)")
    correlation: float = Field(0.8, gt=0, lt=1, description="correlation that ends the correlation time")
    blow_up: float = Field(10.0, gt=1, description="widths of the truth that a prediction must stay within")
    wake: bool = Field(False, description="measure the wake of a cylinder of radius 1 at the origin, U = 1")
    frames: int = Field(30, ge=2, description="frames of the animation")

    @model_validator(mode="after")
    def _bins(self) -> "Params":  # noqa: UP037 - the schema is executed without the future import
        for pair in self.bins:
            if len(pair) != 2 or not 0 <= pair[0] < pair[1]:
                raise ValueError(f"bins: {pair} is not [first, last) with 0 <= first < last")
        return self


def _mean(name: str, values: np.ndarray) -> dict[str, float]:
    """Mean over the series and its standard error."""
    return {name: float(values.mean()), f"{name}_stderr": float(values.std() / np.sqrt(len(values)))}


def _pooled(name: str, error: np.ndarray, power: np.ndarray, resamples: int) -> dict[str, float]:
    """Mean over time of Σerror/Σpower, both (member, time), and its standard error."""
    power = np.maximum(power, fields.TINY)
    value = float((error.sum(0) / power.sum(0)).mean())
    return {name: value, f"{name}_stderr": climate.bootstrap(error, power, resamples)}


def _accuracy(scores: fields.Scores, names: list[str], params: Params) -> dict[str, float]:
    """Relative MSE in each bin and of the last frame, pooled; per series; and VRMSE."""
    pooled: dict[str, float] = {}
    single: dict[str, float] = {}
    last_frame: dict[str, float] = {}
    vrmse: dict[str, float] = {}
    steps = scores.error.shape[1]
    for i, name in enumerate(names):
        error, power = scores.error[..., i], scores.power[..., i]
        for first, last in params.bins or [[0, steps]]:
            if last > steps:
                raise ValueError(f"bins: [{first}, {last}) ends beyond the {steps} steps of `test`")
            e, p, key = error[:, first:last], power[:, first:last], f"{name}_{first}_{last}"
            pooled |= _pooled(f"relative_mse_{key}", e, p, params.resamples)
            single |= _mean(f"per_series_relative_mse_{key}", (e / np.maximum(p, fields.TINY)).mean(1))
        last_frame |= _pooled(f"last_frame_mse_{name}", error[:, -1:], power[:, -1:], params.resamples)
        vrmse |= _mean(f"vrmse_{name}", scores.vrmse(params.epsilon)[..., i].mean(1))
    return pooled | single | last_frame | vrmse


def _correlation(scores: fields.Scores, names: list[str], dt: float, params: Params) -> dict[str, float]:
    steps, ended = fields.lasting(scores.correlation, params.correlation)
    found = _mean("correlation_time", dt * steps.mean(1))
    for i, name in enumerate(names):
        found |= _mean(f"correlation_time_of_{name}", dt * steps[:, i])
    return found | {"saturated": float(1 - ended.mean())}


def _spectrum(powers: tuple[np.ndarray, np.ndarray], names: list[str]) -> dict[str, float]:
    """Predicted over true power, by field and octave, counted from 1; as good as none is as good as equal."""
    floor = 1e-12 * powers[0].sum(1, keepdims=True) + fields.TINY
    ratio = (powers[1] + floor) / (powers[0] + floor)
    return {f"spectrum_ratio_{n}_{k + 1}": float(ratio[i, k]) for i, n in enumerate(names) for k in range(len(ratio.T))}


def _wake(true: xr.Dataset, run: xr.Dataset, params: Params) -> dict[str, float]:
    """Physics of a wake from its fields; see above. Raises ValueError for other fields than those of a wake."""
    if list(true["field"].values) != list(WAKE_FIELDS) or "parameters" not in true:
        raise ValueError(f"wake: the fields must be {', '.join(WAKE_FIELDS)} with the parameter nu")
    x, y, dt = true["x"].values, true["y"].values, float(true["time"][1] - true["time"][0])
    viscosities = true["parameters"].sel(parameter="nu").values
    single: dict[str, float] = {}
    found: dict[str, list[float]] = {}
    for member, nu in zip(fields.members(true, run, params.blow_up), viscosities, strict=True):
        exact, ours = (wake_metrics.measure(f, x, y, dt, nu) for f in (member.truth, member.prediction))
        for name, value in ours.items():
            error = abs(value - exact[name]) / (1.0 if name == "onset" else abs(exact[name]) or 1.0)
            for key, number in ((name, value), (f"{name}_truth", exact[name]), (f"{name}_error", error)):
                found.setdefault(key, []).append(number)
            single |= {f"{name}_re{2 / nu:.0f}": value, f"{name}_re{2 / nu:.0f}_truth": exact[name]}
        shifted = wake_metrics.shifted_error(member.truth, member.prediction, x, y, dt)
        for name in WAKE_FIELDS:
            found.setdefault(f"phase_free_mse_{name}", []).append(shifted[name])
    return {k: v for name, values in found.items() for k, v in _mean(name, np.array(values)).items()} | single


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, float]:
    """All metrics of `test`, if it is there. A bin beyond its series is an error."""
    if "test" not in params.rollouts:
        return {}
    true, run = truth["test"], prediction["test"]
    fields.check_grid(true["state"])
    names, dt = [str(f) for f in true["field"].values], float(true["time"][1] - true["time"][0])
    scores = fields.scores(true, run, params.blow_up)
    metrics = _accuracy(scores, names, params) | _correlation(scores, names, dt, params)
    metrics |= {"blow_ups": float(scores.failed.mean())}
    metrics |= _spectrum(fields.spectra(true, run, params.blow_up, params.wake), names)
    return metrics | (_wake(true, run, params) if params.wake else {})


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, drawing.Drawing]:
    """Truth, prediction and error over time; isosurfaces or a space–time diagram; error; spectra; an animation."""
    if "test" not in params.rollouts:
        return {name: drawing.placeholder("this study has no rollout `test`") for name in FIGURES}
    fields.check_grid(truth["test"]["state"])
    pair = field_figures.Pair(truth["test"], prediction["test"], params)
    with drawing.style():
        return {
            "states": field_figures.states(pair),
            "structure": field_figures.structure(pair),
            "error": field_figures.error(pair),
            "spectra": field_figures.spectra(pair),
            "animation": field_figures.animation(pair),
        }
