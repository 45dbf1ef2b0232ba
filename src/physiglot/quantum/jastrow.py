"""The wave functions to beat: independent spins, and pairs of spins (R. Jastrow, Phys. Rev. 98, 1479 (1955))."""

import torch
from torch import Tensor, nn


class Jastrow(nn.Module):
    """ln ψ(v) = a Σ_i v_i + Σ_r J_r Σ_i v_i v_{i+r} on a ring, r = 1 … N/2; without `pairs` a mean field."""

    def __init__(self, sites: int, *, pairs: bool, scale: float = 0.01):
        super().__init__()
        self.sites, self.ranges = sites, sites // 2 if pairs else 0
        self.a = nn.Parameter(scale * torch.randn(1).double())
        self.j = nn.Parameter(scale * torch.randn(self.ranges).double(), requires_grad=pairs)

    def learnt(self) -> list[nn.Parameter]:
        return [p for p in (self.a, self.j) if p.requires_grad]

    @torch.no_grad()
    def derivatives(self, v: Tensor) -> Tensor:
        """∂ ln ψ / ∂ (a, J_1, …) of v (batch, site): (batch, parameter)."""
        v = v.to(self.a)
        return torch.stack([v.sum(1), *((v * v.roll(-r, 1)).sum(1) for r in range(1, self.ranges + 1))], 1)

    def forward(self, v: Tensor) -> Tensor:
        """ln ψ of v (batch, site)."""
        return self.derivatives(v) @ torch.cat([self.a, self.j])

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector (parameter) as tensors like `learnt`."""
        return list(vector.split([len(p) for p in self.learnt()]))
