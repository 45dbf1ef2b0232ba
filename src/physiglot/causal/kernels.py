"""The samplers of PixelCNN and MADE, compiled, for float32 on a CPU: blocks of samples pass through the whole lattice.

Samples are the last axis of all values, so that the causal window of a token is, row by row, one contiguous matrix
(tokens · channels, sample), and a layer at a token is one small product of matrices for each row (`lanes.multiply`).
Channels are padded with zeros to whole rows of 8.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ..lanes import OPTIONS, ROWS, F, multiply

BLOCK = 32  # samples that go through the lattice together; their window stays in the cache


def suit(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def padded(count: int) -> int:
    return -(-count // ROWS) * ROWS


def _grown(array: np.ndarray, axis: int) -> np.ndarray:
    """Zeros behind `array` along an axis, up to a multiple of 8."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, padded(array.shape[axis]) - array.shape[axis])
    return np.pad(array, widths)


@numba.njit(cache=True, **OPTIONS)
def _prelu(x, slope, out):
    for c in range(x.shape[0]):
        for b in range(x.shape[1]):
            v = x[c, b]
            out[c, b] = v if v > 0 else slope[c] * v


@numba.njit(cache=True, **OPTIONS)
def _choose(logits, values, uniform, spins):
    """The spins (spin, sample) of one token by inversion of its logits (value, sample)."""
    cells, samples = spins.shape
    for b in range(samples):
        if values == 1:
            up = uniform[b] * (1 + np.exp(-np.float64(logits[0, b]))) < 1
            spins[0, b] = F(1) if up else F(-1)
            continue
        highest = logits[:values, b].max()
        total = 0.0
        for v in range(values):
            total += np.exp(np.float64(logits[v, b] - highest))
        chosen, below = 0, np.exp(np.float64(logits[0, b] - highest))
        while chosen < values - 1 and below <= uniform[b] * total:
            chosen += 1
            below += np.exp(np.float64(logits[chosen, b] - highest))
        for j in range(cells):
            spins[j, b] = F(1) if chosen >> j & 1 else F(-1)


@numba.njit(cache=True, **OPTIONS)
def window(weight, bias, kept, y, x, channels, columns, out):
    """out (out, sample) = bias + the causal convolution of kept (row, column · channel, sample) at (y, x)."""
    half = weight.shape[0] - 1
    for c in range(out.shape[0]):
        out[c] = bias[c]
    low, high = max(0, x - half), min(columns, x + half + 1)
    for row in range(max(0, y - half), y + 1):
        last = x + 1 if row == y else high
        a = weight[row - y + half, :, (low - x + half) * channels : (last - x + half) * channels]
        multiply(a, kept[row, low * channels : last * channels], out, True)


@numba.njit(cache=True, **OPTIONS)
def _pixelcnn(first, inner, last, biases, slopes, mixes, shifts, uniform, values, spins, hidden, logits):
    """One block of samples: fills spins (row, column · spin, sample) and logits (token, value, sample)."""
    rows, columns = spins.shape[0], uniform.shape[0] // spins.shape[0]
    cells, samples, layers, width = spins.shape[1] // columns, spins.shape[2], len(hidden), slopes.shape[1]
    value, out = np.zeros((biases.shape[1], samples), F), np.zeros((width, samples), F)
    mixed = np.zeros((width, samples), F)
    for t in range(rows * columns):
        y, x = t // columns, t % columns
        window(first, biases[0], spins, y, x, cells, columns, value[: first.shape[1]])
        for i in range(layers):
            part = hidden[i, y, x * width : (x + 1) * width]
            if len(mixes) and 0 < i + 1 < layers:
                for c in range(width):
                    mixed[c] = shifts[i, c]
                multiply(mixes[i], value[:width], mixed, True)
                _prelu(mixed, slopes[i], part)
            else:
                _prelu(value[:width], slopes[i], part)
            if i < layers - 1:
                window(inner[i], biases[i + 1], hidden[i], y, x, width, columns, out)
                for c in range(width):
                    value[c] = value[c] + out[c] if len(mixes) else out[c]
            else:
                window(last, biases[i + 1], hidden[i], y, x, width, columns, value[: last.shape[1]])
        logits[t] = value[: logits.shape[1]]
        _choose(value, values, uniform[t], spins[y, x * cells : (x + 1) * cells])


