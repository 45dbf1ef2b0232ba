"""Random-site Metropolis for the XY model with a fresh uniform angle as proposal (J. Ding et al., 2022).

An angle is one of 2¹⁶, kept beside its unit vector. The 2¹⁶-state clock differs from the XY model by terms of order
I_n(1/T), n = 2¹⁶: by nothing at any temperature above 10⁻⁸.
"""

import numpy as np
from numba import njit

from .philox import HALF, JIT, MASK, START, SWEEP, fill

BLOCKS = 96
ATTEMPTS = 4 * BLOCKS // 3
ZERO, ONE = np.uint64(0), np.uint64(1)
TURN = 2 * np.pi / 65536
COARSE = np.stack([f(TURN * 256 * np.arange(256)) for f in (np.cos, np.sin)], 1).astype(np.float32)
FINE = np.stack([f(TURN * np.arange(256)) for f in (np.cos, np.sin)], 1).astype(np.float32)
POWERS = 2.0 ** -np.arange(64)
COLDEST = 1e-30


@njit(inline="always")
def unit(angle):
    """Cosine and sine of an angle in units of 2π/2¹⁶, from 256 coarse and 256 fine angles."""
    a, b = (angle >> np.uint64(8)) & np.uint64(255), angle & np.uint64(255)
    return (
        COARSE[a, 0] * FINE[b, 0] - COARSE[a, 1] * FINE[b, 1],
        COARSE[a, 1] * FINE[b, 0] + COARSE[a, 0] * FINE[b, 1],
    )


@njit(inline="always")
def decay(x):
    """2^(−x) for x ≥ 0, to 2·10⁻⁹; below 2⁻⁶² it stays there."""
    x = min(x, 62.0)
    whole = np.int64(x)
    f = 1.0 - (x - whole)
    # The Taylor series of 2^(f − ½) · 2^½ in y = (f − ½) ln 2, |y| < 0.35, and one more half.
    y = (f - 0.5) * 0.6931471805599453
    series = 1.0 + y * (1.0 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y * (1 / 720 + y / 5040))))))
    return 0.7071067811865476 * series * POWERS[whole]


@njit(**JIT)
def sweep(angles, vectors, rate, size, seed, chain, number, draws):
    """One sweep of a chain on the square lattice; `rate` is 1/(T ln 2)."""
    count = size * size
    flat = draws.reshape(-1)
    chosen, uniform, proposed = flat[:ATTEMPTS], flat[ATTEMPTS : 2 * ATTEMPTS], flat[2 * ATTEMPTS :]
    for first in range(0, np.int64(count), ATTEMPTS):
        fill(draws, np.uint64(first // ATTEMPTS * BLOCKS), number, chain, SWEEP, seed)
        for k in range(min(ATTEMPTS, int(count) - first)):
            word = np.uint64(chosen[k])
            row, i = (word * size) >> HALF, (word * count) >> HALF
            column = i - row * size
            left = i - ONE + (size if column == 0 else ZERO)
            right = i + ONE - (size if column == size - ONE else ZERO)
            up = i - size + (count if row == 0 else ZERO)
            down = i + size - (count if row == size - ONE else ZERO)
            hx = vectors[left, 0] + vectors[right, 0] + vectors[up, 0] + vectors[down, 0]
            hy = vectors[left, 1] + vectors[right, 1] + vectors[up, 1] + vectors[down, 1]
            angle = np.uint64(proposed[k]) >> np.uint64(16)
            x, y = unit(angle)
            change = np.float64((vectors[i, 0] - x) * hx + (vectors[i, 1] - y) * hy)
            if change <= 0 or uniform[k] * 2.0**-32 < decay(change * rate):
                angles[i], vectors[i, 0], vectors[i, 1] = np.uint16(angle), x, y


@njit(**JIT)
def begin(angles, vectors, hot, seed, chain):
    """Random angles, or all zero, and their vectors."""
    draws = np.empty((4, 1), np.uint32)
    for i in range(angles.size):
        if i % 8 == 0:
            fill(draws, np.uint64(i // 8), np.uint64(0), chain, START, seed)
        word = np.uint64(draws[i % 8 // 2, 0]) & MASK
        angle = ((word >> np.uint64(16 * (i % 2))) & np.uint64(0xFFFF)) * np.uint64(hot)
        angles[i] = np.uint16(angle)
        vectors[i, 0], vectors[i, 1] = unit(angle)


@njit(**JIT)
def measure(vectors, size, out):
    """Fills `out` (4): energy, |m|, and Σ cos, (Σ sin)² over the bonds along rows; all per site."""
    mx, my, vertical, cosine, sine = 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(size):
        for column in range(size):
            i, right = row * size + column, row * size + (column + 1) % size
            down = (row + 1) % size * size + column
            x, y = np.float64(vectors[i, 0]), np.float64(vectors[i, 1])
            mx, my = mx + x, my + y
            cosine += x * vectors[right, 0] + y * vectors[right, 1]
            sine += x * vectors[right, 1] - y * vectors[right, 0]
            vertical += x * vectors[down, 0] + y * vectors[down, 1]
    count = size * size
    out[0], out[1] = -(cosine + vertical) / count, np.sqrt(mx * mx + my * my) / count
    out[2], out[3] = cosine / count, sine * sine / count


@njit(**JIT)
def run(states, observables, rates, size, hot, seed, first, sweeps, thermalisation, keep):
    """Evolves one chain per rate: `states` (chain, step, site kept) uint16 and `observables` (chain, step, 5).

    The last observable is the fraction of angles that differ from the saved step before; `keep` lists the sites.
    """
    count = size * size
    draws = np.empty((4, BLOCKS), np.uint32)
    angles, vectors = np.empty(count, np.uint16), np.empty((count, 2), np.float32)
    for c in range(rates.size):
        chain, done = np.uint64(first + c), 0
        begin(angles, vectors, hot, seed, chain)
        before = angles.copy()
        for step in range(observables.shape[1]):
            for s in range(thermalisation + sweeps if step == 0 else sweeps):
                if step == 0 and s == thermalisation:
                    before[:] = angles
                sweep(angles, vectors, rates[c], np.uint64(size), seed, chain, np.uint64(done), draws)
                done += 1
            measure(vectors, size, observables[c, step])
            observables[c, step, 4] = np.sum(angles != before) / count
            before[:] = angles
            for k in range(keep.size):
                states[c, step, k] = angles[keep[k]]
