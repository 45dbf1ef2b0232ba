"""A restricted Boltzmann machine as the wave function of spins, by variational Monte Carlo: the ground state.

So that it has something to beat, spins that are independent or tied in pairs (`ansatz`).

G. Carleo, M. Troyer, Science 355, 602 (2017), arXiv 1606.02318. Trained by `optimizer: sgd`: the gradient of the loss
is the direction of stochastic reconfiguration.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..generative import losses
from ..generative.rbm import RBM, every
from ..quantum.jastrow import Jastrow
from ..quantum.vmc import local_energy
from ..quantum.walk import walk, walkers
from ..strict import Strict
from ..targets import Hamiltonian

QUANTUM = True  # it needs a Hamiltonian


class Params(Strict):
    ansatz: Literal["rbm", "jastrow", "product"] = Field(
        "rbm", description="an RBM; pairs of spins; independent spins. The last two are real and symmetric"
    )
    features: int = Field(1, ge=1, description="hidden units per spin, α; filters if symmetric")
    numbers: Literal["real", "complex"] = Field("real", description="real: a state without signs; complex: any state")
    symmetric: bool = Field(True, description="invariant under translations: α(N+1) parameters instead of αN(N+1)")
    visible_bias: bool = Field(False, description="with a field on the spins; without, even under a flip of them all")
    scale: float = Field(0.05, gt=0, description="standard deviation of the initial weights")
    chains: int = Field(512, ge=2, description="Markov chains; they live on from step to step")
    sweeps: int = Field(1, ge=1, description="sweeps of N moves between two samples")
    thermalisation: int = Field(20, ge=0, description="sweeps before the first sample")
    shift: float = Field(1e-2, gt=0, description="λ of (S + λ) δ = f at the start of the training")
    last_shift: float = Field(1e-4, gt=0, description="λ at its end; it falls exponentially")
    full_sum: bool = Field(False, description="all configurations instead of samples, in training; up to 14 spins")


def _ansatz(params: Params, sites: int) -> RBM | Jastrow:
    if params.ansatz != "rbm":
        return Jastrow(sites, pairs=params.ansatz == "jastrow", scale=params.scale)
    return RBM(
        sites,
        params.features * sites,
        complex_=params.numbers == "complex",
        symmetric=params.symmetric,
        visible_bias=params.visible_bias,
        scale=params.scale,
    )


class Model(nn.Module):
    """ψ(x), its walkers, and its energy."""

    log_prob_kind = "unnormalised"
    reparam = False
    mean: Tensor
    std: Tensor
    walkers: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, target: Any, embedding: nn.Module | None = None):
        super().__init__()
        if not isinstance(target, Hamiltonian):
            raise ValueError("rbm_state: the system has no Hamiltonian; allowed: tfi_chain, heisenberg_chain")
        (sites,) = target.shape
        if params.full_sum and sites > 14:
            raise ValueError(f"full_sum: {sites} spins; allowed: up to 14")
        self.params, self.target = params, target
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.register_buffer("walkers", walkers(params.chains, sites, target.moves))
        self.psi = _ansatz(params, sites)

    def log_psi(self, x: Tensor) -> Tensor:
        return self.psi(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """2 Re ln ψ (batch): ln |ψ|² up to a constant."""
        return 2 * self.psi(x).real

    def _samples(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` samples of |ψ|² and equal weights; or all configurations and their weights."""
        if self.params.full_sum:
            return self.summed()
        chains = self.params.chains
        if self.training and count % chains:
            raise ValueError(f"training.batch: {count}: allowed: multiples of the chains, {chains}")
        found = []
        for _ in range(max(1, count // chains)):
            walk(self.psi, self.walkers, self.params.sweeps, self.target.moves)
            found.append(self.walkers.double())
        x = torch.cat(found)
        return x, x.new_full((len(x),), 1 / len(x))

    @torch.no_grad()
    def summed(self) -> tuple[Tensor, Tensor]:
        """All configurations of the sector, and |ψ|² of them, normalised; up to 14 spins."""
        x = every(self.walkers.shape[1]).to(self.walkers.device)
        if self.target.moves == "exchange":
            x = x[x.sum(1) == -(x.shape[1] % 2)]
        return x, torch.softmax(self.log_prob(x), 0)

    def loss(self, batch: dict[str, Any], progress: float = 1.0) -> dict[str, Tensor]:
        """`loss`: the energy, with the direction of stochastic reconfiguration as its gradient; `variance`."""
        if self.training and progress == 0:
            walk(self.psi, self.walkers, self.params.thermalisation, self.target.moves)
        kept = self.walkers.clone()
        x, weights = self._samples(batch["count"])
        if not self.training:
            self.walkers.copy_(kept)  # a validation leaves no trace
        ratio = self.params.last_shift / self.params.shift
        value, further = losses.vmc(self.psi, self.target, x, weights, self.params.shift * ratio**progress)
        return {"loss": value, **further}

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """`x` (sample, site), `energy` (sample), the real part of the local energy, and the `chain` of each sample.

        Samples of a chain stand together in the order of time; where `count` is no multiple of the chains, the first
        have one more.
        """
        chains = min(count, self.params.chains)
        walker, rounds = self.walkers[:chains].clone(), []
        walk(self.psi, walker, self.params.thermalisation, self.target.moves, generator)
        for _ in range(-(-count // chains)):
            walk(self.psi, walker, self.params.sweeps, self.target.moves, generator)
            rounds.append(walker.clone())
        chain = torch.arange(chains)[:, None].expand(chains, len(rounds))
        kept = torch.arange(len(rounds)) * chains + chain < count
        x = torch.stack(rounds, 1)[kept]
        return {"x": x, "energy": local_energy(self.psi, x.double(), self.target).real, "chain": chain[kept]}

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, None]:
        """n samples of |ψ|², from as many chains as there are; no normalised probability."""
        return self.draw(n, generator)["x"], None
