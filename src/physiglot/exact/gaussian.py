"""The Gaussian free field E = ½ φᵀ(−Δ + m²)φ on a periodic lattice, and what is exact about learning it.

Everything is a sum over modes. A path x_t = a(t) x₁ + s(t) z joins the base z ~ N(0, σ₀²) to the data x₁ ~ N(0, C),
both independent; u = a' x₁ + s' z is what the loss regresses on. Its conditional mean is linear in x, and the loss
of the exact field is the mean conditional variance of u, per mode c σ₀² (a's − s'a)² / (a² c + s² σ₀²), integrated
over t: (π/2) σ₀ √c for the linear path and (π²/4) σ₀ √c for the trigonometric one.
"""

from math import log, pi
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Path = Literal["linear", "trig"]
IRREDUCIBLE = {"linear": pi / 2, "trig": pi**2 / 4}


def spectrum(size: int, mass2: float, dimension: int = 2) -> np.ndarray:
    """Eigenvalues of −Δ + m², shape (size,) * dimension, by momentum; m² in units of the lattice spacing."""
    if size < 1 or dimension < 1:
        raise ValueError(f"size {size}, dimension {dimension}: both must be at least 1")
    one = 4 * np.sin(pi * np.arange(size) / size) ** 2
    axes = [one.reshape([-1 if a == b else 1 for b in range(dimension)]) for a in range(dimension)]
    return sum(axes, np.full([size] * dimension, float(mass2)))


def log_z(eigenvalues: np.ndarray, beta: float = 1.0) -> float:
    """ln ∫ exp(−β ½ φᵀAφ) dφ = (N/2) ln 2π/β − ½ ln det A; `eigenvalues` of A, all positive."""
    values = np.asarray(eigenvalues, dtype=np.float64)
    if not (values > 0).all():
        raise ValueError(f"eigenvalues: the smallest is {values.min():g}: all must be positive")
    return float(0.5 * values.size * log(2 * pi / beta) - 0.5 * np.log(values).sum())


def mean_square(eigenvalues: np.ndarray, beta: float = 1.0) -> float:
    """⟨φ²⟩ at a site: the mean of the modes' variances 1/(β λ)."""
    return float((1 / (beta * np.asarray(eigenvalues, dtype=np.float64))).mean())


def coefficients(path: Path, t: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """a, s, a', s' at the times `t` in [0, 1]."""
    t = np.asarray(t, dtype=np.float64)
    if path == "linear":
        return t, 1 - t, np.ones_like(t), -np.ones_like(t)
    if path == "trig":
        sine, cosine = np.sin(pi * t / 2), np.cos(pi * t / 2)
        return sine, cosine, pi / 2 * cosine, -pi / 2 * sine
    raise ValueError(f"path {path!r}: must be linear or trig")


def rate(variances: np.ndarray, width: float, path: Path, t: ArrayLike) -> np.ndarray:
    """The factor r of the exact marginal velocity v = r x of each mode at time `t`; the divergence is its sum.

    r = (a a' c + s s' σ₀²) / (a² c + s² σ₀²) for a mode of variance c, base of width σ₀.
    """
    a, s, da, ds = coefficients(path, t)
    c = np.asarray(variances, dtype=np.float64)
    return (a * da * c + s * ds * width**2) / (a**2 * c + s**2 * width**2)


def irreducible(variances: np.ndarray, width: float, path: Path) -> float:
    """The matching loss of the exact field, summed over modes and averaged over uniform t: below it no field gets."""
    if path not in IRREDUCIBLE:
        raise ValueError(f"path {path!r}: must be linear or trig")
    return float(IRREDUCIBLE[path] * width * np.sqrt(np.asarray(variances, dtype=np.float64)).sum())


def principal_components(variances: np.ndarray, latents: int) -> float:
    """The best mean log-likelihood, in nats, of N(0, C) under a Gaussian with `latents` free directions and noise.

    Probabilistic principal component analysis (M. Tipping, C. Bishop 1999): the largest variances are kept, all
    others become their mean. No linear variational autoencoder gets above it.
    """
    c = np.sort(np.asarray(variances, dtype=np.float64).ravel())[::-1]
    if not 0 <= latents <= c.size:
        raise ValueError(f"latents {latents}: must be between 0 and the {c.size} variances")
    rest = c[latents:]
    noise = rest.size * np.log(rest.mean()) if rest.size else 0.0
    return float(-0.5 * (c.size * (log(2 * pi) + 1) + np.log(c[:latents]).sum() + noise))
