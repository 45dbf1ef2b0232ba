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
from ..targets import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


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


class Dual(Target):
    """e^(−S(x)) over fields (L, L); the coupling is within S, so beta = 1 and no other."""

    support = "real"
    beta = 1.0

    def __init__(self, params: Params):
        self.params, self.shape = params, (params.size, params.size)
        self.eigenvalues, self.alpha = spectrum(params)

    def energy(self, x: Tensor) -> Tensor:
        """S (batch) of x (batch, L, L). Raises ValueError for another shape or integers."""
        import torch

        if tuple(x.shape[1:]) != self.shape or not x.is_floating_point():
            raise ValueError(
                f"x: {tuple(x.shape)} {x.dtype}: it must be (batch, {self.shape[0]}, {self.shape[1]}), real"
            )
        waves = torch.fft.fft2(x, norm="ortho")
        inverse = torch.as_tensor(1 / self.eigenvalues, dtype=x.dtype, device=x.device)
        quadratic = (inverse * (waves.real.square() + waves.imag.square())).sum((1, 2)) / 2
        return quadratic - (torch.logaddexp(x, -x) - log(2)).sum((1, 2))

    def exact_logZ(self, beta: float | None = None) -> float | None:
        """Kaufman's ln Z of the spins, minus N ln 2, and the factors of the Gaussian integral."""
        from ..exact import torus

        solved = torus.solve("square", self.params.size, self.params.coupling)
        if beta not in (None, 1.0) or solved is None:
            return None
        sites, spins = self.params.size**2, solved[0]
        gaussian = 0.5 * sites * (log(2 * pi) + self.alpha) + 0.5 * float(np.log(self.eigenvalues).sum())
        return spins - sites * log(2) + gaussian

    @property
    def symmetries(self) -> dict[str, Callable[[Tensor], Tensor]]:
        return {
            "flip": lambda x: -x,
            "translation": lambda x: x.roll((1, 2), (1, 2)),
            "reflection": lambda x: x.flip(1),
            "rotation": lambda x: x.transpose(1, 2).flip(2),
        }

    @property
    def observables(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """−Σ_<ij> s_i s_j / N and m² of the spins, averaged over the spins of a field, and |mean of the field|."""
        sites = self.params.size**2

        def spin_energy(x: Tensor) -> Tensor:
            s = x.tanh()
            return -(s * (s.roll(1, 1) + s.roll(1, 2))).mean((1, 2))

        def square(x: Tensor) -> Tensor:
            s = x.tanh()
            return (s.sum((1, 2)).square() - s.square().sum((1, 2)) + sites) / sites**2

        return {"spin_energy": spin_energy, "square": square, "field": lambda x: x.mean((1, 2)).abs()}

    def exact_observables(self, beta: float | None = None) -> dict[str, float]:
        from ..exact import torus

        solved = torus.solve("square", self.params.size, self.params.coupling)
        if beta not in (None, 1.0) or solved is None:
            return {}
        return {"spin_energy": -solved[1] / self.params.size**2}


def target(params: Params) -> Dual:
    return Dual(params)


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field, x): rows of fields, drawn given spins of Swendsen–Wang chains; `energy` is S."""
    import torch

    from ..montecarlo import chains, ising

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
    lattices = chains.unpack(spins, size**2).reshape(-1, size, size).astype(np.float64)
    noise = np.fft.fft2(rng.standard_normal(lattices.shape))
    fields = np.fft.ifft2(eigenvalues * np.fft.fft2(lattices) + np.sqrt(eigenvalues) * noise).real
    energy = target(params).energy(torch.from_numpy(fields)).numpy().reshape(members, params.steps)
    return xr.Dataset(
        {
            "state": (
                ("member", "time", "field", "x"),
                fields.reshape(members, params.steps, size, size),
                {"units": "1"},
            ),
            "energy": (("member", "time"), energy),
        },
        coords={
            "time": (
                "time",
                params.thermalisation + params.sweeps * np.arange(1, params.steps + 1),
                {"units": "updates"},
            ),
            "field": [f"row{i}" for i in range(size)],
        },
        attrs={"system": "ising_dual", **params.model_dump()},
    )
