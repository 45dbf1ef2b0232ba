"""Sums over all configurations of a few spins ±1, E(s) = −½ sᵀ J s.

The spins are split in two halves a and b: E = E_a + E_b − aᵀ J_ab b, so that the energies of all 2^N states are one
product of matrices, and so are the correlations.
"""

from typing import NamedTuple

import numpy as np

LIMIT = 22


class Pairwise(NamedTuple):
    """ln Z; ⟨E⟩; ⟨s_i s_j⟩ (site, site); ⟨|m|⟩ of m = Σ s / N; all of them at one inverse temperature."""

    log_z: float
    energy: float
    correlation: np.ndarray
    absolute: float


def check(sites: int) -> None:
    if sites > LIMIT:
        raise ValueError(f"{sites} spins are too many to enumerate: at most {LIMIT} are allowed")


def spins(sites: int) -> np.ndarray:
    """All configurations (2^sites, site) int8 of ±1; the first spin changes fastest, and all up comes first."""
    check(sites)
    return (1 - 2 * (np.arange(2**sites)[:, None] >> np.arange(sites) & 1)).astype(np.int8)


def checked(couplings: np.ndarray) -> np.ndarray:
    """Couplings (site, site) as float64: square, finite, symmetric, without a diagonal."""
    J = np.asarray(couplings, dtype=np.float64)
    if J.ndim != 2 or J.shape[0] != J.shape[1] or not np.isfinite(J).all():
        raise ValueError(f"couplings of shape {J.shape}: they must be a square matrix of finite numbers")
    if not np.allclose(J, J.T, rtol=0, atol=1e-12) or np.any(np.diag(J)):
        raise ValueError("couplings: they must be symmetric, with zeros on the diagonal")
    return J


def pairwise(couplings: np.ndarray, beta: float) -> Pairwise:
    """Exact values of E = −½ sᵀ J s at inverse temperature `beta`, for at most 22 spins."""
    J = checked(couplings)
    check(len(J))
    half = len(J) // 2
    a, b = (spins(n).astype(np.float64) for n in (half, len(J) - half))
    inside = [-0.5 * np.einsum("ki,ij,kj->k", s, part, s) for s, part in ((a, J[:half, :half]), (b, J[half:, half:]))]
    energy = inside[0][:, None] + inside[1] - a @ J[:half, half:] @ b.T
    lowest = (beta * energy).min()
    weight = np.exp(lowest - beta * energy)
    z = weight.sum()
    weight /= z
    correlation = np.empty_like(J)
    correlation[:half, :half] = (a.T * weight.sum(1)) @ a
    correlation[half:, half:] = (b.T * weight.sum(0)) @ b
    correlation[:half, half:] = a.T @ weight @ b
    correlation[half:, :half] = correlation[:half, half:].T
    total = np.abs(a.sum(1)[:, None] + b.sum(1))
    mean = float((weight * energy).sum()), float((weight * total).sum() / len(J))
    return Pairwise(float(np.log(z) - lowest), mean[0], correlation, mean[1])
