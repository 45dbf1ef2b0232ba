"""The autoregressive baseline: a fully connected network from one state to the next.

Geneva & Zabaras, Neural Networks 146, 272 (2022), arXiv 2010.03957, Tables 1 and 2 (92 k parameters). The
specification gives neither activation nor target; the plain choice is taken: ReLU, and the next state itself.
"""

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from ..strict import Strict


class Params(Strict):
    hidden: int = Field(300, ge=1, description="units per hidden layer; 300 give 92,403 parameters for 3 fields")
    layers: int = Field(2, ge=1, description="hidden layers")


class Model(nn.Module):
    """x̃(t+1) = f(x̃(t)) in standardised units, f a ReLU network 3-300-300-3, trained on single steps."""

    mean: Tensor
    std: Tensor
    recorded = True

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        widths = [len(mean)] + [params.hidden] * params.layers
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.map = nn.Sequential(*hidden, nn.Linear(widths[-1], len(mean)))

    def step(self, state: Tensor) -> Tensor:
        return self.mean + self.std * self.map((state - self.mean) / self.std)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared one-step error in units of std."""
        state = batch["state"]
        return {"loss": ((self.step(state[:, :-1]) - state[:, 1:]) / self.std).square().mean()}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int) -> Tensor:
        """(member, field) -> (member, steps, field)."""
        states = [start]
        for _ in range(steps - 1):
            states.append(self.step(states[-1]))
        return torch.stack(states, dim=1)
