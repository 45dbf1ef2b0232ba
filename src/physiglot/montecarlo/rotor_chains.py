"""Chains of XY and Heisenberg spins: their start, heat bath and Wolff one by one, and what is measured of them."""

import numpy as np
from numba import njit

from .philox import JIT, START, SWEEP, fill

UNIT = 2.0**-32
FLIPPED = 1e-7


@njit(**JIT)
def _draw(draws, used, number, chain, seed):
    """The next uniform number in (0, 1) of the sweep's stream, and how many have been used."""
    size = draws.size
    if used % size == 0:
        fill(draws, np.uint64(used // 4), number, chain, SWEEP, seed)
    k = used % size
    return (draws[k // draws.shape[1], k % draws.shape[1]] + 0.5) * UNIT, used + 1


@njit(**JIT)
def begin(spins, hot, seed, chain):
    """Fills `spins` (site, n): uniform on the circle or the sphere, or all along the first axis."""
    draws = np.empty((4, 1), np.uint32)
    for i in range(spins.shape[0]):
        fill(draws, np.uint64(i), np.uint64(0), chain, START, seed)
        angle = 2 * np.pi * UNIT * draws[0, 0] * hot
        z = (2 * UNIT * (draws[1, 0] + 0.5) - 1) * hot if spins.shape[1] == 3 else 0.0
        spins[i, 0], spins[i, 1] = np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle)
        if spins.shape[1] == 3:
            spins[i, 2] = z


@njit(**JIT)
def _von_mises(strength, draws, used, number, chain, seed):
    """Cosine and sine of an angle of density e^(strength · cos), by the rejection of D. Best, N. Fisher (1979)."""
    if strength < 1e-8:
        u, used = _draw(draws, used, number, chain, seed)
        return np.cos(2 * np.pi * u), np.sin(2 * np.pi * u), used
    if strength > 1e8:
        # The normal distribution to 1e-8, where the rejection would lose its digits.
        u, used = _draw(draws, used, number, chain, seed)
        v, used = _draw(draws, used, number, chain, seed)
        return 1.0, np.sqrt(-2 * np.log(u) / strength) * np.cos(2 * np.pi * v), used
    tau = 1 + np.sqrt(1 + 4 * strength * strength)
    rho = (tau - np.sqrt(2 * tau)) / (2 * strength)
    r = (1 + rho * rho) / (2 * rho)
    while True:
        u, used = _draw(draws, used, number, chain, seed)
        v, used = _draw(draws, used, number, chain, seed)
        z = np.cos(np.pi * u)
        f = (1 + r * z) / (r + z)
        c = strength * (r - f)
        if c * (2 - c) > v or np.log(c / v) + 1 >= c:
            sign, used = _draw(draws, used, number, chain, seed)
            sine = np.sqrt(max(0.0, 1 - f * f))
            return f, sine if sign < 0.5 else -sine, used


@njit(**JIT)
def heat_bath(spins, order, table, beta, draws, seed, chain, number):
    """One sweep: each spin anew from its distribution in the field h of its neighbours, e^(β s·h)."""
    used, n = 0, spins.shape[1]
    h = np.empty(3)
    for k in range(order.size):
        i = order[k]
        h[:] = 0.0
        for j in table[i]:
            for d in range(n):
                h[d] += spins[j, d]
        if n == 2:
            size = np.sqrt(h[0] * h[0] + h[1] * h[1])
            c, s, used = _von_mises(beta * size, draws, used, number, chain, seed)
            x, y = (h[0] / size, h[1] / size) if size > 1e-12 else (1.0, 0.0)
            spins[i, 0], spins[i, 1] = c * x - s * y, s * x + c * y
            continue
        size = np.sqrt(h[0] * h[0] + h[1] * h[1] + h[2] * h[2])
        u, used = _draw(draws, used, number, chain, seed)
        v, used = _draw(draws, used, number, chain, seed)
        strength = beta * size
        c = 2 * u - 1 if strength < 1e-8 else 1 + np.log(u + (1 - u) * np.exp(-2 * strength)) / strength
        s, angle = np.sqrt(max(0.0, 1 - c * c)), 2 * np.pi * v
        x, y, z = (h[0] / size, h[1] / size, h[2] / size) if size > 1e-12 else (0.0, 0.0, 1.0)
        # Two unit vectors across the field (T. Duff et al., J. Comput. Graph. Tech. 6, 1 (2017)).
        sign = 1.0 if z >= 0 else -1.0
        a = -1 / (sign + z)
        p, q = s * np.cos(angle), s * np.sin(angle)
        spins[i, 0] = c * x + p * (1 + sign * x * x * a) + q * x * y * a
        spins[i, 1] = c * y + p * sign * x * y * a + q * (sign + y * y * a)
        spins[i, 2] = c * z - p * sign * x - q * y


@njit(**JIT)
def wolff(spins, table, beta, stack, inside, draws, seed, chain, number):
    """Reflects one cluster at a random plane (U. Wolff, Phys. Rev. Lett. 62, 361 (1989)); returns its share."""
    n, used = spins.shape[1], 0
    r = np.zeros(3)
    u, used = _draw(draws, used, number, chain, seed)
    v, used = _draw(draws, used, number, chain, seed)
    r[2] = 2 * v - 1 if n == 3 else 0.0
    r[0] = np.sqrt(1 - r[2] * r[2]) * np.cos(2 * np.pi * u)
    r[1] = np.sqrt(1 - r[2] * r[2]) * np.sin(2 * np.pi * u)
    inside[:] = False
    u, used = _draw(draws, used, number, chain, seed)
    stack[0] = np.int64(u * spins.shape[0])
    inside[stack[0]] = True
    waiting, size = 1, 1
    while waiting > 0:
        waiting -= 1
        i, along = stack[waiting], 0.0
        for d in range(n):
            along += spins[i, d] * r[d]
        for d in range(n):
            spins[i, d] -= 2 * along * r[d]
        for j in table[i]:
            if not inside[j]:
                other = 0.0
                for d in range(n):
                    other += spins[j, d] * r[d]
                u, used = _draw(draws, used, number, chain, seed)
                if along * other > 0 and u < 1 - np.exp(-2 * beta * along * other):
                    inside[j], stack[waiting] = True, j
                    waiting, size = waiting + 1, size + 1
    return size / spins.shape[0]


@njit(**JIT)
def normalise(spins):
    """Lengths back to one."""
    for i in range(spins.shape[0]):
        square = 0.0
        for d in range(spins.shape[1]):
            square += spins[i, d] * spins[i, d]
        for d in range(spins.shape[1]):
            spins[i, d] /= np.sqrt(square)


@njit(**JIT)
def measure(spins, before, table, out):
    """Fills `out` (5): energy, |m|, Σ s·s' and (Σ s × s')² to the right-hand neighbours, changes; all per site.

    `table` is of a lattice whose second neighbour is the right-hand one. The cross product is of two components.
    """
    count, n = spins.shape
    energy, bond, cross, changed, m = 0.0, 0.0, 0.0, 0, np.zeros(3)
    for i in range(count):
        right, differs = table[i, 1], False
        for d in range(n):
            m[d] += spins[i, d]
            bond += spins[i, d] * spins[right, d]
            differs |= abs(spins[i, d] - before[i, d]) > FLIPPED
            for j in table[i]:
                energy -= spins[i, d] * spins[j, d] / 2
        cross += spins[i, 0] * spins[right, 1] - spins[i, 1] * spins[right, 0]
        changed += differs
    out[0], out[1] = energy / count, np.sqrt(m[0] * m[0] + m[1] * m[1] + m[2] * m[2]) / count
    out[2], out[3], out[4] = bond / count, cross * cross / count, changed / count


@njit(**JIT)
def run(spins, observables, kept, keep, beta, is_wolff, order, table, seed, chain, sweeps, ahead):
    """Evolves one chain `spins` (site, n) float64; fills `observables` (step, 6) and `kept` (step, site, n)."""
    count, done, share = spins.shape[0], 0, 0.0
    draws, stack = np.empty((4, 128), np.uint32), np.empty(count, np.int64)
    inside, before = np.zeros(count, np.bool_), spins.copy()
    for step in range(observables.shape[0]):
        for s in range(ahead + sweeps if step == 0 else sweeps):
            if step == 0 and s == ahead:
                before[:] = spins
            if is_wolff:
                share = wolff(spins, table, beta, stack, inside, draws, seed, chain, np.uint64(done))
            else:
                heat_bath(spins, order, table, beta, draws, seed, chain, np.uint64(done))
            done += 1
        normalise(spins)
        measure(spins, before, table, observables[step])
        observables[step, 5] = share
        before[:] = spins
        for k in range(keep.size):
            kept[step, k] = spins[keep[k]]
