"""Gases in a harmonic trap whose partition function is known: E = ½ Σ x² − Σ_{i<j} ln r, or + q² Σ_{i<j} 1/r.

ln Z = ln ∫ e^(−βE) over all positions of N distinguishable particles in d dimensions.
"""

from collections.abc import Callable
from itertools import pairwise
from math import exp, inf, lgamma, log, pi, sqrt
from typing import Literal

import numpy as np
from scipy.integrate import quad

Kernel = Literal["log", "inverse"]


def ginibre(count: int) -> float:
    """d = 2, log, β = 2: N ln π + Σ ln j!, the eigenvalues of complex Gaussian matrices (J. Ginibre 1965)."""
    return count * log(pi) + sum(lgamma(j + 1) for j in range(1, count + 1))


def ginibre_draws(count: int, members: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Exact configurations (*members, N, 2) of that gas: eigenvalues, permuted at random.

    A matrix of unit complex Gaussians has eigenvalues with the weight Π |z_i − z_j|² exp(−Σ|z|²), which is e^(−2E).
    """
    real, imaginary = rng.standard_normal((2, *members, count, count)) / sqrt(2)
    values = np.linalg.eigvals(real + 1j * imaginary)
    values = rng.permuted(values, axis=-1)
    return np.stack([values.real, values.imag], axis=-1)


def mehta(count: int, beta: float) -> float:
    """d = 1, log, any β: Mehta's integral (M. L. Mehta, F. J. Dyson 1963; Selberg 1944)."""
    power = count / 2 + beta * count * (count - 1) / 4
    gammas = sum(lgamma(1 + j * beta / 2) for j in range(1, count + 1)) - count * lgamma(1 + beta / 2)
    return -power * log(beta) + count / 2 * log(2 * pi) + gammas


def relative(potential: Callable[[float], float], dimension: int, beta: float = 1.0) -> float:
    """ln ∫ e^(−β v(r)) of two particles over y = (x₁ − x₂)/√2, r = √2 |y|: the centred subspace of N = 2.

    Raises ValueError if the integral does not converge.
    """
    sphere = log(2) + dimension / 2 * log(pi) - lgamma(dimension / 2)

    def exponent(y: float) -> float:
        v = potential(sqrt(2) * y)
        return -inf if v == inf else (dimension - 1) * log(y) - beta * v

    grid = np.geomspace(1e-6, 1e3, 4000)
    heights = np.array([exponent(y) for y in grid])
    top, near = heights.max(), grid[heights > heights.max() - 60]
    if near[-1] == grid[-1]:
        raise ValueError("the integral over the distance does not converge: the pair is not bound")
    ends = [0.0, *np.linspace(near[0], near[-1], 24), 2 * near[-1]]
    weight = lambda y: exp(exponent(y) - top) if y > 0 else 0.0  # noqa: E731
    parts = [quad(weight, a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in pairwise(ends)]
    return float(sphere + top + log(sum(parts)))


def pair(dimension: int, kernel: Kernel, beta: float, charge2: float = 1.0) -> float:
    """N = 2 in any dimension: the free centre of mass times the integral over the distance."""
    repulsion = (lambda r: -log(r)) if kernel == "log" else (lambda r: charge2 / r)
    inner = relative(lambda r: r**2 / 4 + repulsion(r) if r > 0 else inf, dimension, beta)
    return dimension / 2 * log(2 * pi / beta) + inner


def log_z(count: int, dimension: int, kernel: Kernel, beta: float, charge2: float = 1.0) -> float | None:
    """ln Z where one of these closed forms holds, else None. Raises ValueError for impossible arguments."""
    if count < 1 or dimension < 1 or beta <= 0 or charge2 < 0:
        raise ValueError(
            f"count {count}, dimension {dimension}, beta {beta:g}, charge2 {charge2:g}: allowed are 1 or more, 1 or "
            "more, above 0, 0 or more"
        )
    if count == 1:
        return dimension / 2 * log(2 * pi / beta)
    if kernel == "log" and dimension == 1:
        return mehta(count, beta)
    if kernel == "log" and dimension == 2 and beta == 2:
        return ginibre(count)
    return pair(dimension, kernel, beta, charge2) if count == 2 else None


def square_radius(count: int, dimension: int, beta: float) -> float:
    """⟨Σ x²⟩ of the logarithmic gas: by scaling lengths, β ⟨Σ x²⟩ = N d + β N(N − 1)/2."""
    return count * dimension / beta + count * (count - 1) / 2
