"""Fields from HDF5 files in the layouts of transformer-physx and of The Well, and what can be wrong with them."""

import re
import tracemalloc
from importlib import import_module

import h5py
import numpy as np
import pytest

from physiglot import collect, dataset, imports, store
from physiglot import config as schema
from physiglot.ingest import ForeignFile, ingest

WAKE = {
    "module": "cylinder",
    "fields": ["ux", "uy", "p"],
    "units": {"state": "U", "time": "radius/U", "space": "radius"},
    "dt": 0.5,
    "steps": 6,
    "axes": {"y": [-4.0, 4.0, 4], "x": [-2.0, 14.0, 8]},
    "dtype": "float32",
    "parameters": ["nu"],
    "block": 4,
    "chunk": 1,
}
CUBE = {**WAKE, "module": "gray_scott", "fields": ["u", "v"], "dt": 5.0, "parameters": []}
CUBE["axes"] = {axis: [0.5, 4.5, 5] for axis in "zyx"}
RE = ["100.0", "250.5", "733"]


def made(tmp_path, path, spec):
    out = tmp_path / "imported" / f"{path.stem}.zarr"
    ingest(spec=spec, file=path, out=out / "zarr.json")
    return store.open_group(out)


def series(spec, members=3, seed=0):
    """(member, time, field, …) as the system has it."""
    shape = (members, spec["steps"], len(spec["fields"]), *(n for *_, n in spec["axes"].values()))
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def groups(path, spec, values, names=RE, clock=None):
    """transformer-physx: a group for each series, a dataset for each field."""
    with h5py.File(path, "w") as file:
        for name, state in zip(names, values, strict=True):
            for i, field in enumerate(spec["fields"]):
                file[f"{name}/{field}"] = state[:, i]
            if clock is not None:
                file[f"{name}/t"] = clock
    return path


def well(path, spec, values, nu=None):
    """The Well: one dataset for each field, axes in the order x, y, z; the velocity of a wake is a vector."""
    axes = sorted(spec["axes"])
    given = list(spec["axes"])
    with h5py.File(path, "w") as file:
        file.attrs.update({"n_trajectories": len(values), "n_spatial_dims": len(axes), "grid_type": "cartesian"})
        file["dimensions/time"] = (spec["dt"] * np.arange(spec["steps"])).astype(np.float32)
        file["dimensions"].attrs["spatial_dims"] = axes
        for axis, (first, last, cells) in spec["axes"].items():
            file[f"dimensions/{axis}"] = np.linspace(first, last, cells, dtype=np.float32)
        turned = np.transpose(values, [0, 1, 2, *(3 + given.index(axis) for axis in axes)])
        if "ux" in spec["fields"]:
            file["t1_fields/velocity"] = np.moveaxis(turned[:, :, :2], 2, -1)
            file["t0_fields/pressure"] = turned[:, :, 2]
        else:
            for i, field in enumerate(spec["fields"]):
                file[f"t0_fields/{field}"] = turned[:, :, i]
        if nu is not None:
            file["scalars/nu"] = nu
    return path


def test_a_wake_of_transformer_physx(tmp_path):
    """The name of a run is its Reynolds number; ν = 2/Re is imported with it."""
    values = series(WAKE)
    data = made(tmp_path, groups(tmp_path / "wake.hdf5", WAKE, values), WAKE)
    assert data["state"].dims == ("member", "time", "field", "y", "x") and data["state"].dtype == np.float32
    assert np.array_equal(data["state"].values, values)
    assert np.array_equal(data["parameters"].values[:, 0], 2 / np.array(RE, float))
    assert list(data["parameter"].values) == ["nu"] and list(data["field"].values) == WAKE["fields"]
    assert np.array_equal(data["x"].values, np.linspace(-2, 14, 8)) and data["y"].attrs == {"units": "radius"}
    assert np.array_equal(data["time"].values, 0.5 * np.arange(6))
    assert store.attributes(tmp_path / "imported/wake.zarr")["notes"]["source"]["layout"] == "groups"


def test_cubes_of_transformer_physx(tmp_path):
    values = series(CUBE).astype(float)
    path = groups(tmp_path / "cube.h5", CUBE, values, ["a", "b", "c"], 5.0 * np.arange(6))
    data = made(tmp_path, path, CUBE)
    assert data["state"].dims == ("member", "time", "field", "z", "y", "x") and "parameters" not in data
    assert np.array_equal(data["state"].values, values.astype(np.float32))


def test_a_clock_that_counts_steps_tells_no_time(tmp_path):
    values = series(CUBE, 1)
    made(tmp_path, groups(tmp_path / "cube.h5", CUBE, values, ["a"], np.arange(6)), CUBE)


