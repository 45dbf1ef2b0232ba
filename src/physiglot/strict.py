"""The base of every parameter class: unknown keys and wrong types are errors, values are frozen."""

import difflib
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def divisible(grid: list[int], factor: int) -> list[int]:
    """A grid that `factor` divides in every direction. Raises ValueError otherwise."""
    if any(n % factor for n in grid):
        raise ValueError(f"grid {grid} must consist of multiples of {factor}")
    return grid


class ConfigError(ValueError):
    """A configuration that cannot be run: one sentence naming the key, the value and what is allowed."""


def _allowed(schema: type[Strict], location: tuple) -> str:
    """What may stand where an unknown key stands, the nearest names first."""
    fields: Any = schema
    for part in location[:-1]:
        field = getattr(fields, "model_fields", {}).get(part)
        annotation = field.annotation if field else fields
        fields = next((t for t in (annotation, *_arguments(annotation)) if hasattr(t, "model_fields")), fields)
    names = list(getattr(fields, "model_fields", {}))
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    return (f"did you mean {near[0]}? " if near else "") + "allowed: " + ", ".join(names)


def _arguments(annotation: Any) -> list:
    found = []
    for argument in getattr(annotation, "__args__", ()):
        found += [argument, *_arguments(argument)]
    return found


def _sentence(schema: type[Strict], error: Any, prefix: str) -> str:
    location = tuple(error["loc"])
    key = ".".join(str(part) for part in (*prefix.split("."), *location) if part != "")
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_allowed(schema, location)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{key}: a required key is missing"
    value = "" if isinstance(error["input"], dict) else f" {_short(error['input'])}:"
    return f"{key}:{value} {message[0].lower() + message[1:]}{_hint(error)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text[:60] + "…" if len(text) > 60 else text


def _hint(error: Any) -> str:
    """YAML takes 1e-3 for text; only with a point, 1.0e-3, is it a number."""
    if error["type"] in ("float_type", "int_type") and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", str(error["input"])):
        return f" (YAML reads {error['input']} as text: write {re.sub('[eE]', '.0e', error['input'])})"
    return ""


def check(schema: type[Strict], values: Any, prefix: str = "") -> Any:
    """`values` as a `schema`, or a ConfigError that names every bad key, what was given and what is allowed."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(schema, e, prefix) for e in error.errors()]
        raise ConfigError("configuration error: " + "; ".join(dict.fromkeys(lines))) from None
