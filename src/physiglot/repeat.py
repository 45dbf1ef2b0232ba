"""Entries of the configuration that stand for many: the key `each`.

    transformer_{steps}:
      each: {steps: [5, 10, 20]}
      module: phase_transformer
      params: {steps: "{steps}"}

is three models. Lists of one `each` are walked together, so they are equally long; a list of several such mappings
gives all their combinations. `{name}` is replaced in keys and texts; a text that is nothing else becomes the value
itself, and where that is null its key is left out.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from .strict import ConfigError

KINDS = ("systems", "models", "tasks", "studies")


def unrolled(values: dict) -> dict:
    """The configuration with every entry that has `each` written out. Raises ConfigError."""
    found = dict(values)
    for kind in KINDS:
        if isinstance(found.get(kind), dict):
            found[kind] = _entries(kind, found[kind])
    return found


def _entries(kind: str, entries: dict) -> dict:
    found: dict = {}
    for name, entry in entries.items():
        for one, content in _copies(f"{kind}.{name}", name, entry):
            if one in found:
                raise ConfigError(f"configuration error: {kind}.{name}: {one!r}: this name is given twice")
            found[one] = content
    return found


def _copies(key: str, name: str, entry: Any) -> list[tuple[str, Any]]:
    if not isinstance(entry, dict) or "each" not in entry:
        return [(name, entry)]
    axes = entry["each"] if isinstance(entry["each"], list) else [entry["each"]]
    rows = [_rows(f"{key}.each", axis) for axis in axes]
    rest = {k: v for k, v in entry.items() if k != "each"}
    chosen = [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*rows)]
    return [(str(_filled(name, c)), _filled(rest, c)) for c in chosen]


def _rows(key: str, axis: Any) -> list[dict]:
    """The values of an axis, one mapping for each place of its lists."""
    if not isinstance(axis, dict) or not axis or not all(isinstance(v, list) for v in axis.values()):
        raise ConfigError(f"configuration error: {key}: {axis!r}: allowed: names with lists of values")
    lengths = {name: len(v) for name, v in axis.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ConfigError(f"configuration error: {key}: lists that are walked together must be equally long: {text}")
    return [dict(zip(axis, place, strict=True)) for place in zip(*axis.values(), strict=True)]


def _filled(value: Any, chosen: dict) -> Any:
    if isinstance(value, dict):
        pairs = {_filled(k, chosen): (_filled(v, chosen), v) for k, v in value.items()}
        return {k: new for k, (new, old) in pairs.items() if new is not None or old is None}
    if isinstance(value, list):
        return [_filled(v, chosen) for v in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\{(\w+)\}", value)
    if whole and whole[1] in chosen:
        return chosen[whole[1]]
    return re.sub(r"\{(\w+)\}", lambda m: str(chosen.get(m[1], m[0])), value)
