"""Content hashes of arrays, files and code: what a re-run is decided by."""

import ast
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from .symbols import PACKAGE, ROOT, Statement, reachable

LOCK = PACKAGE.parents[1] / "requirements.lock"


def digest(*parts: bytes | memoryview | str) -> str:
    """32 hexadecimal digits of BLAKE2b over the parts."""
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal specs give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _contents(path: Path) -> str:
    """`digest` of the bytes of a file, which may be larger than memory."""
    h = hashlib.blake2b(path.stat().st_size.to_bytes(8, "little"), digest_size=16)
    with open(path, "rb") as file:
        while data := file.read(2**22):
            h.update(data)
    return h.hexdigest()


def array(name: str, dims: tuple, values: Any) -> str:
    """Hash of a named array: name, dimensions, type, shape and bytes."""
    import numpy as np

    values = np.ascontiguousarray(values)
    data = memoryview(values).cast("B") if values.size else b""
    return digest(name, canonical(list(dims)), values.dtype.str, canonical(list(values.shape)), data)


def of(path: Path) -> str:
    """Fingerprint of an output: the attribute of a store, the bytes of a file or of the files of a folder."""
    path = Path(path)
    if path.is_dir():
        shown = [f for f in sorted(path.iterdir()) if not f.name.startswith(".")]
        return digest(*(part for f in shown for part in (f.name, f.read_bytes())))
    if path.name == "zarr.json":
        try:
            return json.loads(path.read_text())["attributes"]["fingerprint"]
        except (KeyError, TypeError, json.JSONDecodeError):
            raise ValueError(f"{path}: not the metadata of a store that physiglot wrote") from None
    return _contents(path)


@cache
def _locked(lock: Path) -> dict[str, str]:
    if not lock.is_file():
        return {}
    pairs = re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def _libraries(statements: list[Statement]) -> set[str]:
    """`name==version` of the locked third-party packages that the statements import."""
    names = {name.lower().replace("_", "-") for s in statements for name in s.libraries}
    locked = _locked(LOCK)
    return {f"{n}=={locked[n]}" for n in names if n in locked}


def _texts(statements: list[Statement]) -> list[str]:
    """Definitions and imports may stand in any order; what else a module does is done in the order it is written."""
    movable = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
    moved = sorted(s.text for s in statements if isinstance(s.node, movable))
    return [*moved, *(s.text for s in statements if not isinstance(s.node, movable))]


def code(*entries: str) -> str:
    """Hash of the code that `entries` run, and of the locked versions of the libraries that it imports.

    An entry is `module` (all of `physiglot.module`) or `module:symbol`. Comments, docstrings and layout do
    not count; neither does code in the same files that the entries cannot reach.
    """
    roots = []
    for entry in entries:
        module, _, symbol = entry.partition(":")
        roots.append((f"{ROOT}.{module}", symbol or None))
    parts = []
    for module, statements in sorted(reachable(*roots).items()):
        parts += [f"{module}:{text}" for text in _texts(statements)]
        parts += sorted(_libraries(statements))
    return digest(*parts)


def constant(module: str, name: str) -> Any:
    """The literal bound to `name` at the top of `physiglot.<module>`, read from its source."""
    for statement in reachable((f"{ROOT}.{module}", name))[f"{ROOT}.{module}"]:
        value = getattr(statement.node, "value", None)
        if value is not None:
            return ast.literal_eval(value)
    raise AttributeError(f"{module} defines no literal {name}")
