"""A store is whole or absent, says what it holds, and never gives wrong numbers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from physiglot import files, fingerprint, store

STATE = np.arange(12 * 50 * 3, dtype=np.float64).reshape(12, 50, 3)


def sample(state=STATE, units="m", **attrs):
    dims = ("member", "time", "field")
    return xr.Dataset(
        {"state": (dims, state, {"units": units})},
        {"time": ("time", 0.1 * np.arange(state.shape[1]), {"units": "s"}), "field": ["x", "y", "z"]},
        {"system": "counting", **attrs},
    )


def build(path, order=(0, 4, 8), state=STATE, **attrs):
    """A store of three shards, filled in any order."""
    spec = {"dims": ("member", "time", "field"), "shape": state.shape, "dtype": state.dtype, "chunk": 2, "shard": 4}
    with store.new(path) as temporary:
        store.allocate(temporary, "train", {"state": spec}, attrs)
        digests = dict(store.fill(temporary, "train", "state", i, state[i : i + 4]) for i in order)
        return store.finish(temporary, digests, ["train"])


def shards(path, array="train/state"):
    return sorted(p for p in (path / array).iterdir() if p.name.startswith("c."))


def complaint(*command, cwd, module="physiglot.dataset"):
    run = subprocess.run([sys.executable, "-m", module, *command], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr.strip().splitlines()[-1]


def test_large_members_get_smaller_chunks(tmp_path, monkeypatch):
    """One chunk of all members would be more than the compressor takes; the contents are the same."""
    plain = store.save(tmp_path / "a.zarr", {"": sample()})
    monkeypatch.setattr(store, "LARGEST", 2 * STATE[0].nbytes + 1)
    assert store.save(tmp_path / "b.zarr", {"": sample()}) == plain
    meta = [json.loads((tmp_path / name / "state" / "zarr.json").read_text()) for name in ("a.zarr", "b.zarr")]
    inner = [
        m["codecs"][0]["configuration"]["chunk_shape"][0]
        if m["codecs"][0]["name"] == "sharding_indexed"
        else m["chunk_grid"]["configuration"]["chunk_shape"][0]
        for m in meta
    ]
    assert inner == [len(STATE), 2], inner
    np.testing.assert_array_equal(store.open_group(tmp_path / "b.zarr")["state"].values, STATE)


def test_round_trip(tmp_path):
    written = {"train": sample(), "val": sample(STATE[:5] + 0.5, seed=3)}
    value = store.save(tmp_path / "a.zarr", written, chunk=4, mean=[1.0])
    assert store.groups(tmp_path / "a.zarr") == ["train", "val"]
    assert fingerprint.of(tmp_path / "a.zarr" / "zarr.json") == value
    for group, expected in written.items():
        found = store.open_group(tmp_path / "a.zarr", group)
        xr.testing.assert_identical(found.drop_attrs(deep=False).load(), expected.drop_attrs(deep=False))
        assert expected.attrs.items() <= found.attrs.items()
        assert found.attrs["mean"] == [1.0] and not {"groups", "files"} & set(found.attrs)
    assert store.open_group(tmp_path / "a.zarr", "val", chunks={}).chunks["member"] == (4, 1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32", "int64", "bool"])
def test_every_kind_of_number(tmp_path, dtype):
    values = (STATE % 2).astype(dtype)
    store.save(tmp_path / "a.zarr", {"": sample(values)}, chunk=5)
    xr.testing.assert_equal(store.open_group(tmp_path / "a.zarr").load(), sample(values))


def test_the_layout_is_sharded_and_flat(tmp_path):
    build(tmp_path / "a.zarr")
    assert [p.name for p in shards(tmp_path / "a.zarr")] == ["c.0.0.0", "c.1.0.0", "c.2.0.0"]
    encoding = store.open_group(tmp_path / "a.zarr", "train")["state"].encoding
    assert encoding["shards"] == (4, 50, 3) and encoding["chunks"] == (2, 50, 3)


def test_two_runs_give_the_same_metadata(tmp_path):
    value = build(tmp_path / "a.zarr", note="x")
    assert build(tmp_path / "b.zarr", order=(8, 0, 4), note="x") == value
    for path in (tmp_path / "a.zarr").rglob("zarr.json"):
        other = tmp_path / "b.zarr" / path.relative_to(tmp_path / "a.zarr")
        assert path.read_bytes() == other.read_bytes()


def changed(place, value):
    state = STATE.copy()
    state[place] = value
    return state


def test_the_fingerprint_sees_every_change(tmp_path):
    swapped = STATE.copy()
    swapped[[0, 1]] = STATE[[1, 0]]
    variants = [
        sample(),
        sample(changed((0, 0, 0), 1e-300)),
        sample(changed((11, 49, 2), np.nextafter(STATE[-1, -1, -1], np.inf))),
        sample(changed((0, 0, 0), -0.0)),
        sample(swapped),
        sample(STATE.astype(np.float32)),
        sample(units="km"),
        sample(system="other"),
        sample(seed=1),
        sample().assign_coords(time=0.2 * np.arange(50)),
        sample().assign_coords(field=["x", "y", "w"]),
        sample().rename(member="sample"),
        sample().rename(state="states"),
    ]
    prints = [store.save(tmp_path / f"{i}.zarr", {"": v}) for i, v in enumerate(variants)]
    prints.append(store.save(tmp_path / "mean.zarr", {"": sample()}, mean=[0.0]))
    assert len(set(prints)) == len(variants) + 1
    assert store.save(tmp_path / "again.zarr", {"": sample()}) == prints[0]
    assert store.save(tmp_path / "chunks.zarr", {"": sample()}, chunk=3) == prints[0]


def test_an_error_leaves_nothing_and_keeps_what_was(tmp_path):
    with pytest.raises(RuntimeError, match="in between"), store.new(tmp_path / "a.zarr"):
        raise RuntimeError("in between")
    assert not list(tmp_path.iterdir())
    build(tmp_path / "a.zarr")
    with pytest.raises(RuntimeError, match="in between"), store.new(tmp_path / "a.zarr"):
        raise RuntimeError("in between")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    assert np.array_equal(store.open_group(tmp_path / "a.zarr", "train")["state"].values, STATE)


def test_a_store_is_replaced_whole(tmp_path):
    build(tmp_path / "a.zarr")
    store.save(tmp_path / "a.zarr", {"": sample(STATE + 1)})
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    assert np.array_equal(store.open_group(tmp_path / "a.zarr")["state"].values, STATE + 1)


WRITER = """
import sys, time
sys.path.insert(0, sys.argv[2])
import test_store
from pathlib import Path
from physiglot import store
spec = {"dims": ("member", "time", "field"), "shape": (12, 50, 3), "dtype": "float64", "chunk": 2, "shard": 4}
with store.new(Path(sys.argv[1])) as temporary:
    store.allocate(temporary, "train", {"state": spec})
    store.fill(temporary, "train", "state", 0, test_store.STATE[:4])
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("before", [False, True])
def test_a_killed_writer_leaves_no_store(tmp_path, before):
    path = tmp_path / "a.zarr"
    if before:
        build(path)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)], stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == b"half\n"
    with files.replacing(path) as other:
        assert len(list(tmp_path.glob(".a.zarr.*.tmp"))) == 1, "the leftovers of a living writer stay"
        other.mkdir()
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    assert len(list(tmp_path.glob(".a.zarr.*.tmp"))) == 1
    build(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_missing_store(tmp_path):
    with pytest.raises(store.StoreError, match=r"b\.zarr: no finished store here"):
        store.open_group(tmp_path / "b.zarr")
    build(tmp_path / "a.zarr")
    with pytest.raises(store.StoreError, match="no group 'tset'; it holds 'train'"):
        store.open_group(tmp_path / "a.zarr", "tset")
    (tmp_path / "file").write_text("")
    with pytest.raises(store.StoreError, match="no finished store here"):
        store.attributes(tmp_path / "file")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"attributes": {}}', '{"attributes": [1]}', "\x00\xff"])
