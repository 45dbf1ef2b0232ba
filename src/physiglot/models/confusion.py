"""Learning by confusion: one small classifier for each assumed transition, trained to believe in it.

E. P. L. van Nieuwenburg, Y.-H. Liu, S. D. Huber, Nature Physics 13, 435 (2017): the accuracy against the assumed
transition is 1 at both ends, where nothing is to be told apart, and has a peak between them where the data do change.
No label knows the transition. The inputs are what the networks of the paper can extract: the fraction of the sites
that flipped at each step, and the size of their mean at each step.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ..strict import Strict


class Params(Strict):
    series: int = Field(20, ge=1, description="sites that it sees at once")
    steps: int = Field(10, ge=2, description="Monte Carlo steps that it sees, from the first one on")
    low: float = Field(0.2, ge=0, description="lowest assumed transition")
    high: float = Field(4.8, gt=0, description="highest assumed transition")
    count: int = Field(24, ge=3, description="assumed transitions, evenly spread: as many classifiers")
    units: int = Field(24, ge=1, description="hidden units of each")

    @model_validator(mode="after")
    def _ordered(self) -> "Params":
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self


class Model(nn.Module):
    """`count` perceptrons with one hidden layer, all trained at once on the same series, with labels of their own."""

    mean: Tensor
    std: Tensor
    assumed: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        inputs = 2 * params.steps - 1
        self.register_buffer("assumed", torch.linspace(params.low, params.high, params.count))
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.enter = nn.Parameter(torch.randn(params.count, inputs, params.units) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(params.count, 1, params.units))
        self.leave = nn.Parameter(torch.randn(params.count, params.units, 1) / params.units**0.5)
        self.offset = nn.Parameter(torch.zeros(params.count, 1, 1))

    def features(self, state: Tensor) -> Tensor:
        """(member, time, field) -> flips and sizes of the mean of the first draw of sites (member, 2 · time − 1)."""
        if state.shape[1] < self.params.steps or state.shape[2] < self.params.series:
            raise ValueError(f"steps, series: the data have only {state.shape[1]} steps of {state.shape[2]} sites")
        series = state[:, : self.params.steps, : self.params.series]
        return torch.cat([(series.diff(dim=1) != 0).to(series).mean(-1), series.mean(-1).abs()], dim=1)

    @torch.no_grad()
    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The scale of the inputs."""
        found = self.features(data["state"])
        self.centre.copy_(found.mean(0))
        self.spread.copy_(found.std(0).clamp(min=1e-6))
        return {"classifiers": float(self.params.count)}

    def odds(self, state: Tensor) -> Tensor:
        """Log-odds that a member is above each assumed transition (assumed, member)."""
        x = (self.features(state) - self.centre) / self.spread
        hidden = torch.tanh(x @ self.enter + self.bias)
        return (hidden @ self.leave + self.offset).squeeze(-1)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        label = (batch["parameters"][:, 0] > self.assumed[:, None]).to(batch["state"])
        odds = self.odds(batch["state"])
        accuracy = ((odds > 0) == (label > 0.5)).to(odds).mean()
        return {"loss": functional.binary_cross_entropy_with_logits(odds, label), "accuracy": accuracy}

    @torch.no_grad()
    def read(self, state: Tensor) -> dict[str, Tensor]:
        """`probability` (member, assumed), and `assumed` (member, assumed), the same for all."""
        probability = self.odds(state).sigmoid().T
        return {"probability": probability, "assumed": self.assumed.expand_as(probability).clone()}
