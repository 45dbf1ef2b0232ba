"""Philox-4x32-10: random numbers as a function of a key and a counter, so a chain's stream depends on nothing else.

J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC11 (2011). Here the key is the 64-bit seed of a run
and the counter is (block, sweep, chain, purpose): 2³² blocks of four 32-bit words for every sweep of every chain.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

JIT = {"cache": True, "error_model": "numpy", "nogil": True}
SWEEP, START = np.uint64(0), np.uint64(1)
MASK, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT, NINE = (np.uint64(n) for n in range(2, 10))
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@intrinsic
def wide_vectors(context):
    """Lets LLVM use 512-bit vectors in the calling function where there are any."""

    def codegen(context, builder, signature, arguments):
        # llvmlite's own `add` refuses the attributes that are strings.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), codegen


@njit(inline="always")
def _round(c0, c1, c2, c3, k0, k1):
    # All words are uint64: numba widens uint32, so what must stay in 32 bits is masked.
    p0, p1 = M0 * c0, M1 * c2
    return (p1 >> HALF) ^ c1 ^ k0, p1 & MASK, (p0 >> HALF) ^ c3 ^ k1, p0 & MASK


@njit(inline="always")
def words(c0, c1, c2, c3, k0, k1):
    """The four 32-bit words of one counter and key, uint64. Written out, for LLVM to vectorise the caller's loop."""
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + W0) & MASK, (k1 + W1) & MASK)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + TWO * W0) & MASK, (k1 + TWO * W1) & MASK)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + THREE * W0) & MASK, (k1 + THREE * W1) & MASK)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + FOUR * W0) & MASK, (k1 + FOUR * W1) & MASK)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + FIVE * W0) & MASK, (k1 + FIVE * W1) & MASK)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + SIX * W0) & MASK, (k1 + SIX * W1) & MASK)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + SEVEN * W0) & MASK, (k1 + SEVEN * W1) & MASK)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + EIGHT * W0) & MASK, (k1 + EIGHT * W1) & MASK)
    return _round(c0, c1, c2, c3, (k0 + NINE * W0) & MASK, (k1 + NINE * W1) & MASK)


@njit(**JIT)
def fill(out, first, sweep, chain, purpose, seed):
    """Fills `out` (4, n) uint32: column i has the words of block `first + i`."""
    wide_vectors()
    k0, k1 = seed & MASK, seed >> HALF
    one, two, three, four = out[0], out[1], out[2], out[3]
    for i in range(one.size):
        a, b, c, d = words((first + np.uint64(i)) & MASK, sweep, chain, purpose, k0, k1)
        one[i], two[i], three[i], four[i] = np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)
