"""Attention and the GELU of small Transformers on one CPU thread: compiled kernels with their gradients.

At 64 tokens and 8 channels a head, PyTorch's kernels spend their time on copies, tails and calls. These go through the
data once, look at no key that the mask hides, and keep what the gradient needs. float32 only; elsewhere PyTorch's own
are used (see `attention`).
"""

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

OPTIONS = {"cache": True, "error_model": "numpy", "fastmath": True, "nogil": True}
F = np.float32
LOG2E, LN2_HIGH, LN2_LOW = F(1.44269504), F(0.693359375), F(-2.12194440e-4)
LANES, HIDDEN = 16, F(-1e30)
SLOPE, CUBE = F(2 * math.sqrt(2 / math.pi)), F(0.044715)


@numba.njit(inline="always", **OPTIONS)
def _exp(x):
    """exp to 2 units in the last place, by arithmetic that the compiler can vectorise (Cephes' expf)."""
    x = max(min(x, F(88)), F(-87))
    n = np.floor(x * LOG2E + F(0.5))
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = F(1.9875691500e-4) * r + F(1.3981999507e-3)
    p = (p * r + F(8.3334519073e-3)) * r + F(4.1665795894e-2)
    p = (p * r + F(1.6666665459e-1)) * r + F(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(F)
    return (p * r * r + r + F(1)) * power


@numba.njit(**OPTIONS)
def _gelu(x, y, slope):
    """y = x / (1 + exp(-u)), u = sqrt(8/pi) (x + 0.044715 x^3): the tanh GELU, and its derivative."""
    for i in range(x.size):
        a = x[i]
        s = CUBE * a * a
        e = _exp(min(-SLOPE * a * (F(1) + s), F(40)))
        h = F(1) / (F(1) + e)
        y[i] = a * h
        slope[i] = h + a * h * (e * h) * SLOPE * (F(1) + F(3) * s)


@numba.njit(**OPTIONS)
def _columns(qkv, batch, which, head, out):
    """out (channel, block, lane): the queries, keys or values of a head, time innermost, LANES to a block."""
    for t in range(qkv.shape[1]):
        for c in range(qkv.shape[4]):
            out[c, t // LANES, t % LANES] = qkv[batch, t, which, head, c]


@numba.njit(**OPTIONS)
def _scores(qkv, b, h, i, keys, first, w):
    """w (block, lane): the scaled products of query i with the keys from `first` to i; returns the highest."""
    channels, highest = keys.shape[0], HIDDEN
    scale = F(1 / math.sqrt(channels))
    for k in range(first // LANES, i // LANES + 1):
        for j in range(LANES):
            w[k, j] = F(0)
        for c in range(channels):
            q = qkv[b, i, 0, h, c] * scale
            for j in range(LANES):
                w[k, j] += q * keys[c, k, j]
        for j in range(LANES):
            w[k, j] = w[k, j] if first <= k * LANES + j <= i else HIDDEN
        for j in range(LANES):
            highest = max(highest, w[k, j])
    return highest


@numba.njit(**OPTIONS)
def _attend(qkv, window, y, weights):
    """y (batch, time, head, channel) and the attention weights (batch, head, time, block, lane) of qkv."""
    batches, times, _, heads, channels = qkv.shape
    keys, values = np.zeros((2, channels, weights.shape[3], LANES), F)
    w = np.empty(weights.shape[3:], F)
    for b in range(batches):
        for h in range(heads):
            _columns(qkv, b, 1, h, keys)
            _columns(qkv, b, 2, h, values)
            for i in range(times):
                first = max(0, i - window + 1)
                low, high, total = first // LANES, i // LANES + 1, F(0)
                highest = _scores(qkv, b, h, i, keys, first, w)
                for k in range(low, high):
                    for j in range(LANES):
                        w[k, j] = _exp(w[k, j] - highest) if w[k, j] > HIDDEN else F(0)
                    for j in range(LANES):
                        total += w[k, j]
                inverse = F(1) / total
                for k in range(low, high):
                    for j in range(LANES):
                        w[k, j] *= inverse
                        weights[b, h, i, k, j] = w[k, j]
                for c in range(channels):
                    found = F(0)
                    for k in range(low, high):
                        for j in range(LANES):
                            found += w[k, j] * values[c, k, j]
                    y[b, i, h, c] = found


@numba.njit(**OPTIONS)
def _attend_back(qkv, window, y, weights, g, gradient):
    """The gradient of `_attend` with respect to qkv, from that with respect to y."""
    batches, times, _, heads, channels = qkv.shape
    keys, values, by_keys, by_values = np.zeros((4, channels, weights.shape[3], LANES), F)
    d, w = np.empty(LANES, F), np.empty(LANES, F)
    scale = F(1 / math.sqrt(channels))
    for b in range(batches):
        for h in range(heads):
            _columns(qkv, b, 1, h, keys)
            _columns(qkv, b, 2, h, values)
            by_keys[:], by_values[:] = F(0), F(0)
            for i in range(times):
                mean = F(0)
                for c in range(channels):
                    mean += g[b, i, h, c] * y[b, i, h, c]
                    gradient[b, i, 0, h, c] = F(0)
                for k in range(max(0, i - window + 1) // LANES, i // LANES + 1):
                    for j in range(LANES):
                        w[j] = weights[b, h, i, k, j]
                        d[j] = -mean
                    for c in range(channels):
                        slope = g[b, i, h, c]
                        for j in range(LANES):
                            d[j] += slope * values[c, k, j]
                            by_values[c, k, j] += slope * w[j]
                    for j in range(LANES):
                        d[j] *= w[j] * scale
                    for c in range(channels):
                        q, found = qkv[b, i, 0, h, c], F(0)
                        for j in range(LANES):
                            found += d[j] * keys[c, k, j]
                            by_keys[c, k, j] += d[j] * q
                        gradient[b, i, 0, h, c] += found
            for t in range(times):
                for c in range(channels):
                    gradient[b, t, 1, h, c] = by_keys[c, t // LANES, t % LANES]
                    gradient[b, t, 2, h, c] = by_values[c, t // LANES, t % LANES]


class Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        y, slope = torch.empty_like(x), torch.empty_like(x)
        _gelu(x.detach().view(-1).numpy(), y.view(-1).numpy(), slope.view(-1).numpy())
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0]


class Attention(torch.autograd.Function):
    """(batch, time, 3, head, channel) -> (batch, time, head, channel): token t looks at t-window+1 … t."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, window: int) -> Tensor:
        qkv = qkv.contiguous()
        batch, time, _, heads, channels = qkv.shape
        y, weights = qkv.new_empty(batch, time, heads, channels), qkv.new_empty(batch, heads, time, -(-time // LANES), LANES)
        _attend(qkv.detach().numpy(), window, y.numpy(), weights.numpy())
        ctx.save_for_backward(qkv, y, weights)
        ctx.window = window
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        qkv, y, weights = ctx.saved_tensors
        gradient = torch.empty_like(qkv)
        arrays = (a.detach().numpy() for a in (y, weights, g.contiguous(), gradient))
        _attend_back(qkv.detach().numpy(), ctx.window, *arrays)
        return gradient, None
