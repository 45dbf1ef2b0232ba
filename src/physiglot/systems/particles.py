"""Free particles with a pair potential: the double-well system DW4 and the Lennard-Jones cluster LJ13.

The benchmarks of J. Köhler, L. Klein, F. Noé, Equivariant flows, ICML 2020 (arXiv 2006.02425). Published codes count
pairs once or twice; `pair_factor` says which, and only equal conventions compare. Configurations have their centre of
mass at the origin: ln Z is the integral over that subspace of (N − 1) d dimensions. Sampled by hybrid Monte Carlo.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from ..exact import loggas
from ..strict import Strict

if TYPE_CHECKING:
    from ..targets.particles import Particles

TARGET = ("count", "dimension", "potential", "pair_factor", "oscillator", "beta")


class Params(Strict):
    count: int = Field(4, ge=2, le=1000, description="particles N (DW4: 4, LJ13: 13)")
    dimension: int = Field(2, ge=1, le=3, description="dimensions of space (DW4: 2, LJ13: 3)")
    potential: Literal["double_well", "lennard_jones"] = Field(
        "double_well", description="0.9 (r − 4)⁴ − 4 (r − 4)², or r⁻¹² − 2 r⁻⁶"
    )
    pair_factor: float = Field(1.0, gt=0, le=100, description="1: every pair once; 2: twice, as some codes do")
    oscillator: float = Field(0.0, ge=0, le=100, description="k of (k/2) Σ |x − x̄|² (LJ13: 1)")
    beta: float = Field(1.0, gt=0, le=1e3, description="inverse temperature")
    steps: int = Field(16, ge=1, description="saved states of a chain")
    every: int = Field(10, ge=1, description="trajectories between saved states")
    warm: int = Field(300, ge=0, description="trajectories before the first of them")
    step: float = Field(0.06, gt=0, le=10, description="leapfrog step")
    leaps: int = Field(10, ge=1, description="leapfrog steps of a trajectory")


def pair_energy(params: Params, r: Any) -> Any:
    """v(r), of numbers or tensors."""
    if params.potential == "double_well":
        square = (r - 4) ** 2
        return params.pair_factor * (0.9 * square - 4) * square
    inverse = r**-6
    return params.pair_factor * (inverse - 2) * inverse


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field): centred positions, each member a chain; `energy`, and `acceptance` (member)."""
    from ..targets import particles as particle_target

    gas = target(params)
    schedule = {"saved": params.steps, **params.model_dump(include={"every", "warm", "step", "leaps"})}
    chains = particle_target.chains(gas, beginning(params, members, rng), rng, **schedule)
    attributes = {"system": "particles", "sampler": "hybrid Monte Carlo", **params.model_dump(exclude={"steps"})}
    data = particle_target.dataset(chains.states, chains.energies / params.beta, attributes)
    return data.assign(acceptance=("member", chains.acceptance, {"units": "1"}))


def beginning(params: Params, members: int, rng: np.random.Generator) -> np.ndarray:
    """Particles on the points of a cubic grid next to its middle, shaken: no two of them overlap."""
    side = np.arange(-4, 5) if params.dimension > 1 else np.arange(params.count)
    grid = np.stack(np.meshgrid(*[side] * params.dimension, indexing="ij"), axis=-1).reshape(-1, params.dimension)
    nearest = grid[np.argsort((grid**2).sum(1), kind="stable")[: params.count]]
    spacing = 2.5 if params.potential == "double_well" else 1.1
    shaken = spacing * nearest + 0.05 * rng.standard_normal((members, params.count, params.dimension))
    return shaken


def target(params: Params) -> Particles:
    """E; ln Z of N = 2 by quadrature."""
    from ..targets.particles import Particles

    def bound(r: float) -> float:
        return pair_energy(params, r) + params.oscillator * r**2 / 4 if r > 1e-3 else inf

    class Cluster(Particles):
        def exact_logZ(self, beta=None):
            if params.count > 2 or (params.potential == "lennard_jones" and params.oscillator == 0):
                return None
            return loggas.relative(bound, params.dimension, self.beta if beta is None else beta)

    potential = partial(pair_energy, params)
    return Cluster(params.count, params.dimension, params.beta, potential, trap=params.oscillator, centred=True)
