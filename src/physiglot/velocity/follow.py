"""Following a velocity field: Runge–Kutta for (x, ln q), with steps by doubling, and a stochastic equation.

Along dx/dt = v the density obeys d ln q/dt = −∇·v (R. Chen et al., Neural ordinary differential equations, 2018).
"""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING, Any

import torch

from . import paths

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-3
MOST_STEPS = 512


def slopes(field: Any, x: Tensor, t: float, h: float) -> tuple[list[Tensor], list[Tensor]]:
    """The four velocities and divergences of a classical Runge–Kutta step of length h from x at t."""
    k1, d1 = field(x, t)
    k2, d2 = field(x + h / 2 * k1, t + h / 2)
    k3, d3 = field(x + h / 2 * k2, t + h / 2)
    k4, d4 = field(x + h * k3, t + h)
    return [k1, k2, k3, k4], [d1, d2, d3, d4]


def step(x: Tensor, k: list[Tensor], h: float) -> Tensor:
    return x + h / 6 * (k[0] + 2 * (k[1] + k[2]) + k[3])


def rk4(field: Any, x: Tensor, steps: int, begin: float = 0.0, end: float = 1.0) -> tuple[Tensor, Tensor]:
    """x(end) and ∫ ∇·v dt from `begin` to `end` of x (batch, …), by classical Runge–Kutta steps."""
    h, total = (end - begin) / steps, x.new_zeros(len(x))
    for i in range(steps):
        k, d = slopes(field, x, begin + i * h, h)
        x, total = step(x, k, h), step(total, d, h)
    return x, total


def rk4_with_error(field: Any, x: Tensor, steps: int, width: float) -> tuple[Tensor, Tensor, Tensor]:
    """`rk4` from 0 to 1, and Σ over steps of the squared errors (batch) of a method of lower order.

    h (k₁ − k₂ − k₃ + k₄)/6 is the Runge–Kutta step less a second-order one, for x in units of `width` and for ln q. A
    free energy that is minimised without it learns fields that these steps do not resolve: it falls below −ln Z.
    """
    h, total, error = 1 / steps, x.new_zeros(len(x)), x.new_zeros(len(x))
    for i in range(steps):
        k, d = slopes(field, x, i * h, h)
        x, total = step(x, k, h), step(total, d, h)
        missed = (k[0] - k[1] - k[2] + k[3]).square().flatten(1).sum(1) / width**2
        error = error + (h / 6) ** 2 * (missed + (d[0] - d[1] - d[2] + d[3]).square())
    return x, total, error


def path_of(field: Any, x: Tensor, steps: int, saved: int) -> Tensor:
    """(saved + 1, batch, …): x at equally spaced times from 0 to 1, `steps` Runge–Kutta steps between two of them."""
    states = [x]
    for i in range(saved):
        states.append(rk4(field, states[-1], steps, i / saved, (i + 1) / saved)[0])
    return torch.stack(states)


@torch.no_grad()
def enough(field: Any, x: Tensor, first: int = 4, tolerance: float = TOLERANCE) -> int:
    """Steps n for which the mean |∫ ∇·v| differs from that of 2n by less than `tolerance`: n doubles until it does.

    Raises FloatingPointError if `MOST_STEPS` are not enough.
    """
    n, before = first, rk4(field, x, first)[1]
    while n < MOST_STEPS:
        after = rk4(field, x, 2 * n)[1]
        if (after - before).abs().mean() < tolerance:
            return 2 * n
        n, before = 2 * n, after
    raise FloatingPointError(f"the flow: ln q has not settled to {tolerance:g} with {MOST_STEPS} Runge–Kutta steps")


@torch.no_grad()
def stochastic(
    field: Any,
    x: Tensor,
    steps: int,
    width: float,
    generator: torch.Generator | None = None,
    saved: int = 1,
    project: Any = lambda noise: noise,
) -> Tensor:
    """(saved + 1, batch, …) along dx = (v + ½ g² ∇ln p_t) dt + g dW of the trigonometric path.

    Any g leaves the densities p_t alone (Y. Song et al., arXiv 2011.13456). g² = π σ₀² s/a would be the reversed
    variance-preserving diffusion; g² = π σ₀² s a agrees with it at the data and stays finite at the noise. Euler–
    Maruyama; the score's 1/s cancels against g². `steps` between two saved states; the last step is deterministic.
    """
    h, states = 1 / (steps * saved), [x]
    for i in range(steps * saved):
        t = torch.tensor(i * h, dtype=x.dtype, device=x.device)
        velocity = field(x, float(t))[0]
        a, s, _, _ = paths.coefficients("trig", t)
        drift = velocity - pi / 2 * a * paths.noise_of("trig", t, x, velocity)
        kick = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        spread = width * sqrt(pi * h * max(0.0, float(s * a))) if i < steps * saved - 1 else 0.0
        x = x + h * drift + spread * project(kick)
        if (i + 1) % steps == 0:
            states.append(x)
    return torch.stack(states)
