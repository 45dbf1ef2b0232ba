"""Random patterns of N spins ±1, to be stored by an associative memory: each member is a pattern.

Your own patterns can be imported (docs/import.md): datasets (1, N) of ±1.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import xarray as xr
from pydantic import Field

from ..strict import Strict

FIELDS = ("spin0",)
UNITS = {"state": "1", "time": "1"}


class Params(Strict):
    sites: int = Field(100, ge=2, le=100_000, description="spins N of a pattern")
    steps: int = Field(1, ge=1, description="patterns of a member")
    dt: ClassVar[float] = 1.0

    def imported(self) -> dict[str, Any]:
        """What a pattern of an HDF5 file looks like (see `layouts`)."""
        return {"fields": names(self.sites), "dtype": "float32"}


def names(sites: int) -> list[str]:
    return [f"spin{i}" for i in range(sites)]


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) float32: independent fair ±1. With the import, it is the type of foreign files."""
    state = 2 * rng.integers(2, size=(members, params.steps, params.sites), dtype=np.int8) - 1
    times = ("time", np.arange(params.steps, dtype=float), {"units": UNITS["time"]})
    dims = ("member", "time", "field")
    data = xr.Dataset({"state": (dims, state.astype(np.float32))}, {"time": times, "field": names(params.sites)})
    data["state"].attrs["units"] = UNITS["state"]
    return data.assign_attrs(system="patterns", sites=params.sites)
