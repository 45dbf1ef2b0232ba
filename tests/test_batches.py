"""Batches: the right windows, a function of seed and step alone, in memory and streamed."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from physiglot import batches, store
from physiglot.batches import InMemory, Sampler, gather
from physiglot.stream import Stream

MEMBERS, TIMES, SHARD = 40, 96, 4
TRAINING = {"window": 16, "stride": 16, "batch": 12, "in_memory": 1.0}
CROPS = {**TRAINING, "stride": None}


def write(path, members, times=TIMES, shard=SHARD, channels=2, smooth=False):
    """A store whose states name their member, time and channel: 1000 member + time + channel / 8."""
    shape = (members, times, channels)
    spec = {"dims": ("member", "time", "field"), "shape": shape, "dtype": np.float64, "chunk": 1, "shard": shard}
    names = ["state", "smooth"] if smooth else ["state"]
    digests = {}
    with store.new(path) as temporary:
        store.allocate(temporary, "train", dict.fromkeys(names, spec))
        for start in range(0, members, shard):
            i, t, c = np.ogrid[start : min(start + shard, members), :times, :channels]
            for name in names:
                values = 1000.0 * i + t + c / 8 + (0.5 if name == "smooth" else 0)
                digests.update([store.fill(temporary, "train", name, start, values)])
        store.finish(temporary, digests, ["train"])
    return path


@pytest.fixture(scope="module")
def lazy(tmp_path_factory):
    return batches.sources(write(tmp_path_factory.mktemp("b") / "a.zarr", MEMBERS), None, "train")


def room(lazy, shards):
    """GiB that hold `shards` shards, one of them while it is read."""
    shard = sum(4 * array[:SHARD].size for array in batches.unique(lazy))
    return (shard * (shards + 0.5) + 3 * lazy["state"][:SHARD].nbytes + 24 * SHARD * TIMES // 16) / 2**30


def streamed(lazy, training=TRAINING, shards=4, seed=0):
    return Stream(lazy, {**training, "in_memory": room(lazy, shards)}, seed, "cpu")


def members_and_starts(batch):
    """Where the windows of a batch come from, after a check that they are contiguous and right."""
    state = batch["state"].double()
    member = torch.div(state[:, 0, 0], 1000, rounding_mode="floor")
    start = state[:, 0, 0] - 1000 * member
    t = torch.arange(state.shape[1])
    expected = (1000 * member + start)[:, None, None] + t[:, None] + torch.arange(state.shape[2]) / 8
    assert torch.equal(state, expected)
    return list(zip(member.int().tolist(), start.int().tolist(), strict=True))


KINDS = {
    "memory_grid": lambda lazy: InMemory(lazy, TRAINING, 3, "cpu"),
    "memory_crops": lambda lazy: InMemory(lazy, CROPS, 3, "cpu"),
    "stream_grid": lambda lazy: streamed(lazy, seed=3),
    "stream_crops": lambda lazy: streamed(lazy, CROPS, seed=3),
}


@pytest.mark.parametrize("stride", [1, 7, 16])
def test_an_epoch_covers_the_grid_once(stride):
    starts = len(range(0, TIMES - 16 + 1, stride))
    sampler = Sampler(12, TIMES, {**TRAINING, "stride": stride}, 0)
    assert sampler.per_epoch == starts and sampler.per_member == starts
    orders = []
    for epoch in range(2):
        drawn = [sampler.at(epoch * sampler.per_epoch + i) for i in range(sampler.per_epoch)]
        orders.append([w for members, begin in drawn for w in zip(members.tolist(), begin.tolist(), strict=True)])
        assert sorted(orders[-1]) == [(m, s) for m in range(12) for s in range(0, TIMES - 15, stride)]
    assert orders[0] != orders[1]


def test_crops_neglect_no_time():
    """The first and last states, too, which uniform starts would hardly show."""
    sampler, times = Sampler(5, 64, {**CROPS, "batch": 1000}, 0), np.arange(64)
    members, starts = (np.concatenate(drawn) for drawn in zip(*(sampler.at(i) for i in range(20)), strict=True))
    covered = ((starts[:, None] <= times) & (times < starts[:, None] + 16)).sum(0)
    expected = len(starts) * 16 / (64 + 16 - 1)
    assert covered.min() > expected - 5 * np.sqrt(expected) and covered.max() < 2.1 * expected
    assert abs(np.bincount(members) - 4000).max() < 5 * np.sqrt(4000)
    assert starts.min() == 0 and starts.max() == 48


def test_a_window_longer_than_the_series_is_refused():
    with pytest.raises(ValueError, match=r"training.window: 21: longer than the series, which have 20"):
        Sampler(5, 20, {**CROPS, "window": 21}, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_contiguous_and_right(lazy, kind):
    data = KINDS[kind](lazy)
    seen = set()
    for step in range(3 * data.sampler.per_epoch):
        windows = members_and_starts(data.at(step))
        assert len(windows) == TRAINING["batch"]
        seen |= set(windows)
    assert {m for m, _ in seen} == set(range(MEMBERS))
    assert all(0 <= s <= TIMES - 16 for _, s in seen)
    if "grid" in kind:
        assert len(seen) == MEMBERS * TIMES // 16 and all(s % 16 == 0 for _, s in seen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_does_not_depend_on_the_past(lazy, kind):
    """Bitwise: a resume at any step, a step back and a repeat see what the uninterrupted training saw."""
    data = KINDS[kind](lazy)
    steps = range(3 * data.sampler.per_epoch)
    expected = [data.at(step)["state"].clone() for step in steps]
    for step in (0, 7, len(steps) - 1, 8, 8):
        assert torch.equal(data.at(step)["state"], expected[step])
    for begin in (1, 9, 23, 41):
        resumed = KINDS[kind](lazy)
        for step in list(steps)[begin : begin + 12]:
            assert torch.equal(resumed.at(step)["state"], expected[step])


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_seeds_differ(lazy, kind):
    make = {"memory": lambda s: InMemory(lazy, TRAINING, s, "cpu"), "stream": lambda s: streamed(lazy, seed=s)}[kind]
    assert not torch.equal(make(1).at(0)["state"], make(2).at(0)["state"])


def test_a_stream_draws_every_window_equally_often(lazy):
    """Once its pool has been renewed, every window comes once per pass through the shards."""
    data, passes = streamed(lazy, shards=4), 20
    assert data.size == 3 and data.parts == 10 and data.turn == 2
    drawn = [w for step in range(passes * data.parts * data.turn) for w in members_and_starts(data.at(step))]
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == MEMBERS * 6
    assert passes - 2 <= counts.min() and counts.max() <= passes + 2


def test_a_stream_mixes_the_shards_of_its_pool(lazy):
    data = streamed(lazy, CROPS, shards=6)
    shards = {m // SHARD for m, _ in members_and_starts(data.at(0))}
    assert len(shards) >= 4 and data.size == 5


def test_a_stream_passes_the_shards_in_another_order_every_epoch(lazy):
    data = streamed(lazy)
    epochs = [[data.part(i)[0] for i in range(e * data.parts, (e + 1) * data.parts)] for e in range(3)]
    assert all(sorted(e) == data.shards for e in epochs) and epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("batch", [1, 5, 24, 30, 100, 1000])
@pytest.mark.parametrize("stride", [None, 16])
def test_a_stream_of_any_batch(lazy, batch, stride):
    data = streamed(lazy, {**TRAINING, "batch": batch, "stride": stride})
    for step in range(5):
        assert len(members_and_starts(data.at(step))) == batch


def test_a_stream_of_shards_that_do_not_divide_the_members(tmp_path):
    lazy = batches.sources(write(tmp_path / "a.zarr", 4 * SHARD + 1), None, "train")
    data, seen = streamed(lazy, shards=3), set()
    for step in range(40):
        seen |= set(members_and_starts(data.at(step)))
    assert {m for m, _ in seen} == set(range(4 * SHARD + 1))


def test_all_arrays_of_a_batch_are_of_the_same_windows(tmp_path):
    write(tmp_path / "a.zarr", MEMBERS, smooth=True)
    lazy = batches.sources(tmp_path / "a.zarr", None, "train")
    for data in (streamed(lazy), InMemory(lazy, TRAINING, 0, "cpu")):
        batch = data.at(3)
        assert torch.equal(batch["smooth"], batch["state"] + 0.5)


def test_equal_sources_are_held_once(lazy):
    for data in (InMemory(lazy, TRAINING, 0, "cpu").arrays, streamed(lazy).pool.arrays):
        assert data["smooth"] is data["state"]
    batch = gather(InMemory(lazy, TRAINING, 0, "cpu").arrays, np.array([1]), np.array([2]), 3)
    assert batch["smooth"] is batch["state"]


def test_what_fits_is_held_in_memory(tmp_path):
    path = write(tmp_path / "a.zarr", MEMBERS)
    gibibytes = MEMBERS * TIMES * 2 * 4 / 2**30
    assert isinstance(batches.open_split(path, None, "train", {**TRAINING, "in_memory": gibibytes}, 0, "cpu"), InMemory)
    less = {**TRAINING, "in_memory": 0.9 * gibibytes}
    assert isinstance(batches.open_split(path, None, "train", less, 0, "cpu"), Stream)


def test_a_pool_below_two_shards_is_refused(lazy):
    with pytest.raises(
        ValueError, match=r"training.in_memory: 1e-06: below the .* GiB that two shards of the data need"
    ):
        Stream(lazy, {**TRAINING, "in_memory": 1e-6}, 0, "cpu")


def test_an_error_of_the_reading_thread_reaches_the_training(tmp_path):
    path = write(tmp_path / "a.zarr", MEMBERS)
    data = streamed(batches.sources(path, None, "train"))
    data.at(0)
    for shard in (path / "train" / "state").glob("c.*"):
        shard.write_bytes(shard.read_bytes()[:20])
    with pytest.raises(RuntimeError):
        for step in range(50):
            data.at(step)


def test_reading_goes_on_during_training(lazy, monkeypatch):
    """The next shard is asked for when a pool is entered, not when it is needed."""
    data = streamed(lazy)
    data.at(0)
    read = data.pool._read
    asked = threading.Event()
    monkeypatch.setattr(data.pool, "_read", lambda *a: (asked.set(), read(*a)))
    data._enter(1)
    assert asked.wait(30)


PROGRAM = """
import sys
from pathlib import Path
from physiglot import batches
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
small, large = (batches.sources(Path(p), None, "train") for p in sys.argv[1:3])
from physiglot.stream import Stream
training = {"window": 64, "stride": 16, "batch": 256, "in_memory": float(sys.argv[3])}
warm = Stream(small, training, 0, "cpu")
for step in range(3): warm.at(step)
base = peak()
data = Stream(large, training, 0, "cpu")
for step in range(data.turn * data.parts): data.at(step)
print(data.size, data.parts, peak() - base)
"""


def test_the_pool_stays_within_its_memory(tmp_path):
    """192 MiB pass through a pool of 24 MiB."""
    small = write(tmp_path / "small.zarr", 8, times=2048, shard=4, channels=4)
    large = write(tmp_path / "large.zarr", 6144, times=2048, shard=64, channels=4)
    command = [sys.executable, "-c", PROGRAM, str(small), str(large), str(24 / 1024)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.split()[-1]) < 24, run.stdout


@pytest.mark.parametrize("shards", [None, 4])
def test_parameters_belong_to_their_series(tmp_path, shards):
    """In memory and streamed: the parameter of member i is i."""
    path, digests = tmp_path / "a.zarr", {}
    layout = {"dtype": np.float64, "chunk": 1, "shard": SHARD}
    state = {**layout, "dims": ("member", "time", "field"), "shape": (MEMBERS, TIMES, 2)}
    given = {**layout, "dims": ("member", "parameter"), "shape": (MEMBERS, 1)}
    numbers = np.arange(MEMBERS, dtype=np.float64)
    with store.new(path) as temporary:
        store.allocate(temporary, "train", {"state": state, "parameters": given})
        for start in range(0, MEMBERS, SHARD):
            part = numbers[start : start + SHARD, None]
            digests.update([store.fill(temporary, "train", "parameters", start, part)])
            values = np.broadcast_to(part[:, :, None], (SHARD, TIMES, 2)).copy()
            digests.update([store.fill(temporary, "train", "state", start, values)])
        store.finish(temporary, digests, ["train"])
    lazy = batches.sources(path, None, "train")
    data = streamed(lazy, shards=shards) if shards else InMemory(lazy, TRAINING, 0, "cpu")
    for step in range(6):
        batch = data.at(step)
        assert batch["parameters"].shape == (TRAINING["batch"], 1)
        assert torch.equal(batch["parameters"], batch["state"][:, 0, :1])


def test_only_what_a_model_reads_is_held_in_memory(tmp_path):
    """Series first, in the order of the model; the windows are the same as if all were read."""
    path = write(tmp_path / "a.zarr", MEMBERS, smooth=True)
    lazy = batches.sources(path, None, "train", ("smooth", "parameters"))
    assert list(lazy) == ["smooth"]
    part = batches.open_split(path, None, "train", TRAINING | {"in_memory": 1.0}, 3, "cpu", only=("smooth",))
    whole = batches.open_split(path, None, "train", TRAINING | {"in_memory": 1.0}, 3, "cpu")
    for step in range(3):
        assert set(part.at(step)) == {"smooth"}
        assert torch.equal(part.at(step)["smooth"], whole.at(step)["smooth"])
