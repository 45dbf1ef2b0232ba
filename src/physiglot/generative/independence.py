"""Metropolis with proposals that a model draws independently of the state: exact averages from any model.

A proposal x' is accepted with min(1, w(x')/w(x)), w = e^(−u)/q (N. Metropolis et al. 1953; L. Tierney, Ann. Stat. 22,
1701 (1994)). Detailed balance holds if ln q is that of the proposals. The slowest mode decays by 1 − 1/max(π/q) a step.
"""

from math import exp

import numpy as np


def acceptance(now: np.ndarray, proposed: np.ndarray) -> np.ndarray:
    """Probability to go from log-weight `now` to log-weight `proposed`; a state of weight 0 is always left."""
    with np.errstate(invalid="ignore"):
        difference = np.where(np.isneginf(now), 0.0, proposed - now)
    return np.exp(np.minimum(0.0, difference))


def chain(lw: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Which sample the chain is at after each proposal, and the mean acceptance. The samples are proposed in order.

    It starts at the first that has a weight.
    """
    start = int(np.isfinite(lw).argmax())
    drawn, weight, place, total = rng.random(len(lw)).tolist(), lw.tolist(), start, 0.0
    visited = np.empty(len(lw), np.int64)
    visited[: start + 1] = start
    for i in range(start + 1, len(lw)):
        probability = exp(min(0.0, weight[i] - weight[place]))
        total += probability
        if drawn[i] < probability:
            place = i
        visited[i] = place
    return visited, total / max(1, len(lw) - 1 - start)


def matrix(q: np.ndarray, lw: np.ndarray) -> np.ndarray:
    """Transition probabilities (from, to) on all states: proposals by `q`, log-weights `lw` as the step sees them."""
    p = q * acceptance(lw[:, None], lw[None, :])
    np.fill_diagonal(p, 0.0)
    np.fill_diagonal(p, 1 - p.sum(1))
    return p
