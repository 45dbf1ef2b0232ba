"""The layouts of HDF5 files that are imported, each found from the file itself.

- `Arrays`: a dataset at the root for each series, (time, field[, z, y, x]).
- `Groups`: a group at the root for each series, with a dataset (time[, z, y, x]) for each field, as in the public data
  of N. Geneva and N. Zabaras, Neural Networks 146, 272 (2022) (doi 10.5281/zenodo.5148523). Wakes have their Reynolds
  number for a name, ν = 2/Re.
- `Well`: all series in one dataset per field, (series, time, x[, y, z]), R. Ohana et al., The Well, arXiv 2412.00568.

A layout has the `keys` of its series, checks the shape and type of all of them before anything is read, and reads them
one by one. What is expected is a `spec`: `fields`, `dt`, `steps`, `axes` (dimension -> first, last, cells, in the order
of the arrays), `parameters`. Errors are sentences about the file, without its name.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

FLOATS = "float32 or float64"
ALIASES = {"velocity": "u", "pressure": "p"}
CLOCKS = ("t", "time")
WELL = ("dimensions", "t0_fields", "t1_fields", "t2_fields", "scalars", "boundary_conditions")


class Foreign(ValueError):
    """What a file holds that it should not, and what is expected."""


def described(item: Any) -> str:
    """What stands where something else should stand."""
    if item is None:
        return "a link that leads nowhere"
    return f"shape {item.shape}, {item.dtype}" if hasattr(item, "shape") else f"a {type(item).__name__.lower()}"


def fits(item: Any, shape: tuple) -> bool:
    """Whether it is a dataset of floating-point numbers of this shape."""
    return getattr(item, "shape", None) == shape and item.dtype.kind == "f" and item.dtype.itemsize in (4, 8)


def grid(spec: dict) -> tuple[int, ...]:
    return tuple(cells for *_, cells in spec.get("axes", {}).values())


def _cells(spec: dict) -> str:
    """`, y, x`: the dimensions of a field besides time."""
    return "".join(f", {axis}" for axis in spec.get("axes", {}))


def check_spacing(where: str, values: np.ndarray, expected: float, name: str) -> None:
    """Raises Foreign if the steps of a coordinate are others than `expected`, by a part in a thousand and rounding."""
    steps = np.diff(np.asarray(values, float))
    allowed = 1e-3 * abs(expected) + 2 * np.finfo(np.float32).eps * np.abs(values).max(initial=0)
    wrong = np.flatnonzero(~(np.abs(steps - expected) <= allowed))
    if len(wrong):
        raise Foreign(f"{where}: a step of {steps[wrong[0]]:.6g}; expected {expected:.6g} ({name} of the system)")


def _number(item: Any) -> float:
    return float(np.asarray(item[()] if hasattr(item, "shape") else item).reshape(-1)[0])


class Arrays:
    """A dataset at the root for each series."""

    def __init__(self, file: Any, spec: dict):
        self.file, self.spec, self.keys = file, spec, list(file)
        shape = (spec["steps"], len(spec["fields"]), *grid(spec))
        expected = f"shape {shape} (time; {', '.join(spec['fields'])}{_cells(spec).replace(',', ';', 1)}), {FLOATS}"
        for key in self.keys:
            if not fits(file.get(key), shape):
                raise Foreign(f"series {key!r}: {described(file.get(key))}; expected {expected}")

    def read(self, key: str) -> np.ndarray:
        return self.file[key][()]

    def parameters(self, key: str) -> list[float]:
        return [_parameter(name, key, self.file[key].attrs) for name in self.spec.get("parameters", [])]


class Groups:
    """A group at the root for each series, with a dataset for each field."""

    def __init__(self, file: Any, spec: dict):
        self.file, self.spec, self.keys = file, spec, list(file)
        for key in self.keys:
            self._check(key)

    def _check(self, key: str) -> None:
        spec, group = self.spec, self.file[key]
        shape = (spec["steps"], *grid(spec))
        for name in spec["fields"]:
            if name not in group:
                there = ", ".join(map(repr, group)) or "nothing"
                raise Foreign(f"series {key!r}: no dataset {name!r}, but {there}; expected {', '.join(spec['fields'])}")
            if not fits(group.get(name), shape):
                found = described(group.get(name))
                raise Foreign(f"series {key!r}: {name}: {found}; expected shape {shape} (time{_cells(spec)}), {FLOATS}")
        for clock in (c for c in CLOCKS if c in group and c not in spec["fields"]):
            if getattr(group[clock], "shape", None) != shape[:1]:
                raise Foreign(f"series {key!r}: {clock}: {described(group[clock])}; expected shape {shape[:1]}")
            values = np.asarray(group[clock][()], float)
            if not np.array_equal(values, np.arange(len(values))):  # a mere count of the steps tells no time
                check_spacing(f"series {key!r}: {clock}", values, spec["dt"], "dt")
        self.parameters(key)

    def read(self, key: str) -> np.ndarray:
        return np.stack([self.file[key][name][()] for name in self.spec["fields"]], axis=1)

    def parameters(self, key: str) -> list[float]:
        """Of its attributes or its datasets; the viscosity of a wake also of its name."""
        known = {**self.file[key], **self.file[key].attrs}
        return [_parameter(name, key, known) for name in self.spec.get("parameters", [])]


def _parameter(name: str, key: str, known: Any) -> float:
    if name in known:
        return _number(known[name])
    if name == "nu":
        try:
            return 2 / float(key)
        except (ValueError, ZeroDivisionError):
            pass
    named = " or the Reynolds number 2/nu as its name" if name == "nu" else ""
    raise Foreign(f"series {key!r}: no parameter {name!r}; expected an attribute {name!r}{named}")


class Well:
    """All series in one dataset for each field; the axes may stand in any order, vectors have a last dimension."""

    def __init__(self, file: Any, spec: dict):
        self.file, self.spec = file, spec
        self.members = int(self._attribute("n_trajectories"))
        self.keys = [str(i) for i in range(self.members)]
        dimensions = self._group("dimensions")
        self.axes = [_text(name) for name in dimensions.attrs.get("spatial_dims", [])]
        self._check_axes(dimensions)
        self.places = dict(self._places())
        shape = (self.members, spec["steps"], *(spec["axes"][axis][2] for axis in self.axes))
        for name in spec["fields"]:
            item, component = self._place(name)
            full = shape if component is None else (*shape, len(self.axes))
            if not fits(item, full):
                raise Foreign(
                    f"{item.name}: {described(item)}; expected shape {full} (series, time, {', '.join(self.axes)}"
                    f"{'' if component is None else ', component'}), {FLOATS}"
                )
        self._check_parameters()

    def _attribute(self, name: str) -> Any:
        if name not in self.file.attrs:
            raise Foreign(f"no attribute {name!r}; expected those of The Well")
        return self.file.attrs[name]

    def _group(self, name: str) -> Any:
        if not hasattr(self.file.get(name), "keys"):
            raise Foreign(f"no group {name!r}, but {', '.join(map(repr, self.file))}; expected those of The Well")
        return self.file[name]

    def _check_axes(self, dimensions: Any) -> None:
        expected = self.spec.get("axes", {})
        if sorted(self.axes) != sorted(expected):
            found, wanted = (", ".join(names) or "none" for names in (self.axes, expected))
            raise Foreign(f"dimensions: {found}; expected {wanted}")
        steps = {"time": (self.spec["steps"], self.spec["dt"], "dt")}
        for axis, (first, last, cells) in expected.items():
            steps[axis] = (cells, (last - first) / max(cells - 1, 1), "the spacing")
        for axis, (cells, step, name) in steps.items():
            values = np.atleast_1d(dimensions[axis][()]) if axis in dimensions else np.empty(0)
            if values.shape[-1:] != (cells,):
                raise Foreign(f"dimensions/{axis}: shape {values.shape}; expected {cells} values")
            for row in values.reshape(-1, cells):
                check_spacing(f"dimensions/{axis}", row, step, name)

    def _places(self) -> Iterator[tuple[str, tuple[Any, int | None]]]:
        """Name of a field -> its dataset, and its component of a vector."""
        for name, item in self.file.get("t0_fields", {}).items():
            yield ALIASES.get(name, name), (item, None)
        for name, item in self.file.get("t1_fields", {}).items():
            for i, axis in enumerate(self.axes):
                yield f"{ALIASES.get(name, name)}{axis}", (item, i)

    def _place(self, name: str) -> tuple[Any, int | None]:
        if name not in self.places:
            found = ", ".join(self.places) or "none"
            raise Foreign(f"fields: {found}; expected {', '.join(self.spec['fields'])}")
        return self.places[name]

    def _check_parameters(self) -> None:
        for name in self.spec.get("parameters", []):
            item = self.file.get(f"scalars/{name}")
            if item is None and name not in self.file.attrs:
                found = ", ".join(self.file.get("scalars", {})) or "none"
                raise Foreign(f"scalars: {found}; expected {name}")
            if item is not None and np.size(item) not in (1, self.members):
                raise Foreign(f"scalars/{name}: {described(item)}; expected one value, or one for each series")

    def read(self, key: str) -> np.ndarray:
        order = [0, *(1 + self.axes.index(axis) for axis in self.spec.get("axes", {}))]
        parts = []
        for item, component in map(self._place, self.spec["fields"]):
            values = item[int(key)] if component is None else item[int(key), ..., component]
            parts.append(np.transpose(values, order))
        return np.stack(parts, axis=1)

    def parameters(self, key: str) -> list[float]:
        found = []
        for name in self.spec.get("parameters", []):
            item = self.file.get(f"scalars/{name}", self.file.attrs.get(name))
            values = np.asarray(item[()] if hasattr(item, "dtype") else item, float).reshape(-1)
            found.append(float(values[int(key) % len(values)]))
        return found


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def find(file: Any, spec: dict) -> Arrays | Groups | Well:
    """The layout of a file, checked. Raises Foreign for a file of no layout and for what does not fit `spec`."""
    if "n_trajectories" in file.attrs or any(name in file for name in WELL):
        return Well(file, spec)
    kinds = [hasattr(file.get(key), "keys") for key in file]
    if not kinds:
        raise Foreign("no series in it; expected a dataset or a group at the root for each, or the layout of The Well")
    layout: Callable[[Any, dict], Arrays | Groups] = Groups if all(kinds) else Arrays
    return layout(file, spec)
