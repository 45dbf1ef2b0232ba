"""A local law x' = g(x) of a periodic field, found by least squares and integrated: the polynomial row of the fields.

g is linear in a dictionary: the monomials of the fields in a cell, and their three isotropic 3³ Laplacians. This is
sparse identification of dynamics (Rudy et al., Sci. Adv. 3, e1602614, 2017) without the sparsity, in integral form
(Schaeffer & McCalla, Phys. Rev. E 96, 023302, 2017): the increment between two saved states is the integral of g over
six states around them, by a formula of sixth order. Where the truth is such a law, 32 numbers are all there is to
learn. A small network beside the dictionary (`closure`) may take what it cannot say; both train through rollouts.

Means over cells obey no local law of their own. With `refine` the law acts on a finer grid, which is never observed:
its means are the states. A rollout starts from the band-limited field that has the means of the first state, and then
keeps the fine one. The increments of the means are linear in the law all the same, so least squares finds it; what the
means cannot show of the fine states, the law found so far supplies in further passes, as in data assimilation.
"""

from collections.abc import Iterator
from math import comb

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..curriculum import Curriculum
from ..field_map import FieldMap, zeroed
from ..isotropic import averaged, neighbours, refined
from ..strict import Strict
from .polynomial import exponents

NODES = np.arange(-2, 4)  # saved states around an interval [0, 1] over which its integral is taken


class Params(Strict):
    degree: int = Field(3, ge=1, le=6, description="highest total degree of the monomials of a cell")
    substeps: int = Field(5, ge=1, description="Runge–Kutta steps from one saved state to the next")
    closure: int = Field(0, ge=0, description="hidden units of a network of the same inputs beside the law; 0: none")
    refine: int = Field(1, ge=1, le=8, description="cells of the grid of the law along the edge of a stored one")
    passes: int = Field(1, ge=1, le=10, description="fits; from the second on of states that the law carries")
    stencils: int = Field(3, ge=1, le=3, description="Laplacians: face neighbours of a cell, edge ones, corner ones")
    ridge: float = Field(1e-12, ge=0, description="ridge in units of the mean diagonal of the Gram matrix")
    series: int = Field(16, ge=1, description="training series of the least squares")
    chunk: int = Field(2**18, ge=1, description="cells of all states that are held in memory at once while fitting")
    augment: bool = Field(False, description="the law has the symmetries of the cube: augmentation changes nothing")
    rollout: Curriculum = Field(
        Curriculum(horizons=[1, 2, 4], shares=[0.4, 0.3, 0.3]), description="steps that the loss unrolls"
    )

    @model_validator(mode="after")
    def _hidden(self) -> "Params":
        if self.passes > 1 and self.refine == 1:
            raise ValueError(f"passes: {self.passes}: more than one needs a finer grid, refine: 2 or more")
        return self


def quadrature() -> np.ndarray:
    """Weights of the states at NODES whose sum is the integral over [0, 1], exact for polynomials of degree 5."""
    powers = np.vander(NODES, increasing=True).T
    return np.linalg.solve(powers, 1 / np.arange(1, len(NODES) + 1))


def dictionary(x: Tensor, near: Tensor, degree: int) -> Tensor:
    """The functions of a cell, (state, function, z, y, x), of x (state, field, z, y, x) and its Laplacians: 1 first."""
    products: dict[tuple[int, ...], Tensor] = {(): torch.ones_like(x[:, 0])}
    for m in exponents(x.shape[1], degree)[1:]:
        products[m] = products[m[1:]] * x[:, m[0]]
    return torch.cat([torch.stack(list(products.values()), 1), near], 1)


class Hidden:
    """The standardised state on the grid of the law, from the first step of a rollout on."""

    fine: Tensor | None = None


