"""What all lattice simulations share: temperatures of the chains, threads over chains, and how spins are packed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import xarray as xr

from .run import Run


def checked(temperatures: np.ndarray) -> np.ndarray:
    """Temperatures as float64, none below zero and none NaN."""
    found = np.asarray(temperatures, dtype=np.float64)
    if not np.all(found >= 0):
        raise ValueError(f"temperature {found[~(found >= 0)][0]}: it must be 0 or more.")
    return found


def seed(rng: np.random.Generator) -> np.uint64:
    """The key of all counter-based streams of a block."""
    return np.uint64(rng.integers(2**64, dtype=np.uint64))


def over_chains(work: Callable[[int, int], None], chains: int, together: int = 1, threads: int | None = None) -> None:
    """Calls `work(first, last)` on groups of `together` chains, in as many threads as numba may use.

    The kernels release the interpreter's lock, and a chain's numbers depend on the chain alone, so neither the
    threads nor the grouping can be seen in the result.
    """
    threads = threads or numba.config.NUMBA_NUM_THREADS
    groups = [(first, min(first + together, chains)) for first in range(0, chains, together)]
    if threads == 1 or len(groups) == 1:
        for group in groups:
            work(*group)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *group) for group in groups]:
            done.result()


def kept(store: str, count: int, sites: int) -> np.ndarray:
    """The sites of a lattice whose values are stored: all, none, or `sites` of them, the same in every block."""
    if store == "none":
        return np.empty(0, np.int64)
    if store == "full":
        return np.arange(count)
    if not 1 <= sites < count:
        raise ValueError(f"sites {sites}: from a lattice of {count} sites, 1 to {count - 1} can be drawn.")
    return np.sort(np.random.default_rng(count).choice(count, sites, replace=False))


def pack(spins: np.ndarray) -> np.ndarray:
    """Spins ±1 (…, site) as bits, (…, ⌈sites/8⌉) uint8; site i is bit i mod 8 of byte i // 8, set for +1."""
    if not np.isin(spins, (-1, 1)).all():
        wrong = spins[~np.isin(spins, (-1, 1))].flat[0]
        raise ValueError(f"an Ising spin is {wrong}: only +1 and −1 are allowed.")
    return np.packbits(np.asarray(spins) > 0, axis=-1, bitorder="little")


def unpack(packed: np.ndarray, sites: int) -> np.ndarray:
    """Spins ±1 (…, site) int8 of packed bytes (…, ⌈sites/8⌉)."""
    bits = np.unpackbits(np.asarray(packed, dtype=np.uint8), axis=-1, count=sites, bitorder="little")
    return (2 * bits.astype(np.int8) - 1).astype(np.int8)


def dataset(
    state: np.ndarray,
    fields: list[str],
    temperatures: np.ndarray,
    observables: dict[str, np.ndarray],
    params: Run,
    attributes: dict,
) -> xr.Dataset:
    """The data set of a system: `state`, `parameters` and one (member, time) variable per observable.

    Without fields, energy and magnetisation stand in for the state.
    """
    if not fields:
        fields = ["energy", "magnetisation"]
        state = np.stack([observables[f] for f in fields], axis=-1).astype(np.float32)
    time = params.thermalisation + params.sweeps * np.arange(1, params.steps + 1)
    return xr.Dataset(
        {
            "state": (("member", "time", "field"), state, {"units": "1"}),
            "parameters": (("member", "parameter"), temperatures[:, None], {"units": "J/k_B"}),
            **{name: (("member", "time"), values) for name, values in observables.items()},
        },
        coords={
            "time": ("time", time, {"units": "sweeps"}),
            "field": ("field", fields),
            "parameter": ("parameter", ["temperature"]),
        },
        attrs=attributes,
    )
