"""Import an HDF5 file as one immutable block: each dataset at its root is a series of shape (time, field).

This is the layout of the public data of N. Geneva and N. Zabaras, Neural Networks 146, 272 (2022) for ordinary
differential equations (doi 10.5281/zenodo.5148523).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from . import stage, store


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


def _found(item: Any) -> str:
    """What stands where a series should stand."""
    if item is None:
        return "a link that leads nowhere"
    return f"shape {item.shape}, {item.dtype}" if hasattr(item, "shape") else f"a {type(item).__name__.lower()}"


def _keys(path: Path, file: Any, spec: dict) -> list[str]:
    """The series of the file in its order, each of the right shape and type."""
    shape = (spec["steps"], len(spec["fields"]))
    expected = f"shape {shape} (time; {', '.join(spec['fields'])}), float32 or float64"
    keys = list(file)
    if not keys:
        raise ForeignFile(f"{path}: no series in it; expected a dataset at the root for each, of {expected}")
    for key in keys:
        item = file.get(key)
        if getattr(item, "shape", None) != shape or item.dtype.kind != "f" or item.dtype.itemsize not in (4, 8):
            raise ForeignFile(f"{path}: series {key!r}: {_found(item)}; expected {expected}")
    return keys


def _series(path: Path, file: Any, key: str, fields: list[str]) -> np.ndarray:
    """The values of one series in double precision, all finite."""
    try:
        values = file[key][()].astype(np.float64)
    except OSError as error:
        raise ForeignFile(f"{path}: series {key!r}: cannot be read: {error}; expected a whole HDF5 file") from None
    lost = np.argwhere(~np.isfinite(values))
    if len(lost):
        step, field = lost[0]
        found = f"{values[step, field]} in {fields[field]} at step {step}"
        raise ForeignFile(f"{path}: series {key!r}: {found}; expected finite values")
    return values


def _allocate(target: Path, members: int, spec: dict) -> dict[str, str]:
    """The arrays as those of a simulated block; returns the hashes of the coordinates."""
    units, steps, chunk = spec["units"], spec["steps"], min(spec["chunk"], members)
    state = {"dims": ("member", "time", "field"), "shape": (members, steps, len(spec["fields"])), "dtype": np.float64}
    state |= {"chunk": chunk, "shard": min(spec["block"], -(-members // chunk) * chunk)}
    attrs = {"system": spec["module"], "fields": spec["fields"]}
    store.allocate(target, "", {"state": {**state, "attrs": {"units": units["state"]}}}, attrs)
    time = (("time",), spec["dt"] * np.arange(steps), {"units": units["time"]})
    return store.write_coordinates(target, "", {"time": time})


def ingest(*, spec: dict, file: Path, out: Path) -> None:
    """Write the series of an HDF5 file as `state` (member, time, field), a shard at a time.

    `spec`: `module`, `fields`, `units`, `dt` and `steps` of the system, `block` and `chunk`. The note `source`
    tells the file; no fingerprint counts it, so the same series in another file are the same.
    """
    with _opened(file) as source:
        keys = _keys(file, source, spec)
        with store.new(out.parent) as target:
            digests = _allocate(target, len(keys), spec)
            for start in range(0, len(keys), spec["block"]):
                part = [_series(file, source, key, spec["fields"]) for key in keys[start : start + spec["block"]]]
                digests.update([store.fill(target, "", "state", start, np.stack(part))])
                print(f"{start + len(part)} of {len(keys)} series", flush=True)
            with open(file, "rb") as raw:
                sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            store.finish(target, digests, [""], notes={"source": {"file": file.name, "sha256": sha256}})


if __name__ == "__main__":
    stage.run(ingest)
