"""The restricted Boltzmann machine as a density of spins, by contrastive divergence (G. E. Hinton, Neural Comput. 14,
1771 (2002)) or with persistent chains (T. Tieleman, ICML 2008). Where one layer has 20 units or less, it is
normalised and drawn from exactly."""

import torch
from pydantic import Field
from torch import Tensor, nn

from ..generative import losses, partition
from ..generative.rbm import RBM
from ..strict import Strict
from ..targets import Target

EXACT = 20  # units of the smaller layer


class Params(Strict):
    hidden: int = Field(32, ge=1, description="hidden units")
    z2: bool = Field(False, description="without biases: q(v) = q(−v)")
    k: int = Field(1, ge=1, description="Gibbs steps per training step, the k of CD-k")
    persistent: bool = Field(True, description="chains that live on from step to step (PCD), or from the data (CD)")
    chains: int = Field(256, ge=1, description="persistent chains")
    burn: int = Field(1000, ge=1, description="Gibbs steps of a sample, where none is drawn exactly")
    scale: float = Field(0.05, gt=0, description="standard deviation of the initial weights")


class Model(nn.Module):
    """q(v) ∝ Π_j 2cosh(b_j + v·W_j) e^(a·v)."""

    reparam = False
    mean: Tensor
    std: Tensor
    chains: Tensor

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        super().__init__()
        if target.support != "spin":
            raise ValueError("rbm: its units are spins, and this target is real; allowed: targets of spins")
        self.params, self.target = params, target
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        sites = torch.zeros(target.shape).numel()
        biased = not params.z2
        self.rbm = RBM(sites, params.hidden, visible_bias=biased, hidden_bias=biased, scale=params.scale)
        self.log_prob_kind = "exact" if min(sites, params.hidden) <= EXACT else "unnormalised"
        self.register_buffer("chains", (2 * torch.randint(2, (params.chains, sites)) - 1).to(torch.int8))

    @torch.no_grad()
    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The visible biases of independent spins with the means of the data."""
        mean = self.target.configurations(data["state"]).flatten(1).double().mean(0)
        if self.params.z2:
            return {"largest_mean": float(mean.abs().max())}
        self.rbm.a.copy_(torch.atanh(mean.clamp(-0.99, 0.99)))
        return {"largest_mean": float(mean.abs().max())}

    def log_unnormalised(self, x: Tensor) -> Tensor:
        return self.rbm(x.flatten(1))

    @torch.no_grad()
    def exact_logZ(self) -> float | None:
        found = partition.log_z(self.rbm)
        return None if found is None else float(found)

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch) where ln Z is known, else ln p*."""
        normal = partition.log_z(self.rbm) if self.log_prob_kind == "exact" else None
        return self.log_unnormalised(x) - (0.0 if normal is None else normal)

    def gibbs(self, x: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        return partition.gibbs(self.rbm, x.flatten(1), k, generator).unflatten(1, self.target.shape)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """Contrastive divergence; in validation −ln q where it is known."""
        x = self.target.configurations(batch["state"]).double()
        if not self.training and self.log_prob_kind == "exact":
            return {"loss": losses.nll(self, x)}
        chains = self.chains.unflatten(1, self.target.shape) if self.params.persistent and self.training else None
        return {"loss": losses.cd(self, x, self.params.k, chains)}

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """n configurations: exact and with ln q, or by `burn` Gibbs steps from the persistent chains."""
        if self.log_prob_kind == "exact":
            x = partition.exact_samples(self.rbm, n, generator).unflatten(1, self.target.shape)
            return x, self.log_prob(x)
        chosen = torch.randint(len(self.chains), (n,), generator=generator)
        return self.gibbs(self.chains[chosen], self.params.burn, generator), None

    def bracket(self, n: int, steps: int, generator: torch.Generator | None = None) -> tuple[float, float]:
        """ln Z from below and above by annealing n samples; exact samples backwards, else long chains."""
        v = self.sample(n, generator)[0].flatten(1)
        low = partition.annealed(self.rbm, v, steps, False, generator)
        return low, partition.annealed(self.rbm, v, steps, True, generator)
