"""Ground states of periodic spin-½ chains: free fermions, the Bethe equations, exact diagonalisation.

Every bond (i, i+1 mod N) and (i, i+2 mod N), i = 0 … N−1, counts, also where two of them are the same pair.
P. Pfeuty, Ann. Phys. 57, 79 (1970); H. Bethe, Z. Phys. 71, 205 (1931); C. K. Majumdar, D. K. Ghosh, J. Math. Phys. 10,
1388 (1969).
"""

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import eigsh

LARGEST = 14  # spins of an exact diagonalisation


def tfi(sites: int, field: float) -> float:
    """E0 of −Σ σᶻσᶻ − h Σ σˣ for any h: −Σ_k √(1 + h² − 2|h| cos k), k = (2n+1)π/N."""
    k = (2 * np.arange(_sites(sites)) + 1) * np.pi / sites
    return float(-np.sqrt(1 + field**2 - 2 * abs(field) * np.cos(k)).sum())


def rapidities(sites: int, tolerance: float = 1e-14) -> np.ndarray:
    """The N/2 roots of N arctan 2λ_j = π I_j + Σ_k arctan(λ_j − λ_k), I_j = −(N/2 − 1)/2 …, by iteration."""
    numbers = np.arange(sites // 2) - (sites // 2 - 1) / 2
    roots = 0.5 * np.tan(np.pi * numbers / sites)
    for _ in range(100_000):
        phases = np.arctan(roots[:, None] - roots).sum(1)
        last, roots = roots, 0.5 * np.tan((np.pi * numbers + phases) / sites)
        if np.abs(roots - last).max() <= tolerance * max(1.0, np.abs(roots).max()):
            return roots
    raise ArithmeticError(f"sites {sites}: the Bethe equations did not converge")


def heisenberg(sites: int, j1: float = 1.0, j2: float = 0.0) -> float | None:
    """E0 of J1 Σ S_i·S_{i+1} + J2 Σ S_i·S_{i+2} where it is known in closed form, else None.

    Both couplings ferromagnetic, any N; J2 = 0, even N (Bethe); J2 = J1/2, even N ≥ 4 (Majumdar and Ghosh).
    """
    if _sites(sites) == 2 and j2:
        raise ValueError(f"sites {sites}: bonds (i, i+2) need at least 3 sites")
    if j1 <= 0 and j2 <= 0:
        return (j1 + j2) * sites / 4
    if sites % 2 or j1 < 0:
        return None
    if j2 == 0:
        return float(j1 * (sites / 4 - (2 / (4 * rapidities(sites) ** 2 + 1)).sum()))
    return -0.375 * sites * j1 if j2 == 0.5 * j1 and sites >= 4 else None


def _sites(sites: int) -> int:
    if sites < 2:
        raise ValueError(f"sites {sites}: a chain has at least 2")
    return sites


def configurations(sites: int) -> np.ndarray:
    """All 2^N configurations ±1 (state, site): bit i of the number of a state is site i, 1 for +1."""
    if _sites(sites) > LARGEST:
        raise ValueError(f"sites {sites}: exact diagonalisation takes up to {LARGEST} spins")
    return 2 * (np.arange(2**sites)[:, None] >> np.arange(sites) & 1) - 1


def tfi_matrix(sites: int, field: float) -> scipy.sparse.csr_matrix:
    """−Σ σᶻσᶻ − h Σ σˣ in the basis of `configurations`."""
    spins, states = configurations(sites), np.arange(2**sites)
    matrix = scipy.sparse.diags(-(spins * np.roll(spins, -1, 1)).sum(1).astype(float)).tocsr()
    for site in range(sites):
        flips = np.full(len(states), -float(field)), (states, states ^ (1 << site))
        matrix += scipy.sparse.csr_matrix(flips, shape=matrix.shape)
    return matrix


def heisenberg_matrix(sites: int, j1: float = 1.0, j2: float = 0.0) -> scipy.sparse.csr_matrix:
    """J1 Σ S_i·S_{i+1} + J2 Σ S_i·S_{i+2}, S·S = ½ exchange − ¼."""
    spins, states = configurations(sites), np.arange(2**sites)
    matrix = scipy.sparse.csr_matrix((len(states), len(states)))
    for distance, coupling in ((1, j1), (2, j2))[: 1 + (j2 != 0)]:
        for i in range(sites):
            j = (i + distance) % sites
            swapped = np.where(spins[:, i] != spins[:, j], states ^ (1 << i | 1 << j), states)
            exchange = scipy.sparse.csr_matrix((np.ones(len(states)), (states, swapped)), shape=matrix.shape)
            matrix += coupling * (0.5 * exchange - 0.25 * scipy.sparse.identity(len(states)))
    return matrix.tocsr()


def ground_state(matrix: scipy.sparse.csr_matrix) -> tuple[float, np.ndarray]:
    """Lowest eigenvalue of a real symmetric matrix and its vector."""
    if matrix.shape[0] <= 64:
        values, vectors = np.linalg.eigh(matrix.toarray())
        return float(values[0]), vectors[:, 0]
    start = 1 + np.sin(np.arange(matrix.shape[0]))  # any fixed vector: the result is the same every time
    shifted = matrix - scipy.sparse.identity(matrix.shape[0])  # ARPACK refuses the zero matrix
    values, vectors = eigsh(shifted, k=1, which="SA", v0=start)
    return float(values[0]) + 1, vectors[:, 0]
