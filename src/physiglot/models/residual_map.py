"""The control: a residual one-step map without attention or memory, trained through its own rollouts.

If a model with context does not beat it, the task is Markov and the context buys nothing.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from ..curriculum import Curriculum
from ..ranks import normal
from ..strict import Strict
from .polynomial import exponents, monomials


class Params(Strict):
    hidden: int = Field(128, ge=1, description="units in both hidden layers; 128 give 18,209 parameters for 3 fields")
    degree: int = Field(2, ge=1, description="the inputs are the monomials of the standardised state up to this degree")
    rollout: Curriculum = Field(Curriculum(), description="steps that the loss unrolls")
    noise: float = Field(0.0, ge=0, description="noise added to the state at each unrolled step, in units of std")


class Model(nn.Module):
    """x⁺ = x + std(Δ) (A m + b + MLP(m)), m the monomials of the standardised state without the constant.

    Δ is one step's increment. The MLP is 9-128-128-3 with SiLU (18,179 parameters) and ends in zeros; the
    linear path beside it (30, with its own bias) starts at zero too: the untrained map is persistence.
    """

    mean: Tensor
    std: Tensor
    increment: Tensor
    recorded = True

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.register_buffer("increment", 0.05 * std)
        inputs, fields, hidden = len(exponents(len(mean), params.degree)) - 1, len(mean), params.hidden
        self.linear = nn.Linear(inputs, fields)
        last = nn.Linear(hidden, fields)
        self.mlp = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)
        for layer in (self.linear, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The scale of the output, std(Δ), from the smoothed training data."""
        self.increment.copy_(data["smooth"].diff(dim=1).flatten(0, 1).std(dim=0))
        return {"increment_over_std": (self.increment / self.std).mean().item()}

    def step(self, state: Tensor) -> Tensor:
        inputs = monomials((state - self.mean) / self.std, self.params.degree)[..., 1:]
        return state + self.increment * (self.linear(inputs) + self.mlp(inputs))

    def rollout(self, start: Tensor, steps: int, noise: float = 0.0) -> Tensor:
        """The `steps` states after `start` (…, field): (…, steps, field)."""
        states, state = [], start
        for _ in range(steps):
            if noise:
                state = state + noise * self.std * normal(state)
            state = self.step(state)
            states.append(state)
        return torch.stack(states, dim=-2)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared error in units of std of rollouts from smoothed states against the observed ones.

        A window of T states holds (T − 1) // K rollouts of K steps, one after the other; all are used.
        """
        length = batch["state"].shape[1] - 1
        steps = min(self.params.rollout.horizon(progress), length)
        used = length // steps * steps
        start = batch["smooth"][:, :used:steps]
        observed = batch["state"][:, 1 : used + 1].unflatten(1, (-1, steps))
        error = (self.rollout(start, steps, self.params.noise) - observed) / self.std
        return {"loss": error.square().mean(), "horizon": torch.tensor(float(steps))}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int) -> Tensor:
        """(member, field) -> (member, steps, field)."""
        states = [start]
        for _ in range(steps - 1):
            states.append(self.step(states[-1]))
        return torch.stack(states, dim=1)
