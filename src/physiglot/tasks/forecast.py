"""Forecast of a chaotic trajectory from its initial state: accuracy while it can last, climate afterwards.

The metrics of N. Geneva, N. Zabaras, Neural Networks 146 (2022) 272 and those that they leave out. Each role
in `rollouts` adds its group:

- `test`: relative MSE e(t) = Σ(x̂−x)² / Σx² over series and fields, un-centred, in physical units, averaged
  over the steps of a bin, t = 0 included; per series, the mean of the series' own ratios.
- `long`: valid prediction time (VPT), the first t with √mean((x̂−x)²/σ²) above a threshold, σ of the training
  data. A series that never gets there counts with its whole length, and in `vpt_saturated`.
- `free`: climate of a long free run. Its reference is the truth of `long`, all members pooled, else of
  `free`; run and reference lose their `transient`.
- `pair`, `twin`: largest Lyapunov exponent from the same starts twice, the second nudged. On Lorenz-63 64
  members, a nudge of 1e-7 and 30 time units give it to ± 0.02; half as long a run still lingers near the
  fixed points and reads low.

Failures count. A prediction is moved into a box `blow_up` times as wide as the truth (a NaN to its upper
wall), so that a failed member stays in every average with a large, finite error (in the Lorenz map, until it
fails); `blow_ups` is the share of the members of `long` and `free` that left the box.

Companions of a metric: `_stderr`, its standard error within one seed (a bootstrap over series for relative
MSE); `_floor`, the same distance between the halves of the reference, below which no surrogate can be told
from the truth; `_truth`, the reference's value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from .. import climate, drawing, figures
from ..figures import Study, compare  # noqa: F401 - part of the task
from ..rollout import Rollout
from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr

FIGURES = ("rollouts", "attractor", "lorenz_map", "animation")
COMPARISONS = ("error_growth", "valid_time", "climate")
METRICS = {
    "relative_mse_[0-9]*": "relative MSE, steps",
    "vpt_mean": "valid time (Lyapunov times)",
    "blow_ups": "share of runs that blow up",
    "lyapunov_exponent": "largest Lyapunov exponent (1/time)",
    "lorenz_map_distance": "distance to the Lorenz map (std)",
    "wasserstein": "Wasserstein-1 of the marginals (std)",
    "hellinger": "Hellinger distance of the spectra",
}


class Params(Strict):
    rollouts: dict[Literal["test", "long", "free", "pair", "twin"], Rollout] = Field(
        description="what to predict, by role; the metrics of an omitted role are omitted"
    )
    bins: list[list[int]] = Field(
        [[0, 64], [64, 128], [128, 192]],
        description="steps [first, last) of relative MSE; default Geneva & Zabaras, table 1",
    )
    resamples: int = Field(1000, ge=10, description="bootstrap resamples of the test series")
    lyapunov_time: float = Field(1 / 0.9056, gt=0, description="1/λ1 of the system, its time units; Lorenz-63")
    vpt_threshold: float = Field(0.4, gt=0, description="error that ends the valid time, training std")
    vpt_thresholds: list[float] = Field([0.3, 0.5], description="further thresholds to report")
    vpt_limit: float | None = Field(
        24.0,
        gt=0,
        description="valid time of the truth itself, Lyapunov times: no VPT above it has a meaning",
    )
    transient: float = Field(5.0, ge=0, description="time units before climate counts; at most half of a run")
    block: float = Field(10.0, gt=0, description="blocks for the errors of moments, time units")
    moments: list[str] = Field(
        ["z", "x x", "x y", "z z"], description="fields or products to average, where the system has them"
    )
    map_field: str | None = Field("z", description="field of the Lorenz map; none where the system lacks it")
    segment: int = Field(2048, ge=8, description="Welch segment, samples; shorter where a run is")
    blow_up: float = Field(10.0, gt=1, description="widths of the truth that a prediction must stay within")

    @model_validator(mode="after")
    def _consistent(self) -> "Params":  # noqa: UP037 - the schema is executed without the future import
        for pair in self.bins:
            if len(pair) != 2 or not 0 <= pair[0] < pair[1]:
                raise ValueError(f"bins: {pair} is not [first, last) with 0 <= first < last")
        nudges = [self.rollouts[role].nudge for role in ("pair", "twin") if role in self.rollouts]
        if len(nudges) == 1 or (nudges and nudges[0] == nudges[1]):
            raise ValueError("rollouts: `pair` and `twin` need each other, and different nudges")
        return self


def _accuracy(run: climate.Run, params: Params) -> dict[str, float]:
    """Relative MSE in each bin, pooled and per series, with errors from the spread over the series."""
    error, power = climate.relative_error(*run.common)
    pooled, single, spread = {}, {}, {}
    for first, last in params.bins:
        if last > error.shape[1]:
            raise ValueError(f"bins: [{first}, {last}) ends beyond the {error.shape[1]} steps of `test`")
        e, p, name = error[:, first:last], power[:, first:last], f"{first}_{last}"
        ratio = (e / p).mean(1)
        pooled[f"relative_mse_{name}"] = float((e.sum(0) / p.sum(0)).mean())
        single[f"relative_mse_per_series_{name}"] = float(ratio.mean())
        spread[f"relative_mse_{name}_stderr"] = climate.bootstrap(e, p, params.resamples)
        spread[f"relative_mse_per_series_{name}_stderr"] = float(ratio.std() / np.sqrt(len(ratio)))
    return pooled | single | spread


def _valid_time(run: climate.Run, params: Params) -> dict[str, float]:
    """Valid prediction time over the members, in Lyapunov times."""
    metrics = {} if params.vpt_limit is None else {"vpt_limit": params.vpt_limit}
    for threshold in (params.vpt_threshold, *params.vpt_thresholds):
        steps, ended = climate.valid_steps(*run.common, run.std, threshold)
        times = steps * run.dt / params.lyapunov_time
        suffix = "" if threshold == params.vpt_threshold else f"_{threshold:g}"
        metrics[f"vpt_mean{suffix}"] = float(times.mean())
        metrics[f"vpt_mean{suffix}_stderr"] = float(times.std() / np.sqrt(len(times)))
        metrics[f"vpt_median{suffix}"] = float(np.median(times))
        if not suffix:
            metrics["vpt_saturated"] = float(1 - ended.mean())
    return metrics


def _climate(runs: dict[str, climate.Run], params: Params) -> dict[str, float]:
    """Distances of the free run's climate to the reference's, their floors, and moments of both."""
    free = runs["free"]
    run, reference = figures.settled(runs, params)
    index = free.fields.index(params.map_field) if params.map_field in free.fields else None
    metrics = climate.distances(run, reference, free.std, params.segment, index)
    floor = climate.distances(*climate.halves(reference), free.std, params.segment, index)
    metrics |= {f"{name}_floor": value for name, value in floor.items()}
    for suffix, states in (("", run), ("_truth", reference)):
        metrics[f"correlation_dimension{suffix}"] = climate.correlation_dimension(states, free.std)
        moments = climate.moments(states, free.fields, params.moments, round(params.block / free.dt))
        for name, (mean, error) in moments.items():
            metrics |= {f"{name}{suffix}": mean, f"{name}{suffix}_stderr": error}
    return metrics


def _chaos(pair: climate.Run, twin: climate.Run, params: Params) -> dict[str, float]:
    """Largest Lyapunov exponent in 1/time unit; nothing where no separation is small enough to grow."""
    found = climate.lyapunov(pair.raw, twin.raw, pair.std)
    if found is None:
        return {}
    return {
        "lyapunov_exponent": found[0] / pair.dt,
        "lyapunov_exponent_stderr": found[1] / pair.dt,
        "lyapunov_exponent_truth": 1 / params.lyapunov_time,
    }


def _load(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params, *roles: str
) -> dict[str, climate.Run]:
    wanted = [role for role in roles if role in params.rollouts]
    return {role: climate.Run.of(truth[role], prediction[role], params.blow_up) for role in wanted}


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, float]:
    """All metrics of the configured roles. A bin beyond the test series, or a truth without `std`, is an
    error."""
    runs = _load(truth, prediction, params, "test", "long", "free", "pair", "twin")
    metrics: dict[str, float] = {}
    if "test" in runs:
        metrics |= _accuracy(runs["test"], params)
    if "long" in runs:
        metrics |= _valid_time(runs["long"], params)
    if "free" in runs:
        metrics |= _climate(runs, params)
    if "twin" in runs:
        metrics |= _chaos(runs["pair"], runs["twin"], params)
    watched = [runs[role].failed for role in ("long", "free") if role in runs]
    return metrics | ({"blow_ups": float(np.concatenate(watched).mean())} if watched else {})


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, drawing.Drawing]:
    """The figures of one study: rollouts over their truth, the attractor of the free run, its Lorenz map, a film."""
    runs = _load(truth, prediction, params, "test", "long", "free")
    with drawing.style():
        return {
            "rollouts": figures.rollouts(runs["test"], params) if "test" in runs else figures.nothing("test"),
            "attractor": figures.attractor(runs, params) if "free" in runs else figures.nothing("free"),
            "lorenz_map": figures.lorenz_map(runs, metrics, params) if "free" in runs else figures.nothing("free"),
            "animation": figures.animation(runs["test"], params) if "test" in runs else figures.nothing("test"),
        }
