"""Errors of means of correlated series: the integrated autocorrelation time of N. Madras and A. D. Sokal (1988)."""

import numpy as np


def integrated_time(series: np.ndarray, window: float = 6.0) -> float:
    """τ_int of series (chain, time) or (time): ½ + Σ ρ(t) up to the first t ≥ `window` · τ_int; ½ if uncorrelated."""
    x = np.atleast_2d(np.asarray(series, dtype=np.float64))
    x = x - x.mean()
    length = x.shape[1]
    transform = np.fft.rfft(x, 2 * length, axis=1)
    covariance = np.fft.irfft(np.abs(transform) ** 2, axis=1)[:, :length].mean(0) / (length - np.arange(length))
    if length == 1 or covariance[0] == 0:
        return 0.5
    times = 0.5 + np.cumsum(covariance[1:] / covariance[0])
    enough = np.flatnonzero(np.arange(1, length) >= window * times)
    return float(max(0.5, times[enough[0]] if len(enough) else times[-1]))


def mean_error(series: np.ndarray) -> tuple[float, float]:
    """Mean of series (chain, time) or (time) and its standard error, with τ_int taken into account."""
    x = np.atleast_2d(np.asarray(series, dtype=np.float64))
    return float(x.mean()), float(x.std() * np.sqrt(2 * integrated_time(x) / x.size))


def z_score(series: np.ndarray, exact: float) -> float:
    """Deviation of the mean from `exact` in standard errors."""
    mean, error = mean_error(series)
    return (mean - exact) / error
