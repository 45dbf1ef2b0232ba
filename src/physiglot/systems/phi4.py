"""φ⁴ theory on a periodic square lattice, S = Σ [(m² + 4) φ² + λ φ⁴] − 2 Σ_<xy> φ_x φ_y, by hybrid Monte Carlo.

The convention of M. Gerdes et al., SciPost Phys. 15, 238 (2023), arXiv 2207.00283: no ½ before the kinetic term. At
m² = −4 their couplings λ = 6.975, 5.276, 4.572 give a correlation length L/4 on lattices of L = 6, 12, 32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numba import njit
from pydantic import Field

from ..exact import lattice_field
from ..strict import Strict
from ..targets import hmc

if TYPE_CHECKING:
    from ..targets import Target


TARGET = ("size", "mass2", "coupling", "beta")


class Params(Strict):
    size: int = Field(6, ge=2, le=1024, description="linear size L of the lattice (Gerdes 2023: 6, 12, 32, …)")
    mass2: float = Field(-4.0, ge=-1e3, le=1e3, description="m² in units of the lattice spacing (Gerdes 2023)")
    coupling: float = Field(6.975, gt=0, le=1e3, description="λ of the quartic term (Gerdes 2023)")
    beta: float = Field(1.0, gt=0, le=1e3, description="factor before S")
    steps: int = Field(16, ge=1, description="saved states of a chain")
    every: int = Field(4, ge=1, description="trajectories between saved states")
    warm: int = Field(50, ge=0, description="trajectories before the first of them")
    step: float = Field(0.1, gt=0, le=10, description="leapfrog step")
    leaps: int = Field(10, ge=1, description="leapfrog steps of a trajectory")


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field, y, x), each member a chain; `energy` (member, time), `acceptance` (member)."""
    from ..targets import lattice as lattice_target

    shape = (members, params.size, params.size)
    given = (params.beta * (params.mass2 + 4), params.beta * params.coupling, params.beta)
    chains = hmc.run(
        lambda x: action(x, *given),
        lambda x: force(x, *given),
        0.5 * rng.standard_normal(shape),
        rng,
        saved=params.steps,
        every=params.every,
        warm=params.warm,
        step=params.step,
        leaps=params.leaps,
    )
    attributes = {"system": "phi4", "sampler": "hybrid Monte Carlo", **params.model_dump(exclude={"steps"})}
    data = lattice_target.dataset(chains.states, chains.energies / params.beta, attributes)
    return data.assign(acceptance=("member", chains.acceptance, {"units": "1"}))


@njit(cache=True, error_model="numpy")
def action(x, quadratic, quartic, hopping):
    """Σ quadratic φ² + quartic φ⁴ − 2 hopping Σ_<xy> φφ', (chain), of x (chain, L, L)."""
    chains, size, _ = x.shape
    total = np.zeros(chains)
    for c in range(chains):
        for i in range(size):
            for j in range(size):
                f = x[c, i, j]
                beside = x[c, (i + 1) % size, j] + x[c, i, (j + 1) % size]
                total[c] += (quadratic + quartic * f * f) * f * f - 2 * hopping * f * beside
    return total


@njit(cache=True, error_model="numpy")
def force(x, quadratic, quartic, hopping):
    """−∂/∂φ of the same, (chain, L, L)."""
    chains, size, _ = x.shape
    result = np.empty_like(x)
    for c in range(chains):
        for i in range(size):
            up, down = x[c, i - 1], x[c, (i + 1) % size]
            for j in range(size):
                f = x[c, i, j]
                beside = up[j] + down[j] + x[c, i, j - 1] + x[c, i, (j + 1) % size]
                result[c, i, j] = 2 * hopping * beside - 2 * quadratic * f - 4 * quartic * f * f * f
    return result


def target(params: Params) -> Target:
    """S as E; ln Z, ⟨φ²⟩ and ⟨φ̄²⟩ by transfer matrices where these are in reach (L ≤ 6)."""
    from ..targets.lattice import Field as Lattice
    from ..targets.lattice import bonds

    class Quartic(Lattice):
        def energy(self, x):
            square = self.checked(x).square()
            return ((params.mass2 + 4 + params.coupling * square) * square).sum((1, 2)) - 2 * bonds(x)

        def exact(self, beta):
            return lattice_field.square(params.size, params.mass2, params.coupling, self.beta if beta is None else beta)

        def exact_logZ(self, beta=None):
            moments = self.exact(beta)
            return None if moments is None else moments.log_z

        def exact_observables(self, beta=None):
            moments = self.exact(beta)
            return {} if moments is None else {"phi2": moments.phi2, "mean2": moments.mean2}

    return Quartic(params.size, params.beta)
