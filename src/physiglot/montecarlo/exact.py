"""Exact values that the chains are tested on, J = k_B = 1, energies per site.

Finite tori: Kaufman's formula (B. Kaufman, Phys. Rev. 76, 1232 (1949)), transfer matrices, enumeration. Infinite
lattices: L. Onsager, Phys. Rev. 65, 117 (1944); C. N. Yang, Phys. Rev. 85, 808 (1952); R. M. F. Houtappel, Physica 16,
425 (1950).
"""

import numpy as np
from scipy.special import ellipkm1, ive

from . import lattices

CRITICAL = {
    "square": 2 / np.log(1 + np.sqrt(2)),
    "triangular": 4 / np.log(3),
    "honeycomb": 2 / np.log(2 + np.sqrt(3)),
}


def potts_critical(q: int) -> float:
    return float(1 / np.log(1 + np.sqrt(q)))


def kaufman(rows: int, columns: int, k: float) -> tuple[float, float]:
    """ln Z / N and energy per site of the square Ising torus at coupling `k` = J/T > 0, for any size.

    Z = ½ (2 sinh 2k)^(N/2) (A + B + C + D), products over r of 2 cosh and 2 sinh of m γ_{2r+1}/2 and m γ_{2r}/2, with
    cosh γ_l = cosh 2k coth 2k − cos(π l / n). γ_0 changes sign at T_c and with it the last product.
    """
    n, m = columns, rows
    cosh, sinh = np.cosh(2 * k), np.sinh(2 * k)
    gamma = np.arccosh(np.maximum(cosh / np.tanh(2 * k) - np.cos(np.pi * np.arange(2 * n) / n), 1.0))
    gamma[0] = 2 * k + np.log(np.tanh(k))
    slope = np.empty(2 * n)
    slope[1:] = 2 * cosh * (1 - 1 / sinh**2) / np.sinh(gamma[1:])
    slope[0] = 2 + 2 / sinh
    logs, changes = [], []
    for parity in (1, 0):
        x, dx = m * gamma[parity::2] / 2, m * slope[parity::2] / 2
        logs.append(np.sum(np.abs(x) + np.log1p(np.exp(-2 * np.abs(x)))))
        changes.append(np.sum(dx * np.tanh(x)))
        rest, dr = (x[1:], dx[1:]) if parity == 0 else (x, dx)
        logs.append(np.sum(rest + np.log(-np.expm1(-2 * rest))))
        changes.append(np.sum(dr / np.tanh(rest)))
    factor, its_slope = 2 * np.sinh(m * gamma[0] / 2), m * slope[0] * np.cosh(m * gamma[0] / 2)
    weights = np.exp(np.array(logs) - max(logs))
    total = weights[:3].sum() + weights[3] * factor
    change = weights[:3] @ np.array(changes[:3]) + weights[3] * (its_slope + factor * changes[3])
    sites = n * m
    free = (np.log(total / 2) + max(logs)) / sites + 0.5 * np.log(2 * sinh)
    return float(free), float(-(cosh / sinh + change / total / sites))


def aligned(lattice: str, size: int) -> np.ndarray:
    """Σ s s' over the bonds within a row in state a and from it to the next, in state b, (a, b); rows of ≤ 12 sites."""
    _, width = lattices.shape(lattice, size)
    if width > 12 or lattice == "chain":
        raise ValueError(f"{lattice} {size}: transfer matrices are for rows of at most 12 sites.")
    spins = 1 - 2 * (np.arange(2**width)[:, None] >> np.arange(width) & 1)
    within = (spins * np.roll(spins, -1, 1)).sum(1)
    column = np.arange(width)
    ahead = {"square": [(column, column)], "triangular": [(column, column), (column, column - 1)]}
    pairs = ahead.get(lattice, [(column[1::2], column[1::2] - 1)])
    return (within[:, None] + np.sum([spins[:, a] @ spins[:, b].T for a, b in pairs], axis=0)).astype(float)


def torus(lattice: str, size: int, temperature: float) -> float:
    """Energy per site of an Ising torus by transfer matrices over its rows, for rows of at most 12 sites."""
    rows, width = lattices.shape(lattice, size)
    bonds = aligned(lattice, size)
    step = np.exp((bonds - bonds.max()) / temperature)
    power = np.linalg.matrix_power(step, rows - 1)
    return float(-np.sum((step * bonds).T * power) / np.sum(step.T * power) / width)


def enumerated(lattice: str, size: int, temperature: float) -> dict[str, float]:
    """Energy per site, ⟨|m|⟩, ⟨m²⟩ and ln Z / N of an Ising lattice of at most 20 sites."""
    count = lattices.sites(lattice, size)
    if count > 20:
        raise ValueError(f"{lattice} {size}: {count} sites are too many to enumerate.")
    spins = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(np.int8)
    one, other = lattices.bonds(lattice, size).T
    energy = -(spins[:, one] * spins[:, other]).sum(1, dtype=np.int64)
    weight = np.exp(-(energy - energy.min()) / temperature)
    mean = np.abs(spins.sum(1)) / count
    z = weight.sum()
    return {
        "energy": float(weight @ energy / z / count),
        "absolute": float(weight @ mean / z),
        "square": float(weight @ mean**2 / z),
        "free": float((np.log(z) - energy.min() / temperature) / count),
    }


def onsager(temperature: float) -> float:
    """Energy per site of the infinite square lattice."""
    k = 1 / temperature
    half = 2 * np.tanh(2 * k) ** 2 - 1
    # 1 − κ² with κ = 2 sinh 2k / cosh² 2k is half².
    elliptic = 0.0 if half == 0 else half * ellipkm1(half**2)
    return float(-(1 + 2 / np.pi * elliptic) / np.tanh(2 * k))


def magnetisation(temperature: float) -> float:
    """Spontaneous magnetisation of the infinite square lattice."""
    return float(max(0.0, 1 - np.sinh(2 / temperature) ** -4) ** 0.125)


def infinite(lattice: str, temperature: float, points: int = 2048) -> float:
    """Energy per site of the infinite lattice, away from T_c: the integral over two angles by the trapezium rule."""
    if lattice == "square":
        return onsager(temperature)
    k, angle = 2 / temperature, 2 * np.pi * (np.arange(points) + 0.5) / points
    waves = np.cos(angle)[:, None] + np.cos(angle) + np.cos(angle[:, None] + angle)
    cosh, sinh = np.cosh(k), np.sinh(k)
    if lattice == "triangular":
        inside = cosh**3 + sinh**3 - sinh * waves
        slope = 3 * cosh**2 * sinh + 3 * sinh**2 * cosh - cosh * waves
        return float(-np.mean(slope / inside))
    inside, slope = cosh**3 + 1 - sinh**2 * waves, 3 * cosh**2 * sinh - 2 * sinh * cosh * waves
    return float(-np.mean(slope / inside) / 2)


def xy_square(temperature: float) -> float:
    """Energy per site of the XY model on the 2 × 2 torus: a ring of four with each bond twice."""
    n, x = np.arange(-200, 201), 2 / temperature
    bessel, slope = ive(n, x), (ive(n - 1, x) + ive(n + 1, x)) / 2
    return float(-2 * np.sum(slope * bessel**3) / np.sum(bessel**4))
