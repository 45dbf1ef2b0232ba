"""The dataset of a system: all its blocks by split, with measurement noise, smoothing and statistics.

What a block has beside `state`, one value or series for each member, comes along as it is.

A Dask graph with one task per shard of the target store: each reads what goes into it from the blocks, simulated
or imported, writes the shard, and returns moments and hashes; memory is bounded by one shard per thread, whatever
the size of the dataset.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from . import graph, moments, stage, store
from .randomness import generator

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


@dataclass
class Layout:
    """What the members of a split look like: `state` and the further variables, name -> (dims, shape, dtype, attrs)."""

    state: tuple
    further: dict[str, tuple]

    @classmethod
    def of(cls, block: Any) -> "Layout":
        found = {str(k): (v.dims, v.shape[1:], v.dtype, v.attrs) for k, v in block.data_vars.items()}
        return cls(found.pop("state"), {k: v for k, v in found.items() if v[0][0] == "member"})


@dataclass
class Shard:
    """A shard of a split, from member `start` on: its pieces are (block, first member, past the last member)."""

    split: str
    start: int
    pieces: list[tuple[Path, int, int]] = field(default_factory=list)


def _taken(listed: dict[str, dict], folder: Path, split: str, spec: dict) -> Iterator[tuple[Path, int]]:
    """(block, members wanted of it) of a split: as many simulated ones as `spec` says, then all imported ones."""
    simulated = 0
    for name, block in listed.items():
        kind, belongs, _ = name.split("/")
        if belongs != split:
            continue
        wanted = block["members"]
        if kind == "blocks":
            wanted = min(spec["block"], spec["splits"][split] - simulated)
            simulated += wanted
        if wanted > block["members"]:
            text = f"{block['members']} members, but {wanted} of this block are needed"
            raise store.StoreError(f"{folder / name}: {text}")
        yield folder / name, wanted


def _shards(blocks: Path, split: str, spec: dict) -> list[Shard]:
    """The members of a split in order, cut into whole shards: one per simulated block, imported ones fill them up."""
    shards: list[Shard] = []
    size, end = spec["block"], 0
    for source, members in _taken(json.loads(blocks.read_text()), blocks.parent, split, spec):
        first = 0
        while first < members:
            if end % size == 0:
                shards.append(Shard(split, end))
            count = min(members - first, size - end % size)
            shards[-1].pieces.append((source, first, first + count))
            first, end = first + count, end + count
    if not shards:
        raise store.StoreError(f"{blocks}: no member of the split {split}")
    return shards


def _read(source: Path, start: int, stop: int, name: str, like: tuple) -> np.ndarray:
    """Members of a variable of a block. What an imported file does not know of a simulation is NaN."""
    block = store.open_group(source)
    if name not in block and like[2].kind == "f" and name != "parameters":
        return np.full((stop - start, *like[1]), np.nan, like[2])
    if name not in block:
        raise store.StoreError(f"{source}: it has no {name}, which the others of this split have")
    found = block[name].shape[1:], block[name].dtype
    if found != like[1:3]:
        there, expected = (f"{shape} of {dtype}" for shape, dtype in (found, like[1:3]))
        raise store.StoreError(f"{source}: {name}: its members are {there}, those of this split {expected}")
    return block[name][start:stop].values


def _clean(shard: Shard, name: str, like: tuple) -> np.ndarray:
    return _joined([_read(*piece, name, like) for piece in shard.pieces])


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _observed(shard: Shard, like: tuple, noise: dict, std: np.ndarray | None) -> np.ndarray:
    """The members with noise, which depends on nothing but where they come from.

    A simulated block has one random stream. An imported block may begin anywhere in a shard, so that each of
    its members has a stream of its own: files that come or go leave the noise of the others as it is.
    """
    parts, seed, name = [], noise["seed"], f"noise {shard.split}"
    for source, start, stop in shard.pieces:
        state = _read(source, start, stop, "state", like)
        if source.parts[-3] == "blocks":
            parts.append(observe(state, noise, generator(seed, name, int(source.stem)), std))
            continue
        for i, number in enumerate(range(start, stop)):
            rng = generator(seed, f"{name} {source.stem}", number)
            state[i : i + 1] = observe(state[i : i + 1], noise, rng, std)
        parts.append(state)
    return _joined(parts)


def _moments(shard: Shard, like: tuple) -> moments.Moments:
    return moments.of(_clean(shard, "state", like))


def _spread(shards: list[Shard], like: tuple, spec: dict, threads: int) -> np.ndarray | None:
    """Standard deviation per field of the clean training split, where the noise is given in units of it."""
    import dask

    if not spec.get("noise") or spec["noise"]["mode"] != "std":
        return None
    tasks = [dask.delayed(_moments)(shard, like) for shard in shards]
    return moments.std(reduce(moments.merge, graph.compute(tasks, threads)))


def _part(
    shard: Shard, like: Layout, target: Path, spec: dict, std: np.ndarray | None
) -> tuple[moments.Moments, dict[str, str]]:
    """Read the pieces of a shard, write it; returns the moments of the observed state and the hashes."""
    noise = spec.get("noise")
    if noise and shard.split in noise["splits"]:
        arrays = {"state": _observed(shard, like.state, noise, std)}
        if spec.get("smooth"):
            arrays["smooth"] = smooth(arrays["state"], **spec["smooth"])
    else:
        arrays = {"state": _clean(shard, "state", like.state)}
    digests = dict(store.fill(target, shard.split, name, shard.start, values) for name, values in arrays.items())
    for name, kind in like.further.items():
        digests.update([store.fill(target, shard.split, name, shard.start, _clean(shard, name, kind))])
    graph.release()
    return moments.of(arrays["state"]), digests


def _allocate(target: Path, first: Any, like: Layout, split: str, members: int, options: dict) -> dict:
    noisy = options.get("noise") and split in options["noise"]["splits"]
    kinds = {"state": like.state, **({"smooth": like.state} if noisy and options.get("smooth") else {}), **like.further}
    arrays = {}
    for name, (dims, shape, dtype, attrs) in kinds.items():
        arrays[name] = {"dims": dims, "shape": (members, *shape), "dtype": dtype, "attrs": attrs}
        arrays[name] |= {"chunk": options["chunk"], "shard": options["block"]}
    store.allocate(target, split, arrays, {k: v for k, v in first.attrs.items() if k != "fingerprint"})
    return store.write_coordinates(target, split, store.coordinates(first))


def dataset(*, spec: dict, blocks: Path, out: Path, threads: int = 1) -> None:
    """Gather the blocks listed in `blocks` into one store with a group per split.

    `spec`: `splits` (name -> simulated members), `block`, `chunk`, `noise` and `smooth`.
    The attributes `mean` and `std` (field) are those of the observed training split.
    """
    import dask

    shards = {split: _shards(blocks, split, spec) for split in spec["splits"]}
    first = {split: store.open_group(parts[0].pieces[0][0]) for split, parts in shards.items()}
    like = {split: Layout.of(block) for split, block in first.items()}
    spread = _spread(shards["train"], like["train"].state, spec, threads)
    with store.new(out.parent) as target:
        digests: dict[str, str] = {}
        for split, parts in shards.items():
            members = parts[-1].start + sum(stop - start for _, start, stop in parts[-1].pieces)
            digests |= _allocate(target, first[split], like[split], split, members, spec)
        every = [shard for parts in shards.values() for shard in parts]
        tasks = [dask.delayed(_part)(shard, like[shard.split], target, spec, spread) for shard in every]
        results = graph.compute(tasks, threads)
        for _, hashes in results:
            digests |= hashes
        total = reduce(moments.merge, (m for s, (m, _) in zip(every, results, strict=True) if s.split == "train"))
        mean, std = total[1].tolist(), moments.std(total).tolist()
        store.finish(target, digests, list(spec["splits"]), mean=mean, std=std)
    print(f"{len(every)} shards, mean {np.round(mean, 4).tolist()}, std {np.round(std, 4).tolist()}")


if __name__ == "__main__":
    stage.run(dataset)
