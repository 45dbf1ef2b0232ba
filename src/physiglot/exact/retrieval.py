"""Hopfield's memory at zero temperature: the overlap with a stored pattern against the load α = patterns / sites.

D. J. Amit, H. Gutfreund, H. Sompolinsky, Phys. Rev. Lett. 55, 1530 (1985), replica symmetric: with m = erf y,
erf y = y (√(2α) + (2/√π) e^(−y²)). Beyond α_c only y = 0 is left.
"""

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import erf


def load(y: float) -> float:
    """The α at which y solves the equation; NaN where none does."""
    root = erf(y) / y - 2 / np.sqrt(np.pi) * np.exp(-(y**2))
    return float(0.5 * root**2) if root >= 0 else np.nan


def capacity() -> tuple[float, float]:
    """α_c and the overlap there: the largest load that any y > 0 solves."""
    y = minimize_scalar(lambda y: -load(y), bounds=(0.5, 4.0), method="bounded", options={"xatol": 1e-10}).x
    return load(y), float(erf(y))


def overlap(alpha: float) -> float:
    """m of the retrieval state at load `alpha` ≥ 0, and 0 beyond the capacity."""
    if not alpha >= 0:
        raise ValueError(f"alpha {alpha}: a load is not negative")
    largest, m = capacity()
    if alpha == 0 or alpha > largest:
        return 1.0 if alpha == 0 else 0.0
    lowest = float(minimize_scalar(lambda y: -load(y), bounds=(0.5, 4.0), method="bounded").x)
    highest = max(2 / np.sqrt(2 * alpha), lowest + 1)
    if load(lowest) <= alpha:
        return m
    return float(erf(brentq(lambda y: load(y) - alpha, lowest, highest)))