@numba.njit(cache=True, **OPTIONS)
def _made(first, inner, last, biases, slopes, uniform, values, spins, hidden, logits):
    """One block of samples: fills spins (token · spin, sample) and logits (token, value, sample)."""
    count, samples = uniform.shape
    cells, layers, width = spins.shape[0] // count, len(hidden), slopes.shape[2]
    value = np.zeros((biases.shape[2], samples), F)
    for t in range(count):
        for c in range(len(value)):
            value[c] = biases[0, t, c]
        multiply(first[t, :, : t * cells], spins[: t * cells], value[: first.shape[1]], True)
        for i in range(layers):
            _prelu(value[:width], slopes[i, t], hidden[i, t * width : (t + 1) * width])
            weight = inner[i, t] if i < layers - 1 else last[t]
            for c in range(len(value)):
                value[c] = biases[i + 1, t, c]
            end = (t + 1) * width
            multiply(weight[:, :end], hidden[i, :end], value[: weight.shape[0]], True)
        logits[t] = value[: logits.shape[1]]
        _choose(value, values, uniform[t], spins[t * cells : (t + 1) * cells])


def _numpy(parameter: Any) -> np.ndarray:
    return parameter.detach().numpy()


def _stacked(arrays: list[np.ndarray], width: int) -> np.ndarray:
    """Arrays with channels last in one, padded to `width` channels."""
    return np.stack([np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, width - a.shape[-1])]) for a in arrays])


def _blocks(uniform: Tensor, cells: int, values: int, rows: int, run: Any) -> tuple[Tensor, Tensor]:
    """Calls `run(uniform (token, sample), spins, logits)` block by block; returns (batch, token, …) of both."""
    n, count = uniform.shape
    block = min(BLOCK, padded(n))
    spins = np.zeros((-(-n // block) * block, count, cells), F)
    logits = np.zeros((len(spins), count, values), F)
    numbers = np.ones((len(spins), count))
    numbers[:n] = uniform.numpy()
    for i in range(0, len(spins), block):
        s, g = np.zeros((rows, count * cells // rows, block), F), np.zeros((count, values, block), F)
        run(np.ascontiguousarray(numbers[i : i + block].T), s, g)
        spins[i : i + block] = s.reshape(count, cells, block).transpose(2, 0, 1)
        logits[i : i + block] = g.transpose(2, 0, 1)
    return torch.from_numpy(spins[:n]), torch.from_numpy(logits[:n])


def _weights(layers: Any, order: tuple[int, ...]) -> list[np.ndarray]:
    """The masked weights of the layers, transposed to (place, out, column, in), the last two axes as one."""
    found = []
    for i, layer in enumerate(layers):
        w = _numpy(layer.weight * layer.mask).transpose(order)
        w = _grown(_grown(w, 3) if i else w, 1)
        found.append(np.ascontiguousarray(w.reshape(*w.shape[:2], -1)))
    return found


def _shared(layers: Any, slopes: Any, order: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """The first, inner and last weights, and the biases and slopes of all layers."""
    weights = _weights(layers, order)
    inner = np.stack(weights[1:-1]) if len(weights) > 2 else np.zeros((0, 1, ROWS, ROWS), F)
    widest = max(w.shape[1] for w in weights)
    none = np.zeros((*slopes.shape[1:-1], 1), F)
    biases = _stacked([none if layer.bias is None else _numpy(layer.bias) for layer in layers], widest)
    return weights[0], inner, weights[-1], biases, _grown(_numpy(slopes), slopes.ndim - 1)


def pixelcnn(net: Any, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """`PixelCNN.draw`, compiled."""
    fixed, (rows, columns) = _shared(net.convolutions, net.slopes, (2, 0, 3, 1)), net.shape
    layers, width = len(net.slopes), fixed[-1].shape[1]
    mixes, shifts = np.zeros((0, width, width), F), np.zeros((0, width), F)
    if net.mixes:
        mixes, shifts = np.zeros((layers, width, width), F), np.zeros((layers, width), F)
    for name, mix in net.mixes.items():
        w, i = _numpy(mix.weight)[:, :, 0, 0], int(name) - 1
        mixes[i, : len(w), : len(w)] = w
        shifts[i, : len(w)] = 0 if mix.bias is None else _numpy(mix.bias)

    def run(numbers, spins, logits):
        hidden = np.zeros((layers, rows, columns * width, numbers.shape[1]), F)
        _pixelcnn(*fixed, mixes, shifts, numbers, net.values, spins, hidden, logits)

    return _blocks(uniform, net.cells, net.values, rows, run)


def made(net: Any, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """`MADE.draw`, compiled."""
    fixed, count = _shared(net.layers, net.slopes, (0, 1, 2, 3)), uniform.shape[1]

    def run(numbers, spins, logits):
        hidden = np.zeros((len(net.slopes), count * fixed[-1].shape[2], numbers.shape[1]), F)
        _made(*fixed, numbers, net.values, spins[0], hidden, logits)

    return _blocks(uniform, net.cells, net.values, 1, run)
