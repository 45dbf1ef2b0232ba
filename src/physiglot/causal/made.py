"""MADE (M. Germain et al., arXiv 1502.03509) as in D. Wu, L. Wang, P. Zhang, PRL 122, 080602: masked dense layers.

Each token has `width` hidden units in each layer, which see the units of the same and of all earlier tokens; those of
the first layer see earlier tokens only. Depth 1 is a logistic regression on the tokens before.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import kernels, tokens
from .layers import prelu, shift, started


class Dense(nn.Module):
    """(batch, token, in) -> (batch, token, out), causal; `weight` (token, out, token, in)."""

    def __init__(self, count: int, inside: int, outside: int, bias: bool, exclusive: bool):
        super().__init__()
        earlier = torch.ones(count, count).tril(-1 if exclusive else 0)
        mask = earlier[:, None, :, None].expand(count, outside, count, inside).clone()
        self.register_buffer("mask", mask, persistent=False)
        self.weight = started(tuple(mask.shape), mask, count * inside)
        self.bias = shift((count, outside), count * inside, bias)

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        count, outside = self.weight.shape[:2]
        weight = (self.weight * self.mask).flatten(2).flatten(0, 1)
        y = functional.linear(x.flatten(1), weight).unflatten(1, (count, outside))
        return y if self.bias is None else y + self.bias

    def at(self, t: int, x: Tensor) -> Tensor:
        """(batch, out) at token t from the values x (batch, token, in) of which those after t are zero."""
        weight = (self.weight[t] * self.mask[t])[:, : t + 1].flatten(1)
        return functional.linear(x[:, : t + 1].flatten(1), weight, None if self.bias is None else self.bias[t])


class MADE(nn.Module):
    """Tokens (batch, token, spin) -> logits (batch, token, value)."""

    def __init__(self, shape: tuple[int, int], cells: int, *, depth: int, width: int, bias: bool = True):
        super().__init__()
        self.cells, count = cells, shape[0] * shape[1]
        self.values = 1 if cells == 1 else 2**cells
        channels = [cells, *[width] * (depth - 1), self.values]
        self.layers: Any = nn.ModuleList(
            Dense(count, a, b, bias, exclusive=i == 0) for i, (a, b) in enumerate(pairwise(channels))
        )
        self.slopes = nn.Parameter(torch.full((depth - 1, count, width), 0.5))

    def forward(self, spins: Tensor) -> Tensor:
        x = self.layers[0](spins)
        for layer, slope in zip(self.layers[1:], self.slopes, strict=True):
            x = layer(prelu(x, slope))
        return x

    @torch.no_grad()
    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (batch, token, spin) and their logits, from uniform numbers (batch, token)."""
        weight = self.layers[0].weight
        if kernels.suit(weight):
            return kernels.made(self, uniform)
        kept = [weight.new_zeros(*uniform.shape, layer.weight.shape[3]) for layer in self.layers]
        found = []
        for t in range(uniform.shape[1]):
            value = self.layers[0].at(t, kept[0])
            for i, layer in enumerate(self.layers[1:], 1):
                kept[i][:, t] = prelu(value, self.slopes[i - 1, t])
                value = layer.at(t, kept[i])
            found.append(value)
            kept[0][:, t] = tokens.choose(value, uniform[:, t], self.cells)
        return kept[0], torch.stack(found, 1)
