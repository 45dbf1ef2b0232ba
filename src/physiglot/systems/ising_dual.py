"""The 2D Ising model as a field theory: spins on a square torus traded for real fields by a Gaussian integral.

e^(½ sᵀAs) ∝ ∫ dx e^(−½ xᵀA⁻¹x + s·x) with A = K + αI (J. Hubbard, Phys. Rev. Lett. 3, 77 (1959)), K the matrix of the
couplings βJ, so the sum over spins leaves S(x) = ½ xᵀA⁻¹x − Σ ln cosh x_i. α makes A positive; its smallest eigenvalue
is `gap`. Given the field spins are independent with ⟨s_i⟩ = tanh x_i, given the spins the field is Gaussian around As:
the first gives exact means, the second exact draws from cluster updates of the spins. The target of neural
renormalisation (S.-H. Li, L. Wang, Phys. Rev. Lett. 121, 260601 (2018), arXiv 1802.02840).
"""

from __future__ import annotations

from math import log, pi
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from pydantic import Field

from ..strict import Strict

if TYPE_CHECKING:
    from torch import Tensor

    from ..targets import Target


TARGET = ("size", "coupling", "gap")


class Params(Strict):
    size: int = Field(4, ge=2, le=1024, description="linear size L of the torus; L = 2 has each bond twice")
    coupling: float = Field(
        0.44068679350977147, gt=0, allow_inf_nan=False, description="K = βJ of the spins; default: the critical one"
    )
    gap: float = Field(
        0.1, gt=0, allow_inf_nan=False, description="smallest eigenvalue of K + αI (Li & Wang 2018: 0.1)"
    )
    steps: int = Field(8, ge=1, description="saved configurations of a chain")
    sweeps: int = Field(4, ge=1, description="Swendsen–Wang updates between saved configurations")
    thermalisation: int = Field(100, ge=0, description="updates before the first saved configuration is begun")


def spectrum(params: Params) -> tuple[np.ndarray, float]:
    """Eigenvalues of A = K + αI over the momenta (L, L), and α."""
    waves = 2 * params.coupling * np.cos(2 * pi * np.arange(params.size) / params.size)
    bare = waves[:, None] + waves
    alpha = params.gap - float(bare.min())
    return bare + alpha, alpha


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field, y, x): exact draws of fields given spins of Swendsen–Wang chains; `energy` is S."""
    import torch

    from ..montecarlo import chains, ising
    from ..targets import lattice as lattice_target

    size, eigenvalues = params.size, spectrum(params)[0]
    spins = ising.evolve(
        "square",
        size,
        np.full(members, 1 / params.coupling),
        chains.seed(rng),
        params.steps,
        dynamics="swendsen_wang",
        sweeps=params.sweeps,
        thermalisation=params.thermalisation,
    ).states
    lattices = chains.unpack(spins, size**2).reshape(members, params.steps, size, size)
    noise = np.fft.fft2(rng.standard_normal(lattices.shape))
    fields = np.fft.ifft2(eigenvalues * np.fft.fft2(lattices) + np.sqrt(eigenvalues) * noise).real
    energy = target(params).energy(torch.from_numpy(fields).flatten(0, 1)).numpy().reshape(members, params.steps)
    return lattice_target.dataset(fields, energy, {"system": "ising_dual", **params.model_dump(exclude={"steps"})})


def target(params: Params) -> Target:
    """S as E, with the coupling in it: beta is 1. ln Z and the energy of the spins by Kaufman."""
    import torch

    from ..exact import torus
    from ..targets.lattice import Field as Lattice

    eigenvalues, alpha = spectrum(params)
    sites, solved = params.size**2, torus.solve("square", params.size, params.coupling)

    class Dual(Lattice):
        def energy(self, x):
            waves = torch.fft.fft2(self.checked(x), norm="ortho")
            inverse = torch.as_tensor(1 / eigenvalues, dtype=x.dtype, device=x.device)
            quadratic = (inverse * (waves.real.square() + waves.imag.square())).sum((1, 2)) / 2
            return quadratic - (torch.logaddexp(x, -x) - log(2)).sum((1, 2))

        def exact_logZ(self, beta=None):
            if beta not in (None, 1.0) or solved is None:
                return None
            gaussian = 0.5 * sites * (log(2 * pi) + alpha) + 0.5 * float(np.log(eigenvalues).sum())
            return solved[0] - sites * log(2) + gaussian

        @property
        def observables(self):
            """Beside those of any field −Σ_<ij> s_i s_j / N and m² of the spins, averaged over the spins of a field."""
            return {**super().observables, "spin_energy": spin_energy, "spin_m2": spin_m2}

        def exact_observables(self, beta=None):
            return {"spin_energy": -solved[1] / sites} if solved and beta in (None, 1.0) else {}

    return Dual(params.size, 1.0)


def spin_energy(x: Tensor) -> Tensor:
    s = x.tanh()
    return -(s * (s.roll(1, 1) + s.roll(1, 2))).mean((1, 2))


def spin_m2(x: Tensor) -> Tensor:
    s, sites = x.tanh(), x[0].numel()
    return (s.sum((1, 2)).square() - s.square().sum((1, 2)) + sites) / sites**2
