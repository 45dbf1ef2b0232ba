"""One line of a table of crossings, with all its seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..study import Study as Line
from . import exact

if TYPE_CHECKING:
    import xarray as xr


class Study(Line):
    """A mean is that of the seeds that have a value: `no_crossing` is the share of those that have none."""

    PARTIAL = True

    @property
    def first(self) -> xr.Dataset:
        """The truth of what was asked first."""
        return next(iter(self.truth.values()))

    @property
    def made_by(self) -> dict[str, Any]:
        """The model and its parameters."""
        return next(iter(self.predictions[0].values())).attrs["made_by"]

    @property
    def steps(self) -> int:
        return self.made_by["steps"]

    @property
    def windows(self) -> list[list[float]]:
        return self.made_by["windows"]

    @property
    def system(self) -> str:
        """The system and its lattice, in words."""
        attributes = self.first.attrs
        name = {"ising": "Ising", "xy": "XY", "hubbard": "Hubbard", "potts": "Potts"}.get(attributes["system"], "")
        return f"{name} {attributes.get('lattice', '')}".strip().replace("chain", "ring")

    @property
    def transition(self) -> float | None:
        return exact.transition(self.first.attrs)
