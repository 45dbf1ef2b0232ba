"""Nothing moves, or everything is a mean: what a prediction costs nothing and must beat."""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..strict import Strict


class Params(Strict):
    mode: Literal["start", "mean", "frame"] = Field(
        "start", description="predict the start for ever, the mean of the training data, or their mean at that time"
    )
    shape: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="`frame` only: steps of the training series, and cells of the grid, [z,] y, x"
    )

    @model_validator(mode="after")
    def _shape_of_frames(self) -> "Params":
        if bool(self.shape) != (self.mode == "frame"):
            raise ValueError(f"shape: {self.shape}: mode frame needs [steps, cells of the grid …], the others none")
        return self


class Model(nn.Module):
    """x(t) = x(0) (`start`), ⟨x⟩ of the training split (`mean`), or ⟨x(t)⟩, its mean over the series (`frame`).

    ⟨x(t)⟩ stays at its last value beyond the training series. There is nothing to learn.
    """

    mean: Tensor
    std: Tensor
    frames: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        steps, *grid = params.shape or [0]
        self.register_buffer("frames", torch.zeros(steps, len(mean), *grid))

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The mean frames of the training split (member, time, field, …). Raises ValueError for another shape."""
        if self.params.mode == "frame":
            found = data["state"].shape[1:]
            if found != self.frames.shape:
                raise ValueError(
                    f"shape: {self.params.shape}: the training series have {[found[0], *found[2:]]} (steps, cells …)"
                )
            self.frames.copy_(data["state"].mean(0))
        return {}

    def _later(self, start: Tensor, steps: int) -> Tensor:
        """States 1 … steps − 1 from `start` (member, field, …)."""
        shape = (len(start), steps - 1, *start.shape[1:])
        if self.params.mode == "frame":
            times = torch.arange(1, steps).clamp(max=len(self.frames) - 1)
            return self.frames[times].to(start).expand(shape)
        state = start if self.params.mode == "start" else self._everywhere(self.mean, start).expand_as(start)
        return state.unsqueeze(1).expand(shape)

    @staticmethod
    def _everywhere(values: Tensor, state: Tensor) -> Tensor:
        """Values (field) that go with a state (…, field, grid …) of so many cells."""
        return values.to(state).reshape(-1, *[1] * (state.ndim - 2))

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared one-step error in units of std; there is nothing to minimise.

        A window does not tell its time: `frame` counts as `mean`.
        """
        state = batch["state"]
        now, later = state[:, :-1], state[:, 1:]
        std, mean = (self._everywhere(v, now[:, 0]) for v in (self.std, self.mean))
        guess = now if self.params.mode == "start" else mean
        return {"loss": ((guess - later) / std).square().mean()}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int) -> Tensor:
        """(member, field, …) -> (member, steps, field, …); index 0 is the start in all modes."""
        return torch.cat([start.unsqueeze(1), self._later(start, steps)], dim=1)
