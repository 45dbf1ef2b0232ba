"""The honest peer before equilibrium: how the magnetisation decays from the ordered start.

At the transition m(t) ~ t^(−λ) with λ = β/(νz), 0.0577 for the Ising model in two dimensions with β = 1/8, ν = 1,
z ≈ 2.167; below it m levels off, above it m decays exponentially. So λ(t) = −d ln m / d ln t falls, stays, or rises,
and the transition is where its slope in ln t vanishes (N. Ito, Physica A 192, 604 (1993); Y. Ozeki, N. Ito,
J. Phys. A 40, R149 (2007)). No network and no equilibrium is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from .. import drawing
from ..phases import exact
from ..phases.crossing import resampled
from ..phases.study import Study
from ..rollout import Reading
from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

FIGURES = ("relaxation",)
COMPARISONS = ("relaxation",)
METRICS = {
    "relaxation_crossing": "λ(t) is flat at",
    "relaxation_deviation": "minus the transition",
    "exponent": "λ there",
    "updates": "attempted updates",
}
EXPONENT = 0.125 / 2.167


class Params(Strict):
    readings: dict[Literal["decay"], Reading] = Field(description="the split with the ordered start")
    first: int = Field(10, ge=1, description="first step of the fit: earlier ones are not yet a power law")
    resamples: int = Field(200, ge=2, description="bootstrap resamples of the chains")


def decay(data: xr.Dataset, chains: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct temperatures and the mean magnetisation (temperature, step), of chains with these multiplicities."""
    temperature, m = data["parameters"].values[:, 0], data["magnetisation"].values
    weight = np.ones(len(m)) if chains is None else chains
    levels, where = np.unique(temperature, return_inverse=True)
    total = np.zeros((len(levels), m.shape[1]))
    np.add.at(total, where, weight[:, None] * m)
    return levels, total / np.bincount(where, weight)[:, None]


def curvature(m: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Exponent λ at the middle and its slope dλ/d ln t, by a parabola of ln m in ln t from step `first` on.

    Steps weigh 1/t, so that each stretch of ln t counts the same.
    """
    t = np.arange(first, m.shape[1] + 1)
    x = np.log(t) - np.log(t).mean()
    kept = m[:, first - 1 :]
    if kept.shape[1] < 4:
        raise ValueError(f"first: {first}: a fit needs four steps after it, and {m.shape[1]} are stored")
    if (kept <= 0).any():
        raise ValueError("the mean magnetisation is not positive at all steps: more chains, or fewer steps, are needed")
    a, b, _ = np.polyfit(x, np.log(kept).T, 2, w=t**-0.5)
    return -b, -2 * a


def flat(levels: np.ndarray, slope: np.ndarray, exponent: np.ndarray) -> tuple[float, float]:
    """Temperature at which the slope vanishes, by a parabola in T, and the exponent there; NaN if nowhere."""
    centre = levels.mean()
    roots = np.roots(np.polyfit(levels - centre, slope, 2)) + centre
    inside = [r.real for r in roots if abs(r.imag) < 1e-9 and levels[0] <= r.real <= levels[-1]]
    if len(inside) != 1:
        return np.nan, np.nan
    return float(inside[0]), float(np.polyval(np.polyfit(levels - centre, exponent, 2), inside[0] - centre))


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, float]:
    """Where λ(t) is flat, the exponent there, and their bootstrap errors over the chains."""
    data = truth["decay"].load()
    levels, m = decay(data)
    if len(levels) < 4:
        raise ValueError(f"{len(levels)} distinct temperatures: a fit needs at least 4")
    exponent, slope = curvature(m, params.first)
    crossing, value = flat(levels, slope, exponent)
    rng, found = np.random.default_rng(0), []
    for _ in range(params.resamples):
        chains = resampled(data["parameters"].values[:, 0], rng)
        exponents, slopes = curvature(decay(data, chains)[1], params.first)
        found.append(flat(levels, slopes, exponents))
    spread = np.nanstd(np.array(found), axis=0)
    sweeps = data.attrs.get("sweeps", 1) * data.sizes["time"]
    metrics = {"relaxation_crossing": crossing, "relaxation_crossing_stderr": float(spread[0])}
    metrics |= {"exponent": value, "exponent_stderr": float(spread[1]), "exponent_expected": EXPONENT}
    metrics["updates"] = float(data.sizes["member"] * sweeps * data.attrs["sites"])
    transition = exact.transition(data.attrs)
    return metrics | ({} if transition is None else {"relaxation_deviation": crossing - transition})


def _figure(data: xr.Dataset, first: int) -> Figure:
    """m(t), and the local exponent λ(t), for each temperature."""
    from matplotlib import colormaps

    levels, m = decay(data)
    t = np.arange(1, m.shape[1] + 1)
    colours = colormaps["cividis"](np.linspace(0, 0.95, len(levels)))
    figure, axes = drawing.panels(1, 2, 9.4, 3.8)
    edges = np.unique(np.geomspace(1, len(t), 12).astype(int)) - 1
    for level, series, colour in zip(levels, m, colours, strict=True):
        axes[0, 0].loglog(t, series, color=colour, label=f"T = {level:.3f}")
        local = -np.diff(np.log(series[edges])) / np.diff(np.log(t[edges]))
        axes[0, 1].semilogx(np.sqrt(t[edges][1:] * t[edges][:-1]), local, color=colour, marker="o", markersize=3)
    axes[0, 1].axhline(EXPONENT, label="β/(νz)", **drawing.EXACT)
    axes[0, 1].axvspan(1, first, color=drawing.QUIET, alpha=0.14, linewidth=0)
    axes[0, 0].set(xlabel="Monte Carlo steps t", ylabel="m(t)")
    axes[0, 1].set(xlabel="Monte Carlo steps t", ylabel="λ(t) = −d ln m / d ln t", ylim=(0, 3 * EXPONENT))
    figure.legend(loc="outside right upper")
    return figure


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, Figure]:
    """The decay at all temperatures."""
    with drawing.style():
        return {"relaxation": _figure(truth["decay"], params.first)}


def compare(studies: list[Study]) -> dict[str, Figure]:
    """The decay in the first study."""
    with drawing.style():
        return {"relaxation": _figure(studies[0].truth["decay"], studies[0].params.first)}
