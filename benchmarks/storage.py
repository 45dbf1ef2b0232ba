"""Storage: our sharded layout through the zarrs pipeline, and training on data that does not fit in memory.

60 KiB chunks in 16 MiB shards of Lorenz trajectories (float32, lz4 with byte shuffle), written and read whole, by one
assignment: the same zarr array through the zarrs pipeline and through zarr's own; through physiglot.store, which
adds the fingerprint and the rename; and HDF5 with 4 MiB chunks and no compression. All may use every core; all are
checked to give back what was written.

A training step (the LSTM baseline, one thread) streamed from shards through a small pool against the same step
on data in memory; a shard is renewed every twenty steps, which is far more often than in our studies.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import timing

timing.require("numpy", "h5py", "torch", "zarr", "zarrs", "physiglot")

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import zarr  # noqa: E402

from physiglot import batches, config, models, store, train  # noqa: E402
from physiglot.stream import Stream  # noqa: E402
from physiglot.systems import lorenz  # noqa: E402

CHUNK, SHARD, SHARDS, STEPS = 5, 1365, 6, 1024
ROUNDS = 9
PIPELINES = {"zarr": {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}, "zarrs": store.PIPELINE}
TARGETS = {"write": 8.0, "read": 15.0, "h5py_write": 0.5, "h5py_read": 0.5, "training": 1 / 1.1}
TRAINING = config.Training(stride=64, steps=10**6).model_dump()
TURN, SMALL = 42, 85  # steps of a round, which see two renewals; members of a shard, 1 MiB


def trajectories(members: int) -> np.ndarray:
    """(member, time, field), float32."""
    params = lorenz.Params(steps=STEPS)
    return lorenz.simulate(params, members, np.random.default_rng(0))["state"].values.astype(np.float32)


def layout(states: np.ndarray, chunk: int, shard: int) -> dict:
    dims = ("member", "time", "field")
    return {"dims": dims, "shape": states.shape, "dtype": states.dtype, "chunk": chunk, "shard": shard}


def write_ours(path: Path, states: np.ndarray, chunk: int = CHUNK, shard: int = SHARD) -> None:
    with store.new(path) as temporary:
        store.allocate(temporary, "train", {"state": layout(states, chunk, shard)})
        digests = dict([store.fill(temporary, "train", "state", 0, states)])
        store.finish(temporary, digests, ["train"])


def read_ours(path: Path) -> np.ndarray:
    return store.open_group(path, "train")["state"].values


def write_zarr(pipeline: str, path: Path, states: np.ndarray) -> None:
    with zarr.config.set(PIPELINES[pipeline]):
        array = zarr.create_array(
            path,
            shape=states.shape,
            dtype=states.dtype,
            chunks=(CHUNK, *states.shape[1:]),
            shards=(SHARD, *states.shape[1:]),
            compressors=zarr.codecs.BloscCodec(**store.CODECS),
            overwrite=True,
        )
        array[:] = states


def read_zarr(pipeline: str, path: Path) -> np.ndarray:
    with zarr.config.set(PIPELINES[pipeline]):
        return zarr.open_array(path, mode="r")[:]


def write_h5py(path: Path, states: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        chunks = (SHARD // 4, *states.shape[1:])
        file.create_dataset("state", data=states, chunks=chunks)


def read_h5py(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["state"][:]


WRITERS = {"physiglot": write_ours, **{name: partial(write_zarr, name) for name in PIPELINES}, "h5py": write_h5py}
READERS = {"physiglot": read_ours, **{name: partial(read_zarr, name) for name in PIPELINES}, "h5py": read_h5py}


def files(folder: Path, states: np.ndarray) -> dict[str, float]:
    """Rates of writing and reading: of the zarrs pipeline over zarr's own, and of our store over the others."""
    paths = {name: folder / f"{name}.store" for name in WRITERS}
    for name, write in WRITERS.items():
        write(paths[name], states)
        timing.check(np.array_equal(READERS[name](paths[name]), states), f"{name} reads what it wrote")
    calls = {
        "write": {name: bound(write, paths[name], states) for name, write in WRITERS.items()},
        "read": {name: bound(read, paths[name]) for name, read in READERS.items()},
    }
    found = {}
    for kind, contestants in calls.items():
        seconds = timing.interleave(contestants, ROUNDS)
        rate = timing.rates(seconds, states.nbytes / 1e6)
        timing.table(seconds, rate, f"{kind} MB/s", "physiglot")
        found |= {kind: rate["zarrs"] / rate["zarr"], f"store_{kind}": rate["physiglot"] / rate["zarr"]}
        found |= {f"h5py_{kind}": rate["physiglot"] / rate["h5py"]}
    return found


