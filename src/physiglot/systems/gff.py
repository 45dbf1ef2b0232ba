"""Gaussian free field E = ½ φᵀ(−Δ + m²)φ on a periodic square lattice: everything about it is known exactly.

States are independent exact draws: white noise, multiplied in momentum space by (β λ_k)^−½.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from pydantic import Field

from ..exact import gaussian
from ..strict import Strict

if TYPE_CHECKING:
    from ..targets import Target


TARGET = ("size", "mass2", "beta")


class Params(Strict):
    size: int = Field(6, ge=2, le=4096, description="linear size L of the lattice")
    mass2: float = Field(1.0, gt=0, le=1e6, description="m² in units of the lattice spacing")
    beta: float = Field(1.0, gt=0, le=1e6, description="inverse temperature")
    steps: int = Field(16, ge=1, description="independent states in the series of a member")


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field, y, x): independent draws of φ; `energy` (member, time)."""
    from ..targets import lattice as lattice_target

    states, energies = draws(params, (members, params.steps), rng)
    return lattice_target.dataset(states, energies, {"system": "gff", **params.model_dump(exclude={"steps"})})


def draws(params: Params, count: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """φ (*count, L, L) and its energy (*count)."""
    eigenvalues = gaussian.spectrum(params.size, params.mass2)
    noise = rng.standard_normal((*count, params.size, params.size))
    modes = np.fft.fft2(noise) / np.sqrt(params.beta * eigenvalues)
    states = np.fft.ifft2(modes).real
    energies = 0.5 * (eigenvalues * np.abs(modes) ** 2).sum((-1, -2)) / params.size**2
    return states, energies


def target(params: Params) -> Target:
    """E, ln Z, ⟨φ²⟩ and ⟨φ̄²⟩ = 1/(β m² N)."""
    from ..targets.lattice import Field as Lattice
    from ..targets.lattice import bonds

    eigenvalues = gaussian.spectrum(params.size, params.mass2)

    class Free(Lattice):
        def energy(self, x):
            x = self.checked(x)
            return (params.mass2 / 2 + 2) * x.square().sum((1, 2)) - bonds(x)

        def exact_logZ(self, beta=None):
            return gaussian.log_z(eigenvalues, self.beta if beta is None else beta)

        def exact_observables(self, beta=None):
            beta = self.beta if beta is None else beta
            mean2 = 1 / (beta * params.mass2 * params.size**2)
            return {
                "phi2": gaussian.mean_square(eigenvalues, beta),
                "mean2": mean2,
                "mean_abs": float(np.sqrt(2 * mean2 / np.pi)),
            }

    return Free(params.size, params.beta)
