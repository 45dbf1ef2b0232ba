"""What all classifiers of series share: which sites they see, their labels, their loss, and how they are read.

A data set has `draws` draws of `series` sites side by side, `state` (member, time, draw · site). The faithful variant
draws its sites once per training, for all members; the sound one takes another draw for each member of each batch, and
is read with all of them: what the sites contribute to the error is then seen.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .labels import Labelled

SAMPLES = 1024  # read at a time, so that the memory does not grow with the data set


def label_of(temperature: Tensor, windows: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Label 0 or 1 and weight 1 within the windows (sample); weight 0 elsewhere."""
    low, high = windows
    cold = (temperature >= low[0]) & (temperature <= low[1])
    hot = (temperature >= high[0]) & (temperature <= high[1])
    return hot.to(torch.get_default_dtype()), (cold | hot).to(torch.get_default_dtype())


def balanced(label: Tensor, weight: Tensor) -> Tensor:
    """Weights of the same sum that count both labels alike: windows that are parts of one range differ in members."""
    shares = [weight * (label == k) for k in (0, 1)]
    half = 0.5 * weight.sum()
    return sum((share * half / share.sum().clamp(min=1.0) for share in shares), torch.zeros_like(weight))


def scrambled(temperature: Tensor) -> Tensor:
    """A label that a temperature has by chance: a bit of a hash of its digits."""
    digits = (temperature.double() * 2**20).long()
    return ((digits * 2654435761 >> 13) & 1).to(torch.get_default_dtype())


def encode(series: Tensor, params: Labelled, training: bool) -> Tensor:
    """Spins, truncated angles (faithful) or numbers as they are; (cos θ, sin θ) side by side, (…, series · 2) (sound).

    In training the angles of a sample (sample, time, series) are turned by one random angle and reflected or not.
    """
    if params.quantity == "spin" and not (series.abs() == 1).all():
        wrong = series[series.abs() != 1].flatten()[0].item()
        raise ValueError(f"state: {wrong:g}: an Ising spin is +1 or −1; is `quantity` of the model right?")
    if params.quantity != "angle":
        return series
    if params.variant == "faithful":
        return series.trunc()
    if training:
        turn = 2 * torch.pi * torch.rand(len(series), 1, 1, device=series.device)
        series = torch.where(torch.rand_like(turn) < 0.5, -1.0, 1.0) * series + turn
    return torch.stack([series.cos(), series.sin()], dim=-1).flatten(-2)


def channels(params: Labelled) -> int:
    """Numbers per site and step."""
    return 2 if params.quantity == "angle" and params.variant == "sound" else 1


class Classifier(nn.Module):
    """A model adds `logit(x)`: encoded series (sample, time, series · channels) -> log-odds of label 1 (sample)."""

    mean: Tensor
    std: Tensor
    sites: Tensor

    def __init__(self, params: Any, mean: Tensor, std: Tensor):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        if len(mean) % params.series:
            raise ValueError(f"series: {params.series}: the data have {len(mean)} series; allowed: divisors of that")
        self.draws = len(mean) // params.series
        chosen = torch.randperm(len(mean))[: params.series] if self.draws > 1 else torch.arange(params.series)
        self.register_buffer("sites", chosen)

    def logit(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def cut(self, state: Tensor) -> Tensor:
        """The first steps of the series."""
        if state.shape[1] < self.params.steps:
            raise ValueError(f"steps: {self.params.steps}: more than the {state.shape[1]} steps that are stored")
        return state[:, : self.params.steps]

    def drawn(self, state: Tensor) -> Tensor:
        """The sites that the model is given in training: its own (faithful), or a random draw for each member."""
        state = self.cut(state)
        if self.params.variant == "faithful" or self.draws == 1:
            return state[..., self.sites]
        if not self.training:
            return state[..., : self.params.series]
        draw = torch.randint(self.draws, (len(state),), device=state.device)
        return state.unflatten(-1, (self.draws, -1))[torch.arange(len(state)), :, draw]

    def labelled(self, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and weights; the faithful variant is validated on everything, labelled with the known transition."""
        if self.params.reference is not None and not self.training:
            return (temperature > self.params.reference).to(temperature), torch.ones_like(temperature)
        label, weight = label_of(temperature, self.params.windows)
        if self.params.labels == "random":
            label = scrambled(temperature)
        return label, weight if self.params.variant == "faithful" else balanced(label, weight)

    def penalty(self) -> Tensor | float:
        return 0.0

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """Binary cross-entropy; `score`, which chooses the epoch, is an accuracy that only the faithful variant has."""
        if "parameters" not in batch:
            raise ValueError("the data have no `parameters`: a phase cannot be labelled without its temperature")
        label, weight = self.labelled(batch["parameters"][:, 0])
        odds = self.logit(encode(self.drawn(batch["state"]), self.params, self.training))
        total = weight.sum().clamp(min=1.0)
        entropy = (weight * functional.binary_cross_entropy_with_logits(odds, label.to(odds), reduction="none")).sum()
        accuracy = (weight * ((odds > 0) == (label > 0.5))).sum() / total
        chosen = {} if self.params.reference is None or self.training else {"score": accuracy}
        return {"loss": entropy / total + self.penalty(), "accuracy": accuracy, **chosen}

    def _probability(self, state: Tensor) -> Tensor:
        """(member, time, draw · series) -> P of label 1 (member, draw)."""
        each = state.unflatten(-1, (-1, self.params.series)).movedim(2, 1).flatten(0, 1)
        parts = [self.logit(encode(part, self.params, False)) for part in each.split(SAMPLES)]
        return torch.cat(parts).sigmoid().unflatten(0, (len(state), -1))

    def read(self, state: Tensor) -> dict[str, Tensor]:
        """`probability` (member, draw) of label 1, and `shuffled` (member, 1): the steps of the first draw permuted."""
        state = self.cut(state)
        if self.params.variant == "faithful" or self.draws == 1:
            state = state[..., self.sites]
        first = state[..., : self.params.series]
        order = torch.rand(first.shape[:2], generator=torch.Generator().manual_seed(0)).argsort(dim=1)
        shuffled = first.gather(1, order.to(first.device).unsqueeze(-1).expand_as(first))
        return {"probability": self._probability(state), "shuffled": self._probability(shuffled)}


def head(inputs: int) -> nn.Sequential:
    """The dense layers at the end of three of the networks: 64, 64 and 1 units, He-normal, dropout 0.1."""
    widths, layers = (inputs, 64, 64), []
    for a, b in pairwise(widths):
        layers += [he_normal(nn.Linear(a, b)), nn.ReLU(), nn.Dropout(0.1)]
    return nn.Sequential(*layers, he_normal(nn.Linear(64, 1)))


def he_normal(layer: Any) -> Any:
    """Keras' he_normal: a normal distribution cut at two deviations, of variance 2/inputs after the cut; bias 0."""
    truncated(layer.weight, layer.weight[0].numel())
    nn.init.zeros_(layer.bias)
    return layer


def truncated(weight: Tensor, inputs: int) -> None:
    deviation = (2 / inputs) ** 0.5 / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


def glorot(layer: Any) -> Any:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