def bound(function: Callable, *given: object) -> Callable[[], object]:
    return lambda: function(*given)


def loops(path: Path) -> dict[str, train.Loop]:
    """The same training on the same data, in memory and streamed through a seventh of it."""
    lazy = batches.sources(path, None, "train")
    part = {"module": "lstm", "params": {}}
    sources = {
        "memory": batches.InMemory(lazy, TRAINING, 0, "cpu"),
        "stream": Stream(lazy, {**TRAINING, "in_memory": batches.gibibytes(lazy) / 7}, 0, "cpu"),
    }
    stream = sources["stream"]
    print(f"\na pool of {stream.size} of {stream.parts} shards, one new every {stream.turn} steps")
    made = {}
    for name, data in sources.items():
        torch.manual_seed(0)
        model = models.build(part, torch.zeros(3), torch.ones(3))
        made[name] = train.Loop(model, data, None, TRAINING, 0, None)
    return made


def steps(loop: train.Loop) -> None:
    for _ in range(TURN):
        loop.advance()


def streaming(folder: Path) -> float:
    """Rate of training on streamed data over that on data in memory."""
    states = trajectories(96 * SMALL)
    write_ours(folder / "large.store", states, CHUNK, SMALL)
    made = loops(folder / "large.store")
    members = Sources(states)
    for loop in made.values():
        for step in (0, 500):
            timing.check(members.hold(loop.data.at(step)["state"]), f"windows of step {step} are in the data")
    seconds = timing.interleave({name: bound(steps, loop) for name, loop in made.items()}, 2 * ROUNDS)
    rate = timing.rates(seconds, TURN)
    timing.table(seconds, rate, "steps/s", "stream")
    return rate["stream"] / rate["memory"]


class Sources:
    """Where windows come from, found by their first state."""

    def __init__(self, states: np.ndarray):
        self.states = states
        grid = states[:, :: TRAINING["stride"]]
        self.places = {grid[i, j].tobytes(): (i, j * TRAINING["stride"]) for i, j in np.ndindex(grid.shape[:2])}

    def hold(self, batch: torch.Tensor) -> bool:
        places = [self.places[window[0].numpy().tobytes()] for window in batch]
        length = batch.shape[1]
        return all(np.array_equal(w, self.states[i, t : t + length]) for w, (i, t) in zip(batch, places, strict=True))


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="storage"))
    try:
        found = files(folder, trajectories(SHARDS * SHARD))
        found["training"] = streaming(folder)
    finally:
        shutil.rmtree(folder)
    report(found)


def report(found: dict[str, float]) -> None:
    print()
    for name, target in TARGETS.items():
        met = "reached" if found[name] >= target else "MISSED"
        print(f"{name:10} {found[name]:5.2f}× (target {target:.3g}×: {met})")
    ours = ", ".join(f"{kind} {found[f'store_{kind}']:.2f}×" for kind in ("write", "read"))
    print(f"our store, fingerprint and all, over zarr's own pipeline: {ours}")
    missed = [name for name, target in TARGETS.items() if found[name] < target]
    gate = "ok: round trips and windows bitwise" + (f"; targets missed: {', '.join(missed)}" if missed else "")
    more = {name: round(value, 2) for name, value in found.items() if name != "write"}
    timing.verdict("storage", found["write"], "zarr's own codec pipeline, writing", gate, cpus=os.cpu_count(), **more)


if __name__ == "__main__":
    main()
