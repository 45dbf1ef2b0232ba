"""Kernels for q colours a site, H = −J Σ δ(c_i, c_j): Metropolis, heat bath, Swendsen–Wang and Wolff.

The Ising model is q = 2 with twice the coupling. `coupling` is J/(k_B T), which may be infinite. A sweep of cluster
dynamics is one Swendsen–Wang update or one Wolff cluster.
"""

import numpy as np
from numba import njit

from .philox import HALF, JIT, MASK, START, SWEEP, fill

RANDOM_SITE, IN_ORDER, HEAT_BATH, SWENDSEN_WANG, WOLFF = range(5)
BONDS, NEW = np.uint64(3), np.uint64(4)
BLOCKS = 256
UNIT = 2.0**-32


@njit(inline="always")
def _below(word, n):
    """A uniform integer below n of a 32-bit word."""
    return np.int64((np.uint64(word) * np.uint64(n)) >> HALF)


@njit(inline="always")
def _metropolis(colours, row, i, q, decay, proposal, uniform):
    old = colours[i]
    new = (old + 1 + _below(proposal, q - 1)) % q
    lost = np.int64(0)
    for j in row:
        lost += np.int64(colours[j] == old) - np.int64(colours[j] == new)
    if lost <= 0 or uniform * UNIT < decay[lost]:
        colours[i] = np.uint8(new)


@njit(inline="always")
def _heat_bath(colours, row, i, q, decay, uniform, near):
    near[:q] = 0
    for j in row:
        near[colours[j]] += 1
    most = near[:q].max()
    total = 0.0
    for c in range(q):
        total += decay[most - near[c]]
    left, c = uniform * UNIT * total, 0
    left -= decay[most - near[0]]
    while left >= 0 and c < q - 1:
        c += 1
        left -= decay[most - near[c]]
    colours[i] = np.uint8(c)


@njit(**JIT)
def local(colours, order, table, q, decay, kind, seed, chain, number):
    """One sweep of single-site updates; `decay` (7) is e^(−coupling · n), `table` (site, degree) the neighbours."""
    draws, near = np.empty((4, BLOCKS), np.uint32), np.zeros(256, np.int64)
    for first in range(0, order.size, BLOCKS):
        fill(draws, np.uint64(first), number, chain, SWEEP, seed)
        for k in range(min(BLOCKS, order.size - first)):
            i = _below(draws[0, k], order.size) if kind == RANDOM_SITE else np.int64(order[first + k])
            if kind == HEAT_BATH:
                _heat_bath(colours, table[i], i, q, decay, draws[2, k], near)
            else:
                _metropolis(colours, table[i], i, q, decay, draws[1, k], draws[2, k])


@njit(inline="always")
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(**JIT)
def swendsen_wang(colours, bonds, q, open_, seed, chain, number):
    """One update; bonds between equals are open with probability `open_`. Returns Σ |cluster|² / N²."""
    count, draws = colours.size, np.empty((4, BLOCKS), np.uint32)
    flat = draws.reshape(-1)
    parent, size = np.arange(count), np.zeros(count)
    for first in range(0, bonds.shape[0], flat.size):
        fill(draws, np.uint64(first // 4), number, chain, BONDS, seed)
        for k in range(min(flat.size, bonds.shape[0] - first)):
            i, j = bonds[first + k]
            if colours[i] == colours[j] and flat[k] * UNIT < open_:
                i, j = _root(parent, i), _root(parent, j)
                parent[max(i, j)] = min(i, j)
    total = 0.0
    for first in range(0, count, flat.size):
        fill(draws, np.uint64(first // 4), number, chain, NEW, seed)
        for k in range(min(flat.size, count - first)):
            # A root has the smallest index of its cluster, so it has its new colour before the others ask for it.
            i = _root(parent, first + k)
            colours[first + k] = np.uint8(_below(flat[k], q)) if i == first + k else colours[i]
            size[i] += 1
    for i in range(count):
        total += size[i] * size[i]
    return total / count / count


@njit(**JIT)
def wolff(colours, table, q, open_, stack, seed, chain, number):
    """Turns one cluster to another colour; returns its share of the sites."""
    draws = np.empty((4, BLOCKS), np.uint32)
    flat, used = draws.reshape(-1), 2
    fill(draws, np.uint64(0), number, chain, SWEEP, seed)
    first = _below(flat[0], colours.size)
    old = colours[first]
    new = np.uint8((old + 1 + _below(flat[1], q - 1)) % q)
    colours[first], stack[0] = new, first
    waiting, size = 1, 1
    while waiting > 0:
        waiting -= 1
        for j in table[stack[waiting]]:
            if colours[j] == old:
                if used % flat.size == 0:
                    fill(draws, np.uint64(used // 4), number, chain, SWEEP, seed)
                if flat[used % flat.size] * UNIT < open_:
                    colours[j], stack[waiting] = new, j
                    waiting, size = waiting + 1, size + 1
                used += 1
    return size / colours.size


@njit(**JIT)
def _measure(colours, before, bonds, q, out):
    """Fills `out` (4), per site: bonds between equals, sites of colour q − 1, of the most frequent colour, changes."""
    equal, changed, near = np.int64(0), np.int64(0), np.zeros(256, np.int64)
    for i, j in bonds:
        equal += np.int64(colours[i] == colours[j])
    for i in range(colours.size):
        near[colours[i]] += 1
        changed += np.int64(colours[i] != before[i])
    out[0], out[1] = equal / colours.size, near[q - 1] / colours.size
    out[2], out[3] = near.max() / colours.size, changed / colours.size


@njit(**JIT)
def randomise(colours, q, seed, chain):
    draws = np.empty((4, BLOCKS), np.uint32)
    flat = draws.reshape(-1)
    for i in range(colours.size):
        if i % flat.size == 0:
            fill(draws, np.uint64(i // 4), np.uint64(0), chain, START, seed)
        colours[i] = np.uint8(_below(np.uint64(flat[i % flat.size]) & MASK, q))


@njit(**JIT)
def run(start, states, observables, couplings, kind, q, order, table, bonds, seed, first, sweeps, ahead, keep):
    """Evolves chains `first`, … from `start` (chain, site) and fills `states` (chain, step, site kept).

    `observables` (chain, step, 5): what `_measure` gives and, for clusters, the share of the last one (Wolff) or the
    mean share of a site's cluster (Swendsen–Wang). `ahead` sweeps come before the first step.
    """
    stack, decay = np.empty(start.shape[1], np.int64), np.ones(7)
    for c in range(start.shape[0]):
        colours, chain, done, share = start[c].copy(), np.uint64(first + c), 0, 0.0
        before, open_ = colours.copy(), 1 - np.exp(-couplings[c])
        for n in range(1, 7):
            decay[n] = np.exp(-couplings[c] * n)
        for step in range(observables.shape[1]):
            for s in range(ahead + sweeps if step == 0 else sweeps):
                if step == 0 and s == ahead:
                    before[:] = colours
                number = np.uint64(done)
                if kind == SWENDSEN_WANG:
                    share = swendsen_wang(colours, bonds, q, open_, seed, chain, number)
                elif kind == WOLFF:
                    share = wolff(colours, table, q, open_, stack, seed, chain, number)
                else:
                    local(colours, order, table, q, decay, kind, seed, chain, number)
                done += 1
            _measure(colours, before, bonds, q, observables[c, step])
            observables[c, step, 4] = share
            before[:] = colours
            for k in range(keep.size):
                states[c, min(step, states.shape[1] - 1), k] = colours[keep[k]]
