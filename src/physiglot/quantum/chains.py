"""Spin chains as Hamiltonians on configurations ±1: which configurations H connects, and the matrix elements."""

import torch
from torch import Tensor

from ..exact import chains
from ..targets import Hamiltonian


def flipped(x: Tensor, sites: Tensor) -> Tensor:
    """Copies of x (batch, N), each with one row of `sites` (k, n) flipped: (batch, k, N)."""
    signs = torch.ones(len(sites), x.shape[1], dtype=x.dtype, device=x.device)
    return x[:, None] * signs.scatter_(1, sites.to(x.device), -1)


class Chain(Hamiltonian):
    """A Hamiltonian whose off-diagonal elements each flip the spins of one row of `flips` (move, flips)."""

    flips: Tensor

    def elements(self, x: Tensor) -> Tensor:
        """⟨x|H|x'⟩ of x (batch, N): (batch, 1 + move) float64, the diagonal first."""
        raise NotImplementedError

    def connected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x and all configurations that a move makes of it, and the elements; where those are 0 it is padding."""
        return torch.cat([x[:, None], flipped(x, self.flips)], 1), self.elements(x)


class Tfi(Chain):
    """−Σ σᶻσᶻ − h Σ σˣ on a ring of N spins."""

    moves = "flip"

    def __init__(self, sites: int, field: float):
        self.shape, self.field = (sites,), float(field)
        self.flips = torch.arange(sites)[:, None]

    def elements(self, x: Tensor) -> Tensor:
        diagonal = -(x * x.roll(-1, 1)).sum(1, keepdim=True, dtype=torch.float64)
        return torch.cat([diagonal, diagonal.new_full(x.shape, -self.field)], 1)

    def exact_E0(self) -> float:
        return chains.tfi(self.shape[0], self.field)


class Heisenberg(Chain):
    """J1 Σ S·S of neighbours + J2 Σ S·S of second neighbours on a ring, in the sector Σ Sᶻ = 0 (½ for odd N)."""

    moves = "exchange"

    def __init__(self, sites: int, j1: float, j2: float, rotated: bool):
        if sites < 3:
            raise ValueError(f"sites {sites}: this ring has at least 3")
        self.shape, self.j1, self.j2 = (sites,), j1, j2
        ranges = ((1, j1, rotated), (2, j2, False))
        bonds = [(i, (i + d) % sites, j, -j if turned else j) for d, j, turned in ranges if j for i in range(sites)]
        self.flips = torch.tensor([bond[:2] for bond in bonds], dtype=torch.long).reshape(-1, 2)
        self.along, self.across = torch.tensor([bond[2:] for bond in bonds], dtype=torch.float64).reshape(-1, 2).T

    def elements(self, x: Tensor) -> Tensor:
        """An exchange of unequal spins has ½J."""
        one, two = (x[:, self.flips[:, k]] for k in (0, 1))
        differ = (one != two).to(torch.float64)
        diagonal = (0.25 - 0.5 * differ) @ self.along.to(x.device)
        return torch.cat([diagonal[:, None], 0.5 * self.across.to(x.device) * differ], 1)

    def exact_E0(self) -> float | None:
        """In closed form, or by diagonalisation up to 14 spins."""
        sites = self.shape[0]
        known = chains.heisenberg(sites, self.j1, self.j2)
        if known is None and sites <= chains.LARGEST:
            return chains.ground_state(chains.heisenberg_matrix(sites, self.j1, self.j2))[0]
        return known
