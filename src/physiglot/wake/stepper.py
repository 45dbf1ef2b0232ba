"""Time steps of the wake on a CPU: numba kernels, one member after another so that its fields stay in the cache.

A step goes up the rows once for advection, the right-hand side and the elimination of ω, and down once for its
substitution; no-slip then fixes the wall vorticity, and a second pair of sweeps gives φ.
The transforms in θ are products with small matrices: over a quarter of the circle, as a field is split into parts that
are even or odd under both mirrors. Fields that are symmetric at first stay so exactly.
"""

import numpy as np
from numba import njit

from . import scheme

ROWS = 8  # rows of ξ transformed together
JIT = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}}


class Flow:
    """Flows of viscosities `nu` from an impulsive start: `vorticity` and `stream` (member, row, parity, column)."""

    def __init__(self, grid: scheme.Grid, nu: np.ndarray, step: float):
        self.grid, self.nu, self.step = grid, np.asarray(nu, float), step
        shape = (len(self.nu), grid.radial, 2, 2 * grid.half)
        self.vorticity, self.stream, self.past = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.weights = scheme.slope_weights(grid)
        diagonals = [scheme.vorticity_diagonal(grid, nu, step) for nu in self.nu]
        self.pivots = np.stack([scheme.pivots(d) for d in diagonals])
        self.responses = np.stack([scheme.influence(grid, d, self.weights) for d in diagonals])
        self.stream_pivots = scheme.pivots(scheme.stream_diagonal(grid))
        self.kick = scheme.kick(grid)

    def advance(self, sources: np.ndarray) -> None:
        """One step for each entry of `sources`, the strength of the kick at the end of that step."""
        grid = self.grid
        wide = [np.empty((2, 2, 4 * ROWS, n)) for n in (grid.half, grid.angles // 4)]
        narrow = [np.empty((2, 2, ROWS, n)) for n in (grid.angles // 4, grid.half)]
        rows = np.empty(self.stream.shape[1:])
        for i in range(len(self.nu)):
            fields = self.vorticity[i], self.stream[i], self.past[i], rows
            systems = self.pivots[i], self.responses[i], self.weights, self.stream_pivots
            constants = grid.m, grid.r, grid.h, self.nu[i], self.step
            _advance(sources, self.kick, fields, systems, constants, grid.bases, grid.free_stream, (*wide, *narrow))


@njit(**JIT)
def _stack(spectral, first, count, vorticity, stream, m, h, sine, free_stream):
    """Modes of ω_θ, ψ_θ, ω_ξ, ψ_ξ of some rows, one quantity after the other; `sine` is the column of sin θ."""
    half, scale = spectral.shape[3], 0.5 / h
    for b in range(count):
        i = first + b
        for q in range(2):
            for k in range(half):
                n = q * half + k
                spectral[0, q, b, k] = m[n] * vorticity[i, 1, n]
                spectral[1, q, b, k] = -m[n] * vorticity[i, 0, n]
                spectral[0, q, ROWS + b, k] = m[n] * stream[i, 1, n]
                spectral[1, q, ROWS + b, k] = -m[n] * stream[i, 0, n]
            for p in range(2):
                for k in range(half):
                    n = q * half + k
                    spectral[p, q, 2 * ROWS + b, k] = scale * (vorticity[i + 1, p, n] - vorticity[i - 1, p, n])
                    spectral[p, q, 3 * ROWS + b, k] = scale * (stream[i + 1, p, n] - stream[i - 1, p, n])
        spectral[0, 1, ROWS + b, sine] += free_stream[0][i]
        spectral[1, 1, 3 * ROWS + b, sine] += free_stream[1][i]


@njit(**JIT)
def _product(even_a, odd_a, even_b, odd_b):
    return even_a * even_b + odd_a * odd_b, even_a * odd_b + odd_a * even_b


@njit(**JIT)
def _jacobian(values, result, count):
    """ψ_θ ω_ξ − ψ_ξ ω_θ at θ and π − θ, from and to parts that are even or odd under both mirrors."""
    for b in range(count):
        w, s, wx, sx = b, ROWS + b, 2 * ROWS + b, 3 * ROWS + b
        ce, co, se, so = values[0, 0], values[0, 1], values[1, 0], values[1, 1]
        for j in range(values.shape[3]):
            here, there = ce[s, j] + co[s, j], ce[s, j] - co[s, j]
            odd_here, odd_there = so[s, j] + se[s, j], so[s, j] - se[s, j]
            a, a_odd = _product(here, odd_here, ce[wx, j] + co[wx, j], so[wx, j] + se[wx, j])
            b_, b_odd = _product(ce[sx, j] + co[sx, j], so[sx, j] + se[sx, j], ce[w, j] + co[w, j], so[w, j] + se[w, j])
            c, c_odd = _product(there, odd_there, ce[wx, j] - co[wx, j], so[wx, j] - se[wx, j])
            d, d_odd = _product(ce[sx, j] - co[sx, j], so[sx, j] - se[sx, j], ce[w, j] - co[w, j], so[w, j] - se[w, j])
            first, second, first_odd, second_odd = a - b_, c - d, a_odd - b_odd, c_odd - d_odd
            result[0, 0, b, j], result[0, 1, b, j] = first + second, first - second
            result[1, 1, b, j], result[1, 0, b, j] = first_odd + second_odd, first_odd - second_odd


@njit(**JIT)
def _eliminate(i, advection, b, source, kick, vorticity, past, rows, pivots, radius, h, nu, step):
    """Row `i` of the right-hand side, eliminated; `past` becomes r²(−ω/2dt) + advection of this step."""
    half, scale, r2 = advection.shape[3], h * h / nu, radius * radius
    for p in range(2):
        for q in range(2):
            for k in range(half):
                n = q * half + k
                old = r2 * vorticity[i, p, n] / step
                new = 2.0 * old - 2.0 * advection[p, q, b, k] + past[i, p, n]
                past[i, p, n] = advection[p, q, b, k] - 0.5 * old
                rows[i, p, n] = pivots[i, n] * (scale * new + rows[i - 1, p, n])
        if source != 0.0:
            for n in range(2 * half):
                rows[i, p, n] += pivots[i, n] * scale * r2 * source * kick[i, p, n]


@njit(**JIT)
def _wall(vorticity, past, rows, pivots, h, nu, step):
    """The row of the wall, where nothing is carried along: half a cell of the mean vorticity."""
    for p in range(2):
        for n in range(rows.shape[2]):
            old = vorticity[0, p, n] / step
            rows[0, p, n] = pivots[0, n] * 0.5 * h * h / nu * (2.0 * old + past[0, p, n])
            past[0, p, n] = -0.5 * old


@njit(**JIT)
def _substitute(vorticity, rows, pivots, weights, slope, sine):
    """ω with no vorticity at the wall, and `slope` (parity, column): the slope ψ_ξ at the wall that it leaves."""
    last = len(rows) - 1
    slope[:] = 0.0
    slope[1, sine] = 2.0
    vorticity[last] = 0.0
    for i in range(last - 1, -1, -1):
        for p in range(2):
            for n in range(rows.shape[2]):
                value = rows[i, p, n] + pivots[i, n] * vorticity[i + 1, p, n]
                vorticity[i, p, n] = value
                slope[p, n] += weights[i, n] * value


@njit(**JIT)
def _stream(vorticity, stream, rows, slope, responses, pivots, m, r, h):
    """Adds the wall vorticity that stops the slip, and solves for φ; its mean follows from the wall by summation."""
    last = len(rows) - 1
    for p in range(2):
        for n in range(rows.shape[2]):
            vorticity[0, p, n] += slope[p, n] * responses[0, n]
            rows[0, p, n] = 0.0
    for i in range(1, last):
        scale = (r[i] * h) ** 2
        for p in range(2):
            for n in range(rows.shape[2]):
                value = vorticity[i, p, n] + slope[p, n] * responses[i, n]
                vorticity[i, p, n] = value
                rows[i, p, n] = pivots[i, n] * (scale * value + rows[i - 1, p, n])
    stream[last] = 0.0
    for i in range(last - 1, 0, -1):
        for p in range(2):
            for n in range(rows.shape[2]):
                stream[i, p, n] = rows[i, p, n] + pivots[i, n] * stream[i + 1, p, n]
    for n in range(rows.shape[2]):
        decay = np.exp(-m[n] * h)
        for p in range(2):
            stream[last, p, n] = decay * stream[last - 1, p, n]
    stream[1, 0, 0] = -0.5 * h * h * vorticity[0, 0, 0]
    for i in range(1, last):
        stream[i + 1, 0, 0] = 2.0 * stream[i, 0, 0] - stream[i - 1, 0, 0] - (r[i] * h) ** 2 * vorticity[i, 0, 0]


@njit(**JIT)
def _advance(sources, kick, fields, systems, constants, bases, free_stream, memory):
    vorticity, stream, past, rows = fields
    pivots, responses, weights, stream_pivots = systems
    m, r, h, nu, step = constants
    spectral, values, products, advection = memory
    spectral[:] = 0.0
    half, last = spectral.shape[3], len(rows) - 1
    slope = np.empty(rows.shape[1:])
    for t in range(len(sources)):
        _wall(vorticity, past, rows, pivots, h, nu, step)
        for first in range(1, last, ROWS):
            count = min(ROWS, last - first)
            _stack(spectral, first, count, vorticity, stream, m, h, 0, free_stream)
            for p in range(2):
                for q in range(2):
                    np.dot(spectral[p, q], bases[0][p, q], values[p, q])
            _jacobian(values, products, count)
            for p in range(2):
                for q in range(2):
                    np.dot(products[p, q], bases[1][p, q], advection[p, q])
            for b in range(count):
                i = first + b
                _eliminate(i, advection, b, sources[t], kick, vorticity, past, rows, pivots, r[i], h, nu, step)
        _substitute(vorticity, rows, pivots, weights, slope, half)
        _stream(vorticity, stream, rows, slope, responses, stream_pivots, m, r, h)
