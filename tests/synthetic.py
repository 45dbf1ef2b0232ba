"""Fields by formula, for tests that need no solver: a wake whose frequency depends on ν, and periodic waves in 3-D."""

import numpy as np
import torch
import xarray as xr
from torch import Tensor

MEAN, STD = torch.tensor([0.8, 0.0, -0.1]), torch.tensor([0.4, 0.3, 0.2])


def wakes(nu: Tensor, times: int, grid: tuple[int, int] = (16, 32), dt: float = 0.5) -> dict[str, Tensor]:
    """`state` (member, time, 3, y, x), zero for r < 1, and `parameters` (member, 1) of viscosities (member,).

    The Stuart-Landau equation for the amplitude, a mirror-symmetric mean flow that it distorts, and its harmonic.
    """
    t = dt * torch.arange(times)[None, :, None, None]
    y = torch.linspace(-4, 4, grid[0])[None, None, :, None]
    x = torch.linspace(-2, 14, grid[1])[None, None, None, :]
    v = nu[:, None, None, None]
    squared = 1 / (1 + 200 * torch.exp(-2 * (0.08 - 2 * v) * 2 * t))
    phase = (0.7 + 10 * v) * x - (1.2 - 20 * v) * t
    bump, amplitude = torch.exp(-((y / (2 - 0.5 * squared)) ** 2)), squared.sqrt() * torch.sigmoid(x)
    ux = 1 - (0.8 - 0.3 * squared) * bump * torch.sigmoid(x) + 0.2 * amplitude * y * bump * torch.sin(phase)
    uy = 0.4 * amplitude * bump * torch.cos(phase) + 0.1 * amplitude**2 * y * bump * torch.sin(2 * phase)
    p = -0.3 * squared * bump + 0.2 * amplitude * y * bump * torch.cos(phase) + 0 * v
    fields = torch.broadcast_tensors(ux, uy, p)
    return {"state": torch.stack(fields, 2).masked_fill(x**2 + y**2 < 1, 0), "parameters": nu[:, None]}


def wake(members: int, rng: np.random.Generator, times: int = 16) -> xr.Dataset:
    """Wakes as a system gives them."""
    data = wakes(torch.as_tensor(rng.uniform(0.01, 0.02, members)), times)
    return _dataset(data["state"].numpy(), ["ux", "uy", "p"], ("y", "x"), data["parameters"].numpy())


def waves(members: int, rng: np.random.Generator, times: int = 8, points: int = 8) -> xr.Dataset:
    """Two fields of plane waves on a periodic cube, as a system gives them."""
    phase = 2 * np.pi / points * (np.indices((points,) * 3).sum(0) - np.arange(times)[:, None, None, None])
    start = rng.uniform(0, 2 * np.pi, (members, 1, 1, 1, 1))
    state = np.stack([0.6 + 0.3 * np.sin(phase + start), 0.1 + 0.1 * np.cos(2 * phase + start)], 2)
    return _dataset(state, ["u", "v"], ("z", "y", "x"))


def _dataset(state: np.ndarray, fields: list[str], axes: tuple[str, ...], parameters=None) -> xr.Dataset:
    time = xr.DataArray(0.5 * np.arange(state.shape[1]), dims="time", attrs={"units": "d/U"})
    values = xr.DataArray(state.astype(np.float32), dims=("member", "time", "field", *axes), attrs={"units": "1"})
    data = xr.Dataset({"state": values}, {"time": time, "field": fields})
    if parameters is None:
        return data
    return data.assign(parameters=(("member", "parameter"), np.asarray(parameters, float))).assign_coords(
        parameter=["nu"]
    )
