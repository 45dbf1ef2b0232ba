"""Free-energy differences by a map between two ensembles (C. Jarzynski, Phys. Rev. E 65, 046122 (2002)).

A map M carries configurations of A towards B: Φ_F(x) = u_B(M x) − u_A(x) − ln |det ∂M|, and for its inverse on
configurations of B, Φ_R(y) = u_A(M⁻¹ y) − u_B(y) − ln |det ∂M⁻¹|. With Δ = ln Z_A − ln Z_B,
−⟨Φ_R⟩_B ≤ Δ ≤ ⟨Φ_F⟩_A, whatever the map; the acceptance ratio of the two works lies between (L. Zhao, L. Wang, arXiv
2311.07963, learn M by flow matching). The exponential average of the works is the targeted perturbation itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..velocity import follow
from . import reweighting

if TYPE_CHECKING:
    from torch import Tensor

    from ..targets import Target


class Difference(NamedTuple):
    """ln Z_B − ln Z_A: bounds and estimates, each with its standard error."""

    lower: tuple[float, float]
    upper: tuple[float, float]
    perturbation: float  # ln ⟨exp −Φ_F⟩_A
    bar: tuple[float, float]


@torch.no_grad()
def works(field: Any, a: Target, b: Target, x: Tensor, y: Tensor, steps: int | None = None) -> tuple[Any, Any]:
    """Φ_F (sample) of x of A, and Φ_R (sample) of y of B, float64; `steps` of the flow by doubling if omitted."""
    steps = steps or follow.enough(field, x[:64])
    moved, forward = follow.rk4(field, x, steps)
    back, reverse = follow.rk4(field, y, steps, 1.0, 0.0)
    ahead = b.beta * b.energy(moved.double()) - a.beta * a.energy(x.double()) - forward.double()
    behind = a.beta * a.energy(back.double()) - b.beta * b.energy(y.double()) - reverse.double()
    return ahead.numpy(), behind.numpy()


def difference(forward: np.ndarray, reverse: np.ndarray, tau: float = 0.5) -> Difference:
    """ln Z_B − ln Z_A of works on samples of A and of B; the latter have the integrated time `tau`."""
    lower = reweighting.mean_error(-forward)
    upper, error = reweighting.mean_error(reverse)
    bar = reweighting.acceptance_ratio(-forward, reverse, tau)
    return Difference(lower, (upper, error * (2 * tau) ** 0.5), reweighting.log_mean(-forward), bar)
