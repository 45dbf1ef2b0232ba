"""The bidirectional LSTMs of Ding, Tang & Yu (2022): one of its own for each series."""

import torch
from pydantic import Field
from torch import Tensor, nn

from ..phases.classifier import Classifier, channels, head, truncated
from ..phases.labels import Labelled


class Params(Labelled):
    units: int = Field(10, ge=1, description="units of each direction; 10 for spins and angles, 16 for Hubbard")
    l2: float = Field(0.0, ge=0, description="penalty on the weights of the head; 0.01 for XY")


class Model(Classifier):
    """The last state of both directions of all LSTMs, then the dense head: 49,089 parameters for 20 spins, 10 steps.

    All LSTMs run as one batched product: index `unit` counts series and directions. One bias vector, the forget gate's
    at 1, input weights He-normal, recurrent ones orthogonal, gates in the order i, f, c, o, as in Keras.
    """

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__(params, mean, std)
        self.channels, size, units = channels(params), params.units, 2 * params.series
        self.enter = nn.Parameter(torch.empty(units, self.channels, 4 * size))
        self.recur = nn.Parameter(torch.empty(units, size, 4 * size))
        self.bias = nn.Parameter(torch.zeros(units, 1, 4 * size))
        truncated(self.enter, self.channels)
        for weight in self.recur.data:
            nn.init.orthogonal_(weight)
        self.bias.data[..., size : 2 * size] = 1.0
        self.head = head(units * size)

    def last(self, x: Tensor) -> Tensor:
        """(sample, time, series · channel) -> the last states (sample, series · direction · unit)."""
        series = x.unflatten(-1, (-1, self.channels)).permute(1, 2, 0, 3)
        both = torch.stack([series, series.flip(0)], dim=2).flatten(1, 2)
        given = both @ self.enter + self.bias
        hidden = memory = given.new_zeros(*given.shape[1:3], self.params.units)
        for now in given:
            gates = torch.baddbmm(now, hidden, self.recur)
            enter, forget, new, out = gates.chunk(4, dim=-1)
            memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
            hidden = out.sigmoid() * memory.tanh()
        return hidden.transpose(0, 1).flatten(1)

    def logit(self, x: Tensor) -> Tensor:
        return self.head(self.last(x)).squeeze(-1)

    def penalty(self) -> Tensor | float:
        """λ Σ w² over the weights of the two hidden layers of the head, as a Keras kernel regulariser."""
        if not self.params.l2 or not self.training:
            return 0.0
        hidden = [layer for layer in self.head if isinstance(layer, nn.Linear)][:2]
        return self.params.l2 * torch.stack([layer.weight.square().sum() for layer in hidden]).sum()
