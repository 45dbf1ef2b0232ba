"""Zarr in and out. Nobody else knows the layout.

A store holds groups of arrays over a common first dimension (members). It is allocated, filled region by
region (in any order, by any number of workers, a region being whole shards), and finished: only then is its
root `zarr.json` written and the store renamed into place. The fingerprint in its attributes is the hash of
the contents, so that equal arrays give equal bytes of `zarr.json` whoever wrote them. `files` there lists the
number and bytes of the files of every array: to Zarr a lost file is a block of zeros, to us an error.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from . import fingerprint
from .files import replacing

CODECS = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle"}
PIPELINE = {
    "codec_pipeline.path": "zarrs.ZarrsCodecPipeline",
    "codec_pipeline.chunk_concurrent_minimum": 2,  # shards at once: one is written while the next is compressed
}
PIECE = 2**18
LARGEST = 2**30  # bytes of a chunk: Blosc takes less than 2 GiB at once
NAMES = {"field": "fields", "parameter": "parameters"}  # dimension -> attribute that holds its names


class StoreError(ValueError):
    """A store that is missing, unfinished or not ours."""


def _zarr() -> Any:
    import zarr

    zarr.config.set(PIPELINE)
    return zarr


def attributes(store: Path) -> dict:
    """The root attributes, read without importing zarr. Raises StoreError if the store is not finished."""
    path = Path(store) / "zarr.json"
    try:
        found = json.loads(path.read_text())["attributes"]
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{store}: no finished store here (its zarr.json is missing)") from None
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, dict) or not {"fingerprint", "groups", "files"} <= set(found):
        raise StoreError(f"{path}: not the metadata of a store that physiglot wrote")
    return found


def groups(store: Path) -> list[str]:
    """The names of the groups of a finished store, as they were written."""
    return attributes(store)["groups"]


def _files(store: Path, array: str) -> list[int]:
    """Number and bytes of the files of an array."""
    try:
        with os.scandir(store / array) as entries:
            sizes = [e.stat().st_size for e in entries if e.name == "zarr.json" or e.name.startswith("c.")]
    except FileNotFoundError:
        sizes = []
    return [len(sizes), sum(sizes)]


@cache
def _whole(store: Path, group: str, written: int) -> None:
    for array, (count, size) in attributes(store)["files"].items():
        if array.rpartition("/")[0] == group:
            there = _files(store, array)
            if there != [count, size]:
                found = f"{there[0]} files of {there[1]} bytes instead of {count} of {size}"
                raise StoreError(f"{store}: {array} is incomplete ({found}): make this store again")


def check(store: Path, group: str = "") -> dict:
    """The root attributes of a store that has this group and all its files. Raises StoreError; once per process."""
    root = attributes(store)
    if group not in root["groups"]:
        raise StoreError(f"{store}: no group {group!r}; it holds {', '.join(map(repr, root['groups']))}")
    _whole(Path(store), group, (Path(store) / "zarr.json").stat().st_mtime_ns)
    return root


def members(store: Path, array: str) -> int:
    """The length of an array along its first dimension, read without importing zarr."""
    return json.loads((Path(store) / array / "zarr.json").read_text())["shape"][0]


def open_group(store: Path, group: str = "", chunks: Any = None) -> Any:
    """A group as an xarray dataset, lazy; `chunks={}` makes it a Dask collection. Root attributes are merged in."""
    import xarray as xr

    root = check(store, group)
    _zarr()
    dataset = xr.open_zarr(Path(store), group=group or None, chunks=chunks, consolidated=False)
    for dim, attribute in NAMES.items():
        if dim in dataset.dims and dataset.attrs.get(attribute):
            dataset = dataset.assign_coords({dim: list(dataset.attrs[attribute])})
    merged = {**root, **dataset.attrs}
    dataset.attrs = {k: v for k, v in merged.items() if k not in ("groups", "files", "notes")}
    return dataset


def allocate(store: Path, group: str, arrays: dict[str, dict], attrs: dict | None = None) -> None:
    """Create the arrays of a group: name -> {dims, shape, dtype, chunk, shard, attrs}; chunks count members."""
    zarr = _zarr()
    root = zarr.open_group(store, mode="a", zarr_format=3)
    target = root.require_group(group) if group else root
    target.attrs.update(attrs or {})
    for name, a in arrays.items():
        shape = tuple(a["shape"])
        sizes = {"chunks": (min(a["chunk"], shape[0]) or 1, *shape[1:]), "shards": None}
        if a["shard"] > a["chunk"]:
            sizes["chunks"] = (a["chunk"], *shape[1:])
            sizes["shards"] = (a["shard"], *shape[1:])
        target.create_array(
            name,
            shape=shape,
            dtype=a["dtype"],
            dimension_names=a["dims"],
            attributes=a.get("attrs", {}),
            compressors=zarr.codecs.BloscCodec(**CODECS),
            chunk_key_encoding={"name": "default", "separator": "."},
            fill_value=0,
            **sizes,
        )


def _digest(values: np.ndarray) -> str:
    """Hash of an array by the CRC32C and sum of each piece: five times faster than BLAKE2; any one change shows."""
    import google_crc32c

    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    words = raw[: raw.size // 8 * 8].view(np.uint64)
    sums = np.add.reduceat(words, np.arange(0, words.size, PIECE // 8)) if words.size else words
    codes = [google_crc32c.value(raw[i : i + PIECE]) for i in range(0, raw.size, PIECE)]
    kind = fingerprint.canonical([values.dtype.str, list(values.shape)])
    return fingerprint.digest(kind, sums.tobytes(), np.array(codes, np.uint32).tobytes())


def fill(store: Path, group: str, name: str, start: int, values: np.ndarray) -> tuple[str, str]:
    """Write members `start …` of an array. Returns its place and its hash, for `finish`."""
    place = f"{group}/{name}" if group else name
    array = _zarr().open_array(Path(store) / place, mode="r+", zarr_format=3)
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(array.__setitem__, slice(start, start + len(values)), values)
        value = _digest(values)
        written.result()
    return f"{place}/{start:012d}", value


def _described(store: Path) -> dict[str, dict]:
    """What the metadata of the groups and arrays say about the contents, without the layout."""
    kept = ("attributes", "dimension_names", "shape", "data_type")
    found = {}
    for path in Path(store).rglob("zarr.json"):
        content = json.loads(path.read_text())
        found[str(path.parent.relative_to(store))] = {k: content[k] for k in kept if k in content}
    return found


def finish(store: Path, digests: dict[str, str], names: list[str], notes: dict | None = None, **attrs: Any) -> str:
    """Write the root attributes: the groups, `attrs`, and the fingerprint of the contents, which is returned.

    The fingerprint does not count `notes`: where the contents came from.
    """
    value = fingerprint.digest(*map(fingerprint.canonical, (digests, _described(store), attrs)))
    arrays = sorted({place.rpartition("/")[0] for place in digests})
    files = {array: _files(Path(store), array) for array in arrays}
    root = _zarr().open_group(Path(store), mode="r+", zarr_format=3)
    root.attrs.update({"groups": names, "fingerprint": value, "files": files, "notes": notes or {}, **attrs})
    return value


@contextmanager
def new(store: Path) -> Iterator[Path]:
    """A store in the making, which takes its name when the block ends without an error."""
    with replacing(store) as temporary:
        _zarr().open_group(temporary, mode="w", zarr_format=3)
        yield temporary


def coordinates(dataset: Any) -> dict[str, tuple[tuple, np.ndarray, dict]]:
    """The numeric coordinates of an xarray dataset as (dims, values, attributes)."""
    return {str(k): (v.dims, v.values, v.attrs) for k, v in dataset.coords.items() if v.dtype.kind in "fiub" and v.dims}


def write_coordinates(store: Path, group: str, coords: dict) -> dict[str, str]:
    digests: dict[str, str] = {}
    for name, (dims, values, attrs) in coords.items():
        size = max(1, len(values))
        spec = {
            "dims": dims,
            "shape": values.shape,
            "dtype": values.dtype,
            "chunk": size,
            "shard": 0,
            "attrs": attrs,
        }
        allocate(store, group, {name: spec})
        digests.update([fill(store, group, name, 0, values)])
    return digests


def save(store: Path, datasets: dict[str, Any], chunk: int = 64, notes: dict | None = None, **attrs: Any) -> str:
    """Write in-memory xarray datasets, group by group, as one shard each. Returns the fingerprint; see `finish`."""
    digests: dict[str, str] = {}
    with new(store) as temporary:
        for group, dataset in datasets.items():
            names = {a: [str(v) for v in dataset[d].values] for d, a in NAMES.items() if d in dataset.coords}
            extra = {**dataset.attrs, **names}
            for name, variable in dataset.data_vars.items():
                members = max(1, variable.shape[0])
                size = min(chunk, members, max(1, LARGEST * members // max(1, variable.nbytes)))
                spec = {
                    "dims": variable.dims,
                    "shape": variable.shape,
                    "dtype": variable.dtype,
                    "attrs": variable.attrs,
                }
                spec |= {"chunk": size, "shard": -(-members // size) * size}
                allocate(temporary, group, {str(name): spec}, extra)
                digests.update([fill(temporary, group, str(name), 0, variable.values)])
            digests |= write_coordinates(temporary, group, coordinates(dataset))
        return finish(temporary, digests, list(datasets), notes, **attrs)
