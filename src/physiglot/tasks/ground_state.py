"""The ground state of a quantum system: the variational energy of what a model draws, against the exact one.

E ≥ E0 up to the statistical error, which takes the autocorrelation of the chains into account. The variance of the
local energy vanishes for an eigenstate; the V-score N Var E / E² compares different systems (D. Wu et al., Science 386,
296 (2024)).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from .. import drawing
from ..montecarlo.autocorrelation import integrated_time, mean_error
from ..rollout import Samples
from ..strict import Strict
from ..study import Study

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = ("ground_state",)
COMPARISONS = ("ground_states",)
METRICS = {
    "energy_per_site": "E/N",
    "relative_error": "relative error of E",
    "variance_per_site": "Var E/N",
    "v_score": "V-score",
    "tau": "τ of E (sweeps)",
    "parameters": "parameters",
}

QUANTUM = True  # it needs a Hamiltonian


class Params(Strict):
    samples: dict[Literal["ground"], Samples] = Field(description="what is drawn; batch = count keeps chains whole")


def series(drawn: xr.Dataset) -> np.ndarray:
    """The local energies by (chain, time): a new `chain` begins a row; rows are cut to the shortest."""
    rows = np.split(drawn["energy"].values, np.flatnonzero(np.diff(drawn["chain"].values)) + 1)
    length = min(map(len, rows))
    return np.stack([row[:length] for row in rows])


def exact_energy(drawn: xr.Dataset) -> float | None:
    """E0 of the Hamiltonian that the samples were drawn for, where it is known."""
    from ..targets import build

    return build(json.loads(drawn.attrs["target"])).exact_E0()


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, Any]:
    """Energy, its error, the variance of the local energy, and the relative error where E0 is known."""
    drawn = prediction["ground"]
    local, sites = series(drawn), drawn["x"][0].size
    mean, error = mean_error(local)
    variance = float(local.var())
    metrics: dict[str, Any] = {
        "energy": mean,
        "energy_stderr": error,
        "energy_per_site": mean / sites,
        "energy_per_site_stderr": error / sites,
        "variance_per_site": variance / sites,
        "v_score": sites * variance / mean**2,
        "tau": integrated_time(local),
        "parameters": drawn.attrs.get("parameters", np.nan),
    }
    known = exact_energy(drawn)
    if not known:
        return metrics | {"relative_error": np.nan, "relative_error_reason": "the exact energy is not known, or zero"}
    relative = {"relative_error": (mean - known) / abs(known), "relative_error_stderr": error / abs(known)}
    return metrics | relative | {"exact_energy": known}


def correlation(spins: np.ndarray) -> np.ndarray:
    """⟨s_i s_{i+r}⟩ for r = 0 … N/2 of configurations (…, site) on a ring, averaged over i."""
    s = spins.reshape(-1, spins.shape[-1]).astype(float)
    return np.array([(s * np.roll(s, -r, 1)).mean() for r in range(s.shape[1] // 2 + 1)])


def _histogram(axis: Axes, drawn: xr.Dataset, metrics: dict[str, float]) -> None:
    sites = drawn["x"][0].size
    axis.hist(drawn["energy"].values / sites, bins=60, color=drawing.MODEL, alpha=0.8, density=True)
    if metrics.get("exact_energy") is not None:
        axis.axvline(metrics["exact_energy"] / sites, label="exact E0", **drawing.EXACT)
        axis.legend()
    axis.set(xlabel="local energy per spin", ylabel="density")
    axis.locator_params(axis="x", nbins=5)


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, Figure]:
    """Local energies of the samples, and their correlations, beside those of measurements of the exact state."""
    drawn = prediction["ground"]
    with drawing.style():
        figure, axes = drawing.panels(1, 2, 8.2, 3.4)
        _histogram(axes[0, 0], drawn, metrics)
        found = correlation(drawn["x"].values)
        axes[0, 1].plot(found, marker="o", markersize=3, color=drawing.MODEL, label="samples of the model")
        if "ground" in truth:
            axes[0, 1].plot(
                correlation(truth["ground"]["state"].values), label="measurements of the exact state", **drawing.EXACT
            )
        axes[0, 1].set(xlabel="distance r (sites)", ylabel="⟨s_i s_{i+r}⟩")
        axes[0, 1].legend()
    return {"ground_state": figure}


def _field(study: Study) -> float | None:
    """The transverse field of a study of the Ising chain."""
    target = json.loads(study.predictions[0]["ground"].attrs["target"])
    return target["params"].get("field", 1.0) if target["module"] == "tfi_chain" else None


def _against_the_field(axis: Axes, studies: list[Study]) -> None:
    """E/N of the Ising chains against h, over the exact curve of the largest."""
    from ..exact.chains import tfi

    points = [(h, s) for s in studies if (h := _field(s)) is not None and s.number("energy_per_site")]
    if not points:
        axis.set_axis_off()
        return
    sites = max(s.predictions[0]["ground"]["x"][0].size for _, s in points)
    fields = np.linspace(0, 1.25 * max(field for field, _ in points) + 0.1, 200)
    axis.plot(fields, [tfi(sites, field) / sites for field in fields], label=f"exact, N = {sites}", **drawing.EXACT)
    for field, study in points:
        value, error = study.number("energy_per_site") or (np.nan, np.nan)
        axis.errorbar(field, value, yerr=error, marker="o", markersize=5, color=drawing.MODEL)
    axis.set(xlabel="transverse field h", ylabel="energy per spin")
    axis.legend()


def compare(studies: list[Study]) -> dict[str, Figure]:
    """Energies against the field, and the relative error of every study."""
    with drawing.style():
        figure, axes = drawing.panels(1, 2, 9.6, max(3.4, 0.3 * len(studies) + 1))
        _against_the_field(axes[0, 0], studies)
        axis, numbers = axes[0, 1], [s.number("relative_error") for s in studies]
        drawing.name_rows(axis, [f"{s.label}, {_name(s)}" for s in studies])
        for row, number in enumerate(numbers):
            if number is not None:
                look = {"color": drawing.MODEL, "markerfacecolor": drawing.MODEL if number[0] > 0 else "white"}
                size, error = max(abs(number[0]), 1e-12), number[1]
                below = min(error, 0.9 * size)  # the axis is logarithmic
                axis.errorbar(size, row, xerr=[[below], [error]], marker="o", markersize=5, **look)
        if any(numbers):
            drawing.whole_decades(axis, 1e-4)
        axis.axvline(1e-4, color=drawing.QUIET, linewidth=0.8)
        axis.set(xlabel="|E − E0| / |E0|; open: below E0")
    return {"ground_states": figure}


def _name(study: Study) -> str:
    """The system in words."""
    target = json.loads(study.predictions[0]["ground"].attrs["target"])
    params, sites = target["params"], study.predictions[0]["ground"]["x"][0].size
    field = f", h = {params.get('field', 1.0):g}" if target["module"] == "tfi_chain" else ""
    return f"{'Ising' if field else 'Heisenberg'} N = {sites}{field}"
