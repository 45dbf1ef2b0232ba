"""The conventional way at equal cost: where the Binder cumulants of two lattice sizes cross.

U₄ = 1 − ⟨m⁴⟩/(3⟨m²⟩²), K. Binder, Z. Phys. B 43, 119 (1981). The difference of the cumulants of the two sizes is
fitted by a parabola in T; its root is the crossing. A straight line over a wider range is biased. Cost is counted in
attempted updates of single spins; a step of Swendsen and Wang visits every spin once.
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

FIGURES = ("binder",)
COMPARISONS = ("binder",)
METRICS = {
    "binder_crossing": "cumulants cross at",
    "binder_deviation": "minus the transition",
    "updates": "attempted updates",
    "cost": "of the networks' updates",
}


class Params(Strict):
    readings: dict[Literal["small", "large"], Reading] = Field(description="splits with the two lattice sizes")
    budget: float | None = Field(None, gt=0, description="updates that the data of the networks cost, to compare with")
    resamples: int = Field(200, ge=2, description="bootstrap resamples of the chains")


def cumulants(data: xr.Dataset, chains: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct temperatures and U₄ of all chains at each, or of the chains with these multiplicities."""
    temperature = data["parameters"].values[:, 0]
    m = data["magnetisation"].values
    moments = np.stack([(m**2).mean(1), (m**4).mean(1)])
    weight = np.ones(len(m)) if chains is None else chains
    levels, where = np.unique(temperature, return_inverse=True)
    second, fourth = (np.bincount(where, weight * moment) / np.bincount(where, weight) for moment in moments)
    return levels, 1 - fourth / (3 * second**2)


def bootstrap(data: xr.Dataset, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """U₄ (resample, temperature) of resampled chains."""
    return np.stack([cumulants(data, resampled(data["parameters"].values[:, 0], rng))[1] for _ in range(resamples)])


def root(t: np.ndarray, difference: np.ndarray) -> float:
    """The root within the range of a parabola through the differences; NaN if it has none or two."""
    centre = t.mean()
    roots = np.roots(np.polyfit(t - centre, difference, 2))
    inside = [r.real + centre for r in roots if abs(r.imag) < 1e-9 and t[0] <= r.real + centre <= t[-1]]
    return float(inside[0]) if len(inside) == 1 else np.nan


def updates(data: xr.Dataset) -> float:
    """Attempted updates of single spins: all sites in each sweep, or those of one cluster (Wolff, as far as saved)."""
    sweeps = data.attrs.get("sweeps", 1) * data.sizes["time"] + data.attrs.get("thermalisation", 0)
    visited = float(data["cluster"].mean()) if data.attrs.get("dynamics") == "wolff" else 1.0
    return float(data.sizes["member"] * sweeps * data.attrs["sites"] * visited)


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, float]:
    """The crossing, its bootstrap error over the chains, its cost. Fewer than four temperatures are a ValueError."""
    small, large = truth["small"].load(), truth["large"].load()
    t, low = cumulants(small)
    other, high = cumulants(large)
    if len(t) < 4 or not np.array_equal(t, other):
        raise ValueError(f"temperatures {t.tolist()} and {other.tolist()}: both sizes need the same four or more")
    rng = np.random.default_rng(0)
    again = [bootstrap(data, params.resamples, rng) for data in (small, large)]
    found = [root(t, difference) for difference in again[1] - again[0]]
    crossing, spent = root(t, high - low), updates(small) + updates(large)
    metrics = {"binder_crossing": crossing, "binder_crossing_stderr": float(np.nanstd(found)), "updates": spent}
    metrics |= {} if params.budget is None else {"cost": spent / params.budget}
    transition = exact.transition(small.attrs)
    return metrics | ({} if transition is None else {"binder_deviation": crossing - transition})


def _figure(truth: dict[str, xr.Dataset], resamples: int) -> Figure:
    figure, axes = drawing.panels(1, 1, 5.4, 3.6)
    for k, name in enumerate(("small", "large")):
        data = truth[name].load()
        t, u = cumulants(data)
        error = bootstrap(data, resamples, np.random.default_rng(0)).std(0)
        look = {"marker": "o", "markersize": 4, "capsize": 2, "color": drawing.PALETTE[k]}
        axes[0, 0].errorbar(t, u, error, label=f"L = {data.attrs['size']}", **look)
    if (transition := exact.transition(truth["small"].attrs)) is not None:
        axes[0, 0].axvline(transition, label="transition", **drawing.EXACT)
    axes[0, 0].set(xlabel="T (J/k_B)", ylabel="U₄ = 1 − ⟨m⁴⟩ / 3⟨m²⟩²")
    axes[0, 0].legend()
    return figure


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, Figure]:
    """The cumulants of both sizes."""
    with drawing.style():
        return {"binder": _figure(truth, params.resamples)}


def compare(studies: list[Study]) -> dict[str, Figure]:
    """The cumulants of the first study."""
    with drawing.style():
        return {"binder": _figure(studies[0].truth, studies[0].params.resamples)}
