"""Random-site Metropolis for Ising spins, one bit a spin: the dynamics of J. Ding et al., SciPost Phys. 13, 057 (2022).

An attempt draws a site with replacement and turns its spin with probability min(1, e^(−ΔE/T)); a sweep is as many
attempts as there are sites. Probabilities are compared with 32-bit words, so they are exact to 2⁻³².
"""

import numpy as np
from numba import njit

from . import chains, lattices
from .philox import HALF, JIT, START, SWEEP, fill

BLOCKS = 256
ZERO, ONE, TWO, THREE, SEVEN, EIGHT = (np.uint64(n) for n in (0, 1, 2, 3, 7, 8))
TOP = np.uint64(63)
CHAIN, SQUARE, TRIANGULAR, HONEYCOMB = (lattices.CODE[n] for n in ("chain", "square", "triangular", "honeycomb"))


def thresholds(temperatures: np.ndarray, degree: int) -> np.ndarray:
    """Acceptance × 2³² (chain, 16) uint64; entry 8·s + n is for a spin s in {0, 1} with n neighbours up."""
    spin, up = np.divmod(np.arange(16), 8)
    change = 2.0 * (2 * spin - 1) * (2 * up - degree)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        boltzmann = np.exp(-change / np.asarray(temperatures, dtype=np.float64)[:, None])
    return np.floor(np.where(change <= 0, 1.0, boltzmann) * 2.0**32).astype(np.uint64)


@njit(inline="always")
def _bit(spins, i):
    return (np.uint64(spins[i >> THREE]) >> (i & SEVEN)) & ONE


@njit(inline="always")
def _surroundings(spins, word, lattice, rows, width):
    """The site that a 32-bit word draws, its spin and its number of neighbours up."""
    count = rows * width
    # ⌊⌊w·N/2³²⌋/width⌋ = ⌊w·rows/2³²⌋: no division.
    row, i = (word * rows) >> HALF, (word * count) >> HALF
    column = i - row * width
    left = i - ONE + (width if column == 0 else ZERO)
    right = i + ONE - (width if column == width - ONE else ZERO)
    up = _bit(spins, left) + _bit(spins, right)
    if lattice != CHAIN:
        above = (count if row == 0 else ZERO) - width
        below = width - (count if row == rows - ONE else ZERO)
        if lattice != HONEYCOMB:
            up += _bit(spins, i + above) + _bit(spins, i + below)
            if lattice == TRIANGULAR:
                up += _bit(spins, right + above) + _bit(spins, left + below)
        else:
            up += _bit(spins, right + above if column & ONE == 0 else left + below)
    return i, _bit(spins, i), up


@njit(**JIT)
def _sweep(spins, threshold, lattice, degree, rows, width, seed, chain, number, draws):
    """One sweep of a chain; returns the change of (magnetisation, energy in J), both over two."""
    count = rows * width
    magnetisation, energy = np.int64(0), np.int64(0)
    blocks = (count + ONE) // TWO
    for first in range(0, blocks, BLOCKS):
        fill(draws, np.uint64(first), number, chain, SWEEP, seed)
        for half in range(2):
            chosen, uniform = draws[half], draws[2 + half]
            for k in range(min(BLOCKS, blocks - first)):
                if half == 1 and count & ONE == 1 and first + k == blocks - 1:
                    break
                i, spin, up = _surroundings(spins, np.uint64(chosen[k]), lattice, rows, width)
                # The borrow of a difference: of a comparison LLVM makes a branch, which is mispredicted.
                accepted = (np.uint64(uniform[k]) - threshold[EIGHT * spin + up]) >> TOP
                spins[i >> THREE] ^= np.uint8(accepted << (i & SEVEN))
                turned = np.int64(accepted) * (2 * np.int64(spin) - 1)
                magnetisation -= turned
                energy += turned * (2 * np.int64(up) - degree)
    return magnetisation, energy


@njit(**JIT)
def randomise(spins, count, seed, chain):
    """Every spin up or down with probability ½; the bits beyond the last site are zero."""
    draws = np.empty((4, 1), np.uint32)
    for byte in range(spins.size):
        if byte % 16 == 0:
            fill(draws, np.uint64(byte // 16), np.uint64(0), chain, START, seed)
        spins[byte] = np.uint8((draws[byte % 16 // 4, 0] >> np.uint32(8 * (byte % 4))) & np.uint32(255))
    if count % 8:
        spins[-1] &= np.uint8((1 << (count % 8)) - 1)


@njit(**JIT)
def totals(spins, count, bonds):
    """Magnetisation and energy in J of one chain."""
    magnetisation, energy = np.int64(0), np.int64(0)
    sites = np.empty(count, np.int8)
    for i in range(count):
        sites[i] = 2 * np.int8(_bit(spins, np.uint64(i))) - 1
        magnetisation += sites[i]
    for k in range(bonds.shape[0]):
        energy -= sites[np.uint32(bonds[k, 0])] * sites[np.uint32(bonds[k, 1])]
    return magnetisation, energy


@njit(**JIT)
def differing(one, two):
    """Number of bits in which two packed states differ."""
    count = np.int64(0)
    for i in range(one.size):
        bits = np.int64(one[i] ^ two[i])
        bits -= (bits >> 1) & 0x55
        bits = (bits & 0x33) + ((bits >> 2) & 0x33)
        count += (bits + (bits >> 4)) & 0x0F
    return count


@njit(**JIT)
def run(
    start, states, observables, threshold, lattice, rows, width, degree, bonds, seed, first, sweeps, thermalisation
):
    """Evolves chains `first`, `first + 1`, … from `start` (chain, byte) and fills `states` (chain, step, byte).

    `observables` (chain, step, 3): energy and magnetisation per site, fraction of spins that differ from the saved
    step before. With one step in `states` but more in `observables`, only the last state is kept.
    """
    count = np.int64(rows * width)
    draws = np.empty((4, BLOCKS), np.uint32)
    for c in range(start.shape[0]):
        spins, chain = start[c].copy(), np.uint64(first + c)
        magnetisation, energy = totals(spins, count, bonds)
        before, done = spins.copy(), 0
        for step in range(observables.shape[1]):
            for s in range(thermalisation + sweeps if step == 0 else sweeps):
                if step == 0 and s == thermalisation:
                    before[:] = spins
                m, e = _sweep(spins, threshold[c], lattice, degree, rows, width, seed, chain, np.uint64(done), draws)
                magnetisation, energy, done = magnetisation + 2 * m, energy + 2 * e, done + 1
            observables[c, step, 0] = energy / count
            observables[c, step, 1] = magnetisation / count
            observables[c, step, 2] = differing(before, spins) / count
            before[:] = spins
            states[c, min(step, states.shape[1] - 1)] = spins


def evolve(
    lattice: str,
    size: int,
    temperatures: np.ndarray,
    seed: np.uint64,
    start: np.ndarray,
    states: np.ndarray,
    observables: np.ndarray,
    *,
    sweeps: int,
    thermalisation: int,
    first: int,
    threads: int | None,
) -> None:
    """Fills `states` and `observables` of chains `first`, …; one per temperature."""
    rows, width = lattices.shape(lattice, size)
    degree, bonds = lattices.DEGREE[lattice], lattices.bonds(lattice, size)
    accept = thresholds(temperatures, degree)
    where = (lattices.CODE[lattice], np.uint64(rows), np.uint64(width), degree, bonds, seed)

    def work(a: int, b: int) -> None:
        part = slice(a, b)
        run(start[part], states[part], observables[part], accept[part], *where, first + a, sweeps, thermalisation)

    chains.over_chains(work, len(temperatures), together=4, threads=threads)
