"""What free and interacting fields on periodic lattices share: symmetries, observables, the form of their data."""

from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from . import Target


class Field(Target):
    """A real field φ (batch, L, L) on the periodic square lattice."""

    support = "real"

    def __init__(self, size: int, beta: float):
        self.shape, self.beta = (size, size), beta

    def checked(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x: shape {tuple(x.shape)}: must be (batch, {self.shape[0]}, {self.shape[1]})")
        return x

    @property
    def symmetries(self) -> dict[str, Callable[[Tensor], Tensor]]:
        return {
            "translation": lambda x: x.roll((1, 2), (1, 2)),
            "rotation": lambda x: x.rot90(1, (1, 2)),
            "reflection": lambda x: x.flip(1),
            "sign": lambda x: -x,
        }

    @property
    def observables(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """⟨φ²⟩, ⟨φ̄²⟩ with the mean φ̄ over the lattice, and ⟨|φ̄|⟩."""
        return {
            "phi2": lambda x: x.square().mean((1, 2)),
            "mean2": lambda x: x.mean((1, 2)).square(),
            "mean_abs": lambda x: x.mean((1, 2)).abs(),
        }


def bonds(x: Tensor) -> Tensor:
    """Σ_<xy> φ_x φ_y, (batch): right and lower neighbour of each site."""
    return (x * (torch.roll(x, 1, 1) + torch.roll(x, 1, 2))).sum((1, 2))


def dataset(states: np.ndarray, energies: np.ndarray, attributes: dict) -> xr.Dataset:
    """`state` (member, time, field, y, x) of states (member, time, y, x); the one field is phi."""
    where = {name: (name, np.arange(states.shape[-1]), {"units": "1"}) for name in ("y", "x")}
    return xr.Dataset(
        {
            "state": (("member", "time", "field", "y", "x"), states[:, :, None], {"units": "1"}),
            "energy": (("member", "time"), energies, {"units": "1"}),
        },
        coords={"time": ("time", np.arange(states.shape[1]), {"units": "1"}), "field": ("field", ["phi"]), **where},
        attrs=attributes,
    )
