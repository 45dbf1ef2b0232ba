"""The dataset: measured as stated, the same whoever computes it, and in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.signal import savgol_filter

from physiglot import collect, embed, models, moments, store
from physiglot import dataset as stage

BLOCK, STEPS = 32, 64
NOISE = {"level": 0.1, "mode": "relative", "splits": ["train"], "seed": 5}
SMOOTH = {"window": 15, "order": 4}
MIB = 2**20


def block(path, values):
    dims = ("member", "time", "field")
    coords = {"time": ("time", 0.1 * np.arange(values.shape[1])), "field": ["x", "y"]}
    store.save(path, {"": xr.Dataset({"state": (dims, values, {"units": "m"})}, coords, {"g": 9.81})}, chunk=8)


def listed(folder, **imported):
    """`blocks.json` of the blocks in a folder and of these imported ones (split -> stems)."""
    simulated = {s: len(list((folder / "blocks" / s).glob("*.zarr"))) for s in ("train", "val", *imported)}
    collect.collect(spec={"blocks": simulated, "imported": imported}, out=folder / "blocks.json")
    return folder / "blocks.json"


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """Three blocks of train and one of val, with a mean and a scale that differ by field and by block."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in {"train": 3, "val": 1}.items():
        for i in range(count):
            values = [5.0, -300.0] + [1.0, 20.0] * rng.standard_normal((BLOCK, STEPS, 2)) + i
            block(folder / "blocks" / split / f"{i}.zarr", values)
    return listed(folder)


def make(blocks, name, threads=1, **options):
    spec = {"splits": {"train": 80, "val": 10}, "block": BLOCK, "chunk": 8, **options}
    out = blocks.parent / "datasets" / f"{name}.zarr"
    stage.dataset(spec=spec, blocks=blocks, out=out / "zarr.json", threads=threads)
    return out


def simulated(blocks, split, members):
    parts = [store.open_group(p)["state"].values for p in sorted((blocks.parent / "blocks" / split).glob("*.zarr"))]
    return np.concatenate(parts)[:members]


def test_the_blocks_in_order_trimmed_to_the_members(blocks):
    out = make(blocks, "clean")
    for split, members in {"train": 80, "val": 10}.items():
        data = store.open_group(out, split)
        assert np.array_equal(data["state"].values, simulated(blocks, split, members))
        assert list(data["field"].values) == ["x", "y"] and data["state"].attrs == {"units": "m"}
        assert np.array_equal(data["time"].values, 0.1 * np.arange(STEPS))
        assert data.attrs["g"] == 9.81 and "smooth" not in data


def test_statistics_are_those_of_the_whole_training_split(blocks):
    for name, options in {"clean": {}, "noisy": {"noise": NOISE}}.items():
        out = make(blocks, name, **options)
        state, found = store.open_group(out, "train")["state"].values, store.attributes(out)
        np.testing.assert_allclose(found["mean"], state.mean((0, 1)), rtol=1e-13)
        np.testing.assert_allclose(found["std"], state.std((0, 1)), rtol=1e-12)


