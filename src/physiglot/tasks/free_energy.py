"""What the samples of a generative model say about a target: the report, and its pictures.

F = −ln Z / beta. L. Wang and P. Zhang, *Generative models for physicists* (2024); D. Wu, L. Wang, P. Zhang,
Phys. Rev. Lett. 122, 080602 (2019). See `physiglot.generative.report` for the entries.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from .. import targets
from ..generative import comparisons, figures
from ..generative.comparisons import Study
from ..generative.report import Drawn, report
from ..generative.reweighting import mean_error
from ..rollout import Samples
from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["COMPARISONS", "FIGURES", "METRICS", "Params", "Study", "compare", "evaluate", "plot"]

FIGURES = ("samples", "weights")
COMPARISONS = ("free_energy", "brackets", "quality", "families")
METRICS = {
    "F_q": "F_q",
    "F_exact": "F, exact",
    "F_q_relative_error": "F_q, relative error",
    "F_rw_relative_error": "F reweighted, relative error",
    "unreliable": "which is unreliable",
    "gap_per_site": "gap a site (nats)",
    "bracket_width": "bracket (nats)",
    "ess": "ESS",
    "khat": "k̂",
    "acc": "acceptance",
    "tau_int_energy": "τ_int of E",
    "elbo": "ELBO",
    "iwae": "IWAE",
    "log_p": "ln p, exact",
    "converged": "converged",
    "train_cpu_seconds": "training (CPU s)",
    "samples_per_second": "samples a second",
}


class Params(Strict):
    samples: dict[Literal["model"], Samples] = Field(description="what the model draws")
    width: float = Field(0.05, gt=0, description="widest bracket of ln Z that counts as converged, nats per site")
    seed: int = Field(0, ge=0, description="seed of the bootstrap and of the Metropolis chain")

    @field_validator("samples")
    @classmethod
    def _enough(cls, samples: dict[str, Samples]) -> dict[str, Samples]:
        if any(asked.count < 100 for asked in samples.values()):
            raise ValueError("fewer than 100 samples give no report: count must be 100 or more")
        return samples


def _variable(data: xr.Dataset, name: str) -> np.ndarray | None:
    return data[name].values if name in data else None


def drawn(data: xr.Dataset) -> Drawn:
    """The stored samples as the report takes them."""
    import torch

    return Drawn(
        x=torch.as_tensor(data["x"].values),
        energy=data["energy"].values,
        log_prob=_variable(data, "log_prob"),
        kind=data.attrs["log_prob_kind"],
        reference_energy=_variable(data, "reference_energy"),
        reference_log_prob=_variable(data, "reference_log_prob"),
    )


def _bounds(data: xr.Dataset) -> dict[str, float]:
    """Means of what else a model says of configurations of the target: ELBO, IWAE, …; nats per configuration."""
    names = {str(name): str(name).removeprefix("reference_") for name in data if str(name).startswith("reference_")}
    bound = data.attrs["log_prob_kind"] == "lower_bound"
    names = {k: "elbo" if v == "log_prob" and bound else v for k, v in names.items() if v != "energy"}
    found = {}
    for variable, name in names.items():
        if name != "log_prob":
            found[name], found[f"{name}_stderr"] = mean_error(data[variable].values.ravel())
    return found


def _cost(data: xr.Dataset) -> dict[str, float]:
    cost = data.attrs.get("cost", {})
    found = {name: cost[name] for name in ("train_steps", "train_cpu_seconds", "sampling_cpu_seconds") if name in cost}
    if cost.get("sampling_seconds"):
        found["samples_per_second"] = data.sizes["sample"] / cost["sampling_seconds"]
    return {"parameters": float(data.attrs["parameters"]), **found}


def evaluate(truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], params: Params) -> dict[str, Any]:
    """The report of each model; NaN with a reason where something is not defined."""
    data = prediction["model"].load()
    target = targets.build(json.loads(data.attrs["target"]))
    found = report(drawn(data), target, width=params.width, seed=params.seed)
    return {"beta": target.beta, "sites": float(np.prod(target.shape)), **found, **_bounds(data), **_cost(data)}


def plot(
    truth: dict[str, xr.Dataset], prediction: dict[str, xr.Dataset], metrics: dict[str, float], params: Params
) -> dict[str, Figure]:
    """Samples of the model beside those of Monte Carlo, and the distribution of their weights."""
    data = prediction["model"].load()
    target = targets.build(json.loads(data.attrs["target"]))
    return {
        "samples": figures.samples(truth.get("model"), data, target),
        "weights": figures.weights(data, target, metrics),
    }


def compare(studies: list[Study]) -> dict[str, Figure]:
    """Free energy against beta, brackets of ln Z, quality against size, and the models of each target side by side."""
    return {
        "free_energy": comparisons.free_energy(studies),
        "brackets": comparisons.brackets(studies),
        "quality": comparisons.quality(studies),
        "families": comparisons.families(studies),
    }
