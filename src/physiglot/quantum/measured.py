"""Measurements of a state vector as a data set."""

from typing import Any

import numpy as np
import xarray as xr

from ..exact.chains import configurations


def measurements(
    state: np.ndarray, energy: float, members: int, steps: int, rng: np.random.Generator, attributes: dict[str, Any]
) -> xr.Dataset:
    """`state` (member, time, field) int8: configurations drawn from |ψ|² of the vector (2^N)."""
    sites = int(np.log2(len(state)))
    drawn = rng.choice(len(state), size=(members, steps), p=state**2 / (state**2).sum())
    spins = configurations(sites)[drawn].astype(np.int8)
    names = np.array([f"spin{i}" for i in range(sites)])
    times = ("time", np.arange(steps, dtype=float), {"units": "measurements"})
    found = xr.Dataset({"state": (("member", "time", "field"), spins)}, {"time": times, "field": names})
    found["state"].attrs["units"] = "1"
    return found.assign_attrs(**attributes, sites=sites, energy=energy)
