"""PixelCNN on a lattice of tokens (A. van den Oord et al., arXiv 1601.06759), as in PRL 122, 080602.

`depth` convolutions of `width` channels with a PReLU between them, each over the tokens above and to the left within
`kernel` columns; the first leaves out the token itself. Only the causal half of a kernel exists. With `residual`, the
inner blocks are x + conv(PReLU(mix x)). One changed token changes one column of each layer: the samplers keep all
others, here in torch on any device, in `kernels` compiled for one CPU thread.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import convolution, kernels, tokens
from .layers import shift, started


class Convolution(nn.Module):
    """(batch, in, rows, columns) -> (batch, out, rows, columns), causal; `weight` (out, in, half + 1, kernel)."""

    def __init__(self, inside: int, outside: int, kernel: int, bias: bool, exclusive: bool):
        super().__init__()
        self.reach = kernel // 2
        mask = torch.ones(outside, inside, self.reach + 1, kernel)
        mask[:, :, -1, self.reach + (not exclusive) :] = 0
        self.register_buffer("mask", mask, persistent=False)
        self.weight = started(tuple(mask.shape), mask, inside * kernel**2)
        self.bias = shift((outside,), inside * kernel**2, bias)

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        h = self.reach
        return functional.conv2d(functional.pad(x, (h, h, h, 0)), self.weight * self.mask, self.bias)

    def at(self, window: Tensor) -> Tensor:
        """(batch, out) at one site from its window (batch, in, half + 1, kernel)."""
        return functional.linear(window.flatten(1), (self.weight * self.mask).flatten(1), self.bias)


class PixelCNN(nn.Module):
    """Tokens (batch, token, spin) -> logits (batch, token, value)."""

    def __init__(
        self,
        shape: tuple[int, int],
        cells: int,
        *,
        depth: int,
        width: int,
        kernel: int,
        bias: bool = True,
        residual: bool = False,
    ):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}: the width of a PixelCNN's kernel must be odd")
        self.shape, self.cells, self.residual = shape, cells, residual
        self.values = 1 if cells == 1 else 2**cells
        channels = [cells, *[width] * (depth - 1), self.values]
        self.convolutions: Any = nn.ModuleList(
            Convolution(a, b, kernel, bias, exclusive=i == 0) for i, (a, b) in enumerate(pairwise(channels))
        )
        self.slopes = nn.Parameter(torch.full((depth - 1, width), 0.5))
        inner = range(1, depth - 1) if residual else ()
        self.mixes: Any = nn.ModuleDict({str(i): nn.Conv2d(width, width, 1, bias=bias) for i in inner})

    def _active(self, i: int, x: Tensor) -> Tensor:
        """What the convolution i > 0 reads where the layer below has the values x (batch, width, …)."""
        mixed = self.mixes[str(i)](x) if str(i) in self.mixes else x
        return functional.prelu(mixed, self.slopes[i - 1])

    def forward(self, spins: Tensor) -> Tensor:
        if convolution.fits(self.slopes):
            return convolution.forward(self, spins)
        x = self.convolutions[0](spins.transpose(1, 2).unflatten(2, self.shape))
        for i, layer in enumerate(self.convolutions):
            if i:
                y = layer(self._active(i, x))
                x = x + y if str(i) in self.mixes else y
        return x.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (batch, token, spin) and their logits, from uniform numbers (batch, token)."""
        if kernels.suit(self.slopes):
            return kernels.pixelcnn(self, uniform)
        return self._columns(uniform, self.slopes)

    def _columns(self, uniform: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        n, half, (rows, columns) = len(uniform), self.convolutions[0].reach, self.shape
        size = (rows + half, columns + 2 * half)
        kept = [like.new_zeros(n, c.weight.shape[1], *size) for c in self.convolutions]
        found = []
        for t in range(rows * columns):
            y, x = divmod(t, columns)
            value = like.new_zeros(0)
            for i, layer in enumerate(self.convolutions):
                if i:
                    kept[i][:, :, y + half, x + half] = self._active(i, value[..., None, None])[..., 0, 0]
                out = layer.at(kept[i][:, :, y : y + half + 1, x : x + 2 * half + 1])
                value = value + out if str(i) in self.mixes else out
            found.append(value)
            kept[0][:, :, y + half, x + half] = tokens.choose(value, uniform[:, t], self.cells)
        spins = kept[0][:, :, half:, half : half + columns].flatten(2).transpose(1, 2)
        return spins.contiguous(), torch.stack(found, 1)
