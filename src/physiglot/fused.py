"""A block of a small Transformer on one CPU thread, with its gradient, as compiled kernels: float32, pre-LayerNorm.

PyTorch goes over the memory once for every operation, and its matrix products are far from the machine's peak at 32
channels. Here one sequence after the other passes through the whole block while it stays in the cache. Tokens are
padded to whole vectors. Elsewhere PyTorch's own operations are used (see `attention`).
"""

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from .lanes import LANES, OPTIONS, F, exp, load, maximum, multiply, spread, store, total, within

SLOPE, CUBE, LOW = F(2 * math.sqrt(2 / math.pi)), F(0.044715), F(-1e30)
ONE, ZERO = F(1), F(0)


# --- GELU ---------------------------------------------------------------------------------------


@numba.njit(cache=True, **OPTIONS)
def _gelu(x, y, slope):
    """y = x / (1 + exp(-u)) with u = sqrt(8/pi) (x + 0.044715 x^3), which is the tanh GELU, and its derivative."""
    for t in range(x.shape[0]):
        for j in range(0, x.shape[1], LANES):
            a = load(x, t, j)
            s = a * a * CUBE
            u = a * (s + ONE) * -SLOPE
            e = exp(maximum(spread(F(-40)), ZERO - maximum(ZERO - u, spread(F(-40)))))
            h = ONE / (e + ONE)
            store(a * h, y, t, j)
            store(h + a * h * (e * h) * SLOPE * (s * F(3) + ONE), slope, t, j)


# --- LayerNorm ----------------------------------------------------------------------------------


@numba.njit(cache=True, **OPTIONS)
def _normalise(x, epsilon, unit, inverse):
    """unit = (x - mean) inverse, with the mean and the deviation 1/inverse of each token."""
    tokens, width = x.shape
    for t in range(tokens):
        a = spread(ZERO)
        for j in range(0, width, LANES):
            a = a + load(x, t, j)
        mean, a = total(a) / F(width), spread(ZERO)
        for j in range(0, width, LANES):
            d = load(x, t, j) - mean
            a = a + d * d
        inverse[t] = ONE / np.sqrt(total(a) / F(width) + F(epsilon))
        for j in range(0, width, LANES):
            store((load(x, t, j) - mean) * inverse[t], unit, t, j)


@numba.njit(cache=True, **OPTIONS)
def _scale(unit, scale, shift, out):
    for t in range(unit.shape[0]):
        for j in range(0, unit.shape[1], LANES):
            store(load(unit, t, j) * load(scale, 0, j) + load(shift, 0, j), out, t, j)


@numba.njit(cache=True, **OPTIONS)
def _normalise_back(g, unit, inverse, scale, by_scale, by_shift, by_x):
    """by_x += the gradient with respect to x from g, that with respect to unit · scale + shift."""
    tokens, width = g.shape
    for t in range(tokens):
        mean, along = spread(ZERO), spread(ZERO)
        for j in range(0, width, LANES):
            d, u = load(g, t, j), load(unit, t, j)
            store(load(by_scale, 0, j) + d * u, by_scale, 0, j)
            store(load(by_shift, 0, j) + d, by_shift, 0, j)
            d = d * load(scale, 0, j)
            mean, along = mean + d, along + d * u
        m, a = total(mean) / F(width), total(along) / F(width)
        for j in range(0, width, LANES):
            d = load(g, t, j) * load(scale, 0, j) - m - load(unit, t, j) * a
            store(load(by_x, t, j) + d * inverse[t], by_x, t, j)


# --- linear maps --------------------------------------------------------------------------------


@numba.njit(cache=True, **OPTIONS)
def _linear(x, transposed, bias, out, add):
    """out = x weight^T + bias, or out += that."""
    for t in range(out.shape[0]):
        for j in range(0, out.shape[1], LANES):
            store(load(out, t, j) + load(bias, 0, j) if add else load(bias, 0, j), out, t, j)
    multiply(x, transposed, out, True)


@numba.njit(cache=True, **OPTIONS)
def _linear_back(g, x, weight, by_weight, by_bias, by_x):
    """by_x = g weight; the gradients of weight and bias are added to."""
    multiply(g.T, x, by_weight, True)
    for j in range(0, g.shape[1], LANES):
        a = load(by_bias, 0, j)
        for t in range(g.shape[0]):
            a = a + load(g, t, j)
        store(a, by_bias, 0, j)
    multiply(g, weight, by_x, False)


# --- attention: keys in rows, LANES queries in the lanes ----------------------------------------


