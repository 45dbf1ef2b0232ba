"""No network: what is measured is read as it is. For studies that ask a simulation itself."""

import torch
from torch import Tensor, nn

from ..strict import Strict


class Params(Strict):
    pass


class Model(nn.Module):
    """It has no parameters, and reads the mean over time of every field."""

    mean: Tensor
    std: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared deviation from the time average; there is nothing to minimise."""
        state = batch["state"]
        return {"loss": (state - state.mean(1, keepdim=True)).square().mean()}

    @torch.no_grad()
    def read(self, state: Tensor) -> dict[str, Tensor]:
        """`average` (member, field) of whole series (member, time, field)."""
        return {"average": state.mean(1)}
