"""Hybrid Monte Carlo for real configurations (S. Duane et al. 1987), many chains at a time, in float64.

Momenta p ~ N(0, 1), leapfrog steps of H = β E + p²/2, and a Metropolis step that makes it exact. The step of each
trajectory is drawn within ±20 % of the given one, so that no oscillation closes on itself. A trajectory that ends
where the energy is not finite (particles that overlap) is refused.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]
JITTER = 0.2


class Chains(NamedTuple):
    states: np.ndarray  # (chain, saved, …)
    energies: np.ndarray  # (chain, saved)
    acceptance: np.ndarray  # (chain)


def leapfrog(x: np.ndarray, p: np.ndarray, force: Function, step: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` steps along ẋ = p, ṗ = force(x) = −β ∇E: volume-preserving, and undone by the same with −p."""
    p = p + 0.5 * step * force(x)
    for i in range(count):
        x = x + step * p
        p = p + (0.5 if i == count - 1 else 1.0) * step * force(x)
    return x, p


def run(
    energy: Function,
    force: Function,
    start: np.ndarray,
    rng: np.random.Generator,
    *,
    saved: int,
    every: int,
    warm: int,
    step: float,
    leaps: int,
    project: Function = lambda x: x,
) -> Chains:
    """Chains from `start` (chain, …): `warm` trajectories, then `saved` states, each after `every` trajectories.

    `energy` is β E, (chain), and `force` its negative gradient; `project` takes momenta into the space in which the
    configurations live. Raises FloatingPointError if a chain hardly moves.
    """
    x = np.array(start, dtype=np.float64)
    u = energy(x)
    kept, energies = np.empty((len(x), saved, *x.shape[1:])), np.empty((len(x), saved))
    accepted = np.zeros(len(x))
    for i in range(warm + saved * every):
        p = project(rng.standard_normal(x.shape))
        h = step * rng.uniform(1 - JITTER, 1 + JITTER)
        with np.errstate(over="ignore", invalid="ignore"):
            y, q = leapfrog(x, p, force, h, leaps)
            after = energy(y)
            change = after - u + 0.5 * (_square(q) - _square(p))
        take = rng.random(len(x)) < np.exp(-np.clip(np.nan_to_num(change, nan=np.inf), 0, 700))
        x = np.where(take.reshape(-1, *[1] * (x.ndim - 1)), y, x)
        u = np.where(take, after, u)
        if i >= warm:
            accepted += take
            place, left = divmod(i - warm + 1, every)
            if left == 0:
                kept[:, place - 1], energies[:, place - 1] = x, u
    return Chains(kept, energies, _moving(accepted / (saved * every), saved * every, step))


def _square(p: np.ndarray) -> np.ndarray:
    return (p**2).reshape(len(p), -1).sum(1)


def _moving(acceptance: np.ndarray, trajectories: int, step: float) -> np.ndarray:
    if trajectories >= 20 and acceptance.mean() < 0.05:
        raise FloatingPointError(
            f"hybrid Monte Carlo: {acceptance.mean():.1%} of the trajectories are accepted with the step {step:g}: "
            "choose a smaller step"
        )
    return acceptance
