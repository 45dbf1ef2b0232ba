"""Windows of the training data, drawn so that the batch of a step depends on nothing but the seed and the step.

Data that fits stays in RAM as tensors, and a batch is one gather. What does not fit passes through a pool of
whole shards that a background thread renews (see `stream`).
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import store
from .ranks import ONE, Ranks

Arrays = dict[str, torch.Tensor]


def sources(dataset: Path, embedded: Path | None, split: str, only: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The lazy arrays of a split by batch name: `state`, `smooth`, and, if there are any, `parameters`, `embedded`.

    Or `only` some of them, series first: a model of embeddings (`Model.reads`) needs no fields in memory.
    """
    data = store.open_group(dataset, split)
    state = data["state"]
    found = {"state": state, "smooth": data.get("smooth", state)}
    if "parameters" in data:
        found["parameters"] = data["parameters"]
    if embedded is not None:
        found["embedded"] = store.open_group(embedded, split)["embedded"]
    return found if only is None else {name: found[name] for name in only if name in found}


def shards(array: Any) -> list[tuple[int, int]]:
    """The ranges of members that lie in one shard each."""
    size = (array.encoding.get("shards") or array.encoding["chunks"])[0]
    return [(start, min(start + size, len(array))) for start in range(0, len(array), size)]


def unique(lazy: dict[str, Any]) -> list[Any]:
    """The sources without repetition: `smooth` may be `state`."""
    return list({id(array): array for array in lazy.values()}.values())


def in_memory(lazy: dict[str, Any], most: float = math.inf) -> Arrays:
    """The arrays as float32 tensors, read shard by shard; equal sources share one tensor.

    Of arrays above `most` GiB together, the first members that fit.
    """
    members = len(next(iter(lazy.values())))
    members = max(1, int(members * min(1.0, most / max(gibibytes(lazy), 1e-12))))
    tensors = {}
    for array in unique(lazy):
        values = np.empty((members, *array.shape[1:]), np.float32)
        for start, stop in shards(array):
            if start < members:
                values[start:stop] = array[start : min(stop, members)].values
        tensors[id(array)] = torch.from_numpy(values)
    return {name: tensors[id(array)] for name, array in lazy.items()}


def gibibytes(lazy: dict[str, Any]) -> float:
    return sum(4 * array.size for array in unique(lazy)) / 2**30


class Sampler:
    """(series, start) of the windows of step `i`: a shuffled grid of stride `stride`, or random crops.

    Crops are drawn from windows that may overlap the ends and are then moved inside, so that no time is neglected:
    the first states, which alone look like the initial states of a test, would else hardly be seen.
    """

    def __init__(self, members: int, times: int, training: dict, seed: int):
        self.members, self.seed, self.stride = members, seed, training["stride"]
        self.window = training["window"]
        if times < self.window:
            raise ValueError(f"training.window: {self.window}: longer than the series, which have {times} steps")
        self.starts = np.arange(0, times - self.window + 1, self.stride or 1)
        self.batch = training["batch"]
        self.per_member = len(self.starts) if self.stride else times // self.window
        self.per_epoch = max(1, members * self.per_member // self.batch)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def random(self, *key: int) -> np.random.Generator:
        """A random stream of its own for every key."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        if not self.stride:
            rng = self.random(0, step)
            starts = rng.integers(1 - self.window, self.starts[-1] + self.window, size=self.batch)
            return rng.integers(self.members, size=self.batch), starts.clip(0, self.starts[-1])
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = self.random(1, epoch).permutation(self.members * len(self.starts))
        chosen = self._order[place * self.batch : (place + 1) * self.batch]
        return chosen // len(self.starts), self.starts[chosen % len(self.starts)]


def gather(arrays: Arrays, members: np.ndarray, starts: np.ndarray, window: int, device: Any = None) -> Arrays:
    """Windows (batch, window, …) of arrays (member, time, …) by one index per array; parameters have no time."""
    first = next(iter(arrays.values()))
    rows = torch.as_tensor(members * first.shape[1] + starts).to(first.device, non_blocking=True)
    index = (rows[:, None] + torch.arange(window, device=first.device)).reshape(-1)
    cut: dict[int, torch.Tensor] = {}
    for name, array in arrays.items():
        if name == "parameters":
            chosen = array.index_select(0, torch.as_tensor(members).to(array.device, non_blocking=True))
            cut[id(array)] = chosen.to(device, non_blocking=True)
        elif id(array) not in cut:
            states = array.flatten(0, 1).index_select(0, index)
            cut[id(array)] = states.unflatten(0, (len(members), window)).to(device, non_blocking=True)
    return {name: cut[id(array)] for name, array in arrays.items()}


class Counts:
    """The batches of a training from an energy: how many configurations this rank is to draw.

    Each rank draws with a random stream of its own; that of the first is that of a single process.
    """

    def __init__(self, count: int, ranks: Ranks = ONE):
        share, self.rank = ranks.share(count, count), ranks.rank
        self.count, self.per_epoch = share.stop - share.start, 1

    @property
    def sampler(self) -> "Counts":
        return self

    def at(self, step: int) -> dict[str, int]:
        if self.rank:
            own = np.random.SeedSequence(torch.initial_seed(), spawn_key=(self.rank,))
            torch.manual_seed(int(own.generate_state(1)[0]))
        return {"count": self.count}


class InMemory:
    """All of a split on the device."""

    def __init__(self, lazy: dict[str, Any], training: dict, seed: int, device: Any, ranks: Ranks = ONE):
        arrays = in_memory(lazy)
        moved = {id(t): t.to(device) for t in arrays.values()}
        self.arrays = {name: moved[id(t)] for name, t in arrays.items()}
        members, times = next(iter(self.arrays.values())).shape[:2]
        self.sampler = Sampler(members, times, training, seed)
        batch = self.sampler.batch
        self.share = ranks.share(batch, min(batch, members * len(self.sampler.starts)) if training["stride"] else batch)

    def at(self, step: int) -> Arrays:
        rows, starts = self.sampler.at(step)
        return gather(self.arrays, rows[self.share], starts[self.share], self.sampler.window)


def open_split(
    dataset: Path,
    embedded: Path | None,
    split: str,
    training: dict,
    seed: int,
    device: Any,
    ranks: Ranks = ONE,
    only: tuple[str, ...] | None = None,
) -> Any:
    """The batches of a split: in memory if it fits `training["in_memory"]` GiB, streamed otherwise."""
    lazy = sources(dataset, embedded, split, only)
    if gibibytes(lazy) <= training["in_memory"]:
        return InMemory(lazy, training, seed, device, ranks)
    from .stream import Stream

    return Stream(lazy, training, seed, device, ranks)
