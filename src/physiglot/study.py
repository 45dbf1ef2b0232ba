"""One line of a table, with all its seeds, as the tasks compare them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Study:
    """As the table opens it; `label` names the model, the same for every data set.

    A seed without a value makes the mean a failure, unless the task counts such seeds by itself (`PARTIAL`).
    """

    PARTIAL: ClassVar[bool] = False

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
        """Mean and standard error over the seeds; of one seed its own error; None without a value."""
        having = [m for m in self.metrics if m.get(metric) is not None]
        values = [m[metric] for m in having]
        if not values or (len(values) < len(self.metrics) and not self.PARTIAL):
            return None
        if len(values) > 1:
            return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
        return float(values[0]), having[0].get(f"{metric}_stderr") or 0.0
