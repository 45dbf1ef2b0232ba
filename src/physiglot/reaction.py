"""The scheme of `stencils` in torch, for many members at once on any device: the same fields up to round-off."""

import torch
from torch import Tensor

from .isotropic import averaged
from .stencils import Reaction


def _near(state: Tensor) -> Tensor:
    """The sum over the six neighbours, in the order of the kernel."""
    x, y, z = (state.roll(1, axis) + state.roll(-1, axis) for axis in (-1, -2, -3))
    return x + y + z


def slope(state: Tensor, reaction: Reaction) -> Tensor:
    """The discrete right-hand side of states (…, field, z, y, x)."""
    across_u, across_v, feed, loss = reaction.scaled()
    (u, v), (near_u, near_v) = state.unbind(-4), _near(state).unbind(-4)
    product = u * v * v
    return torch.stack(
        [
            across_u * (near_u - 6 * u) + (feed * (1 - u) - product),
            across_v * (near_v - 6 * v) + (product - loss * v),
        ],
        -4,
    )


def step(state: Tensor, h: float, reaction: Reaction) -> Tensor:
    """One classical Runge–Kutta step of length `h`."""
    k1 = slope(state, reaction)
    k2 = slope(state + h / 2 * k1, reaction)
    k3 = slope(state + h / 2 * k2, reaction)
    k4 = slope(state + h * k3, reaction)
    return state + h / 6 * (k1 + 2 * (k2 + k3) + k4)


@torch.no_grad()
def frames(start: Tensor, steps: int, h: float, substeps: int, reaction: Reaction, cube: int = 1) -> Tensor:
    """(member, field, z, y, x) -> (member, steps, field, z, y, x), the first frame that of the start."""
    found, state = [averaged(start, cube)], start
    for _ in range(steps - 1):
        for _ in range(substeps):
            state = step(state, h, reaction)
        found.append(averaged(state, cube))
    return torch.stack(found, 1)
