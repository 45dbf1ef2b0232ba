"""The dataset of a system: all its blocks by split, with measurement noise, smoothing and statistics.

A Dask graph with one task per block: each reads its block, writes its region of the target store, and
returns moments and hashes; memory is bounded by one block per thread, whatever the size of the dataset.
"""

from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from . import graph, moments, stage, store
from .simulate import generator

SLAB = 16  # members filtered at a time: what the filter needs in between stays in the cache


def observe(state: np.ndarray, noise: dict, rng: np.random.Generator, std: np.ndarray | None) -> np.ndarray:
    """`state` (member, time, field, …) as measured: x(1 + p eta), or x + p std eta (`mode: std`), eta ~ N(0, 1).

    `std` (field) is that of the clean training split.
    """
    eta = rng.standard_normal(state.shape)
    eta *= state if std is None else std.reshape(-1, *[1] * (state.ndim - 3))
    eta *= noise["level"]
    eta += state
    return eta.astype(state.dtype, copy=False)


def smooth(state: np.ndarray, window: int, order: int) -> np.ndarray:
    """Savitzky-Golay filter along time (Savitzky & Golay 1964); the ends take the fit of the first and last window."""
    from scipy.signal import savgol_filter

    if state.shape[1] < window:
        raise ValueError(f"smooth.window: {window}: longer than the series, which have {state.shape[1]} steps")
    smoothed = np.empty_like(state)
    for i in range(0, len(state), SLAB):
        smoothed[i : i + SLAB] = savgol_filter(state[i : i + SLAB], window, order, axis=1, mode="interp")
    return smoothed


def _read(source: Path, members: int) -> np.ndarray:
    state = store.open_group(source)["state"]
    if len(state) < members:
        raise store.StoreError(f"{source}: {len(state)} members, but {members} of this block are needed")
    return state[:members].values


def _parts(spec: dict, folder: Path) -> list[tuple[Path, str, int, int]]:
    """(block, split, number, members wanted of it) of all blocks, in order."""
    found = []
    for split, members in spec["splits"].items():
        for number in range(-(-members // spec["block"])):
            count = min(spec["block"], members - number * spec["block"])
            found.append((folder / split / f"{number}.zarr", split, number, count))
    return found


def _moments(source: Path, members: int) -> moments.Moments:
    return moments.of(_read(source, members))


def _spread(parts: list[tuple[Path, str, int, int]], spec: dict, threads: int) -> np.ndarray | None:
    """Standard deviation per field of the clean training split, where the noise is given in units of it."""
    import dask

    if not spec.get("noise") or spec["noise"]["mode"] != "std":
        return None
    tasks = [dask.delayed(_moments)(source, members) for source, split, _, members in parts if split == "train"]
    return moments.std(reduce(moments.merge, graph.compute(tasks, spec["dask"], threads)))


def _part(
    source: Path, split: str, number: int, members: int, target: Path, spec: dict, std: np.ndarray | None
) -> tuple[moments.Moments, dict[str, str]]:
    """Read one block, write its region; returns the moments of the observed state and the hashes."""
    state = _read(source, members)
    arrays = {"state": state}
    noise = spec.get("noise")
    if noise and split in noise["splits"]:
        arrays["state"] = observe(state, noise, generator(noise["seed"], f"noise {split}", number), std)
        if spec.get("smooth"):
            arrays["smooth"] = smooth(arrays["state"], **spec["smooth"])
    start = number * spec["block"]
    digests = dict(store.fill(target, split, name, start, values) for name, values in arrays.items())
    graph.release()
    return moments.of(arrays["state"]), digests


def _allocate(target: Path, first: Any, split: str, members: int, options: dict) -> dict:
    noisy = options.get("noise") and split in options["noise"]["splits"]
    names = ["state", "smooth"] if noisy and options.get("smooth") else ["state"]
    state = first["state"]
    spec = {
        "dims": state.dims,
        "shape": (members, *state.shape[1:]),
        "dtype": state.dtype,
        "attrs": state.attrs,
    }
    spec |= {"chunk": options["chunk"], "shard": options["block"]}
    attrs = {k: v for k, v in first.attrs.items() if k not in ("fingerprint", "groups")}
    store.allocate(target, split, {name: spec for name in names}, attrs)
    return store.write_coordinates(target, split, store.coordinates(first))


def dataset(*, spec: dict, blocks: Path, out: Path, threads: int = 1) -> None:
    """Gather the blocks listed in `blocks` into one store with a group per split.

    `spec`: `splits` (name -> members), `block`, `chunk`, `noise`, `smooth` and the Dask settings `dask`. The
    attributes `mean` and `std` (field) are those of the observed training split.
    """
    import dask

    folder = blocks.parent / "blocks"
    parts = _parts(spec, folder)
    spread = _spread(parts, spec, threads)
    with store.new(out.parent) as target:
        digests: dict[str, str] = {}
        for split, members in spec["splits"].items():
            digests |= _allocate(target, store.open_group(folder / split / "0.zarr"), split, members, spec)
        results = graph.compute([dask.delayed(_part)(*p, target, spec, spread) for p in parts], spec["dask"], threads)
        for _, hashes in results:
            digests |= hashes
        total = reduce(moments.merge, (m for p, (m, _) in zip(parts, results, strict=True) if p[1] == "train"))
        mean, std = total[1].tolist(), moments.std(total).tolist()
        store.finish(target, digests, list(spec["splits"]), mean=mean, std=std)
    print(f"{len(parts)} blocks, mean {np.round(mean, 4).tolist()}, std {np.round(std, 4).tolist()}")


if __name__ == "__main__":
    stage.run(dataset)
