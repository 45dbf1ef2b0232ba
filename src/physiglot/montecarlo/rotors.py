"""XY and Heisenberg spins as unit vectors, sixteen chains side by side: Metropolis and over-relaxation without angles.

Component d of the spin of site i is a vector of sixteen chains at 16 · (n · i + d), n = 2 or 3. A Metropolis proposal
turns the spin in the plane of two components by an angle 2 arctan t, t uniform in (−w, w): cosine and sine are
(1 − t²)/(1 + t²) and 2t/(1 + t²). Over-relaxation reflects a spin at the field h of its neighbours,
s' = 2 (s·h) h/h² − s, which leaves the energy as it is.
"""

import numpy as np
from numba import njit

from .philox import JIT, fill
from .vectors import (
    aligned_stack,
    chosen,
    entry,
    floor,
    fused,
    largest,
    left,
    like,
    load,
    pointer,
    power,
    rotate,
    store,
    uniform,
)

LANES = 16
ROTORS = np.uint64(5)


@njit(inline="always")
def _next(state):
    """One output of sixteen xoshiro128++ (D. Blackman, S. Vigna, 2021) and their next states."""
    a, b, c, d = state
    out = rotate(a + d, 7) + a
    t = left(b, 9)
    c = c ^ a
    d = d ^ b
    return out, (a ^ d, b ^ c, c ^ t, rotate(d, 11))


@njit(inline="always")
def exponential(x):
    """2^x for x ≤ 0, to a few units of the last place; 2⁻¹²⁶ below −126."""
    x = largest(x, like(x, -126.0))
    whole = floor(x)
    # Taylor series of 2^(f − ½) about the middle of [0, 1).
    y = (x - whole - like(x, 0.5)) * like(x, 0.6931471805599453)
    series = fused(y, like(x, 1 / 720), like(x, 1 / 120))
    series = fused(y, series, like(x, 1 / 24))
    series = fused(y, series, like(x, 1 / 6))
    series = fused(y, series, like(x, 0.5))
    series = fused(y, series, like(x, 1.0))
    series = fused(y, series, like(x, 1.0))
    return series * like(x, 1.4142135623730951) * power(whole)


@njit(inline="always")
def _field(spins, near, first, degree, stride, offset):
    """Sum of one component over the neighbours."""
    h = load(spins, stride * entry(near, first) + offset)
    for n in range(1, degree):
        h = h + load(spins, stride * entry(near, first + n) + offset)
    return h


@njit(**JIT)
def metropolis(spins, order, table, components, axis, rates, widths, seeds):
    """One sweep over `order`, turning in the plane of all components but `axis` (2 for XY).

    `rates` (16) float32: 1/(T ln 2); `widths` (16) float32: w; `seeds` (64) uint32: the generators' states.
    """
    aligned_stack()
    degree, stride = table.shape[1], LANES * components
    x, y = LANES * ((axis + 1) % 3), LANES * ((axis + 2) % 3)
    base, site, near, seed = pointer(spins), pointer(order), pointer(table), pointer(seeds)
    rate, width = load(pointer(rates), 0), load(pointer(widths), 0)
    state = load(seed, 0), load(seed, 16), load(seed, 32), load(seed, 48)
    one, two = like(rate, 1.0), like(rate, 2.0)
    for k in range(order.size):
        first, here = degree * k, stride * entry(site, k)
        hx, hy = _field(base, near, first, degree, stride, x), _field(base, near, first, degree, stride, y)
        r, state = _next(state)
        q, state = _next(state)
        t = (uniform(r) * two - one) * width
        a, b = load(base, here + x), load(base, here + y)
        square = t * t
        inverse = one / (one + square)
        cosine, sine = (one - square) * inverse, two * t * inverse
        c, d = cosine * a - sine * b, sine * a + cosine * b
        # One Newton step towards length one undoes rounding.
        norm = c * c + d * d
        if components == 3:
            rest = load(base, here + LANES * axis)
            norm = norm + rest * rest
        length = fused(like(rate, -0.5), norm, like(rate, 1.5))
        c, d = c * length, d * length
        gain = (c - a) * hx + (d - b) * hy
        accept, draw = exponential(chosen(gain, like(gain, 0.0), gain * rate, like(gain, 0.0))), uniform(q)
        store(base, here + x, chosen(draw, accept, c, a))
        store(base, here + y, chosen(draw, accept, d, b))
    store(seed, 0, state[0])
    store(seed, 16, state[1])
    store(seed, 32, state[2])
    store(seed, 48, state[3])


@njit(**JIT)
def over_relaxation(spins, order, table, components):
    """One sweep of reflections over `order`; float32 or float64. A site without a field stays."""
    aligned_stack()
    degree, stride, lanes = table.shape[1], LANES * components, 64 // spins.itemsize
    base, site, near = pointer(spins), pointer(order), pointer(table)
    for k in range(order.size):
        first, here = degree * k, stride * entry(site, k)
        for part in range(0, LANES, lanes):
            x, y, z = part, part + LANES, part + 2 * LANES
            a, b = load(base, here + x), load(base, here + y)
            hx, hy = _field(base, near, first, degree, stride, x), _field(base, near, first, degree, stride, y)
            dot, square = a * hx + b * hy, hx * hx + hy * hy
            c, hz = a, hx
            if components == 3:
                c, hz = load(base, here + z), _field(base, near, first, degree, stride, z)
                dot, square = dot + c * hz, square + hz * hz
            small = like(square, 1e-30)
            factor = chosen(small, square, (dot + dot) / square, like(square, 0.0))
            # Turned to 2 s·h h/h² − s, or left alone: −1 · −s.
            sign = chosen(small, square, like(square, 1.0), like(square, -1.0))
            store(base, here + x, factor * hx - sign * a)
            store(base, here + y, factor * hy - sign * b)
            if components == 3:
                store(base, here + z, factor * hz - sign * c)


@njit(**JIT)
def seeded(seeds, seed, group, number):
    """Fills the states (64) of sixteen xoshiro128++ for one sweep of a group."""
    draws = np.empty((4, 16), np.uint32)
    fill(draws, np.uint64(0), number, group, ROTORS, seed)
    seeds[:] = draws.reshape(-1)
