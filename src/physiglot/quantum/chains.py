"""Spin chains as Hamiltonians on configurations ±1: which configurations H connects, and the matrix elements."""

import torch
from torch import Tensor

from ..exact import chains
from ..targets import Hamiltonian


def flipped(x: Tensor, sites: Tensor) -> Tensor:
    """Copies of x (batch, N), each with one row of `sites` (k, n) flipped: (batch, k, N)."""
    signs = torch.ones(len(sites), x.shape[1], dtype=x.dtype, device=x.device)
    return x[:, None] * signs.scatter_(1, sites.to(x.device), -1)


class Tfi(Hamiltonian):
    """−Σ σᶻσᶻ − h Σ σˣ on a ring of N spins."""

    moves = "flip"

    def __init__(self, sites: int, field: float):
        self.shape, self.field = (sites,), field

    def connected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All single flips: (batch, N + 1, N), and −Σ ss before N times −h."""
        sites = torch.arange(self.shape[0])[:, None]
        diagonal = -(x * x.roll(-1, 1)).sum(1, keepdim=True, dtype=torch.float64)
        return torch.cat([x[:, None], flipped(x, sites)], 1), torch.cat(
            [diagonal, torch.full((len(x), len(sites)), -float(self.field), dtype=torch.float64, device=x.device)], 1
        )

    def exact_E0(self) -> float:
        return chains.tfi(self.shape[0], self.field)


class Heisenberg(Hamiltonian):
    """J1 Σ S·S of neighbours + J2 Σ S·S of second neighbours on a ring, in the sector Σ Sᶻ = 0 (½ for odd N)."""

    moves = "exchange"

    def __init__(self, sites: int, j1: float, j2: float, rotated: bool):
        if sites < 3:
            raise ValueError(f"sites {sites}: this ring has at least 3")
        self.shape, self.j1, self.j2 = (sites,), j1, j2
        ranges = ((1, j1, rotated), (2, j2, False))
        bonds = [(i, (i + d) % sites, j, -j if turned else j) for d, j, turned in ranges if j for i in range(sites)]
        self.pairs = torch.tensor([bond[:2] for bond in bonds], dtype=torch.long).reshape(-1, 2)
        self.along, self.across = torch.tensor([bond[2:] for bond in bonds], dtype=torch.float64).reshape(-1, 2).T

    def connected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All exchanges of the two spins of a bond, ½J where they differ, else padding of 0."""
        one, two = (x[:, self.pairs[:, k]] for k in (0, 1))
        differ = (one != two).to(torch.float64)
        diagonal = (0.25 - 0.5 * differ) @ self.along.to(x.device)
        elements = torch.cat([diagonal[:, None], 0.5 * self.across.to(x.device) * differ], 1)
        exchanged = torch.where((one != two)[..., None], flipped(x, self.pairs), x[:, None])
        return torch.cat([x[:, None], exchanged], 1), elements

    def exact_E0(self) -> float | None:
        """In closed form, or by diagonalisation up to 14 spins."""
        sites = self.shape[0]
        known = chains.heisenberg(sites, self.j1, self.j2)
        if known is None and sites <= chains.LARGEST:
            return chains.ground_state(chains.heisenberg_matrix(sites, self.j1, self.j2))[0]
        return known
