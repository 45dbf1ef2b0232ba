"""What maps of periodic fields from one saved step to the next share: scales, the loss on rollouts, the prediction."""

from typing import Any

import torch
from torch import Tensor, nn

from .isotropic import augmented


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all its weights zero: what ends in it adds nothing at first."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


class FieldMap(nn.Module):
    """x⁺ of states (member, field, z, y, x) by `step`. Its parameters have `augment` and `rollout` (a Curriculum)."""

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, params: Any, mean: Tensor, std: Tensor):
        super().__init__()
        self.params = params
        for name, value in {"mean": mean, "std": std, "scale": 0.1 * std}.items():
            self.register_buffer(name, value.clone())

    @staticmethod
    def cells(values: Tensor, state: Tensor) -> Tensor:
        """Values by field, for a state (…, field, z, y, x)."""
        return values.to(state)[:, None, None, None]

    def standardised(self, state: Tensor) -> Tensor:
        return (state - self.cells(self.mean, state)) / self.cells(self.std, state)

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The scale of the increments."""
        if data["state"].ndim != 6:
            raise ValueError(
                f"a field (z, y, x) in three dimensions is needed; the states are {data['state'].ndim - 3}-D"
            )
        squares = sum(s.diff(dim=0).square().mean((0, 2, 3, 4)) for s in data["smooth"]) / len(data["smooth"])
        self.scale.copy_(squares.sqrt())
        return {"increment_over_std": float((self.scale / self.std).mean())}

    def begin(self) -> Any:
        """What a rollout remembers; nothing here."""

    def step(self, state: Tensor, memory: Any) -> Tensor:
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared error in units of std(Δ) of rollouts; a window of T states has (T − 1) // K of K steps."""
        state = batch["state"]
        if self.training and self.params.augment:
            state = augmented(state)
        steps = min(self.params.rollout.horizon(progress), state.shape[1] - 1)
        used = (state.shape[1] - 1) // steps * steps
        now = state[:, :used:steps].flatten(0, 1)
        later = state[:, 1 : used + 1].unflatten(1, (-1, steps)).flatten(0, 1)
        memory, total = self.begin(), torch.zeros((), device=state.device)
        for k in range(steps):
            now = self.step(now, memory)
            total = total + ((now - later[:, k]) / self.cells(self.scale, now)).square().mean() / steps
        return {"loss": total, "horizon": torch.tensor(float(steps))}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int) -> Tensor:
        """(member, field, z, y, x) -> (member, steps, field, z, y, x)."""
        states = start.new_empty((len(start), steps, *start.shape[1:]))
        states[:, 0] = state = start
        memory = self.begin()
        for t in range(1, steps):
            states[:, t] = state = self.step(state, memory)
        return states
