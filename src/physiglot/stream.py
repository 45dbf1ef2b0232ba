"""Training data that does not fit in memory: a pool of whole shards, renewed while training goes on.

The shards of an epoch are shuffled and dealt into parts. The pool holds `size` consecutive parts; every `turn`
steps the oldest leaves and the next comes in, which a background thread has read meanwhile. What the pool holds
and what is drawn from it are functions of the seed and the step, so a resumed training sees the same batches.
"""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from .batches import Arrays, Sampler, gather, shards, unique
from .ranks import ONE, Ranks

Ranges = list[tuple[int, int]]


class Pool:
    """`slots` parts of the arrays in RAM, each of up to `rows` members, filled by a thread of its own."""

    def __init__(self, lazy: dict[str, Any], slots: int, rows: int):
        self.slots, self.rows = slots, rows
        self.sources = unique(lazy)
        self.memory = [torch.empty(slots * rows, *array.shape[1:]) for array in self.sources]
        by_source = {id(a): m for a, m in zip(self.sources, self.memory, strict=True)}
        self.arrays: Arrays = {name: by_source[id(array)] for name, array in lazy.items()}
        self._held: dict[int, tuple[int, Future]] = {}
        self._thread = ThreadPoolExecutor(1, "shards")

    def request(self, item: int, ranges: Ranges) -> Future:
        """Have the members `ranges` read into the slot of `item`, unless they are there."""
        slot = item % self.slots
        held, future = self._held.get(slot, (-1, None))
        if held != item or future is None:
            future = self._thread.submit(self._read, slot, ranges)
            self._held[slot] = item, future
        return future

    def _read(self, slot: int, ranges: Ranges) -> None:
        for array, memory in zip(self.sources, self.memory, strict=True):
            row = slot * self.rows
            for start, stop in ranges:
                memory[row : row + stop - start].numpy()[:] = array[start:stop].values
                row += stop - start


def plan(lazy: dict[str, Any], ranges: Ranges, sampler: Sampler, gibibytes: float) -> tuple[int, int]:
    """(shards of a part, parts in RAM): a part holds the windows of a batch or more, if `gibibytes` allow two such.

    They also have to hold a shard while it is read (as stored, decoded and in between) and the order of the windows.
    """
    sources, members = unique(lazy), ranges[0][1] - ranges[0][0]
    shard = members * sum(4 * array[0].size for array in sources)
    order = 24 * (len(sampler.starts) if sampler.stride else 1)
    reading = members * (3 * max(array[0].nbytes for array in sources) + order)
    room = int(gibibytes * 2**30 - reading) // shard
    if room < 2:
        least = (2 * shard + reading) / 2**30
        raise ValueError(f"training.in_memory: {gibibytes}: below the {least:.3g} GiB that two shards of the data need")
    group = min(-(-sampler.batch // (members * sampler.per_member)), room // 2, len(ranges))
    return group, min(room // group, -(-len(ranges) // group) + 1)


class Stream:
    """Windows of a split of any size, drawn from a pool of `training["in_memory"]` GiB."""

    def __init__(self, lazy: dict[str, Any], training: dict, seed: int, device: Any, ranks: Ranks = ONE):
        first = next(iter(lazy.values()))
        self.sampler = Sampler(first.shape[0], first.shape[1], training, seed)
        self.share = ranks.share(self.sampler.batch, self.sampler.batch)
        self.device, self.shards = device, shards(first)
        self.group, slots = plan(lazy, self.shards, self.sampler, training["in_memory"])
        rows = self.group * (self.shards[0][1] - self.shards[0][0])
        self.size, self.parts = slots - 1, -(-len(self.shards) // self.group)
        self.turn = max(1, rows * self.sampler.per_member // self.sampler.batch)
        self.pool = Pool(lazy, slots, rows)
        self._generation, self._order = -1, np.empty(0, np.int64)

    def part(self, item: int) -> Ranges:
        """The members of the `item`-th part of the training."""
        epoch, place = divmod(item, self.parts)
        order = self.sampler.random(2, epoch).permutation(len(self.shards))
        return [self.shards[i] for i in order[place * self.group : (place + 1) * self.group]]

    def _enter(self, generation: int) -> None:
        """Wait for the parts of a generation, ask for the next one, and lay out the windows to be drawn."""
        items = range(generation, generation + self.size)
        parts = [self.part(item) for item in items]
        for future in [self.pool.request(item, part) for item, part in zip(items, parts, strict=True)]:
            future.result()
        self.pool.request(items.stop, self.part(items.stop))
        members = [sum(stop - start for start, stop in part) for part in parts]
        self._order = self._windows(items, members)
        self._generation = generation

    def _windows(self, items: range, members: list[int]) -> np.ndarray:
        """What a generation draws from, as row * starts + start: all rows, or its share of the grid, shuffled."""
        starts, found = len(self.sampler.starts), []
        for item, count in zip(items, members, strict=True):
            first = item % self.pool.slots * self.pool.rows * starts
            if self.sampler.stride:
                found.append(first + self._share(item, item - items.start, count * starts))
            else:
                found.append(first + starts * np.arange(count))
        order = np.concatenate(found)
        return self.sampler.random(3, items.start).permutation(order) if self.sampler.stride else order

    def _share(self, item: int, age: int, windows: int) -> np.ndarray:
        """The windows of a part drawn at one age: every `size`-th of a permutation, an affine one to need no memory."""
        rng = self.sampler.random(4, item)
        factor = next(f for f in iter(lambda: int(rng.integers(1, windows + 1)), 0) if math.gcd(f, windows) == 1)
        return (np.arange(age, windows, self.size) * factor + rng.integers(windows)) % windows

    def at(self, step: int) -> Arrays:
        """The batch of a step, or a rank's share of it."""
        generation, place = divmod(step, self.turn)
        if generation != self._generation:
            self._enter(generation)
        batch, starts = self.sampler.batch, len(self.sampler.starts)
        if self.sampler.stride:
            chosen = self._order.take(np.arange(place * batch, (place + 1) * batch), mode="wrap")
        else:
            rng = self.sampler.random(0, step)
            chosen = rng.choice(self._order, batch) + rng.integers(starts, size=batch)
        chosen = chosen[self.share]
        rows, begin = chosen // starts, self.sampler.starts[chosen % starts]
        return gather(self.pool.arrays, rows, begin, self.sampler.window, self.device)
