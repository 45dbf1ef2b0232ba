"""Nothing moves, or everything is the mean: what a prediction costs nothing and must beat."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..strict import Strict


class Params(Strict):
    mode: Literal["start", "mean"] = Field(
        "start", description="predict the start for ever, or the mean of the training data"
    )


class Model(nn.Module):
    """x(t) = x(0) (`start`), or x(t) = ⟨x⟩ of the training split for t > 0 (`mean`). It has no parameters."""

    mean: Tensor
    std: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def step(self, state: Tensor) -> Tensor:
        return state if self.params.mode == "start" else self.mean.to(state).expand_as(state)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared one-step error in units of std; there is nothing to minimise."""
        state = batch["state"]
        return {"loss": ((self.step(state[:, :-1]) - state[:, 1:]) / self.std).square().mean()}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int) -> Tensor:
        """(member, field) -> (member, steps, field); index 0 is the start in both modes."""
        later = self.step(start).unsqueeze(1).expand(-1, steps - 1, -1)
        return torch.cat([start.unsqueeze(1), later], dim=1)
