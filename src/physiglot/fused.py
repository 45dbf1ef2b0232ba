"""Attention and the tanh GELU of small Transformers on one CPU thread, with their gradients, as compiled kernels.

At 64 tokens and 8 channels a head PyTorch spends most of a training step on tails, copies and a slow tanh. Here LANES
heads go side by side, one in each lane of the vectors; what the mask hides is never computed. float32 only; elsewhere
PyTorch's own are used (see `attention`).
"""

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

F = np.float32
LANES = 64
OPTIONS = {"error_model": "numpy", "fastmath": True, "nogil": True}
LOG2E, LN2_HIGH, LN2_LOW = F(1.44269504), F(0.693359375), F(-2.12194440e-4)
SLOPE, CUBE = F(2 * math.sqrt(2 / math.pi)), F(0.044715)


@numba.njit(inline="always", cache=True, **OPTIONS)
def _exp(x):
    """exp to 2 units in the last place for |x| <= 87, by arithmetic that the compiler turns into vectors (Cephes)."""
    n = np.floor(x * LOG2E + F(0.5))
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = F(1.9875691500e-4) * r + F(1.3981999507e-3)
    p = (p * r + F(8.3334519073e-3)) * r + F(4.1665795894e-2)
    p = (p * r + F(1.6666665459e-1)) * r + F(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(F)
    return (p * r * r + r + F(1)) * power


@numba.njit(cache=True, **OPTIONS)
def _gelu(x, y, slope):
    """y = x / (1 + exp(-u)) with u = sqrt(8/pi) (x + 0.044715 x^3), which is the tanh GELU, and its derivative."""
    for i in range(x.size):
        a = x[i]
        s = CUBE * a * a
        e = _exp(min(max(-SLOPE * a * (F(1) + s), F(-40)), F(40)))
        h = F(1) / (F(1) + e)
        y[i] = a * h
        slope[i] = h + a * h * (e * h) * SLOPE * (F(1) + F(3) * s)


@numba.njit(cache=True, **OPTIONS)
def _highest(scores, out):
    for i in range(LANES):
        out[i] = max(out[i], scores[i])


@numba.njit(cache=True, **OPTIONS)
def _exponential(scores, highest):
    """scores = exp(scores - highest), lane by lane; in place, for the compiler must not fear that they overlap."""
    for i in range(LANES):
        scores[i] = _exp(max(scores[i] - highest[i], F(-87)))


@numba.njit(cache=True, **OPTIONS)
def _plus(x, out):
    for i in range(LANES):
        out[i] += x[i]


@numba.njit(cache=True, **OPTIONS)
def _times(x, out):
    for i in range(LANES):
        out[i] *= x[i]


@numba.njit(cache=True, **OPTIONS)
def _slope(d, mean, weights):
    for i in range(LANES):
        d[i] = (d[i] - mean[i]) * weights[i]


@numba.njit(cache=True, **OPTIONS)
def _products(each, x, y, out):
    """out = sum over channels of x y, lane by lane."""
    channels = len(each)
    for i in range(LANES):
        found = F(0)
        for c in range(channels):
            found += x[c * LANES + i] * y[c * LANES + i]
        out[i] = found


@numba.njit(cache=True, **OPTIONS)
def _add(each, a, x, out):
    """out += a x, lane by lane for all channels."""
    channels = len(each)
    for i in range(LANES):
        for c in range(channels):
            out[c * LANES + i] += a[i] * x[c * LANES + i]


@numba.njit(cache=True, **OPTIONS)
def _load(each, values, first, out):
    """(batch, time, part, head, channel) -> (part, (time, channel, lane)), LANES heads from the `first`."""
    channels = len(each)
    size = channels * LANES
    batch, times, parts, heads, _ = values.shape
    for t in range(times):
        for i in range(min(LANES, batch * heads - first)):
            b, h = divmod(first + i, heads)
            for n in range(parts):
                token = out[n, t * size : (t + 1) * size]
                for c in range(channels):
                    token[c * LANES + i] = values[b, t, n, h, c]


@numba.njit(cache=True, **OPTIONS)
def _store(each, values, first, out):
    """The inverse of `load`."""
    channels = len(each)
    size = channels * LANES
    batch, times, parts, heads, _ = out.shape
    for t in range(times):
        for i in range(min(LANES, batch * heads - first)):
            b, h = divmod(first + i, heads)
            for n in range(parts):
                token = values[n, t * size : (t + 1) * size]
                for c in range(channels):
                    out[b, t, n, h, c] = token[c * LANES + i]


@numba.njit(cache=True, **OPTIONS)
def _attend(each, qkv, window, x, y, norms):
    """y (batch, time, 1, head, channel); x: qkv in lanes; norms: highest scores and inverse sums (both in lanes)."""
    size, times = len(each) * LANES, qkv.shape[1]
    found, w = np.empty(times * size, F), np.empty((times, LANES), F)
    for block in range(len(x)):
        queries, keys, values = x[block, 0], x[block, 1], x[block, 2]
        _load(each, qkv, block * LANES, x[block])
        for i in range(times * size):
            queries[i] *= F(1 / math.sqrt(len(each)))
        found[:] = F(0)
        for t in range(times):
            here, end, first = t * size, (t + 1) * size, max(0, t - window + 1)
            highest, total = norms[block, t, 0], norms[block, t, 1]
            highest[:], total[:] = F(-1e30), F(0)
            for s in range(first, t + 1):
                _products(each, queries[here:end], keys[s * size : (s + 1) * size], w[s])
                _highest(w[s], highest)
            for s in range(first, t + 1):
                _exponential(w[s], highest)
                _plus(w[s], total)
            for i in range(LANES):
                total[i] = F(1) / total[i]
            for s in range(first, t + 1):
                _times(total, w[s])
                _add(each, w[s], values[s * size : (s + 1) * size], found[here:end])
        _store(each, found.reshape(1, -1), block * LANES, y)


@numba.njit(cache=True, **OPTIONS)
def _attend_back(each, window, x, y, norms, g, gradient):
    """The gradient with respect to qkv from g, that with respect to y; the weights are computed again."""
    size, times = len(each) * LANES, y.shape[1]
    slopes, found, by = np.empty((3, times * size), F), np.zeros((1, times * size), F), np.zeros((1, times * size), F)
    mean, d, w = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    for block in range(len(x)):
        queries, keys, values = x[block, 0], x[block, 1], x[block, 2]
        by_queries, by_keys, by_values = slopes[0], slopes[1], slopes[2]
        _load(each, y, block * LANES, found)
        _load(each, g, block * LANES, by)
        slopes[:] = F(0)
        for t in range(times):
            here, end = t * size, (t + 1) * size
            q, dq, dy = queries[here:end], by_queries[here:end], by[0, here:end]
            _products(each, found[0, here:end], dy, mean)
            for s in range(max(0, t - window + 1), t + 1):
                k, v = keys[s * size : (s + 1) * size], values[s * size : (s + 1) * size]
                _products(each, q, k, w)
                _exponential(w, norms[block, t, 0])
                _times(norms[block, t, 1], w)
                _products(each, dy, v, d)
                _slope(d, mean, w)
                _add(each, d, k, dq)
                _add(each, d, q, by_keys[s * size : (s + 1) * size])
                _add(each, w, dy, by_values[s * size : (s + 1) * size])
        for i in range(times * size):
            by_queries[i] *= F(1 / math.sqrt(len(each)))
        _store(each, slopes, block * LANES, gradient)


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
    """(batch, time, 3, head, channel) -> (batch, time, 1, head, channel): token t looks at t-window+1 … t."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, window: int) -> Tensor:
        qkv = qkv.detach().contiguous()
        batch, time, _, heads, channels = qkv.shape
        blocks = -(-batch * heads // LANES)
        y = qkv.new_empty(batch, time, 1, heads, channels)
        x, norms = qkv.new_zeros(blocks, 3, time * channels * LANES), qkv.new_empty(blocks, time, 2, LANES)
        _attend((0,) * channels, qkv.numpy(), window, x.numpy(), y.numpy(), norms.numpy())
        ctx.save_for_backward(x, y, norms)
        ctx.window = window
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        x, y, norms = (a.detach() for a in ctx.saved_tensors)
        gradient = y.new_empty(*y.shape[:2], 3, *y.shape[3:])
        arrays = (a.numpy() for a in (x, y, norms, g.contiguous(), gradient))
        _attend_back((0,) * y.shape[-1], ctx.window, *arrays)
        return gradient, None
