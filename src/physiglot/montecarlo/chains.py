"""What all lattice simulations share: temperatures of the chains, threads over chains, and how spins are packed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numba
import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from ..strict import Strict


class Grid(Strict):
    """Temperatures first, first + step, …, last."""

    first: float = Field(ge=0, allow_inf_nan=False, description="lowest temperature, units of J/k_B")
    last: float = Field(ge=0, allow_inf_nan=False, description="highest temperature, units of J/k_B")
    step: float = Field(gt=0, allow_inf_nan=False, description="distance of two temperatures, units of J/k_B")

    def values(self) -> np.ndarray:
        return np.round(self.first + self.step * np.arange(round((self.last - self.first) / self.step) + 1), 12)


class Run(Strict):
    """Keys of every lattice system. Temperatures come from `windows` or from `temperatures`."""

    steps: int = Field(10, ge=1, description="saved steps; index 0 is the state after the first, not the start")
    sweeps: int = Field(1, ge=1, description="sweeps between saved steps; a sweep is as many attempts as sites")
    thermalisation: int = Field(0, ge=0, description="sweeps before the first saved step is begun")
    windows: list[list[float]] | None = Field(
        None, description="[low, high] each: members alternate over the windows and draw T uniformly within"
    )
    temperatures: Grid | list[float] | None = Field(
        None, description="instead of windows: n values of T in units of J/k_B; member i of a block has number i mod n"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Run":
        if self.windows is not None and self.temperatures is not None:
            raise ValueError("windows and temperatures are both given: give one of them")
        if self.windows is not None:
            _check_windows(self.windows)
        values = self.temperatures.values() if isinstance(self.temperatures, Grid) else self.temperatures
        if values is not None and (len(values) == 0 or not np.all(np.isfinite(values)) or min(values) < 0):
            raise ValueError(f"temperatures {self.temperatures}: give at least one, all finite and not negative")
        return self

    def drawn(self, members: int, rng: np.random.Generator, default: list[list[float]]) -> np.ndarray:
        """Temperature of each member; `default` are the windows where the configuration has neither."""
        if self.temperatures is None:
            low, high = np.array(self.windows or default).T
            window = np.arange(members) % len(low)
            return low[window] + (high - low)[window] * rng.random(members)
        given = self.temperatures
        values = np.asarray(given.values() if isinstance(given, Grid) else given, dtype=np.float64)
        if members % len(values):
            raise ValueError(
                f"a block of {members} members over {len(values)} temperatures: "
                f"the members of a block must be a multiple of {len(values)}."
            )
        return np.tile(values, members // len(values))


def _check_windows(windows: list[list[float]]) -> None:
    for window in windows:
        if len(window) != 2 or not np.all(np.isfinite(window)) or not 0 <= window[0] <= window[1]:
            raise ValueError(f"window {window}: it must be [low, high], 0 ≤ low ≤ high, both finite")
    ordered = sorted(windows)
    for one, two in pairwise(ordered):
        if two[0] < one[1]:
            raise ValueError(f"windows {one} and {two} overlap")
    if not windows:
        raise ValueError("windows is empty: give at least one [low, high]")


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
