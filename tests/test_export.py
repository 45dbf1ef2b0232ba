"""A dataset in the layout of The Well: what is in it, and that its import gives back the same arrays."""

import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
import synthetic
import xarray as xr

from physiglot import store
from physiglot.export import export
from physiglot.ingest import ingest

STEPS = 12


def wake(members, seed):
    data = synthetic.wake(members, np.random.default_rng(seed), STEPS)
    x, y = np.linspace(-2, 14, data.sizes["x"]), np.linspace(-4, 4, data.sizes["y"])
    drag = (("member", "time"), np.random.default_rng(seed).normal(size=(members, STEPS)))
    return data.assign_coords(x=x, y=y).assign(drag=drag).assign_attrs(system="wake", r_out=60.0, radial=96)


def waves(members, seed):
    data = synthetic.waves(members, np.random.default_rng(seed), STEPS)
    axes = {a: 0.5 + np.arange(float(data.sizes[a])) for a in "zyx"}
    return data.assign_coords(axes).assign_attrs(system="waves", boundary="periodic")


def orbits(members, seed):
    """No space at all, in double precision."""
    state = np.random.default_rng(seed).normal(size=(members, STEPS, 3))
    values = xr.DataArray(state, dims=("member", "time", "field"), attrs={"units": "1"})
    return xr.Dataset({"state": values}, {"time": 0.5 * np.arange(STEPS), "field": ["x", "y", "z"]}, {"sigma": 10.0})


MADE = {"wake": wake, "waves": waves, "orbits": orbits}


def dataset(folder, make):
    """As the stage writes it, with two splits."""
    path = folder / "clean.zarr"
    splits = {"train": make(5, 0), "val": make(2, 1)}
    store.save(path, splits, chunk=2, mean=[0.0], std=[1.0])
    return path, splits


def expected(data):
    """What the import is to expect."""
    axes = {a: [float(data[a][0]), float(data[a][-1]), data.sizes[a]] for a in data["state"].dims[3:]}
    spec = {"module": "any", "fields": data["field"].values.tolist(), "units": {"state": "1", "time": "1"}, "dt": 0.5}
    parameters = data["parameter"].values.tolist() if "parameter" in data else []
    spec |= {"steps": STEPS, "axes": axes, "dtype": str(data["state"].dtype), "parameters": parameters}
    return {**spec, "block": 4, "chunk": 2}


@pytest.mark.parametrize("name", MADE)
def test_import_gives_back_what_was_exported(tmp_path, name):
    path, splits = dataset(tmp_path, MADE[name])
    for split in ("train", "val"):
        export(path, tmp_path / f"{split}.hdf5", split)
        out = tmp_path / f"{split}.zarr"
        ingest(spec=expected(splits[split]), file=tmp_path / f"{split}.hdf5", out=out / "zarr.json")
        found = store.open_group(out)
        assert found["state"].dtype == splits[split]["state"].dtype
        assert np.array_equal(found["state"].values, splits[split]["state"].values)
        if name == "wake":
            assert np.array_equal(found["parameters"].values, splits[split]["parameters"].values)


def test_the_layout_of_the_well(tmp_path):
    path, splits = dataset(tmp_path, wake)
    export(path, tmp_path / "a.hdf5")
    truth = splits["train"]
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file.attrs["n_trajectories"] == 5 and file.attrs["n_spatial_dims"] == 2
        assert file.attrs["grid_type"] == "cartesian" and file.attrs["dataset_name"] == "wake_clean"
        assert set(file.attrs["simulation_parameters"]) == {"r_out", "radial"} and file.attrs["r_out"] == 60
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        assert [list(file[f"t{i}_fields"].attrs["field_names"]) for i in range(3)] == [["p"], ["u"], []]
        velocity = file["t1_fields/u"]
        assert velocity.shape == (5, STEPS, 32, 16, 2) and list(velocity.attrs["dim_varying"]) == [True, True]
        uy = truth["state"].sel(field="uy").transpose("member", "time", "x", "y").values
        assert np.array_equal(velocity[..., 1], uy)
        assert list(file["scalars"].attrs["field_names"]) == ["nu", "drag"]
        assert file["scalars/drag"].attrs["time_varying"] and not file["scalars/nu"].attrs["time_varying"]
        assert np.array_equal(file["scalars/drag"][()], truth["drag"].values)
        assert file["boundary_conditions/x_open"].attrs["bc_type"] == "OPEN"
        assert file["boundary_conditions/y_open/mask"][()].tolist() == [True, *[False] * 14, True]


def test_a_folder_has_every_split_where_the_well_looks_for_it(tmp_path):
    path, _ = dataset(tmp_path, waves)
    export(path, tmp_path / "waves")
    found = {str(p.relative_to(tmp_path)) for p in (tmp_path / "waves").rglob("*.*")}
    assert found == {"waves/data/train/clean.hdf5", "waves/data/valid/clean.hdf5"}
    with h5py.File(tmp_path / "waves/data/valid/clean.hdf5") as file:
        assert file["t0_fields/v"].shape == (2, STEPS, 8, 8, 8)
        assert [group.attrs["bc_type"] for group in file["boundary_conditions"].values()] == ["PERIODIC"] * 3


def run(*arguments):
    command = [sys.executable, "-m", "physiglot.export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_and_its_errors(tmp_path):
    path, _ = dataset(tmp_path, orbits)
    done = run(path, tmp_path / "out.hdf5")
    assert done.returncode == 0 and "out.hdf5: 5 series of train" in done.stdout and "train, val" in done.stdout
    before = (tmp_path / "out.hdf5").read_bytes()
    for arguments, sentence in (
        ((tmp_path / "no.zarr", tmp_path / "out.hdf5"), "error: export: .*no.zarr: no finished store here"),
        ((path, tmp_path / "out.hdf5", "--split", "test"), "error: export: --split: 'test': allowed: train, val"),
    ):
        failed = run(*arguments)
        assert failed.returncode == 1 and "Traceback" not in failed.stderr
        assert re.match(sentence, failed.stderr), failed.stderr
    assert (tmp_path / "out.hdf5").read_bytes() == before


def test_what_has_no_place_is_named(tmp_path, capsys):
    data = waves(2, 0)
    data = data.assign(smooth=data["state"])
    store.save(tmp_path / "noisy.zarr", {"train": data}, mean=[0.0], std=[1.0])
    export(tmp_path / "noisy.zarr", tmp_path / "noisy.h5")
    assert "left out: smooth" in capsys.readouterr().out