@pytest.mark.parametrize("shape", [(7, 11, 3), (1, 1, 2), (70_000, 2, 3), (5, 4, 2, 6, 8)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_moments_of_parts(shape, dtype):
    state = (100 + 20 * np.random.default_rng(1).standard_normal(shape)).astype(dtype)
    axes = (0, 1, *range(3, len(shape)))
    cut = -(-len(state) // 3)
    parts = [moments.of(state[i : i + cut]) for i in range(0, len(state), cut)]
    total = parts[0]
    for part in parts[1:]:
        total = moments.merge(total, part)
    np.testing.assert_allclose(total[1], state.mean(axes, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(moments.std(total), state.std(axes, dtype=np.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ["relative", "std"])
def test_noise_is_what_was_asked_for(blocks, mode):
    out = make(blocks, mode, noise={**NOISE, "mode": mode})
    clean = simulated(blocks, "train", 80)
    scale = np.abs(clean) if mode == "relative" else clean.std((0, 1))
    eta = (store.open_group(out, "train")["state"].values - clean) / (NOISE["level"] * scale)
    assert abs(eta.mean()) < 5 / np.sqrt(eta.size)
    assert abs(eta.std() - 1) < 5 / np.sqrt(2 * eta.size)
    assert abs((eta**4).mean() - 3) < 0.5
    flat = eta.reshape(80, -1)
    for one, other in ((flat[:32], flat[32:64]), (flat[:-1], flat[1:]), (eta[:, 1:], eta[:, :-1])):
        assert abs(np.mean(one * other)) < 5 / np.sqrt(one.size), "blocks, members and times are independent"
    assert np.array_equal(store.open_group(out, "val")["state"].values, simulated(blocks, "val", 10))


def test_noise_has_its_own_seed(blocks):
    states = [
        store.open_group(make(blocks, f"seed{seed}", noise={**NOISE, "seed": seed}), "train")["state"].values
        for seed in (1, 2)
    ]
    clean = simulated(blocks, "train", 80)
    first, second = (((s - clean) / clean).ravel() for s in states)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)


def test_smoothing(blocks):
    out = make(blocks, "smooth", noise=NOISE, smooth=SMOOTH)
    data = store.open_group(out, "train").load()
    expected = savgol_filter(data["state"].values, 15, 4, axis=1)
    np.testing.assert_allclose(data["smooth"].values, expected, rtol=1e-12)
    assert "smooth" not in store.open_group(out, "val")


def test_smoothing_keeps_a_quartic():
    t = np.linspace(0, 1, 40)[None, :, None]
    quartic = np.concatenate([t**4 - t, 2 - t**3], axis=2)
    np.testing.assert_allclose(stage.smooth(quartic, 15, 4), quartic, atol=1e-12)


def test_smoothing_of_short_series_is_refused():
    with pytest.raises(ValueError, match=r"smooth.window: 15: longer than the series, which have 14 steps"):
        stage.smooth(np.zeros((2, 14, 1)), 15, 4)


def test_threads_and_processes_give_the_same_bytes(blocks, monkeypatch):
    options = {"noise": NOISE, "smooth": SMOOTH}
    cluster = {"scheduler": "distributed", "workers": 2, "memory": "1GiB"}
    made = [make(blocks, "one", 1, **options), make(blocks, "two", 2, **options)]
    monkeypatch.setenv("PHYSIGLOT_DASK", json.dumps(cluster))
    made.append(make(blocks, "cluster", 1, **options))
    texts = {(out / "zarr.json").read_bytes() for out in made}
    assert len(texts) == 1
    states = [store.open_group(out, "train")["smooth"].values for out in made]
    assert np.array_equal(states[0], states[1]) and np.array_equal(states[0], states[2])


def test_a_block_with_too_few_members_is_refused(blocks, tmp_path):
    for split in ("train", "val"):
        block(tmp_path / "blocks" / split / "0.zarr", np.ones((9, STEPS, 2)))
    with pytest.raises(store.StoreError, match="9 members, but 10 of this block are needed"):
        make(listed(tmp_path), "short", splits={"train": 9, "val": 10})
    assert not (tmp_path / "datasets").exists()


FILES = {"b": 3, "c": 70, "d": 1}  # members of the imported blocks: fractions of a shard, and more than one


@pytest.fixture(scope="module")
def imported(blocks, tmp_path_factory):
    """The blocks, and imported ones of any length: of train, and of a split without simulated members."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "blocks").symlink_to(blocks.parent / "blocks")
    rng = np.random.default_rng(1)
    for split, found in {"train": {**FILES, "a": 5}, "real": {"x": 40}}.items():
        for stem, members in found.items():
            values = [5.0, -300.0] + [1.0, 20.0] * rng.standard_normal((members, STEPS, 2))
            block(folder / "imported" / split / f"{stem}.zarr", values)
    return folder


def of_files(folder, split, stems):
    return np.concatenate([store.open_group(folder / "imported" / split / f"{s}.zarr")["state"].values for s in stems])


def test_imported_members_follow_the_simulated_ones(blocks, imported):
    out = make(listed(imported, train=list(FILES), real=["x"]), "whole", splits={"train": 80, "val": 10, "real": 0})
    expected = np.concatenate([simulated(blocks, "train", 80), of_files(imported, "train", FILES)])
    train, real = store.open_group(out, "train"), store.open_group(out, "real")
    assert np.array_equal(train["state"].values, expected)
    assert np.array_equal(real["state"].values, of_files(imported, "real", ["x"]))
    assert real.attrs["g"] == 9.81 and list(real["field"].values) == ["x", "y"]
    assert np.array_equal(store.open_group(out, "val")["state"].values, simulated(blocks, "val", 10))
    np.testing.assert_allclose(store.attributes(out)["mean"], expected.mean((0, 1)), rtol=1e-13)
    np.testing.assert_allclose(store.attributes(out)["std"], expected.std((0, 1)), rtol=1e-12)


@pytest.mark.parametrize("mode", ["relative", "std"])
def test_noise_of_imported_members(imported, mode):
    out = make(listed(imported, train=list(FILES)), f"noisy {mode}", noise={**NOISE, "mode": mode})
    state = store.open_group(out, "train")["state"].values
    clean = store.open_group(make(imported / "blocks.json", "clean"), "train")["state"].values
    scale = np.abs(clean) if mode == "relative" else clean.std((0, 1))
    eta = ((state - clean) / (NOISE["level"] * scale))[80:].reshape(sum(FILES.values()), -1)
    assert abs(eta.mean()) < 5 / np.sqrt(eta.size) and abs(eta.std() - 1) < 5 / np.sqrt(2 * eta.size)
    correlation = np.corrcoef(eta) - np.eye(len(eta))
    assert abs(correlation).max() < 6 / np.sqrt(eta.shape[1]), "members are independent, of one file or of two"


def test_another_file_leaves_the_noise_of_the_others(imported):
    options = {"noise": NOISE, "smooth": SMOOTH}
    alone, few, more = (
        store.open_group(make(listed(imported, train=files), f"{len(files)} files", **options), "train").load()
        for files in ([], list(FILES), ["a", *FILES])
    )
    assert np.array_equal(few["state"][:80], alone["state"]) and np.array_equal(more["state"][:80], alone["state"])
    assert np.array_equal(more["state"][85:], few["state"][80:])
    np.testing.assert_allclose(more["smooth"][85:], few["smooth"][80:], rtol=1e-11)


def test_threads_give_the_same_bytes_with_imported_blocks(imported):
    path, options = listed(imported, train=list(FILES)), {"noise": NOISE, "smooth": SMOOTH}
    one, two = (make(path, f"imported {threads}", threads, **options) for threads in (1, 2))
    assert (one / "zarr.json").read_bytes() == (two / "zarr.json").read_bytes()
    assert np.array_equal(store.open_group(one, "train")["smooth"], store.open_group(two, "train")["smooth"])


def test_where_a_file_came_from_does_not_reach_the_dataset(imported):
    path = listed(imported, real=["x"])
    first = make(path, "before", splits={"train": 80, "val": 10, "real": 0})
    root = imported / "imported/real/x.zarr/zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["notes"]["source"] = {"file": "other.h5"}
    root.write_text(json.dumps(content))
    second = make(path, "after", splits={"train": 80, "val": 10, "real": 0})
    assert (first / "zarr.json").read_bytes() == (second / "zarr.json").read_bytes()
    assert "source" not in store.open_group(second, "real").attrs


def test_an_imported_block_of_another_shape_is_refused(imported):
    block(imported / "imported" / "train" / "long.zarr", np.ones((2, STEPS + 1, 2)))
    with pytest.raises(store.StoreError, match=r"long.zarr: state: its members are \(65, 2\) of .* \(64, 2\)"):
        make(listed(imported, train=["long"]), "long")
    assert not list((imported / "datasets").glob("long*"))


def embedding(path, fields=2, width=64):
    """Untrained weights of a small embedding."""
    part = {"module": "koopman", "params": {"channels": 4, "width": width}}
    torch.manual_seed(0)
    models.save(path, models.build(part, torch.zeros(fields), torch.ones(fields)))
    return path


def test_the_embedding_of_what_was_smoothed(blocks, tmp_path):
    weights = embedding(tmp_path / "weights.pt")
    source = make(blocks, "for_embedding", noise=NOISE, smooth=SMOOTH)
    spec = {"splits": ["train", "val"], "block": BLOCK, "chunk": 8}
    for threads in (1, 2):
        out = tmp_path / f"{threads}.zarr" / "zarr.json"
        embed.embed(spec=spec, dataset=source / "zarr.json", weights=weights, out=out, threads=threads)
    assert (tmp_path / "1.zarr" / "zarr.json").read_bytes() == (tmp_path / "2.zarr" / "zarr.json").read_bytes()
    model = models.load(weights)
    for split, name in (("train", "smooth"), ("val", "state")):
        states = torch.as_tensor(store.open_group(source, split)[name].values, dtype=torch.float32)
        found = torch.as_tensor(store.open_group(tmp_path / "2.zarr", split)["embedded"].values)
        with torch.inference_mode():
            torch.testing.assert_close(found, model.embed(states), rtol=1e-5, atol=1e-5)


MEASURED = """
import resource, runpy, sys
stage, limit = sys.argv[1], int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
sys.argv = ["stage", *sys.argv[3:]]
try:
    runpy.run_module(f"physiglot.{stage}", run_name="__main__", alter_sys=True)
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print("memory", *(int(status[key].split()[0]) // 1024 for key in ("VmHWM", "VmData")))
"""


def memory(stage, out, limit=0, **options):
    """(peak RSS, private memory at the end) in MiB of a stage in its own process, which may be limited in MiB."""
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    target = out if out.suffix == ".json" else out / "zarr.json"
    command = [sys.executable, "-c", MEASURED, stage, str(limit * MIB), *given, "--out", str(target)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    peak, private = run.stdout.split("memory ")[1].split()
    return int(peak), int(private)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A split of 200 MiB, half of it 50 blocks of 2 MiB (all the same one) and half one file; and a small one."""
    folders = []
    for name, steps, count in (("small", 32, 1), ("large", 2048, 50)):
        folder = tmp_path_factory.mktemp(name)
        values = np.random.default_rng(0).standard_normal((64, steps, 2))
        for split, n in (("train", count), ("val", 1)):
            block(folder / "blocks" / split / "0.zarr", values)
            for i in range(1, n):
                (folder / "blocks" / split / f"{i}.zarr").symlink_to("0.zarr")
        block(folder / "imported" / "train" / "file.zarr", np.concatenate([values[1:]] + [values] * (count - 1)))
        folders.append(listed(folder, train=["file"]))
    return folders


def test_memory_is_bounded_by_blocks(large, tmp_path):
    """dataset and embed of 400 MiB within 50 MiB beside the libraries; a hard limit ends them at 100 MiB."""
    weights = embedding(tmp_path / "weights.pt")
    base: dict[str, tuple[int, int]] = {}
    for blocks, count in zip(large, (1, 50), strict=True):
        shape = {"block": 64, "chunk": 8}
        splits = {"train": 64 * count, "val": 64}
        spec = {"splits": splits, **shape, "noise": NOISE, "smooth": SMOOTH}
        runs = {
            "dataset": {"spec": json.dumps(spec), "blocks": blocks},
            "embed": {
                "spec": json.dumps({"splits": ["train", "val"], **shape}),
                "dataset": blocks.parent / "dataset.zarr" / "zarr.json",
                "weights": weights,
            },
        }
        for name, options in runs.items():
            limit = base[name][1] + 100 if name in base else 0
            used = memory(name, blocks.parent / f"{name}.zarr", limit, threads=1, **options)
            extra = used[0] - base.setdefault(name, used)[0]
            print(f"{name} of {count} blocks and a file: {used[0]} MiB, {extra} more than of small ones")
            assert extra < 50, name
    written = store.open_group(Path(large[1]).parent / "dataset.zarr", "train")
    assert written["state"].nbytes + written["smooth"].nbytes > 398 * MIB


def side_block(path, first, members=BLOCK, **variables):
    """A block whose members are numbered: state, parameter and drag follow from the number of the member."""
    number = np.arange(first, first + members, dtype=np.float64)
    state = np.broadcast_to(number[:, None, None], (members, STEPS, 2)).copy()
    found = {"state": (("member", "time", "field"), state, {"units": "1"})}
    found["parameters"] = (("member", "parameter"), 10 * number[:, None])
    found["drag"] = (("member", "time"), -state[:, :, 0])
    found.update(variables)
    coords = {"time": ("time", 0.1 * np.arange(STEPS)), "field": ["x", "y"], "parameter": ["nu"]}
    kept = {k: v for k, v in found.items() if v is not None}
    store.save(path, {"": xr.Dataset(kept, coords)}, chunk=8)


def test_what_stands_beside_the_state_comes_along(tmp_path):
    for split, count in {"train": 2, "val": 1}.items():
        for i in range(count):
            side_block(tmp_path / "blocks" / split / f"{i}.zarr", i * BLOCK)
    side_block(tmp_path / "imported" / "train" / "file.zarr", 100, 5, drag=None)
    out = make(listed(tmp_path, train=["file"]), "side", splits={"train": 40, "val": 10}, noise=NOISE)
    train = store.open_group(out, "train")
    numbers = np.array([*range(40), *range(100, 105)], np.float64)
    assert list(train["parameter"].values) == ["nu"]
    assert np.array_equal(train["parameters"].values, 10 * numbers[:, None])
    assert np.array_equal(train["drag"].values[:40, 3], -numbers[:40]), "noise is for the state only"
    assert np.isnan(train["drag"].values[40:]).all(), "what a file does not know is not made up"
    side_block(tmp_path / "imported" / "train" / "other.zarr", 0, 5, parameters=None)
    with pytest.raises(store.StoreError, match=r"other.zarr: it has no parameters"):
        make(listed(tmp_path, train=["other"]), "other", splits={"train": 40, "val": 10})
