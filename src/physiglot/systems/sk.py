"""Ising spins that all interact, E = −½ Σ_ij J_ij s_i s_j: the Sherrington–Kirkpatrick glass, or Hopfield's couplings.

D. Sherrington, S. Kirkpatrick, Phys. Rev. Lett. 35, 1792 (1975): J_ij Gaussian with variance 1/N. J. J. Hopfield, PNAS
79, 2554 (1982): J_ij = Σ_μ ξ_i ξ_j / N over random patterns. The couplings are part of the system, not of its members:
they follow from `sites` and `disorder`. ln Z is known by enumeration up to 22 spins, and for a few patterns always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numba
import numpy as np
import xarray as xr
from pydantic import Field

from ..strict import Strict

if TYPE_CHECKING:
    from ..targets.spins import Couplings

TARGET = ("sites", "beta", "couplings", "patterns", "disorder")


class Params(Strict):
    sites: int = Field(20, ge=2, le=4096, description="spins N")
    beta: float = Field(1.0, gt=0, allow_inf_nan=False, description="inverse temperature")
    couplings: Literal["gaussian", "hebb"] = Field("gaussian", description="a glass, or the patterns of Hopfield")
    patterns: int = Field(2, ge=1, le=4096, description="hebb: random patterns")
    disorder: int = Field(1, ge=0, description="seed of the couplings")
    steps: int = Field(8, ge=1, description="saved configurations of a chain")
    sweeps: int = Field(50, ge=1, description="heat-bath sweeps between saved configurations")
    thermalisation: int = Field(200, ge=0, description="sweeps before them; T falls to 1/beta in the first half")


def patterns(params: Params) -> np.ndarray:
    """Random patterns (pattern, site) of ±1 for Hebb's couplings."""
    rng = np.random.default_rng(params.disorder)
    return rng.choice(np.array([-1.0, 1.0]), size=(params.patterns, params.sites))


def target(params: Params) -> Couplings:
    """The Boltzmann distribution of the couplings at `beta`."""
    from ..targets.spins import Couplings, Hopfield

    if params.couplings == "hebb":
        return Hopfield(patterns(params), params.beta)
    rng = np.random.default_rng(params.disorder)
    J = np.triu(rng.normal(size=(params.sites, params.sites)), 1) / np.sqrt(params.sites)
    return Couplings(J + J.T, params.beta)


@numba.njit(cache=True, error_model="numpy")
def _sweep(couplings, beta, spins, random):
    """One heat-bath update of every spin of every chain (chain, site), in order."""
    for c in range(spins.shape[0]):
        for i in range(spins.shape[1]):
            field = 0.0
            for j in range(spins.shape[1]):
                field += couplings[i, j] * spins[c, j]
            spins[c, i] = 1 if random[c, i] * (1 + np.exp(-2 * beta * field)) < 1 else -1


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) int8 of ±1: independent heat-bath chains from random starts; `energy` per spin."""
    J, spins = target(params).couplings, rng.choice(np.array([-1, 1], dtype=np.int8), size=(members, params.sites))
    state = np.empty((members, params.steps, params.sites), np.int8)
    half = params.thermalisation // 2
    for t in range(params.thermalisation):
        _sweep(J, params.beta * min(1.0, (t + 1) / max(1, half)), spins, rng.random(spins.shape))
    for t in range(params.steps):
        for _ in range(params.sweeps):
            _sweep(J, params.beta, spins, rng.random(spins.shape))
        state[:, t] = spins
    energy = -0.5 * np.einsum("mti,ij,mtj->mt", state, J, state) / params.sites
    time = params.thermalisation + params.sweeps * np.arange(1, params.steps + 1)
    return xr.Dataset(
        {
            "state": (("member", "time", "field"), state, {"units": "1"}),
            "energy": (("member", "time"), energy),
        },
        coords={
            "time": ("time", time, {"units": "sweeps"}),
            "field": ("field", [f"spin{i}" for i in range(params.sites)]),
        },
        attrs={"system": "sk", **params.model_dump(include={"couplings", "disorder", "beta"})},
    )
