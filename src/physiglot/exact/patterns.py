"""Hebb's couplings of a few patterns, exactly, for any number of spins.

E = −½ Σ_μ (ξ_μ · s)²/N + P/2 depends on the overlaps alone. Sites whose column of patterns is the same up to a sign are
of one of at most 2^(P−1) kinds, and the overlaps follow from how many spins of each kind are turned.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp

MOST = 5_000_000  # terms of the sum


class Hebb(NamedTuple):
    """ln Z; ⟨E⟩; ⟨max_μ |ξ_μ · s|⟩ / N."""

    log_z: float
    energy: float
    overlap: float


def hebb(patterns: np.ndarray, beta: float) -> Hebb | None:
    """Exact values of J = ξᵀξ/N without its diagonal, patterns (pattern, site) of ±1; None if the sum is too long."""
    xi = np.asarray(patterns, dtype=np.int64)
    if xi.ndim != 2 or not np.isin(xi, (-1, 1)).all():
        raise ValueError(f"patterns of shape {xi.shape}: they must be (pattern, site) of ±1")
    kinds, sizes = np.unique(xi * xi[0], axis=1, return_counts=True)
    if np.prod(sizes + 1.0) > MOST:
        return None
    overlap: list = [np.zeros(()) for _ in xi]
    ways = np.zeros(())
    for kind, size in zip(kinds.T, sizes, strict=True):
        turned = np.arange(size + 1)
        ways = np.add.outer(ways, gammaln(size + 1) - gammaln(turned + 1) - gammaln(size - turned + 1))
        overlap = [np.add.outer(m, sign * (size - 2 * turned)) for m, sign in zip(overlap, kind, strict=True)]
    sites, count = xi.shape[1], len(xi)
    energy = 0.5 * count - 0.5 * sum(m.astype(float) ** 2 for m in overlap) / sites
    log_z = float(logsumexp(ways - beta * energy))
    weight = np.exp(ways - beta * energy - log_z)
    largest = np.abs(np.stack(overlap)).max(0) / sites
    return Hebb(log_z, float((weight * energy).sum()), float((weight * largest).sum()))
