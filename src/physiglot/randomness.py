"""Random streams that depend on what they are for, not on who draws from them."""

import zlib

import numpy as np


def generator(seed: int, split: str, block: int) -> np.random.Generator:
    """The random stream of a block: it depends on nothing but the system's seed, the split and the block."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(split.encode()), block)))
