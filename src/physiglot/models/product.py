"""Mean field: independent spins, or independent Gaussians, one for each site. The row that every other has to beat."""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ..generative import losses
from ..strict import Strict
from ..targets import Target


class Params(Strict):
    z2: bool = Field(False, description="the mixture of q(x) and q(−x) in equal parts")
    anneal: float | None = Field(None, gt=0, description="beta_t = beta (1 − exp(−progress/anneal)) in training")
    spread: float = Field(0.1, ge=0, description="standard deviation of the first fields, which breaks the symmetry")


def _filled(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Statistics per field of a data set as those of every site."""
    return values.reshape(shape) if values.numel() == math.prod(shape) else values.expand(shape)


class Model(nn.Module):
    """q(x) = Π_i q_i(x_i): spins with the fields `field` (ln odds / 2), or Gaussians of mean `field` and width e^`log`.

    `mean` and `std` give the first Gaussians; spins ignore them.
    """

    log_prob_kind = "exact"
    mean: Tensor
    std: Tensor

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        super().__init__()
        self.params, self.target = params, target
        self.spins = target.support == "spin"
        self.reparam = not self.spins
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        noise = params.spread * torch.randn(target.shape)
        self.field = nn.Parameter(noise if self.spins else _filled(mean, target.shape) + noise)
        self.log = None if self.spins else nn.Parameter(_filled(std, target.shape).log())

    def loss(self, batch: dict, progress: float = 1.0) -> dict[str, Tensor]:
        return losses.energy_or_data(self, batch, progress)

    def _log_prob(self, x: Tensor) -> Tensor:
        if self.log is None:
            parts = x * self.field - torch.logaddexp(self.field, -self.field)
        else:
            parts = -0.5 * ((x - self.field) * (-self.log).exp()).square() - self.log - 0.5 * math.log(2 * math.pi)
        return parts.flatten(1).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch) of x (batch, *shape); with `z2`, ln ½[q(x) + q(−x)]."""
        x = x.to(self.field.dtype)
        if not self.params.z2:
            return self._log_prob(x)
        return torch.logaddexp(self._log_prob(x), self._log_prob(-x)) - math.log(2)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """x (n, *shape) and ln q (n); Gaussians carry the gradient."""
        like: dict[str, Any] = {"dtype": self.field.dtype, "device": self.field.device, "generator": generator}
        if self.log is None:
            up = torch.rand(n, *self.target.shape, **like) < torch.sigmoid(2 * self.field)
            x = 2.0 * up.to(self.field.dtype) - 1
        else:
            x = self.field + self.log.exp() * torch.randn(n, *self.target.shape, **like)
        if self.params.z2:
            sign = 2.0 * torch.randint(2, (n, *[1] * len(self.target.shape)), device=x.device, generator=generator) - 1
            x = x * sign
        return x, self.log_prob(x)