@numba.njit(cache=True, **OPTIONS)
def _transpose(x, factor, out):
    for t in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[c, t] = x[t, c] * factor


@numba.njit(cache=True, **OPTIONS)
def _mask(scores, s, lag, window):
    x = load(scores, s, 0)
    return within(x, lag, window, LOW) if lag < 0 or lag + LANES > window else x


@numba.njit(cache=True, **OPTIONS)
def _softmax(scores, ahead, window, norms, i):
    """Weights that still lack the factor norms[1] = 1 / their sum; norms[0] is the highest score."""
    highest, sums = spread(LOW), spread(ZERO)
    for s in range(scores.shape[0]):
        x = _mask(scores, s, ahead - s, window)
        store(x, scores, s, 0)
        highest = maximum(highest, x)
    for s in range(scores.shape[0]):
        w = exp(load(scores, s, 0) - highest)
        store(w, scores, s, 0)
        sums = sums + w
    store(highest, norms, 0, i)
    store(ONE / sums, norms, 1, i)


@numba.njit(cache=True, **OPTIONS)
def _softmax_back(scores, d, ahead, window, norms, i, factor):
    """scores -> weights; d, the gradient of the weights -> that of the scores before their `factor`."""
    highest, inverse, mean = load(norms, 0, i), load(norms, 1, i), spread(ZERO)
    for s in range(scores.shape[0]):
        w = exp(_mask(scores, s, ahead - s, window) - highest) * inverse
        store(w, scores, s, 0)
        mean = mean + w * load(d, s, 0)
    for s in range(scores.shape[0]):
        store(load(scores, s, 0) * (load(d, s, 0) - mean) * factor, d, s, 0)


@numba.njit(cache=True, **OPTIONS)
def _attend(qkv, heads, window, norms, y):
    """Token t looks at t-window+1 … t. qkv (token, 3 width) -> y (token, width)."""
    tokens, width = y.shape
    channels = width // heads
    factor = F(1 / math.sqrt(channels))
    queries, scores, found = (
        np.empty((channels, tokens), F),
        np.empty((tokens, LANES), F),
        np.empty((channels, LANES), F),
    )
    for h in range(heads):
        a, b = h * channels, (h + 1) * channels
        keys, values = qkv[:, width + a : width + b], qkv[:, 2 * width + a : 2 * width + b]
        _transpose(qkv[:, a:b], factor, queries)
        for i in range(0, tokens, LANES):
            first, end = max(0, i - window + 1) // 8 * 8, i + LANES
            w = scores[: end - first]
            multiply(keys[first:end], queries[:, i:end], w, False)
            _softmax(w, i - first, window, norms[h], i)
            multiply(values[first:end].T, w, found, False)
            for c in range(channels):
                store(load(found, c, 0) * load(norms[h], 1, i), found, c, 0)
            _transpose(found, ONE, y[i:end, a:b])


@numba.njit(cache=True, **OPTIONS)
def _attend_back(g, qkv, heads, window, norms, gradient):
    """The gradient with respect to qkv from g, that with respect to y."""
    tokens, width = g.shape
    channels = width // heads
    factor = F(1 / math.sqrt(channels))
    queries, by_y = np.empty((channels, tokens), F), np.empty((channels, tokens), F)
    scores, slopes, found = np.empty((tokens, LANES), F), np.empty((tokens, LANES), F), np.empty((channels, LANES), F)
    gradient[:] = ZERO
    for h in range(heads):
        a, b = h * channels, (h + 1) * channels
        q, k, v = qkv[:, a:b], qkv[:, width + a : width + b], qkv[:, 2 * width + a : 2 * width + b]
        by_k, by_v = gradient[:, width + a : width + b], gradient[:, 2 * width + a : 2 * width + b]
        _transpose(q, factor, queries)
        _transpose(g[:, a:b], ONE, by_y)
        for i in range(0, tokens, LANES):
            first, end = max(0, i - window + 1) // 8 * 8, i + LANES
            w, d = scores[: end - first], slopes[: end - first]
            multiply(k[first:end], queries[:, i:end], w, False)
            multiply(v[first:end], by_y[:, i:end], d, False)
            _softmax_back(w, d, i - first, window, norms[h], i, factor)
            multiply(k[first:end].T, d, found, False)
            _transpose(found, ONE, gradient[i:end, a:b])
            multiply(d, q[i:end], by_k[first:end], True)
            multiply(w, g[i:end, a:b], by_v[first:end], True)


# --- the block ----------------------------------------------------------------------------------


