"""A velocity field of particles: v_i = Σ_j f(r_ij, t)(x_i − x_j) + g(|x_i|, t) x_i, with a divergence in closed form.

Equivariant under permutations, rotations and reflections (J. Köhler, L. Klein, F. Noé, arXiv 2006.02425). Without g it
leaves the centre of mass where it is, and its divergence on the centred subspace is the one of all coordinates, as
moving all particles together changes nothing. f and g are a constant and Gaussians of the distance, with coefficients
that are polynomials in t. With `hidden` units f also depends on what is around the pair (`surroundings`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .lattice import chebyshev
from .surroundings import Surroundings

TINY = 1e-12


class Radial(nn.Module):
    """Functions of a distance, linear in a constant and `count` Gaussians up to `reach`: f(r, t) and ∂f/∂r."""

    centres: Tensor

    def __init__(self, count: int, reach: float, times: int):
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, reach, count), persistent=False)
        self.spread = 1.2 * reach / max(1, count - 1)
        self.times = times
        self.weight = nn.Parameter(torch.zeros(times, 1 + count))

    def gaussians(self, r: Tensor) -> Tensor:
        """(batch, distance, count) at r (batch, distance)."""
        return torch.exp(-0.5 * ((r[..., None] - self.centres) / self.spread) ** 2)

    def slopes(self, r: Tensor, near: Tensor) -> Tensor:
        """The derivatives of the Gaussians `near` at r."""
        return (self.centres - r[..., None]) / self.spread**2 * near

    def forward(self, r: Tensor, t: Tensor, near: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f and ∂f/∂r (batch, distance) at r (batch, distance) and the times t (batch) or (1)."""
        weight = chebyshev(t, self.times) @ self.weight.to(r.dtype)
        near = self.gaussians(r) if near is None else near
        columns = torch.stack([weight[:, 1:], weight[:, 1:] * self.centres], dim=2)
        value, moment = (near @ columns).unbind(2)
        return weight[:, :1] + value, (moment - r * value) / self.spread**2


class Field(nn.Module):
    """Velocity and divergence of x (batch, N, d); untrained it is zero. `centred`: without g."""

    incidence: Tensor

    def __init__(
        self, shape: tuple[int, int], *, times: int, radial: int, reach: float, centred: bool, hidden: int = 0
    ):
        super().__init__()
        self.count, self.dimension = shape
        first, second = torch.triu_indices(self.count, self.count, 1)
        ones = torch.eye(self.count)
        self.register_buffer("incidence", (ones[first] - ones[second]).T.contiguous(), persistent=False)
        self.pairs = Radial(radial, reach, times)
        self.around = Surroundings(self.incidence, radial, times, hidden) if hidden else None
        self.centre = None if centred else Radial(radial, reach, times)

    def forward(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """v (batch, N, d) and ∇·v (batch) at the time t, one for all or one each (batch)."""
        at = torch.as_tensor(t, dtype=x.dtype, device=x.device).reshape(-1)
        apart = self.incidence.T @ x
        r = (apart.square().sum(2) + TINY).sqrt()
        near = self.pairs.gaussians(r)
        f, slope = self.pairs(r, at, near)
        opening = 2 * r * slope
        if self.around is not None:
            more, change = self.around(apart, r, near, self.pairs.slopes(r, near), at)
            f, opening = f + more, opening + change
        velocity = self.incidence @ (f[..., None] * apart)
        divergence = (2 * self.dimension * f + opening).sum(1)
        if self.centre is not None:
            r = (x.square().sum(2) + TINY).sqrt()
            g, slope = self.centre(r, at)
            velocity = velocity + g[..., None] * x
            divergence = divergence + (self.dimension * g + r * slope).sum(1)
        return velocity, divergence
