"""Names that the configuration gives, of our modules and of its own entries, and those of arguments."""

import difflib
from typing import Any

from .strict import ConfigError
from .symbols import PACKAGE, methods


def modules(kind: str) -> list[str]:
    """The files of systems/, models/ or tasks/."""
    return sorted(p.stem for p in (PACKAGE / kind).glob("*.py") if p.stem != "__init__")


def arguments(module: str, owner: str, method: str) -> list[str]:
    """The names of the arguments of a method."""
    given = methods(module, owner).get(method)
    return [a.arg for a in [*given.args, *given.kwonlyargs]] if given else []


def named(key: str, name: str, known: Any) -> None:
    """Raises ConfigError if `name` is none of `known`."""
    if name not in known:
        raise ConfigError(f"configuration error: {key}: {name!r}: no such name; allowed: {', '.join(known)}")


def listed(names: list[str], given: str, most: int = 12) -> str:
    """Names in one line; of too many, those that look most like `given`."""
    if len(names) <= most:
        return ", ".join(names)
    near = difflib.get_close_matches(given, names, n=most, cutoff=0.0)
    return ", ".join(near) + f" and {len(names) - most} more"
