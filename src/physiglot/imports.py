"""Import folders: which HDF5 files lie there, and what the system makes of a series of them."""

import re
from pathlib import Path
from typing import Any

from .fingerprint import constant
from .strict import ConfigError
from .symbols import load

HDF5 = (".hdf5", ".h5")


def found(folder: str, key: str = "imports") -> dict[str, Path]:
    """Stem -> HDF5 file of an import folder, by name; hidden files do not count. Raises ConfigError."""
    if not Path(folder).is_dir():
        raise ConfigError(
            f"configuration error: {key}: {folder!r}: no such folder; "
            "allowed: a folder of *.hdf5 or *.h5 files (it may be empty)"
        )
    files: dict[str, Path] = {}
    for path in sorted(p for p in Path(folder).iterdir() if p.suffix in HDF5 and not p.name.startswith(".")):
        if not re.fullmatch(r"[\w.+-]+", path.stem):
            raise ConfigError(
                f"configuration error: {key}: {str(path)!r}: allowed in the name of a file: letters, digits and . _ + -"
            )
        if path.stem in files:
            raise ConfigError(
                f"configuration error: {key}: {files[path.stem].name!r} and {path.name!r}: both would become "
                f"{path.stem}.zarr; allowed: one file of a name"
            )
        files[path.stem] = path
    return files


def series(system: Any, split: str, key: str = "imports") -> dict:
    """What a series of a split looks like: `fields`, `units`, `dt` and `steps`, and what `Params.imported` adds.

    Raises ConfigError.
    """
    module = f"systems.{system.module}"
    try:
        params = load(module, "Params")(**{**system.params, **system.splits[split].params})
        fields, units = constant(module, "FIELDS"), constant(module, "UNITS")
        further = params.imported() if hasattr(params, "imported") else {}
        return {"fields": list(fields), "units": units, "dt": params.dt, "steps": params.steps, **further}
    except (AttributeError, KeyError):
        raise ConfigError(
            f"configuration error: {key}: {system.module!r}: this system cannot be imported; "
            "allowed: systems whose module has FIELDS, UNITS and the parameters dt and steps"
        ) from None


def check(key: str, system: Any) -> None:
    """Raises ConfigError for a folder or a system that cannot be imported from, and for a split without members."""
    for split, folder in system.imports.items():
        found(folder, f"{key}.imports.{split}")
        series(system, split, f"{key}.imports.{split}")
    for split, s in system.splits.items():
        if not s.members and not (split in system.imports and found(system.imports[split])):
            raise ConfigError(
                f"configuration error: {key}.splits.{split}.members: 0: this split would be empty; "
                f"allowed: 1 or more, or 0 where imports.{split} is a folder that holds HDF5 files"
            )
