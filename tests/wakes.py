"""A travelling wave that grows to saturation, its frequency a function of ν: the wake of a cylinder for fast tests."""

import torch
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
