"""The dataset of a system: all its blocks by split, with measurement noise, smoothing and statistics.

What a block has beside `state`, one value or series for each member, comes along as it is. With `steps` only the
first steps are taken, with `sites` only some sites of each lattice (see there).

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

from . import graph, moments, sites, stage, store
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
    """What the members of a split look like: `state` and the further variables, (dims, shape, dtype, attrs, steps)."""

    state: tuple
    further: dict[str, tuple]
    attributes: dict

    @classmethod
    def of(cls, block: Any, steps: int | None = None) -> "Layout":
        found = {str(k): (v.dims, v.shape[1:], v.dtype, v.attrs, steps) for k, v in block.data_vars.items()}
        return cls(found.pop("state"), {k: v for k, v in found.items() if v[0][0] == "member"}, block.attrs)


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


def _first(block: Any, steps: int | None) -> Any:
    """A block cut to its first steps."""
    if steps is None:
        return block
    if steps > block.sizes["time"]:
        raise ValueError(f"steps: {steps}: more than the {block.sizes['time']} steps that are stored")
    return block.isel(time=slice(steps))


def _read(source: Path, start: int, stop: int, name: str, like: tuple) -> np.ndarray:
    """Members of a variable of a block. What an imported file does not know of a simulation is NaN."""
    block = _first(store.open_group(source), like[4])
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


def _chains(shard: Shard, size: int) -> list[tuple[str, int]]:
    """Where each member of a shard comes from: its number in the split, or its file and its number there."""
    found = []
    for source, start, stop in shard.pieces:
        simulated = source.parts[-3] == "blocks"
        name, first = ("", int(source.stem) * size) if simulated else (source.stem, 0)
        found += [(name, first + i) for i in range(start, stop)]
    return found


def _of_sites(shard: Shard, state: np.ndarray, like: Layout, spec: dict) -> dict[str, np.ndarray]:
    """The drawn sites of a shard and, if asked for, the last lattice of each member."""
    options = spec["sites"]
    where = sites.chosen(options, shard.split, _chains(shard, spec["block"]), sites.count(state, like.attributes))
    lattice = {"lattice": state[:, -1]} if options["lattice"] else {}
    return {"state": sites.draw(state, where, like.attributes), **lattice}


def _made(block: Any, options: dict) -> dict[str, tuple]:
    """Dimensions, shape, type and attributes of `state`, and `lattice`, where sites are drawn from `block`."""
    state, number = block["state"], options["count"] * options["draws"]
    sites.check(options, sites.count(state, block.attrs), "sites.count")
    units = {"units": "rad" if state.dtype == np.uint16 else "1"}
    found = {"state": (state.dims, (state.shape[1], number), sites.dtype(state, block.attrs), units)}
    return found | ({"lattice": (("member", "byte"), state.shape[2:], state.dtype, {})} if options["lattice"] else {})


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
    if spec.get("sites"):
        arrays = _of_sites(shard, arrays["state"], like, spec)
    digests = dict(store.fill(target, shard.split, name, shard.start, values) for name, values in arrays.items())
    for name, kind in like.further.items():
        digests.update([store.fill(target, shard.split, name, shard.start, _clean(shard, name, kind))])
    graph.release()
    return moments.of(arrays["state"]), digests


def _allocate(target: Path, first: Any, like: Layout, split: str, members: int, options: dict) -> dict:
    noisy = options.get("noise") and split in options["noise"]["splits"]
    kinds = {"state": like.state, **({"smooth": like.state} if noisy and options.get("smooth") else {}), **like.further}
    attrs = {k: v for k, v in first.attrs.items() if k != "fingerprint"}
    if drawn := options.get("sites"):
        kinds |= _made(first, drawn)
        attrs["fields"] = [f"draw {d}, site {i}" for d in range(drawn["draws"]) for i in range(drawn["count"])]
    arrays = {}
    for name, (dims, shape, dtype, notes, *_) in kinds.items():
        arrays[name] = {"dims": dims, "shape": (members, *shape), "dtype": dtype, "attrs": notes}
        arrays[name] |= {"chunk": options["chunk"], "shard": options["block"]}
    store.allocate(target, split, arrays, attrs)
    return store.write_coordinates(target, split, store.coordinates(first))


def dataset(*, spec: dict, blocks: Path, out: Path, threads: int = 1) -> None:
    """Gather the blocks listed in `blocks` into one store with a group per split.

    `spec`: `splits` (name -> simulated members), `block`, `chunk`, `noise`, `smooth`, `steps` and `sites`.
    The attributes `mean` and `std` (field) are those of the observed training split.
    """
    import dask

    shards = {split: _shards(blocks, split, spec) for split in spec["splits"]}
    first = {s: _first(store.open_group(parts[0].pieces[0][0]), spec.get("steps")) for s, parts in shards.items()}
    like = {split: Layout.of(block, spec.get("steps")) for split, block in first.items()}
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