def test_foreign_metadata(tmp_path, text):
    (tmp_path / "zarr.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(store.StoreError, match="not the metadata of a store that physiglot wrote"):
        store.open_group(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "missing", "all", "metadata"])
def test_a_damaged_store(tmp_path, damage):
    path = tmp_path / "a.zarr"
    build(path)
    shard = shards(path)[1]
    if damage == "truncated":
        os.truncate(shard, shard.stat().st_size - 1)
    elif damage == "missing":
        shard.unlink()
    elif damage == "all":
        (path / "train" / "state").rename(path / "elsewhere")
    else:
        (path / "train" / "state" / "zarr.json").unlink()
    with pytest.raises(store.StoreError, match=r"a\.zarr: train/state is incomplete .*make this store again"):
        store.open_group(path, "train")


def test_damage_after_opening_is_an_error_too(tmp_path):
    build(tmp_path / "a.zarr")
    state = store.open_group(tmp_path / "a.zarr", "train")["state"]
    shard = shards(tmp_path / "a.zarr")[1]
    os.truncate(shard, shard.stat().st_size // 2)
    assert np.array_equal(state[:4].values, STATE[:4])
    with pytest.raises(RuntimeError):
        state.load()


def test_a_store_of_zeros_is_whole(tmp_path):
    build(tmp_path / "a.zarr", state=np.zeros_like(STATE))
    assert not store.open_group(tmp_path / "a.zarr", "train")["state"].values.any()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_sentence(tmp_path, small_disk):
    for split in ("train", "val"):
        noise = sample(np.random.default_rng(0).standard_normal((256, 512, 3)))
        store.save(tmp_path / "blocks" / split / "0.zarr", {"": noise})
    listed = {f"blocks/{split}/0.zarr": {"members": 256} for split in ("train", "val")}
    (tmp_path / "blocks.json").write_text(json.dumps(listed))
    spec = {"splits": {"train": 256, "val": 256}, "block": 256, "chunk": 64}
    out = small_disk / "clean.zarr" / "zarr.json"
    blocks = str(tmp_path / "blocks.json")
    line = complaint("--spec", json.dumps(spec), "--blocks", blocks, "--out", str(out), cwd=tmp_path)
    assert line.startswith("error: dataset: no space is left")
    assert [p.name for p in small_disk.iterdir()] == ["clean.run.json"]
    assert json.loads((small_disk / "clean.run.json").read_text())["status"] == "FAILED"


def test_a_damaged_block_is_one_sentence(tmp_path):
    """`collect` looks at every block, and says which to make again."""
    store.save(tmp_path / "blocks" / "train" / "0.zarr", {"": sample()})
    os.truncate(shards(tmp_path / "blocks" / "train" / "0.zarr", "state")[0], 10)
    spec = json.dumps({"blocks": {"train": 1}})
    out = str(tmp_path / "blocks.json")
    line = complaint("--spec", spec, "--out", out, cwd=tmp_path, module="physiglot.collect")
    assert line.startswith("error: collect: ") and "blocks/train/0.zarr: state is incomplete" in line
