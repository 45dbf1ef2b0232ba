"""The fully visible Boltzmann machine, which learns couplings from spins: the inverse Ising problem.

D. H. Ackley, G. E. Hinton, T. J. Sejnowski, Cogn. Sci. 9, 147 (1985); pseudo-likelihood: E. Aurell, M. Ekeberg, PRL
108, 090201 (2012).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..generative import losses
from ..generative.partition import spins
from ..generative.rbm import every
from ..strict import Strict
from ..targets import Target

EXACT = 20  # spins up to which the sum over all configurations is taken


class Params(Strict):
    objective: Literal["likelihood", "pseudo", "persistent"] = Field(
        "likelihood", description="exact up to 20 spins; of each spin given the others; or with persistent chains"
    )
    sweeps: int = Field(1, ge=1, description="heat-bath sweeps of the persistent chains per step")
    chains: int = Field(256, ge=1, description="persistent chains")
    burn: int = Field(1000, ge=1, description="sweeps of a sample, where none is drawn exactly")
    fields: bool = Field(False, description="fields on the spins beside their couplings")


class Model(nn.Module):
    """q(s) ∝ e^(½ sᵀJs + h·s), J symmetric with a zero diagonal: at `beta`, J is beta times the couplings."""

    reparam = False
    mean: Tensor
    std: Tensor
    chains: Tensor

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        super().__init__()
        if target.support != "spin":
            raise ValueError("boltzmann: its units are spins, and this target is real; allowed: targets of spins")
        self.params, self.target, self.sites = params, target, torch.zeros(target.shape).numel()
        if params.objective == "likelihood" and self.sites > EXACT:
            raise ValueError(
                f"objective 'likelihood': {self.sites} spins; allowed: up to {EXACT}, or pseudo, persistent"
            )
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        pairs = self.sites * (self.sites - 1) // 2
        self.pair = nn.Parameter(torch.zeros(pairs, dtype=torch.float64))
        self.field = nn.Parameter(torch.zeros(self.sites, dtype=torch.float64), requires_grad=params.fields)
        self.log_prob_kind = "exact" if self.sites <= EXACT else "unnormalised"
        self.register_buffer("chains", (2 * torch.randint(2, (params.chains, self.sites)) - 1).to(torch.int8))

    def couplings(self) -> Tensor:
        """J (site, site)."""
        above = self.pair.new_zeros(self.sites, self.sites)
        row, column = torch.triu_indices(self.sites, self.sites, 1, device=above.device)
        above = above.index_put((row, column), self.pair)
        return above + above.T

    def log_unnormalised(self, x: Tensor) -> Tensor:
        s = x.flatten(1).to(self.pair)
        return 0.5 * ((s @ self.couplings()) * s).sum(1) + s @ self.field

    def _halves(self) -> tuple[Tensor, Tensor, Tensor]:
        """ln p* of all configurations as a matrix: the first half of the spins by the second; and the two halves."""
        half, J = self.sites // 2, self.couplings()
        a, b = every(half).to(J), every(self.sites - half).to(J)
        own = 0.5 * ((a @ J[:half, :half]) * a).sum(1) + a @ self.field[:half]
        other = 0.5 * ((b @ J[half:, half:]) * b).sum(1) + b @ self.field[half:]
        return own[:, None] + other + (a @ J[:half, half:]) @ b.T, a, b

    def exact_logZ(self) -> Tensor | None:
        """ln Z, differentiable; None above 20 spins."""
        return torch.logsumexp(self._halves()[0].flatten(), 0) if self.sites <= EXACT else None

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch), or ln p* above 20 spins."""
        normal = self.exact_logZ()
        return self.log_unnormalised(x) - (0.0 if normal is None else normal)

    @torch.no_grad()
    def gibbs(self, x: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        """x after k sweeps of heat-bath updates, spin by spin."""
        s, J = x.flatten(1).to(self.pair).clone(), self.couplings()
        for _ in range(k):
            for i in range(self.sites):
                s[:, i] = spins(s @ J[i] + self.field[i], generator)
        return s.unflatten(1, self.target.shape)

    def pseudo(self, x: Tensor) -> Tensor:
        """−Σ_i ln q(s_i | the others), the mean over the batch."""
        s = x.flatten(1).to(self.pair)
        return -nn.functional.logsigmoid(2 * s * (s @ self.couplings() + self.field)).sum(1).mean()

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """−ln q, −Σ ln q(s_i | …) or persistent contrastive divergence."""
        x = self.target.configurations(batch["state"]).double()
        if self.params.objective == "pseudo":
            return {"loss": self.pseudo(x)}
        if self.params.objective == "likelihood" or (not self.training and self.log_prob_kind == "exact"):
            return {"loss": losses.nll(self, x)}
        chains = self.chains.unflatten(1, self.target.shape) if self.training else None
        return {"loss": losses.cd(self, x, self.params.sweeps, chains)}

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """n configurations: exact ones with ln q up to 20 spins, else `burn` sweeps from the persistent chains."""
        if self.log_prob_kind != "exact":
            chosen = torch.randint(len(self.chains), (n,), generator=generator)
            return self.gibbs(self.chains[chosen].unflatten(1, self.target.shape), self.params.burn, generator), None
        table, a, b = self._halves()
        edges = torch.softmax(table.flatten().double(), 0).cumsum(0)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64) * edges[-1]
        number = torch.searchsorted(edges, uniform).clamp(max=len(edges) - 1)
        x = torch.cat([a[number // len(b)], b[number % len(b)]], 1).unflatten(1, self.target.shape)
        return x, self.log_prob(x)
