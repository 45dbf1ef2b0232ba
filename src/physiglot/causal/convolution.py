"""PixelCNN's pass over all sites on one CPU thread, with its gradient: causal convolutions as small products, float32.

A library's convolution computes the masked and the padded part of every window as well; on lattices of a few sites
these are most of it. Values are (block, row, column · channel, sample), as in `kernels`, channels padded to 8.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..lanes import OPTIONS, ROWS, F, multiply
from .kernels import padded, suit, window

BLOCK = 64  # samples whose values stay in the cache from one site to the next


def fits(weight: Tensor) -> bool:
    """Whether these kernels are for `weight`, and gain: with several threads the library's convolution shares work."""
    return suit(weight) and torch.get_num_threads() == 1


@numba.njit(cache=True, **OPTIONS)
def _forward(x, weight, bias, channels, out):
    columns, outside = x.shape[2] // channels, weight.shape[1]
    for k in range(x.shape[0]):
        for y in range(x.shape[1]):
            for c in range(columns):
                window(weight, bias, x[k], y, c, channels, columns, out[k, y, c * outside : (c + 1) * outside])


@numba.njit(cache=True, **OPTIONS)
def _turned(x, out):
    """out (row, sample, column · channel) of x (row, column · channel, sample)."""
    for y in range(x.shape[0]):
        for c in range(x.shape[1]):
            for b in range(x.shape[2]):
                out[y, b, c] = x[y, c, b]


@numba.njit(cache=True, **OPTIONS)
def _backward(x, turned_weight, g, channels, by_x, by_weight):
    """Adds the gradients from g, that by the output; by_x may be empty. Rows of by_weight end in 8 spare columns.

    Products are as wide as whole vectors. What is too much is of sites beyond the window: it meets zeros, or falls
    on spare or masked columns.
    """
    columns, outside, half = x.shape[2] // channels, turned_weight.shape[2], turned_weight.shape[0] - 1
    turned = np.zeros((x.shape[1], x.shape[3], x.shape[2] + ROWS), F)
    for k in range(x.shape[0]):
        _turned(x[k], turned)
        for y in range(x.shape[1]):
            for c in range(columns):
                part = g[k, y, c * outside : (c + 1) * outside]
                low, high = max(0, c - half), min(columns, c + half + 1)
                for row in range(max(0, y - half), y + 1):
                    last, i, first = c + 1 if row == y else high, row - y + half, (low - c + half) * channels
                    n = (last - low) * channels
                    if len(by_x):
                        a = turned_weight[i, first : first + n]
                        multiply(a, part, by_x[k, row, low * channels : last * channels], True)
                    wide = (n + ROWS - 1) // ROWS * ROWS
                    seen = turned[row, :, low * channels : low * channels + wide]
                    multiply(part, seen, by_weight[i, :, first : first + wide], True)


@numba.njit(cache=True, **OPTIONS)
def _prelu(x, slope, out):
    """x (…, channel, sample) as three axes."""
    for k in range(x.shape[0]):
        for c in range(x.shape[1]):
            for b in range(x.shape[2]):
                v = x[k, c, b]
                out[k, c, b] = v if v > 0 else slope[c] * v


@numba.njit(cache=True, **OPTIONS)
def _prelu_back(x, slope, g, by_x, by_slope):
    """by_slope (channel, sample) are sums over the first axis."""
    for k in range(x.shape[0]):
        for c in range(x.shape[1]):
            for b in range(x.shape[2]):
                below = x[k, c, b] <= 0
                by_x[k, c, b] = slope[c] * g[k, c, b] if below else g[k, c, b]
                by_slope[c, b] += x[k, c, b] * g[k, c, b] if below else F(0)


class Convolution(torch.autograd.Function):
    """x (block, row, column · in, sample), weight (half + 1, out, kernel · in), bias (out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, channels: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.channels = channels
        out = x.new_empty(x.shape[0], x.shape[1], x.shape[2] // channels * len(bias), x.shape[3])
        _forward(x.numpy(), weight.detach().numpy(), bias.detach().numpy(), channels, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), g = ctx.saved_tensors, gradients[0].contiguous()
        outside = weight.shape[1]
        by_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else x.new_zeros(0, 1, 1, 1)
        by_weight = weight.new_zeros(*weight.shape[:2], weight.shape[2] + ROWS)
        turned = np.ascontiguousarray(weight.detach().numpy().transpose(0, 2, 1))
        _backward(x.detach().numpy(), turned, g.numpy(), ctx.channels, by_x.numpy(), by_weight.numpy())
        by_bias = g.unflatten(2, (-1, outside)).sum((0, 1, 2, 4))
        return by_x if ctx.needs_input_grad[0] else None, by_weight[..., :-ROWS], by_bias, None


class PReLU(torch.autograd.Function):
    """x (block, row, column · channel, sample) and slopes (channel)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        out, flat = torch.empty_like(x), (-1, len(slope), x.shape[3])
        _prelu(x.view(flat).numpy(), slope.detach().numpy(), out.view(flat).numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (x, slope), g = ctx.saved_tensors, gradients[0].contiguous()
        by_x, by_slope, flat = torch.empty_like(x), x.new_zeros(len(slope), x.shape[3]), (-1, len(slope), x.shape[3])
        arrays = [t.view(flat).detach().numpy() for t in (x, g, by_x)]
        _prelu_back(arrays[0], slope.detach().numpy(), *arrays[1:], by_slope.numpy())
        return by_x, by_slope.sum(1)


def _grown(x: Tensor, *sizes: int) -> Tensor:
    """Zeros behind the last axes, up to these sizes."""
    widths = [w for size, have in zip(reversed(sizes), reversed(x.shape), strict=False) for w in (0, size - have)]
    return functional.pad(x, widths)


def _applied(layer: Any, weight: Tensor, x: Tensor, inside: int) -> Tensor:
    """A layer with weights (out, in, row, column) on x with `inside` channels."""
    outside = padded(len(weight))
    w = _grown(weight.permute(2, 0, 3, 1), outside, weight.shape[3], inside).flatten(2)
    bias = x.new_zeros(outside) if layer.bias is None else _grown(layer.bias, outside)
    return Convolution.apply(x, w.contiguous(), bias, inside)


def forward(net: Any, spins: Tensor) -> Tensor:
    """`PixelCNN.forward`: tokens (batch, token, spin) -> logits (batch, token, value)."""
    (n, count, cells), (rows, _) = spins.shape, net.shape
    blocks = -(-n // BLOCK)
    filled = _grown(spins, blocks * BLOCK, count, cells).view(blocks, BLOCK, rows, -1)
    x, width = filled.permute(0, 2, 3, 1).contiguous(), padded(net.slopes.shape[1])
    for i, convolution in enumerate(net.convolutions):
        weight = convolution.weight * convolution.mask
        if i == 0:
            x = _applied(convolution, weight, x, cells)
            continue
        mix = net.mixes[str(i)] if net.residual and i < len(net.slopes) else None
        mixed = x if mix is None else _applied(mix, mix.weight, x, width)
        y = _applied(convolution, weight, PReLU.apply(mixed, _grown(net.slopes[i - 1], width)), width)
        x = y if mix is None else x + y
    logits = x.view(blocks, count, -1, BLOCK)[:, :, : net.values]
    return logits.permute(0, 3, 1, 2).flatten(0, 1)[:n]
