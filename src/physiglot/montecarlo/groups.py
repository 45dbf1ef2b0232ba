"""Groups of 512 multispin chains: their start, their observables by bit-sliced counting, and their packed states."""

import numpy as np
from numba import njit

from . import chains, lattices, multispin
from .multispin import LANES, WORDS
from .philox import JIT
from .vectors import entry, like, load, pointer, store

LEVELS = 32


def interleaved(packed: np.ndarray, count: int) -> np.ndarray:
    """Words of a group (site · 8) from packed states (512, byte)."""
    bits = np.unpackbits(packed, axis=-1, count=count, bitorder="little")
    return np.packbits(np.ascontiguousarray(bits.T), axis=-1, bitorder="little").view(np.uint64).reshape(-1)


@njit(inline="always")
def _flush(counter, a, b, c, d):
    """Adds the four-digit numbers (a, b, c, d), one per chain, to the binary counters (level · 8)."""
    carry = like(a, 0)
    for level, digit in enumerate((a, b, c, d)):
        old = load(counter, 8 * level)
        store(counter, 8 * level, old ^ digit ^ carry)
        carry = (old & digit) | (carry & (old | digit))
    for level in range(4, LEVELS):
        old = load(counter, 8 * level)
        store(counter, 8 * level, old ^ carry)
        carry = carry & old


@njit(**JIT)
def count(one, other, first, second, out):
    """Fills `out` (512): per chain, in how many places k the words one[first[k]] and other[second[k]] differ."""
    counters = np.zeros(LEVELS * WORDS, np.uint64)
    counter, x, y, i, j = pointer(counters), pointer(one), pointer(other), pointer(first), pointer(second)
    zero = like(load(x, 0), 0)
    a = b = c = d = zero
    for k in range(first.size):
        carry = load(x, 8 * entry(i, k)) ^ load(y, 8 * entry(j, k))
        a, carry = a ^ carry, a & carry
        b, carry = b ^ carry, b & carry
        c, carry = c ^ carry, c & carry
        d = d ^ carry
        if k % 15 == 14:
            _flush(counter, a, b, c, d)
            a = b = c = d = zero
    _flush(counter, a, b, c, d)
    out[:] = 0
    for level in range(LEVELS):
        for word in range(WORDS):
            bits = counters[WORDS * level + word]
            if bits != 0:
                for lane in range(64):
                    out[64 * word + lane] += np.int64((bits >> np.uint64(lane)) & np.uint64(1)) << level


@njit(**JIT)
def packed(spins, states, lane):
    """Fills `states` (chain, byte), at most 64 chains from `lane` on (a multiple of 64), from the words of a group.

    Blocks of 64 sites by 64 chains are transposed by halves, quarters, … (H. Warren, Hacker's Delight, §7-3).
    """
    sites, word = spins.size // WORDS, lane // 64
    block = np.empty(64, np.uint64)
    for first in range(0, sites, 64):
        for k in range(64):
            block[k] = spins[WORDS * (first + k) + word] if first + k < sites else np.uint64(0)
        width, mask = 32, np.uint64(0x00000000FFFFFFFF)
        while width != 0:
            k = 0
            while k < 64:
                for r in range(k, k + width):
                    move = ((block[r] >> np.uint64(width)) ^ block[r + width]) & mask
                    block[r] ^= move << np.uint64(width)
                    block[r + width] ^= move
                k += 2 * width
            width >>= 1
            mask ^= mask << np.uint64(max(width, 1)) if width != 0 else np.uint64(0)
        for c in range(states.shape[0]):
            for byte in range(first // 8, min(first // 8 + 8, states.shape[1])):
                states[c, byte] = np.uint8((block[c] >> np.uint64(8 * (byte - first // 8))) & np.uint64(255))


@njit(**JIT)
def run(spins, states, observables, order, table, degree, ends, bits, again, events, bonds, seed, group, sweeps, first):
    """Evolves a group and fills `states` (chain, step, byte) and `observables` (512, step, 3) as random_site.run does.

    `sweeps` and `first` are the sweeps of a step and before the first; only the chains of `states` are stored.
    """
    sites, done = spins.size // WORDS, 0
    every, counts = np.arange(sites).astype(np.int32), np.empty((3, LANES), np.int64)
    bond, turned, up = counts[0], counts[1], counts[2]
    before, dark = spins.copy(), np.zeros(WORDS, np.uint64)
    nowhere, one, other = np.zeros(sites, np.int32), bonds[0], bonds[1]
    for step in range(observables.shape[1]):
        for s in range(sweeps + first if step == 0 else sweeps):
            if step == 0 and s == first:
                before[:] = spins
            multispin.sweep(spins, order, table, degree, ends, bits, again, events, seed, group, np.uint64(done))
            done += 1
        count(spins, spins, one, other, bond)
        count(spins, dark, every, nowhere, up)
        count(spins, before, every, every, turned)
        observables[:, step, 0] = (2 * bond - one.size) / sites
        observables[:, step, 1] = (2 * up - sites) / sites
        observables[:, step, 2] = turned / sites
        before[:] = spins
        for lane in range(0, states.shape[0], 64):
            packed(spins, states[lane : lane + 64, min(step, states.shape[1] - 1)], lane)


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
    planes: int = multispin.PLANES,
) -> None:
    """Fills `states` and `observables` of chains `first`, …; a chain's group and lane follow from its number."""
    order, table, ends = lattices.by_colour(lattice, size)
    bonds = np.ascontiguousarray(lattices.bonds(lattice, size).T)
    degree, members = table.shape[1], len(temperatures)

    def work(group: int, _: int) -> None:
        low, high = max(group * LANES, first), min((group + 1) * LANES, first + members)
        lanes, part = slice(low - group * LANES, high - group * LANES), slice(low - first, high - first)
        heat, begin = np.ones(LANES), np.zeros((LANES, start.shape[1]), np.uint8)
        heat[lanes], begin[lanes] = temperatures[part], start[part]
        seen, kept = np.empty((LANES, *observables.shape[1:])), np.empty((lanes.stop, *states.shape[1:]), np.uint8)
        run(
            interleaved(begin, len(order)),
            kept,
            seen,
            order,
            table.reshape(-1),
            degree,
            ends,
            *multispin.acceptance(heat, degree, planes),
            bonds,
            seed,
            np.uint64(group),
            sweeps,
            thermalisation,
        )
        states[part], observables[part] = kept[lanes], seen[lanes]

    groups = range(first // LANES, -(-(first + members) // LANES))
    chains.over_chains(lambda a, b: work(groups[a], b), len(groups), threads=threads)
