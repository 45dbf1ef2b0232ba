"""Exact diagonalisation of small Hubbard clusters: what the determinant Monte Carlo is compared with.

H = Σ K_ij c†_iσ c_jσ + U Σ n_i↑ n_i↓ in sectors of fixed (n_↑, n_↓), in the basis of all pairs of occupied sets.
With `dtau` the density matrix is (e^{−ΔτK/2} e^{−ΔτV} e^{−ΔτK/2})^M: exact for a given Trotter step as well.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass
class Averages:
    """Per site, at half filling: double occupancy, kinetic energy, Σ ε_i ε_j ⟨S^z_i S^z_j⟩ / N²."""

    double_occupancy: float
    kinetic: float
    staggered: float


def occupations(sites: int, particles: int) -> np.ndarray:
    """Occupied (1) and empty (0) sites of all states of one species, (state, site)."""
    states = list(combinations(range(sites), particles))
    found = np.zeros((len(states), sites))
    for row, state in zip(found, states, strict=True):
        row[list(state)] = 1.0
    return found


def kinetic(hopping: np.ndarray, occupied: np.ndarray) -> np.ndarray:
    """Σ K_ij c†_i c_j of one species, (state, state); the sign is (−1) to the number of particles between i and j."""
    found = np.diag(occupied @ np.diag(hopping))
    number = {tuple(row): k for k, row in enumerate(occupied)}
    for k, row in enumerate(occupied):
        for i, j in zip(*np.nonzero(hopping), strict=True):
            if i != j and row[j] and not row[i]:
                moved = row.copy()
                moved[[i, j]] = 1.0, 0.0
                between = row[min(i, j) + 1 : max(i, j)].sum()
                found[number[tuple(moved)], k] += hopping[i, j] * (-1.0) ** between
    return found


def sector(hopping: np.ndarray, up: int, down: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinetic matrix (state, state), number of doubly occupied sites (state), n_↑ − n_↓ (state, site)."""
    a, b = (occupations(len(hopping), n) for n in (up, down))
    matrix = np.kron(kinetic(hopping, a), np.eye(len(b))) + np.kron(np.eye(len(a)), kinetic(hopping, b))
    return matrix, (a @ b.T).ravel(), (a[:, None] - b[None]).reshape(-1, len(hopping))


def ground(hopping: np.ndarray, interaction: float, up: int, down: int) -> float:
    """Lowest energy of a sector, without the −½ of the symmetric form."""
    matrix, double, _ = sector(hopping, up, down)
    return float(np.linalg.eigvalsh(matrix + interaction * np.diag(double))[0])


def spectrum(matrix: np.ndarray, potential: np.ndarray, dtau: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Energies and vectors of the density matrix e^{−βE}; with `dtau`, those of the symmetric Trotter product."""
    if dtau is None:
        return np.linalg.eigh(matrix + np.diag(potential))
    energies, vectors = np.linalg.eigh(matrix)
    half = (vectors * np.exp(-0.5 * dtau * energies)) @ vectors.T
    eigenvalues, found = np.linalg.eigh((half * np.exp(-dtau * potential)) @ half)
    return -np.log(eigenvalues) / dtau, found


def _observed(matrix: np.ndarray, double: np.ndarray, spin: np.ndarray, signs: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Double occupancy, kinetic energy and staggered structure per site of the states `v` (state, k), as (3, k)."""
    staggered = 0.25 * (spin @ signs) ** 2 / len(signs)
    return np.stack([double @ v**2, ((matrix @ v) * v).sum(0), staggered @ v**2]) / len(signs)


def thermal(
    hopping: np.ndarray, signs: np.ndarray, interaction: float, beta: float, dtau: float | None = None
) -> Averages:
    """Grand-canonical averages at μ = U/2; `signs` ε = ±1 are those of the sublattices."""
    sites = len(hopping)
    energies, observed = [], []
    for up in range(sites + 1):
        for down in range(sites + 1):
            matrix, double, spin = sector(hopping, up, down)
            e, v = spectrum(matrix, interaction * (double - 0.5 * (up + down)), dtau)
            energies.append(e)
            observed.append(_observed(matrix, double, spin, signs, v))
    all_energies = np.concatenate(energies)
    boltzmann = np.exp(-beta * (all_energies - all_energies.min()))
    means = np.concatenate(observed, axis=1) @ boltzmann / boltzmann.sum()
    return Averages(*means.tolist())


def projected(
    hopping: np.ndarray, signs: np.ndarray, interaction: float, orbitals: np.ndarray, slices: int, dtau: float
) -> Averages:
    """In the middle of `slices` Trotter steps between Slater determinants of `orbitals` (site, n) for both species."""
    particles = orbitals.shape[1]
    matrix, double, spin = sector(hopping, particles, particles)
    rows = [np.flatnonzero(row) for row in occupations(len(hopping), particles)]
    one = np.array([np.linalg.det(orbitals[row]) for row in rows])
    energies, vectors = spectrum(matrix, interaction * double, dtau)
    weights = np.exp(-0.5 * slices * dtau * (energies - energies.min())) * (vectors.T @ np.kron(one, one))
    state = vectors @ weights / np.linalg.norm(weights)
    return Averages(*_observed(matrix, double, spin, signs, state[:, None])[:, 0].tolist())
