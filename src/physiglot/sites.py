"""Series of a few sites instead of whole lattices: what a data set with the option `sites` is made of.

Sites are drawn uniformly with replacement. The draw depends on the seed of the option, on the draw and, where each
chain has its own, on the split and the chain: on no block, shard, or order of work.
"""

from typing import Any

import numpy as np

from .randomness import generator

RUN = "sites of a run"


def count(state: Any, attributes: dict) -> int:
    """Sites, or entries, that a stored state has: bits of packed bytes, else its fields."""
    fields = state.shape[-1]
    return int(attributes["sites"]) if packed(state, attributes) else fields


def packed(state: Any, attributes: dict) -> bool:
    """Whether eight Ising spins share a byte."""
    return state.dtype == np.uint8 and attributes.get("sites", 0) > state.shape[-1]


def check(options: dict, available: int, name: str) -> None:
    if options["count"] >= available:
        raise ValueError(f"{name}: {options['count']}: must be below the {available} sites that are stored")


def dtype(state: Any, attributes: dict) -> np.dtype:
    """int8 for spins and colours, float32 for angles and other numbers."""
    return np.dtype(np.int8 if state.dtype == np.uint8 else np.float32)


def chosen(options: dict, split: str, chains: list[tuple[str, int]], available: int) -> np.ndarray:
    """The sites (chain, draw · site), or (1, draw · site) where all chains share them; a chain is (source, number)."""
    seed, draws, size = options["seed"], options["draws"], options["count"]
    if options["per"] == "run":
        return np.stack([generator(seed, RUN, d).integers(available, size=size) for d in range(draws)]).reshape(1, -1)
    streams = (generator(seed, f"sites {split} {source}", number) for source, number in chains)
    return np.stack([rng.integers(available, size=(draws, size)).ravel() for rng in streams])


def draw(state: np.ndarray, where: np.ndarray, attributes: dict) -> np.ndarray:
    """The values of the sites `where` (chain or 1, site) in `state` (chain, time, field): ±1, colours, or radians."""
    where = np.broadcast_to(where, (len(state), where.shape[1]))[:, None]
    if packed(state, attributes):
        bits = np.take_along_axis(state, where >> 3, axis=2) >> (where & 7).astype(np.uint8)
        return (2 * (bits & 1).astype(np.int8) - 1).astype(np.int8)
    values = np.take_along_axis(state, where, axis=2)
    if state.dtype == np.uint16:
        return (values * (2 * np.pi / 2**16)).astype(np.float32)
    return values.astype(dtype(state, attributes))
