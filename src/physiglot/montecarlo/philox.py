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
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@intrinsic
def wide_vectors(context):
    """Lets LLVM use 512-bit vectors in the calling function where there are any."""

    def codegen(context, builder, signature, arguments):
        # llvmlite's own `add` refuses the attributes that are strings.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), codegen


@njit(**JIT)
def words(c0, c1, c2, c3, k0, k1):
    """The four 32-bit words of one counter and key, all as uint64: numba widens uint32, so each step is masked."""
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & MASK, (p0 >> HALF) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1, c2, c3


@njit(**JIT)
def fill(out, first, sweep, chain, purpose, seed):
    """Fills `out` (4, n) uint32: column i has the words of block `first + i`."""
    wide_vectors()
    k0, k1 = seed & MASK, seed >> HALF
    for i in range(out.shape[1]):
        a, b, c, d = words((first + np.uint64(i)) & MASK, sweep, chain, purpose, k0, k1)
        out[0, i], out[1, i], out[2, i], out[3, i] = np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)
