"""Import an HDF5 file as one immutable block; see `layouts` for what is read."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from . import layouts, stage, store

SHARD = 2**28  # bytes of a shard, if a chunk has fewer


class ForeignFile(ValueError):
    """A file that cannot be imported: one sentence naming it, the series, what was found and what is expected."""


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise FileNotFoundError(2, "no such file", str(path)) from None
    except OSError as error:
        raise ForeignFile(f"{path}: cannot be read as HDF5: {error}; expected a whole HDF5 file") from None
    with file:
        yield file


def _layout(path: Path, file: Any, spec: dict) -> Any:
    try:
        return layouts.find(file, spec)
    except layouts.Foreign as error:
        raise ForeignFile(f"{path}: {error}") from None
    except (OSError, RuntimeError) as error:
        raise ForeignFile(f"{path}: cannot be read: {error}; expected a whole HDF5 file") from None


def _series(path: Path, layout: Any, key: str, spec: dict) -> np.ndarray:
    """The values of one series in the type of the system, all finite."""
    try:
        values = layout.read(key).astype(spec.get("dtype", "float64"))
    except OSError as error:
        raise ForeignFile(f"{path}: series {key!r}: cannot be read: {error}; expected a whole HDF5 file") from None
    if not np.isfinite(values).all():
        step, field, *cell = np.argwhere(~np.isfinite(values))[0]
        where = f", cell {tuple(map(int, cell))} ({', '.join(spec['axes'])})" if cell else ""
        found = f"{values[(step, field, *cell)]} in {spec['fields'][field]} at step {step}{where}"
        raise ForeignFile(f"{path}: series {key!r}: {found}; expected finite values")
    return values


def _shape(spec: dict) -> tuple[int, ...]:
    return (spec["steps"], len(spec["fields"]), *layouts.grid(spec))


def _shard(spec: dict, members: int) -> tuple[int, int]:
    """Members of a chunk, and of a shard: the part of a file that is in memory."""
    chunk = min(spec["chunk"], members)
    size = int(np.prod(_shape(spec))) * np.dtype(spec.get("dtype", "float64")).itemsize * chunk
    return chunk, min(spec["block"], -(-members // chunk) * chunk, chunk * max(1, SHARD // size))


def _allocate(target: Path, members: int, spec: dict) -> dict[str, str]:
    """The arrays as those of a simulated block; returns the hashes of the coordinates."""
    units, steps, axes, names = spec["units"], spec["steps"], spec.get("axes", {}), spec.get("parameters", [])
    chunk, shard = _shard(spec, members)
    state = {
        "dims": ("member", "time", "field", *axes),
        "shape": (members, *_shape(spec)),
        "dtype": np.dtype(spec.get("dtype", "float64")),
        "chunk": chunk,
        "shard": shard,
        "attrs": {"units": units["state"]},
    }
    arrays, attrs = {"state": state}, {"system": spec["module"], "fields": spec["fields"]}
    if names:
        dims, shape = ("member", "parameter"), (members, len(names))
        arrays["parameters"] = {**state, "dims": dims, "shape": shape, "dtype": np.float64, "attrs": {}}
        attrs["parameters"] = names
    store.allocate(target, "", arrays, attrs)
    coordinates = {"time": (("time",), spec["dt"] * np.arange(steps), {"units": units["time"]})}
    for axis, (first, last, cells) in axes.items():
        coordinates[axis] = ((axis,), np.linspace(first, last, cells), {"units": units.get("space", "1")})
    return store.write_coordinates(target, "", coordinates)


def ingest(*, spec: dict, file: Path, out: Path) -> None:
    """Write the series of an HDF5 file as `state` (member, time, field[, z, y, x]), a shard at a time.

    `spec`: `module`, `fields`, `units`, `dt`, `steps`, `axes`, `dtype` and `parameters` of the system (see `layouts`),
    `block` and `chunk`. The note `source` tells the file; no fingerprint counts it, so the same series in another
    file are the same.
    """
    with _opened(file) as source:
        layout = _layout(file, source, spec)
        keys = layout.keys
        _, shard = _shard(spec, len(keys))
        with store.new(out.parent) as target:
            digests = _allocate(target, len(keys), spec)
            for start in range(0, len(keys), shard):
                part = keys[start : start + shard]
                state = np.empty((len(part), *_shape(spec)), spec.get("dtype", "float64"))
                for i, key in enumerate(part):
                    state[i] = _series(file, layout, key, spec)
                digests.update([store.fill(target, "", "state", start, state)])
                if spec.get("parameters"):
                    values = np.array([layout.parameters(key) for key in part], np.float64)
                    digests.update([store.fill(target, "", "parameters", start, values)])
                print(f"{start + len(part)} of {len(keys)} series", flush=True)
            with open(file, "rb") as raw:
                sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            notes = {"source": {"file": file.name, "sha256": sha256, "layout": type(layout).__name__.lower()}}
            store.finish(target, digests, [""], notes=notes)


if __name__ == "__main__":
    stage.run(ingest)
