"""What systems of particles share: an energy of pairs in a trap, their symmetries, and their data by Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from . import Target, hmc

AXES = ("x", "y", "z")


class Particles(Target):
    """E = Σ_{i<j} v(r_ij) + (k/2) Σ x², x (batch, N, d); `centred`: only differences matter, the mean of x is 0."""

    support, particles = "real", True

    def __init__(
        self,
        count: int,
        dimension: int,
        beta: float,
        potential: Callable[[Tensor], Tensor],
        *,
        trap: float,
        centred: bool,
    ):
        self.shape, self.beta, self.potential = (count, dimension), beta, potential
        self.trap, self.centred = trap, centred
        self.first, self.second = torch.triu_indices(count, count, 1)

    def distances(self, x: Tensor) -> Tensor:
        """r_ij (batch, pair)."""
        return (x[:, self.first] - x[:, self.second]).norm(dim=2)

    def energy(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x: shape {tuple(x.shape)}: must be (batch, {self.shape[0]}, {self.shape[1]})")
        inside = x - x.mean(1, keepdim=True) if self.centred else x
        return self.potential(self.distances(x)).sum(1) + self.trap / 2 * inside.square().sum((1, 2))

    @property
    def symmetries(self) -> dict[str, Callable[[Tensor], Tensor]]:
        moves: dict[str, Callable[[Tensor], Tensor]] = {
            "permutation": lambda x: x.roll(1, 1),
            "reflection": lambda x: torch.cat([-x[..., :1], x[..., 1:]], dim=2),
        }
        if self.shape[1] > 1:
            moves["rotation"] = lambda x: torch.cat([x[..., 1:2], -x[..., :1], x[..., 2:]], dim=2)
        if self.centred:
            moves["translation"] = lambda x: x + 1.0
        return moves

    @property
    def observables(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Σ x², and the mean and the least distance of pairs."""
        return {
            "radius2": lambda x: x.square().sum((1, 2)),
            "distance": lambda x: self.distances(x).mean(1),
            "closest": lambda x: self.distances(x).amin(1),
        }


def chains(target: Particles, start: np.ndarray, rng: np.random.Generator, **schedule: Any) -> hmc.Chains:
    """Hybrid Monte Carlo of the target from `start` (chain, N, d); the force is the gradient of its energy."""

    def energy(x: np.ndarray) -> np.ndarray:
        return target.beta * target.energy(torch.as_tensor(x)).numpy()

    def force(x: np.ndarray) -> np.ndarray:
        leaf = torch.as_tensor(x).requires_grad_()
        return -target.beta * torch.autograd.grad(target.energy(leaf).sum(), leaf)[0].numpy()

    def centre(x: np.ndarray) -> np.ndarray:
        return x - x.mean(1, keepdims=True) if target.centred else x

    return hmc.run(energy, force, centre(start), rng, project=centre, **schedule)


def dataset(states: np.ndarray, energies: np.ndarray, attributes: dict) -> xr.Dataset:
    """`state` (member, time, field) of positions (member, time, N, d): fields x0, y0, …, particle by particle."""
    count, dimension = states.shape[2:]
    names = [f"{AXES[a] if dimension <= 3 else a}{i}" for i in range(count) for a in range(dimension)]
    return xr.Dataset(
        {
            "state": (("member", "time", "field"), states.reshape(*states.shape[:2], -1), {"units": "1"}),
            "energy": (("member", "time"), energies, {"units": "1"}),
        },
        coords={"time": ("time", np.arange(states.shape[1]), {"units": "1"}), "field": ("field", names)},
        attrs=attributes,
    )
