"""The LSTM baseline: one layer with a linear head, trained by teacher forcing on short chunks.

Geneva & Zabaras, Neural Networks 146, 272 (2022), arXiv 2010.03957, Tables 1 and 2 (103 k parameters, chunks
of 64 steps).
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from ..strict import Strict


class Params(Strict):
    hidden: int = Field(158, ge=1, description="hidden units; 158 give 103,493 parameters for three fields")


class Model(nn.Module):
    """x̃(t+1) = head(LSTM(x̃(t), h(t), c(t))) in standardised units, with h = c = 0 before the first state.

    The memory is empty at the start of every training chunk and of every rollout, and is carried along then.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.cell = nn.LSTM(len(mean), params.hidden, batch_first=True)
        self.head = nn.Linear(params.hidden, len(mean))

    def advance(self, state: Tensor, memory: tuple[Tensor, Tensor] | None = None):
        """The states after each of `state` (member, time, field), and the memory after the last one."""
        hidden, memory = self.cell((state - self.mean) / self.std, memory)
        return self.mean + self.std * self.head(hidden), memory

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared one-step error in units of std, each step given the observed states before it."""
        state = batch["state"]
        predicted, _ = self.advance(state[:, :-1])
        return {"loss": ((predicted - state[:, 1:]) / self.std).square().mean()}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int) -> Tensor:
        """(member, field) -> (member, steps, field), warmed by the start alone."""
        states, memory = [start.unsqueeze(1)], None
        for _ in range(steps - 1):
            state, memory = self.advance(states[-1], memory)
            states.append(state)
        return torch.cat(states, dim=1)
