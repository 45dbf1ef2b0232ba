"""Write a dataset in the layout of The Well, series by series: `python -m physiglot.export STORE OUT [--split NAME]`.

R. Ohana et al., The Well, NeurIPS 2024, arXiv 2412.00568. OUT ending in .hdf5 or .h5 is one file, of one split; any
other is a folder with all of them, `OUT/data/{train,valid,test,…}/<name>.hdf5`, as The Well's own loader wants it.

Scalar fields are t0_fields; ux, uy[, uz] together are a vector u of t1_fields. Axes are in the order x, y[, z]. What a
series has besides are scalars, constant or varying in time; the numbers among the attributes are the parameters of
the simulation. Types are kept, where The Well's own files are float32. `docs/import.md` has the way back.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import fields, files, store
from .imports import HDF5

SPLITS = {"val": "valid"}


def _vectors(names: list[str], axes: list[str]) -> dict[str, list[str]]:
    """Vector -> its components in the order of the axes, for `ux`, `uy`, … of which none is missing."""
    stems = dict.fromkeys(name[:-1] for name in names if len(axes) > 1 and name[-1] in axes and len(name) > 1)
    found = {stem: [stem + axis for axis in axes] for stem in stems}
    return {stem: parts for stem, parts in found.items() if set(parts) <= set(names)}


def _describe(file: Any, data: Any, name: str, axes: list[str]) -> None:
    """The attributes, dimensions and boundary conditions of a file."""
    numbers = {k: v for k, v in data.attrs.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    file.attrs.update({"dataset_name": name, "grid_type": "cartesian", "n_spatial_dims": len(axes), **numbers})
    file.attrs.update({"n_trajectories": data.sizes["member"], "simulation_parameters": list(numbers)})
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = axes
    for axis in ("time", *axes):
        dimensions[axis] = np.asarray(data[axis].values, np.float32)
        dimensions[axis].attrs.update({"sample_varying": False, **({} if axis == "time" else {"time_varying": False})})
    kind = str(data.attrs.get("boundary", "open")).upper()
    for axis in axes:
        group = file.create_group(f"boundary_conditions/{axis}_{kind.lower()}")
        group.attrs.update({"associated_dims": [axis], "associated_fields": [], "bc_type": kind})
        group.attrs.update({"sample_varying": False, "time_varying": False})
        edge = np.zeros(data.sizes[axis], bool)
        edge[[0, -1]] = True
        group["mask"], group["values"] = edge, np.zeros(edge.sum(), np.float32)
    file.require_group("boundary_conditions")


def _scalars(file: Any, data: Any) -> list[str]:
    """Parameters and further variables; returns the names of those that the layout has no place for."""
    group, left = file.create_group("scalars"), []
    found = {}
    if "parameters" in data:
        values = data["parameters"].values
        found = {str(p): (values[:, i], False) for i, p in enumerate(data["parameter"].values)}
    for name, variable in data.data_vars.items():
        if variable.dims in (("member",), ("member", "time")):
            found[str(name)] = (variable.values, "time" in variable.dims)
        elif name not in ("state", "parameters"):
            left.append(str(name))
    for name, (values, varies) in found.items():
        group[name] = values
        group[name].attrs.update({"sample_varying": True, "time_varying": varies})
    group.attrs["field_names"] = list(found)
    return left


def _allocate(file: Any, data: Any, axes: list[str]) -> dict[str, tuple[Any, Any]]:
    """The datasets of the fields: field -> (dataset, where in it: everything, or a component)."""
    state, names = data["state"], [str(f) for f in data["field"].values]
    vectors = _vectors(names, axes)
    places: dict[str, tuple[Any, Any]] = {}
    shape = (len(state), data.sizes["time"], *(data.sizes[axis] for axis in axes))
    inside = {part for parts in vectors.values() for part in parts}
    kinds = [[n for n in names if n not in inside], list(vectors), []]
    for order, stems in enumerate(kinds):
        group = file.create_group(f"t{order}_fields")
        group.attrs["field_names"] = stems
        for stem in stems:
            item = group.create_dataset(stem, (*shape, *[len(axes)] * order), state.dtype)
            item.attrs.update({"dim_varying": [True] * len(axes), "sample_varying": True, "time_varying": True})
            parts = [(stem, ...)] if order == 0 else [(p, (..., i)) for i, p in enumerate(vectors[stem])]
            places.update({field: (item, where) for field, where in parts})
    return places


def write(data: Any, out: Path, name: str) -> list[str]:
    """Write a split as one file, which appears whole; returns the variables that are left out."""
    import h5py

    state = data["state"]
    ours = fields.dims(state)
    axes = sorted(ours)
    order = [0, *(1 + ours.index(axis) for axis in axes)]
    with files.replacing(out) as temporary, h5py.File(temporary, "w") as file:
        _describe(file, data, name, axes)
        left = _scalars(file, data)
        places = _allocate(file, data, axes)
        for member in range(len(state)):
            series = state.isel(member=member).values
            for i, (item, where) in enumerate(places[str(f)] for f in data["field"].values):
                values = np.transpose(series[:, i], order)
                item[(member, *where) if isinstance(where, tuple) else member] = values
    return left


def _targets(source: Path, out: Path, split: str | None) -> Iterator[tuple[str, Path]]:
    """(group of the store, file) of all that is to be written. Raises ValueError for a split that is not there."""
    groups = store.groups(source)
    if split is not None and split not in groups:
        raise ValueError(f"--split: {split!r}: allowed: {', '.join(groups)}")
    if out.suffix in HDF5:
        yield (split or ("train" if "train" in groups else groups[0])), out
        return
    for group in [split] if split else groups:
        yield group, out / "data" / SPLITS.get(group, group or "all") / f"{source.stem}.hdf5"


def export(source: Path, out: Path, split: str | None = None) -> None:
    """Write the splits of a finished dataset, or one of them."""
    for group, target in _targets(source, out, split):
        data = store.open_group(source, group)
        left = write(data, target, f"{data.attrs.get('system', 'physiglot')}_{source.stem}")
        note = f"; left out: {', '.join(left)}" if left else ""
        print(f"{target}: {data.sizes['member']} series of {group or source}{note}")
    if out.suffix in HDF5 and len(store.groups(source)) > 1:
        print(f"All splits of it ({', '.join(store.groups(source))}) are written if the target is a folder.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m physiglot.export", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("store", type=Path, help="data/<system>/datasets/<name>.zarr")
    parser.add_argument("out", type=Path, help="a file (.hdf5, .h5) for one split, or a folder for all")
    parser.add_argument("--split", help="the split to write; the default of a file is train")
    given = parser.parse_args()
    try:
        export(given.store, given.out, given.split)
    except (ValueError, OSError) as error:
        sys.exit(f"error: export: {error}")


if __name__ == "__main__":
    main()