class Law(nn.Module):
    """x̃' = W m(x̃) per saved step, and a network; `whiten` makes the steps of a gradient method well conditioned."""

    whiten: Tensor

    def __init__(self, fields: int, params: Params):
        super().__init__()
        self.params = params
        size = comb(fields + params.degree, params.degree) + params.stencils * fields
        self.register_buffer("whiten", torch.eye(size, dtype=torch.float64))
        self.weight = nn.Parameter(torch.zeros(size, fields))
        self.net = None
        if params.closure:
            self.net = nn.Sequential(
                nn.Conv3d((1 + params.stencils) * fields, params.closure, 1),
                nn.SiLU(),
                zeroed(nn.Conv3d(params.closure, fields, 1)),
            )

    def coefficients(self) -> Tensor:
        """W (function, field)."""
        return self.whiten @ self.weight.to(self.whiten)

    def slope(self, x: Tensor) -> Tensor:
        """x' in the cells of x (state, field, z, y, x)."""
        near = neighbours(x, self.params.stencils)
        weight = self.coefficients().to(x)
        found = (weight.T @ dictionary(x, near, self.params.degree).flatten(2)).view_as(x)
        return found if self.net is None else found + self.net(torch.cat([x, near], 1))

    def forward(self, x: Tensor) -> Tensor:
        """The standardised state one saved step later, by the classical Runge–Kutta method."""
        h = 1 / self.params.substeps
        for _ in range(self.params.substeps):
            k1 = self.slope(x)
            k2 = self.slope(x + h / 2 * k1)
            k3 = self.slope(x + h / 2 * k2)
            k4 = self.slope(x + h * k3)
            x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        return x

    def after(self, x: Tensor, hidden: Hidden) -> Tensor:
        """x one saved step later, from what is hidden below it."""
        parts = self.params.refine
        if parts == 1:
            return self(x)
        hidden.fine = self(refined(x, parts) if hidden.fine is None else hidden.fine)
        return averaged(hidden.fine, parts)

    @torch.no_grad()
    def assimilated(self, x: Tensor) -> Tensor:
        """The states on the grid of the law below a series x (time, field, z, y, x): carried by the law, and moved as
        smoothly as can be to the observed means after each step."""
        fine = refined(x[:1], self.params.refine)
        found = [fine]
        for state in x[1:]:
            fine = self(fine)
            fine = fine + refined(state[None] - averaged(fine, self.params.refine), self.params.refine)
            found.append(fine)
        return torch.cat(found)

    def _pieces(self, series: Tensor, again: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """(integrals of the dictionary, increments) of series (member, time, field, z, y, x), in pieces."""
        weights = torch.from_numpy(quadrature())
        parts, degree, stencils = self.params.refine, self.params.degree, self.params.stencils
        length = max(1, self.params.chunk // (parts**3 * series[0, 0, 0].numel()) - len(NODES) + 1)
        for x in series:
            below = self.assimilated(x) if again else None
            for t in range(2, len(x) - 3, length):
                piece = slice(t - 2, t + length + 3)
                part = x[piece].double()
                fine = refined(part, parts) if below is None else below[piece].double()
                values = averaged(dictionary(fine, neighbours(fine, stencils), degree), parts)
                count = len(part) - 5
                integral = sum((w * values[j : j + count] for j, w in enumerate(weights)), torch.zeros(()))
                increment = part[2 : 3 + count].diff(dim=0)
                yield integral.movedim(1, -1).flatten(0, -2), increment.movedim(1, -1).flatten(0, -2)

    def fit(self, series: Tensor) -> float:
        """Least squares over `series` in standardised units; returns the rms of what remains of an increment."""
        if series.shape[1] < len(NODES):
            raise ValueError(f"local_law: series of {series.shape[1]} states: {len(NODES)} or more are needed")
        return [self._fitted(series, again=k > 0) for k in range(self.params.passes)][-1]

    @torch.no_grad()
    def _fitted(self, series: Tensor, again: bool) -> float:
        gram, cross, squares, count = torch.zeros(()), torch.zeros(()), 0.0, 0
        for a, b in self._pieces(series, again):
            gram, cross = gram + a.T @ a, cross + a.T @ b
            squares, count = squares + float(b.square().sum()), count + b.numel()
        ridge = self.params.ridge * gram.trace() / len(gram) * torch.eye(len(gram), dtype=torch.float64)
        whiten = torch.linalg.inv(torch.linalg.cholesky((gram + ridge) / len(a))).T
        self.whiten.copy_(whiten)
        self.weight.copy_(whiten.T @ cross / len(a))
        weight = self.coefficients()
        rest = squares - 2 * float((weight * cross).sum()) + float((weight * (gram @ weight)).sum())
        return (max(rest, 0.0) / count) ** 0.5


class Model(FieldMap):
    """x⁺: the law integrated over a saved step. Without a closure and with 0 training steps, least squares alone."""

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__(params, mean, std)
        self.law = Law(len(mean), params)

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        values = super().fit(data)
        series = data["smooth"][: self.params.series]
        return values | {"residual_over_std": self.law.fit(self.standardised(series))}

    def begin(self) -> Hidden:
        return Hidden()

    def step(self, state: Tensor, memory: Hidden) -> Tensor:
        after = self.law.after(self.standardised(state), memory)
        return after * self.cells(self.std, state) + self.cells(self.mean, state)