@pytest.mark.parametrize("spec", [WAKE, CUBE], ids=["wake", "cube"])
def test_the_well(tmp_path, spec):
    """Vectors, scalars of a trajectory, and axes in their own order."""
    values, nu = series(spec), np.array([0.02, 0.01, 0.004])
    data = made(tmp_path, well(tmp_path / "a.hdf5", spec, values, nu), spec)
    assert np.array_equal(data["state"].values, values)
    if spec is WAKE:
        assert np.array_equal(data["parameters"].values[:, 0], nu)
        one = made(tmp_path, well(tmp_path / "one.hdf5", spec, values, np.array([0.02])), spec)
        assert np.array_equal(one["parameters"].values[:, 0], [0.02] * 3)


def test_a_series_in_a_dataset_of_its_own(tmp_path):
    values = series(WAKE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, state in zip("abc", values, strict=True):
            file[name] = state
            file[name].attrs["nu"] = 0.01
    data = made(tmp_path, tmp_path / "a.h5", WAKE)
    assert np.array_equal(data["state"].values, values) and (data["parameters"].values == 0.01).all()


def test_equal_series_are_equal_in_whatever_layout(tmp_path):
    values, nu = series(WAKE), 2 / np.array(RE, float)
    paths = [groups(tmp_path / "a.h5", WAKE, values), well(tmp_path / "b.h5", WAKE, values, nu)]
    one, two = (made(tmp_path, path, WAKE).attrs["fingerprint"] for path in paths)
    assert one == two


def damaged(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replaced(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


GRID = r"expected shape \(6, 4, 8\) \(time, y, x\), float32 or float64"
FIELD = np.ones((6, 4, 8), np.float32)
BAD = FIELD.copy()
BAD[2, 1, 7] = np.nan
RUNS = {
    "turned": (
        replaced("100.0/ux", FIELD.transpose(0, 2, 1)),
        rf"series '100.0': ux: shape \(6, 8, 4\), float32; {GRID}",
    ),
    "short": (replaced("250.5/p", FIELD[:5]), rf"series '250.5': p: shape \(5, 4, 8\), float32; {GRID}"),
    "integers": (replaced("733/uy", FIELD.astype(int)), rf"series '733': uy: shape \(6, 4, 8\), int64; {GRID}"),
    "missing": (replaced("733/uy", None), r"series '733': no dataset 'uy', but 'p', 't', 'ux'; expected ux, uy, p"),
    "name": (
        lambda f: f.move("733", "fast"),
        r"series 'fast': no parameter 'nu'; expected an attribute 'nu' or the Re",
    ),
    "zero": (lambda f: f.move("733", "0"), r"series '0': no parameter 'nu'"),
    "array": (
        replaced("733", FIELD),
        r"series '100.0': a group; expected shape \(6, 3, 4, 8\) \(time; ux, uy, p; y, x\)",
    ),
    "clock": (
        replaced("733/t", 0.25 * np.arange(6)),
        r"series '733': t: a step of 0.25; expected 0.5 \(dt of the system\)",
    ),
    "clocks": (replaced("733/t", 0.5 * np.arange(7)), r"series '733': t: shape \(7,\), float64; expected shape \(6,\)"),
    "nan": (replaced("250.5/uy", BAD), r"series '250.5': nan in uy at step 2, cell \(1, 7\) \(y, x\); expected finite"),
    "group": (lambda f: (replaced("733/p", None)(f), f.create_group("733/p")), rf"series '733': p: a group; {GRID}"),
}
STACK = np.ones((3, 6, 8, 4), np.float32)
WELLS = {
    "members": (
        lambda f: f.attrs.__setitem__("n_trajectories", 4),
        r"/t1_fields/velocity: shape \(3, 6, 8, 4, 2\), float32",
    ),
    "no members": (
        lambda f: f.attrs.__delitem__("n_trajectories"),
        r"no attribute 'n_trajectories'; expected those of The",
    ),
    "dimensions": (
        replaced("dimensions", None),
        r"no group 'dimensions', but 'scalars', 't0_fields', 't1_fields'; expected",
    ),
    "axes": (
        lambda f: f["dimensions"].attrs.__setitem__("spatial_dims", ["r", "y"]),
        r"dimensions: r, y; expected y, x",
    ),
    "cells": (replaced("dimensions/x", np.arange(9.0)), r"dimensions/x: shape \(9,\); expected 8 values"),
    "spacing": (
        replaced("dimensions/x", np.arange(8.0)),
        r"dimensions/x: a step of 1; expected 2.28571 \(the spacing of",
    ),
    "time": (
        replaced("dimensions/time", np.arange(6.0)),
        r"dimensions/time: a step of 1; expected 0.5 \(dt of the system\)",
    ),
    "field": (replaced("t0_fields/pressure", None), r"fields: ux, uy; expected ux, uy, p"),
    "scalar": (replaced("scalars/nu", None), r"scalars: none; expected nu"),
    "scalars": (
        replaced("scalars/nu", np.ones(2)),
        r"scalars/nu: shape \(2,\), float64; expected one value, or one for each",
    ),
    "shape": (
        replaced("t0_fields/pressure", STACK[:, :5]),
        r"/t0_fields/pressure: shape \(3, 5, 8, 4\), float32; expected",
    ),
    "whole": (
        replaced("t0_fields/pressure", STACK.astype("i2")),
        r"/t0_fields/pressure: shape \(3, 6, 8, 4\), int16; expe",
    ),
    "nan": (replaced("t0_fields/pressure", STACK * np.inf), r"series '0': inf in p at step 0, cell \(0, 0\) \(y, x\)"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_wrong_file_of_groups_is_refused_in_one_sentence(tmp_path, name):
    change, sentence = RUNS[name]
    path = damaged(groups(tmp_path / "bad.h5", WAKE, series(WAKE), clock=0.5 * np.arange(6)), change)
    with pytest.raises(ForeignFile, match=f"^{re.escape(str(path))}: {sentence}"):
        made(tmp_path, path, WAKE)
    assert not list(tmp_path.glob("imported/*"))


@pytest.mark.parametrize("name", WELLS)
def test_a_wrong_file_of_the_well_is_refused_in_one_sentence(tmp_path, name):
    change, sentence = WELLS[name]
    path = damaged(well(tmp_path / "bad.h5", WAKE, series(WAKE), np.full(3, 0.01)), change)
    with pytest.raises(ForeignFile, match=f"^{re.escape(str(path))}: {sentence}"):
        made(tmp_path, path, WAKE)
    assert not list(tmp_path.glob("imported/*"))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("write", [groups, well])
def test_a_truncated_file_is_refused(tmp_path, write, share):
    spec = {**WAKE, "parameters": []}
    path = write(tmp_path / "cut.h5", spec, series(spec))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ForeignFile, match=r"cut.h5: cannot be read.*; expected a whole HDF5 file"):
        made(tmp_path, path, spec)
    assert not list(tmp_path.glob("imported/*"))


def test_a_file_larger_than_the_memory_that_it_takes(tmp_path, monkeypatch):
    """Forty series of 1.2 MB; what is held is a shard of three of them, whatever the block."""
    monkeypatch.setattr("physiglot.ingest.SHARD", 4_000_000)
    spec = {**WAKE, "axes": {"y": [-4.0, 4.0, 100], "x": [-2.0, 14.0, 160]}, "block": 40}
    values = series(spec, 1)
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        for i in range(40):
            for k, field in enumerate(spec["fields"]):
                file[f"{100 + i}/{field}"] = values[0, :, k] + i
    tracemalloc.start()
    data = made(tmp_path, path, spec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * path.stat().st_size
    assert np.array_equal(data["state"].values[39], values[0] + np.float32(39))


SMALL = {"cylinder": {"symmetric": 0.0}, "gray_scott": {"grid": 8, "average": 1, "cube": 5, "dx": 1.75}}


@pytest.mark.parametrize("module", SMALL)
def test_what_the_systems_say_of_their_series_is_what_they_simulate(module, tmp_path):
    """Grid, coordinates, type, parameters and units of an imported series are those of a simulated one.

    So that the two make one dataset, in which NaN is what a file does not know.
    """
    system = import_module(f"physiglot.systems.{module}")
    params = {"steps": 2, **SMALL[module]}
    splits = {"train": schema.Split(members=1), "val": schema.Split(members=1)}
    found = imports.series(schema.System(module=module, params=params, splits=splits), "train")
    data = system.simulate(system.Params(**params), 1, np.random.default_rng(0))
    assert data["state"].dims == ("member", "time", "field", *found["axes"]) and data["state"].dtype == found["dtype"]
    for axis, (first, last, cells) in found["axes"].items():
        assert np.allclose(data[axis].values, np.linspace(first, last, cells))
        assert data[axis].attrs["units"] == found["units"].get("space", "1")
    assert list(data["field"].values) == found["fields"] and data.sizes["time"] == found["steps"]
    assert (data["parameter"].values.tolist() if "parameter" in data else []) == found.get("parameters", [])
    store.save(tmp_path / "blocks/train/0.zarr", {"": data})
    spec, values = {**found, "module": module, "block": 1, "chunk": 1}, series(found, 2)
    file = groups(tmp_path / "file.h5", spec, values, RE[:2])
    ingest(spec=spec, file=file, out=tmp_path / "imported/train/file.zarr/zarr.json")
    collect.collect(spec={"blocks": {"train": 1}, "imported": {"train": ["file"]}}, out=tmp_path / "blocks.json")
    both = {"splits": {"train": 1}, "block": 1, "chunk": 1}
    dataset.dataset(spec=both, blocks=tmp_path / "blocks.json", out=tmp_path / "datasets/clean.zarr/zarr.json")
    train = store.open_group(tmp_path / "datasets/clean.zarr", "train")
    assert np.array_equal(train["state"].values, np.concatenate([data["state"].values, values]))
    assert np.isnan(train[{"cylinder": "drag", "gray_scott": "redrawn"}[module]].values[1:]).all()
