"""A shallow velocity field for scalar fields on a periodic square lattice, after M. Gerdes et al., SciPost Phys. 15,
238 (2023), arXiv 2207.00283.

v_x = Σ_f Σ_y C_f(x − y, t) h_f(φ_y) with the features h = φ and sin(ω φ)/ω for frequencies ω_1 … ω_F. It is odd in φ,
and commutes with translations, rotations and reflections, as C depends on displacements through their orbits alone.
The divergence is a closed form: Σ_f C_f(0, t) Σ_x h_f'(φ_x).

Such kernels are diagonal in the basis cas(k x) cas(k' y), cas = cos + sin, real and orthogonal. What is learnt are
their eigenvalues, one for each orbit of momenta, as polynomials in t.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn


def chebyshev(t: Tensor, count: int) -> Tensor:
    """T_0 … T_{count−1} of 2t − 1, as a last axis."""
    z = 2 * t - 1
    values = [torch.ones_like(z), z]
    while len(values) < count:
        values.append(2 * z * values[-1] - values[-2])
    return torch.stack(values[:count], dim=-1)


def orbits(size: int) -> Tensor:
    """The number of the orbit of each momentum (k, k') under reflections and exchange, (size, size)."""
    folded = torch.minimum(torch.arange(size), size - torch.arange(size))
    one, two = torch.meshgrid(folded, folded, indexing="ij")
    return torch.unique(torch.minimum(one, two) * size + torch.maximum(one, two), return_inverse=True)[1]


class Field(nn.Module):
    """Velocity and divergence of φ (batch, L, L); untrained it is zero."""

    basis: Tensor
    table: Tensor

    def __init__(self, size: int, *, times: int, frequencies: int, highest: float):
        """`times` polynomials in t; ω_f are learnt, at first equally spaced up to `highest`."""
        super().__init__()
        angle = 2 * pi / size * torch.outer(torch.arange(size), torch.arange(size))
        self.register_buffer("basis", (angle.cos() + angle.sin()) / size**0.5, persistent=False)
        self.register_buffer("table", orbits(size), persistent=False)
        self.times = times
        self.omega = nn.Parameter(highest * torch.arange(1, frequencies + 1) / max(1, frequencies))
        self.weight = nn.Parameter(torch.zeros(times, 1 + frequencies, int(self.table.max()) + 1))

    def forward(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """v (batch, L, L) and ∇·v (batch) at the time t, one for all or one each (batch)."""
        at = torch.as_tensor(t, dtype=x.dtype, device=x.device).reshape(-1)
        weight = self.weight.to(x.dtype)
        strength = (chebyshev(at, self.times) @ weight.flatten(1)).unflatten(1, weight.shape[1:])
        kernel = strength[:, :, self.table]
        omega = self.omega.to(x.dtype).view(-1, 1, 1)
        phase = omega * x[:, None]
        features = torch.cat([x[:, None], phase.sin() / omega], dim=1)
        slopes = torch.cat([x.new_full((len(x), 1), x[0].numel()), phase.cos().sum((2, 3))], dim=1)
        velocity = self._turn((kernel * self._turn(features)).sum(1))
        return velocity, (kernel.mean((2, 3)) * slopes).sum(1)

    def _turn(self, x: Tensor) -> Tensor:
        """Into the basis or back, transposed: two of these restore the order of the axes, and kernels are symmetric."""
        return (x @ self.basis).transpose(-1, -2) @ self.basis
