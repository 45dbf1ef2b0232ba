"""One line of a table of crossings, with all its seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import exact

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Study:
    """As the table opens it; `label` names the model, the same for every data set.

    A mean is that of the seeds that have a value (`PARTIAL`): `no_crossing` is the share of those that have none.
    """

    PARTIAL: ClassVar[bool] = True

    name: str
    variant: str
    dataset: str
    truth: dict[str, xr.Dataset]
    predictions: list[dict[str, xr.Dataset]]
    metrics: list[dict[str, float]]
    published: dict[str, float]
    label: str
    params: Any

    def number(self, metric: str) -> tuple[float, float] | None:
        """Mean and standard error over the seeds that have a value; of one seed its own error; None without any."""
        values = [m[metric] for m in self.metrics if m.get(metric) is not None]
        if len(values) > 1:
            return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
        if not values:
            return None
        own = next(m for m in self.metrics if m.get(metric) is not None)
        return float(values[0]), own.get(f"{metric}_stderr") or 0.0

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
