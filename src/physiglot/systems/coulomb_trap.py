"""A classical Coulomb gas in a harmonic trap: E = ½ Σ x² − Σ_{i<j} ln r, or + q² Σ_{i<j} 1/r.

The demonstration of L. Zhao and L. Wang, Bounding free energy difference with flow matching, arXiv 2311.07963. In two
dimensions the logarithmic gas at β = 2 are the eigenvalues of complex Gaussian matrices, which are exact draws; all
else is sampled by hybrid Monte Carlo. Units of the trap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from ..exact import loggas
from ..strict import Strict

if TYPE_CHECKING:
    from ..targets.particles import Particles

TARGET = ("count", "dimension", "kernel", "charge2", "beta")


class Params(Strict):
    count: int = Field(6, ge=2, le=1000, description="particles N")
    dimension: int = Field(2, ge=1, le=3, description="dimensions of space")
    kernel: Literal["log", "inverse"] = Field("log", description="repulsion −ln r, or q²/r")
    charge2: float = Field(1.0, ge=0, le=1e6, description="q² of the inverse kernel")
    beta: float = Field(2.0, gt=0, le=1e6, description="inverse temperature; at 2 the plane gas is exact")
    steps: int = Field(16, ge=1, description="saved states of a chain, or independent draws")
    every: int = Field(4, ge=1, description="chains: trajectories between saved states")
    warm: int = Field(100, ge=0, description="chains: trajectories before the first of them")
    step: float = Field(0.1, gt=0, le=10, description="chains: leapfrog step")
    leaps: int = Field(10, ge=1, description="chains: leapfrog steps of a trajectory")


def exact(params: Params) -> bool:
    """Whether configurations can be drawn exactly."""
    return params.kernel == "log" and params.dimension == 2 and params.beta == 2


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field): positions; `energy` (member, time)."""
    import torch

    from ..targets import particles as particle_target

    gas = target(params)
    attributes = {"system": "coulomb_trap", **params.model_dump(exclude={"steps"})}
    if exact(params):
        states = loggas.ginibre_draws(params.count, (members, params.steps), rng)
        energies = gas.energy(torch.as_tensor(states).flatten(0, 1)).numpy().reshape(members, params.steps)
        return particle_target.dataset(states, energies, attributes | {"sampler": "random matrices"})
    start = rng.standard_normal((members, params.count, params.dimension)) * np.sqrt(params.count)
    schedule = {"saved": params.steps, **params.model_dump(include={"every", "warm", "step", "leaps"})}
    chains = particle_target.chains(gas, start, rng, **schedule)
    attributes |= {"sampler": "hybrid Monte Carlo"}
    data = particle_target.dataset(chains.states, chains.energies / params.beta, attributes)
    return data.assign(acceptance=("member", chains.acceptance, {"units": "1"}))


def target(params: Params) -> Particles:
    """E; ln Z where `exact.loggas` knows it, and ⟨Σ x²⟩ of the logarithmic gas."""
    from ..targets.particles import Particles

    class Gas(Particles):
        def exact_logZ(self, beta=None):
            given = (params.count, params.dimension, params.kernel, self.beta if beta is None else beta, params.charge2)
            return loggas.log_z(*given)

        def exact_observables(self, beta=None):
            if params.kernel != "log":
                return {}
            beta = self.beta if beta is None else beta
            return {"radius2": loggas.square_radius(params.count, params.dimension, beta)}

    repulsion = (lambda r: -r.log()) if params.kernel == "log" else (lambda r: params.charge2 / r)
    return Gas(params.count, params.dimension, params.beta, repulsion, trap=1.0, centred=False)
