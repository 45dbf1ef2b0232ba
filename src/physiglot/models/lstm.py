"""The LSTM baseline: cells with a linear head, trained by teacher forcing, on states or on their embeddings.

Geneva & Zabaras, Neural Networks 146, 272 (2022), arXiv 2010.03957: Tables 1 and 2 (one cell, 103 k parameters, chunks
of 64 steps), Table 3 (four cells on the Koopman embedding, 759 k).
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ..strict import Strict


class Params(Strict):
    hidden: int = Field(158, ge=1, description="hidden units; 158 give 103,493 parameters for three fields")
    layers: int = Field(1, ge=1, description="cells; four of 153 units give 758,396 parameters for 128 channels")


class Model(nn.Module):
    """x̃(t+1) = head(LSTM(x̃(t), h(t), c(t))) with h = c = 0 before the first state; x̃ in standardised units, or z.

    The memory is empty at the start of every training chunk and of every rollout, and is carried along then.
    """

    mean: Tensor
    std: Tensor
    embedding: Any
    recorded = True

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params, self.embedding = params, embedding
        self.reads = ("state",) if embedding is None else ("embedded",)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        channels = len(mean) if embedding is None else self.embedding.channels
        self.cell = nn.LSTM(channels, params.hidden, params.layers, batch_first=True)
        self.head = nn.Linear(params.hidden, channels)

    def advance(self, x: Tensor, memory: tuple[Tensor, Tensor] | None = None):
        """What follows each of x (member, time, channel), and the memory after the last one."""
        hidden, memory = self.cell(x, memory)
        return self.head(hidden), memory

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared one-step error in units of std, or of z, each step given what was observed before it."""
        x = (batch["state"] - self.mean) / self.std if self.embedding is None else batch["embedded"]
        predicted, _ = self.advance(x[:, :-1])
        return {"loss": (predicted - x[:, 1:]).square().mean()}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int, parameters: Tensor | None = None) -> Tensor:
        """(member, field…) -> (member, steps, field…), warmed by the start alone; the embedding gets `parameters`."""
        if self.embedding is None:
            x = self._generate((start - self.mean) / self.std, steps)
            return torch.cat([start[:, None], self.mean + self.std * x[:, 1:]], 1)
        x = self._generate(self.embedding.embed(start, parameters), steps)
        return torch.cat([start[:, None], self.embedding.decode(x[:, 1:], parameters)], 1)

    def _generate(self, x: Tensor, steps: int) -> Tensor:
        found, memory = [x[:, None]], None
        for _ in range(steps - 1):
            x, memory = self.advance(found[-1], memory)
            found.append(x)
        return torch.cat(found, 1)
