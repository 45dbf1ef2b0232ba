"""ln Z and ⟨E⟩ of Ising models E = −J Σ_<ij> s_i s_j on periodic lattices, at coupling k = βJ of either sign.

B. Kaufman, Phys. Rev. 76, 1232 (1949) for the square lattice of any size, transfer matrices for the others.
"""

from functools import cache

import numpy as np

from ..montecarlo import exact, lattices

WIDEST = 12  # sites of a row that a transfer matrix may have: 2^12 states


def ring(sites: int, k: float) -> tuple[float, float]:
    """ln Z and ⟨Σ s s'⟩ = d ln Z / dk of a ring: Z = (2 cosh k)^N + (2 sinh k)^N."""
    t = np.tanh(k)
    closed = 1 + t**sites
    log_z = sites * (np.logaddexp(k, -k)) + np.log(closed)
    return float(log_z), float(sites * (t + t ** (sites - 1) * (1 - t * t) / closed))


def transfer(lattice: str, size: int, k: float) -> tuple[float, float]:
    """ln Z and d ln Z / dk by transfer matrices over the rows, for rows of at most 12 sites."""
    rows, _ = lattices.shape(lattice, size)
    bonds = exact.aligned(lattice, size)
    largest = (k * bonds).max()
    step = np.exp(k * bonds - largest)
    power = np.linalg.matrix_power(step, rows - 1)  # entries up to 2^(12 · 11)
    total = np.sum(step.T * power)
    slope = rows * np.sum((step * bonds).T * power) / total
    return float(np.log(total) + rows * largest), float(slope)


@cache
def solve(lattice: str, size: int, k: float) -> tuple[float, float] | None:
    """ln Z and d ln Z / dk = −⟨E⟩/J, exact; None where neither a closed form nor a narrow enough row exists.

    A square torus with even sides has Z(−k) = Z(k). Others with k < 0 are frustrated and have no such form.
    """
    rows, width = lattices.shape(lattice, size)
    if lattice == "chain":
        return ring(width, k)
    if k == 0:
        return rows * width * float(np.log(2)), 0.0
    if lattice == "square" and (k > 0 or (rows % 2 == 0 and width % 2 == 0)):
        free, energy = exact.kaufman(rows, width, abs(k))
        return rows * width * free, -float(np.sign(k)) * rows * width * energy
    return transfer(lattice, size, k) if width <= WIDEST else None