@numba.njit(cache=True, **OPTIONS)
def _block(x, weights, heads, window, epsilon, unit1, qkv, y, unit2, h, inverse, norms, out):
    s1, b1, s2, b2, wq, bq, wo, bo, wi, bi, wm, bm = weights
    wq, wo, wi, wm = wq.T.copy(), wo.T.copy(), wi.T.copy(), wm.T.copy()
    times, (tokens, width) = x.shape[1], y.shape[1:]
    r, n = np.zeros((tokens, width), F), np.empty((tokens, width), F)
    active, slope = np.empty((tokens, 4 * width), F), np.empty((tokens, 4 * width), F)
    for b in range(len(x)):
        r[:times] = x[b]
        _normalise(r, epsilon, unit1[b], inverse[b, 0])
        _scale(unit1[b], s1, b1, n)
        _linear(n, wq, bq, qkv[b], False)
        _attend(qkv[b], heads, window, norms[b], y[b])
        _linear(y[b], wo, bo, r, True)
        _normalise(r, epsilon, unit2[b], inverse[b, 1])
        _scale(unit2[b], s2, b2, n)
        _linear(n, wi, bi, h[b], False)
        _gelu(h[b], active, slope)
        _linear(active, wm, bm, r, True)
        out[b] = r[:times]


@numba.njit(cache=True, **OPTIONS)
def _block_back(g, weights, heads, window, unit1, qkv, y, unit2, h, inverse, norms, gradients, out):
    s1, b1, s2, b2, wq, _, wo, _, wi, _, wm, _ = weights
    ds1, db1, ds2, db2, dwq, dbq, dwo, dbo, dwi, dbi, dwm, dbm = gradients
    times, (tokens, width) = g.shape[1], y.shape[1:]
    r, n, d = np.zeros((tokens, width), F), np.empty((tokens, width), F), np.empty((tokens, width), F)
    by_qkv, active = np.empty((tokens, 3 * width), F), np.empty((tokens, 4 * width), F)
    slope, by_h = np.empty((tokens, 4 * width), F), np.empty((tokens, 4 * width), F)
    for b in range(len(g)):
        r[:times] = g[b]
        _gelu(h[b], active, slope)
        _linear_back(r, active, wm, dwm, dbm, by_h)
        for t in range(tokens):
            for j in range(0, 4 * width, LANES):
                store(load(by_h, t, j) * load(slope, t, j), by_h, t, j)
        _scale(unit2[b], s2, b2, n)
        _linear_back(by_h, n, wi, dwi, dbi, d)
        _normalise_back(d, unit2[b], inverse[b, 1], s2, ds2, db2, r)
        _linear_back(r, y[b], wo, dwo, dbo, d)
        _attend_back(d, qkv[b], heads, window, norms[b], by_qkv)
        _scale(unit1[b], s1, b1, n)
        _linear_back(by_qkv, n, wq, dwq, dbq, d)
        _normalise_back(d, unit1[b], inverse[b, 0], s1, ds1, db1, r)
        out[b] = r[:times]


def _arrays(tensors: Any) -> tuple:
    """Matrices for numba; a vector is one row."""
    return tuple(np.atleast_2d(t.detach().numpy()) for t in tensors)


class Block(torch.autograd.Function):
    """x (batch, time, width) through a block whose parameters are given in the order of its modules."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, heads: int, window: int, epsilon: float, *weights: Tensor) -> Tensor:
        batch, times, width = x.shape
        tokens = -(-times // LANES) * LANES
        kept = [np.empty((batch, tokens, n * width), F) for n in (1, 3, 1, 1, 4)]
        kept += [np.empty((batch, 2, tokens), F), np.empty((batch, heads, 2, tokens), F)]
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        arrays = _arrays(weights)
        _block(x.detach().contiguous().numpy(), arrays, heads, window, epsilon, *kept, out.numpy())
        ctx.heads, ctx.window, ctx.kept = heads, window, kept
        ctx.save_for_backward(*weights)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple:
        gradients, out = [torch.zeros_like(w) for w in ctx.saved_tensors], torch.empty(g.shape)
        arrays = _arrays(ctx.saved_tensors), ctx.heads, ctx.window, *ctx.kept, _arrays(gradients), out.numpy()
        _block_back(g.contiguous().numpy(), *arrays)
        return out, None, None, None, *gradients


class Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.detach().contiguous()
        y, slope = torch.empty_like(x), torch.empty_like(x)
        _gelu(*(a.view(-1, LANES).numpy() for a in (x, y, slope)))
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0]
