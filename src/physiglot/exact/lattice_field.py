"""φ⁴ theory on periodic lattices, S = Σ (m² + 2d) φ² + λ φ⁴ − 2 Σ_<xy> φ φ', exactly: by transfer matrices.

A row of L sites is a point of n^L Gauss nodes for the weight exp(−β((m² + 2d) φ² + λ φ⁴)). The matrix that adds a row
is T = D^½ K⊗…⊗K D^½, with the couplings within the row in D and K = exp(2β φφ') between rows; ln Z = ln tr T^L. Its
largest eigenvalues come from Lanczos' method, and the correlations from its eigenvectors. The number of nodes rises
until the steps of ln Z, which shrink geometrically, leave an error below TOLERANCE. Where that is not reached within
the states allowed, there is no result.
"""

from collections.abc import Callable
from functools import lru_cache
from math import log
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import LinearOperator, eigsh

STATES = 300_000  # of a row: the largest n^L
EIGENVALUES = 32
FEWEST, MOST = 6, 64
TOLERANCE = 1e-7
FINE = 500


class Moments(NamedTuple):
    log_z: float
    phi2: float  # ⟨φ²⟩ at a site
    mean2: float  # ⟨φ̄²⟩, φ̄ the mean over the lattice


def nodes(weight: Callable[[np.ndarray], np.ndarray], reach: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes and weights of ∫ weight(φ) f(φ) dφ, for a weight that has vanished at ±`reach`.

    The recurrence of the orthogonal polynomials by Stieltjes' procedure on a fine Legendre grid, the nodes from its
    Jacobi matrix (G. Golub, J. Welsch 1969).
    """
    grid, measure = np.polynomial.legendre.leggauss(FINE)
    x, w = reach * grid, reach * measure * weight(reach * grid)
    total = w.sum()
    before, now = np.zeros_like(x), np.full_like(x, total**-0.5)
    diagonal, off = np.zeros(count), np.zeros(count)
    for k in range(count):
        diagonal[k] = (w * x * now * now).sum()
        after = (x - diagonal[k]) * now - (off[k - 1] if k else 0.0) * before
        off[k] = np.sqrt((w * after * after).sum())
        before, now = now, after / off[k]
    values, vectors = eigh_tridiagonal(diagonal, off[:-1])
    return values, total * vectors[0] ** 2


def _check(size: int, mass2: float, coupling: float, beta: float) -> None:
    if size < 2:
        raise ValueError(f"size {size}: must be at least 2")
    if beta <= 0:
        raise ValueError(f"beta {beta:g}: must be positive")
    if coupling < 0 or (coupling == 0 and mass2 <= 0):
        raise ValueError(f"coupling {coupling:g}, mass2 {mass2:g}: the integral needs coupling > 0, or 0 and mass2 > 0")


def _quadrature(count: int, quadratic: float, quartic: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes for exp(−β(quadratic φ² + quartic φ⁴)), which must vanish at the ends of the interval."""
    exponent = lambda x: beta * (quadratic * x**2 + quartic * x**4)  # noqa: E731
    reach = 1.0
    while exponent(reach) < 80:
        reach *= 1.1
    return nodes(lambda x: np.exp(-exponent(x)), reach, count)


def ring(size: int, mass2: float, coupling: float, beta: float = 1.0) -> float:
    """ln Z of the ring S = Σ (m² + 2) φ² + λ φ⁴ − 2 Σ φ_i φ_{i+1} of any `size`: ln tr Tᴺ, to about 1e-12."""
    _check(size, mass2, coupling, beta)
    x, w = _quadrature(MOST, mass2 + 2, coupling, beta)
    root = np.exp(0.5 * np.log(w))
    values = np.linalg.eigvalsh(root[:, None] * np.exp(2 * beta * np.outer(x, x)) * root)
    return float(size * log(values[-1]) + np.log(np.sum((values / values[-1]) ** size)))


class Rows:
    """The transfer matrix of rows of `size` sites with `count` nodes each."""

    def __init__(self, size: int, mass2: float, coupling: float, beta: float, count: int):
        self.size, self.count = size, count
        self.x, w = _quadrature(count, mass2 + 4, coupling, beta)
        kernel = np.exp(2 * beta * np.outer(self.x, self.x))
        self.steps = [np.kron(kernel, kernel)] * (size // 2) + [kernel] * (size % 2)
        log_row = self.over_sites(np.log(w))
        for i in range(size):
            log_row = log_row + 2 * beta * self.site(i) * self.site((i + 1) % size)
        self.root = np.exp(0.5 * log_row).ravel()
        self.total = self.over_sites(self.x).ravel()

    def site(self, i: int, values: np.ndarray | None = None) -> np.ndarray:
        """`values` at the nodes of site i (φ itself if omitted), to be broadcast over the row's other sites."""
        return (self.x if values is None else values).reshape([-1 if j == i else 1 for j in range(self.size)])

    def over_sites(self, values: np.ndarray) -> np.ndarray:
        """Σ_i values(φ_i), for each state of the row: shape (count,) * size."""
        return sum((self.site(i, values) for i in range(self.size)), np.zeros((self.count,) * self.size))

    def __call__(self, state: np.ndarray) -> np.ndarray:
        """T `state`: each product with the kernel takes the first two sites, or the first one, and puts them last."""
        y = self.root * state.ravel()
        for kernel in self.steps:
            y = (y.reshape(len(kernel), -1).T @ kernel).ravel()
        return self.root * y

    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest eigenvalues, descending, and their vectors as columns; all of them where they are few."""
        states = self.count**self.size
        if states <= 2 * EIGENVALUES:
            values, vectors = np.linalg.eigh(np.stack([self(e) for e in np.eye(states)]))
        else:
            start = np.random.default_rng(0).random(states)
            operator = LinearOperator((states, states), matvec=self, dtype=np.float64)
            values, vectors = eigsh(operator, k=EIGENVALUES, v0=start, tol=1e-10)
        order = np.argsort(values)[::-1]
        return values[order], vectors[:, order]

    def moments(self) -> Moments:
        values, vectors = self.spectrum()
        share = np.clip(values / values[0], 0, None)
        weights = share**self.size / np.sum(share**self.size)
        density = (vectors**2) @ weights
        squares = self.over_sites(self.x**2).ravel()
        return Moments(
            float(self.size * log(values[0]) + np.log(np.sum(share**self.size))),
            float(density @ squares) / self.size,
            self._mean2(values, vectors, float(density @ self.total**2)),
        )

    def _mean2(self, values: np.ndarray, vectors: np.ndarray, same_row: float) -> float:
        """⟨M_0 M_r⟩ = Σ_kl Λ_k^(L−r) Λ_l^r ⟨k|M|l⟩² / tr T^L, summed over r.

        Of the pairs with a state beyond the known ones, those of one such state come from T itself, applied to
        M|k⟩; their mirror images are as many.
        """
        share = np.clip(values / values[0], 0, None)
        norm = np.sum(share**self.size)
        moved = self.total[:, None] * vectors
        known = (vectors.T @ moved) ** 2
        applied, rows = moved, same_row
        for r in range(1, self.size // 2 + 1):
            applied = np.stack([self(v) for v in applied.T], axis=1) / values[0]
            one = np.sum(share ** (self.size - r) * (moved * applied).sum(0))
            both = share ** (self.size - r) @ known @ share**r
            rows += (2 * one - both if 2 * r == self.size else 2 * one) / norm
        return float(rows / self.size**3)


@lru_cache(maxsize=64)
def square(size: int, mass2: float, coupling: float, beta: float = 1.0) -> Moments | None:
    """ln Z, ⟨φ²⟩ and ⟨φ̄²⟩ of the size × size torus, m² = `mass2`, λ = `coupling`, at β; None where out of reach."""
    _check(size, mass2, coupling, beta)
    made: list[Moments] = []
    for count in range(FEWEST, MOST + 1):
        if count**size > STATES:
            return None
        made.append(Rows(size, mass2, coupling, beta, count).moments())
        if len(made) > 2:
            last, previous = (abs(made[-i].log_z - made[-i - 1].log_z) for i in (1, 2))
            if last == 0 or (last < previous and last**2 / previous < TOLERANCE):
                return made[-1]
    return None
