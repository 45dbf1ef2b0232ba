"""What a pair of particles does in view of all others: f(r_ij, h_i, h_j, t), with derivatives in closed form.

h_i are sums over all k of functions of r_ik, as in the embedded-atom method (M. Daw, M. Baskes, Phys. Rev. B 29, 6443
(1984)), so the velocity of a pair depends on where the others are, and remains equivariant. No derivative is an
automatic one: ∇·v = Σ_{i<j} (2 d f + D f), where D is the change as the ends of the pair move apart along x_ij.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .lattice import chebyshev


def silu(x: Tensor) -> tuple[Tensor, Tensor]:
    """x/(1 + e^−x) and its derivative."""
    s = torch.sigmoid(x)
    return x * s, s * (1 + x * (1 - s))


class Surroundings(nn.Module):
    """f (batch, pair), symmetric in the two ends, by a network with `hidden` units a layer; untrained it is zero."""

    incidence: Tensor

    def __init__(self, incidence: Tensor, radial: int, times: int, hidden: int):
        super().__init__()
        self.register_buffer("incidence", incidence, persistent=False)
        self.times = times
        self.ends = [(incidence == sign).int().argmax(0).tolist() for sign in (1, -1)]
        self.around = nn.Linear(radial, hidden, bias=False)
        self.pair, self.mixed = nn.Linear(radial, hidden), nn.Linear(2 * hidden, hidden, bias=False)
        self.moment = nn.Linear(times, 2 * hidden, bias=False)
        self.second, self.last = nn.Linear(hidden, hidden), nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, apart: Tensor, r: Tensor, near: Tensor, slope: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """f and D f at the times t of the pairs that are x_ij = `apart` (batch, pair, d), at distances `r`.

        `near` and `slope` (batch, pair, radial) are functions of r, and their derivatives.
        """
        one, two = self.ends
        when = self.moment(chebyshev(t, self.times).to(r.dtype))[:, None].chunk(2, dim=2)
        density, bend = silu(self.incidence.abs() @ self.around(near))
        both = torch.cat([density[:, one] + density[:, two], density[:, one] * density[:, two]], dim=2)
        first, bend_1 = silu(self.pair(near) + self.mixed(both) + when[0])
        second, bend_2 = silu(self.second(first) + when[1])
        pull = self.around(slope)
        forces = self.incidence @ (apart[..., None] / r[..., None, None] * pull[:, :, None]).flatten(2)
        forces = forces.unflatten(2, (apart.shape[2], -1))
        own = r[..., None] * pull
        change_1 = bend[:, one] * ((apart[..., None] * forces[:, one]).sum(2) + own)
        change_2 = bend[:, two] * (own - (apart[..., None] * forces[:, two]).sum(2))
        mixed = torch.cat([change_1 + change_2, change_1 * density[:, two] + density[:, one] * change_2], dim=2)
        change = 2 * r[..., None] * (slope @ self.pair.weight.T) + self.mixed(mixed)
        change = bend_2 * (bend_1 * change @ self.second.weight.T)
        return self.last(second)[..., 0], self.last(change)[..., 0]
